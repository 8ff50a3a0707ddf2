"""Total variation: its certificate, the box-constrained dual, exact ties, no accumulated rounding."""

import time

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import lsq_linear

from jaxreg import prox
from tests.prox.kernels import sorted_l1, total_variation

rng = np.random.default_rng(4)


def assert_certified(v, w, u, atol):
    """The dual z of the differences: z ≤ w everywhere, and z = ±w where the result rises or falls."""
    z = np.cumsum(v - u)
    assert abs(z[-1]) <= atol
    rise = np.sign(np.diff(u))
    assert np.all(np.abs(z[:-1]) <= w + atol)
    np.testing.assert_allclose(-z[:-1][rise != 0], (w * rise)[rise != 0], atol=atol)


SIGNALS = {
    "noise": rng.normal(size=500),
    "steps": np.repeat(rng.normal(size=20) * 3, 25) + 0.3 * rng.normal(size=500),
    "ramp": np.linspace(-3, 3, 500),
    "fall": np.linspace(3, -3, 500) + 1e6,
    "saw": np.tile([1.0, -1.0], 250),
    "wave": np.sin(np.arange(500) / 9) * np.arange(500),
    "constant": np.full(500, 0.1),
}


@pytest.mark.parametrize("weights", [1e-3, 0.4, 3.0, 200.0, 1e9, "mixed"])
@pytest.mark.parametrize("name", SIGNALS)
def test_total_variation_has_its_certificate(name, weights):
    v = SIGNALS[name]
    w = np.random.default_rng(1).exponential(size=499) if weights == "mixed" else np.full(499, weights)
    if weights == "mixed":
        w[::7], w[::50] = 0.0, 1e12
    u = np.asarray(total_variation(jnp.asarray(v), w))
    assert_certified(v, w, u, 1e-11 * (1 + np.abs(v).sum() / 100))


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_total_variation_solves_the_box_constrained_dual(n):
    own = np.random.default_rng(n)
    for _ in range(10):
        v, w = own.normal(size=n) * 2, own.exponential(size=n - 1) * own.integers(0, 2, size=n - 1) + 1e-12
        D = np.diff(np.eye(n), axis=0)
        u = np.asarray(total_variation(jnp.asarray(v), w))
        want = v - D.T @ lsq_linear(D.T, v, (-w, w), tol=1e-14).x if n > 1 else v
        np.testing.assert_allclose(u, want, atol=1e-6)
        if n > 1:
            assert_certified(v, w, u, 1e-12)


def test_fused_neighbours_are_equal_exactly_and_a_tie_is_fused(dtype):
    u = total_variation(jnp.asarray([0.0, 1.0, 0.3, 7.0, 7.1], dtype), 0.8)
    assert u[0] == u[1] == u[2] and u[3] == u[4] and u[2] < u[3]
    assert len(set(total_variation(jnp.array([0.0, 1.0], dtype), 0.5).tolist())) == 1
    inf = total_variation(jnp.asarray([0.0, 1.0, 5.0], dtype), jnp.array([jnp.inf, 0.0]))
    np.testing.assert_allclose(inf, [0.5, 0.5, 5.0])


def test_weight_zero_is_the_identity(dtype):
    v = jnp.asarray(rng.normal(size=300) * 10.0 ** rng.integers(-20, 20, size=300), dtype)
    np.testing.assert_array_equal(prox.total_variation(v, 0.0), v)


@pytest.mark.parametrize("kind", ["walk", "ramp", "saw", "mean", "offset"])
def test_long_chains_are_right_in_float32_and_take_linear_time(kind):
    """One copy of a buffer in each step would take minutes here."""
    n = 200_000
    own = np.random.default_rng(2)
    v = {
        "walk": np.cumsum(own.normal(size=n)) / 100 + own.normal(size=n),
        "ramp": np.linspace(0, 1000, n),
        "saw": np.tile([1.0, -1.0], n // 2) + 3,
        "mean": own.normal(size=n) + 1,
        "offset": np.sin(np.arange(n) * 6 / n) + own.normal(size=n) + 1000,  # a step is below one rounding
    }[kind]
    v = v.astype(np.float32)
    w = {"walk": 30.0, "ramp": 10.0, "saw": 0.4, "mean": 1e9, "offset": 3000.0}[kind]
    lams = np.linspace(8, 0, n)
    for f, strength in ((total_variation, w), (sorted_l1, lams)):
        small = f(jnp.asarray(v), jnp.asarray(strength, v.dtype))
        large = f(jnp.asarray(v, float), jnp.asarray(strength, float))
        np.testing.assert_allclose(small, large, atol=4e-7 * np.abs(v).max())
        start = time.perf_counter()
        f(jnp.asarray(v), jnp.asarray(strength, v.dtype)).block_until_ready()
        assert time.perf_counter() - start < 5
    if kind == "mean":
        u = np.asarray(total_variation(jnp.asarray(v), np.float32(w)))
        assert len(set(u.tolist())) == 1
        np.testing.assert_allclose(u[0], np.mean(v, dtype=float), rtol=3e-7)
    assert_certified(v.astype(float), w, np.asarray(total_variation(jnp.asarray(v, float), w)), 1e-6)


@pytest.mark.parametrize("weights", [0.05, 0.35, 3.0, "mixed", 1e9])
def test_no_rounding_piles_up_in_float32(weights):
    """The queue of knots is never empty here: what is lost in one step would stay for all that follow."""
    n, own = 100_000, np.random.default_rng(100_000)
    v = own.normal(size=n).astype(np.float32)
    w = own.exponential(size=n - 1).astype(np.float32) if weights == "mixed" else np.float32(weights)
    v += np.linspace(0, 10, n, dtype=np.float32) if weights == 1e9 else 0  # its sums are long
    small, large = (np.asarray(total_variation(jnp.asarray(v, d), jnp.asarray(w, d))) for d in ("f4", "f8"))
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(small, large, rtol=0, atol=eps * np.abs(v).max())
    np.testing.assert_array_equal(np.diff(small) == 0, np.abs(np.diff(large)) < 1e-9 * np.abs(v).max())
    np.testing.assert_array_equal(small, prox.total_variation(jnp.asarray(v), w))  # eager is jit
