"""Sorted ℓ1 norm: agreement with scikit-learn's isotonic regression, exact ties, no accumulated rounding."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.isotonic import isotonic_regression

from jaxreg import prox
from tests.prox.kernels import VECTORS, sorted_l1


def slope(v, lams):
    """By scikit-learn's isotonic regression of the sorted magnitudes."""
    order = np.argsort(-np.abs(v), kind="stable")
    fit = np.maximum(isotonic_regression(np.abs(v)[order] - lams, increasing=False), 0.0)
    u = np.zeros_like(v)
    u[order] = fit
    return np.sign(v) * u


@pytest.mark.parametrize("shape", ["linear", "equal", "steps", "one"])
@pytest.mark.parametrize("strength", [0.0, 0.01, 0.5, 1.0, 20.0])
def test_sorted_l1_is_isotonic_regression(shape, strength):
    for v in VECTORS:
        p = len(v)
        lams = {
            "linear": np.linspace(2, 0.1, p),
            "equal": np.ones(p),
            "steps": np.repeat([3.0, 1.0], [p // 2, p - p // 2]),
            "one": np.r_[2.0, np.zeros(p - 1)],
        }[shape] * strength
        u = np.asarray(sorted_l1(jnp.asarray(v), lams))
        np.testing.assert_allclose(u, slope(v, lams), rtol=1e-13, atol=1e-14 * (1 + np.abs(v).max()))
        np.testing.assert_array_equal(u == 0, slope(v, lams) == 0)
        if strength == 0:
            np.testing.assert_array_equal(u, v)
        if shape == "equal":
            np.testing.assert_allclose(u, np.sign(v) * np.maximum(np.abs(v) - strength, 0), atol=1e-15)


def test_pooled_coordinates_are_tied_exactly(dtype):
    v = jnp.asarray([5.0, -5.1, 0.3, 4.9, 0.2, 0.25, -0.35], dtype)
    u = np.abs(np.asarray(prox.sorted_l1(v, [3.0, 2.0, 1.0, 0.25, 0.1, 0.05, 0.0])))
    assert u[0] == u[1] == u[3] > 0
    assert len(set(u[[2, 4, 5, 6]])) == 1


def test_no_rounding_piles_up_in_long_blocks_in_float32():
    own = np.random.default_rng(1)
    v = np.repeat(np.float32([0.1, 0.4]), 150_000)
    lams = np.sort(own.exponential(size=v.size) / 20).astype(np.float32)[::-1]
    small, large = (np.asarray(sorted_l1(jnp.asarray(v, d), jnp.asarray(lams, d))) for d in ("f4", "f8"))
    assert len(set(large.tolist())) == 2
    np.testing.assert_allclose(small, large, rtol=0, atol=np.finfo(np.float32).eps / 4)
