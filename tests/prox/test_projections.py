"""Simplex, balls and the ℓ∞ norm: agreement with the textbook algorithms, by sorting."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import prox
from tests.prox.kernels import VECTORS, l1_ball, l2_ball, linf, simplex

rng = np.random.default_rng(4)


def to_simplex(v, total):
    """The textbook way, by sorting (Duchi et al. 2008, figure 1)."""
    s = np.sort(v)[::-1]
    rho = np.max(np.flatnonzero(s * np.arange(1, len(v) + 1) >= np.cumsum(s) - total))
    return np.maximum(v - (np.cumsum(s)[rho] - total) / (rho + 1), 0.0)


def to_ball(v, radius):
    return v if np.abs(v).sum() <= radius else np.sign(v) * to_simplex(np.abs(v), radius)


@pytest.mark.parametrize("size", [1e-6, 0.3, 1.0, 7.0, 1e4])
@pytest.mark.parametrize("k", range(len(VECTORS)))
def test_simplex_ball_and_largest_entry_are_the_textbook_s(k, size):
    v = VECTORS[k]
    slack = {"rtol": 1e-12, "atol": 1e-14 + 4e-16 * np.abs(v).max()}
    u = np.asarray(simplex(jnp.asarray(v), size))
    np.testing.assert_allclose(u, to_simplex(v, size), **slack)
    np.testing.assert_allclose(u.sum(), size, rtol=1e-12)
    ball, largest = (np.asarray(f(jnp.asarray(v), size)) for f in (l1_ball, linf))
    np.testing.assert_allclose(ball, to_ball(v, size), **slack)
    np.testing.assert_allclose(largest, v - to_ball(v, size), **slack)  # Moreau
    assert np.all(largest == 0) == (np.abs(v).sum() <= size)
    level = np.abs(largest).max()  # what is clipped has exactly this magnitude
    np.testing.assert_array_equal(largest, 0.0 if level == 0 else np.clip(v, -level, level))


@pytest.mark.parametrize("radius", [0.0, 0.5, 3.0, np.inf])
def test_inside_a_ball_nothing_moves_and_outside_it_lands_on_the_rim(radius, dtype):
    for v in VECTORS:
        v = jnp.asarray(v, dtype)
        for f, norm in ((l1_ball, 1), (l2_ball, 2)):
            u = f(v, radius)
            if jnp.linalg.norm(v, norm) <= radius:
                np.testing.assert_array_equal(u, v)
            else:
                np.testing.assert_allclose(jnp.linalg.norm(u, norm), radius, rtol=1e-5)
            assert radius > 0 or jnp.all(u == 0)
    np.testing.assert_allclose(l2_ball(jnp.array([3.0, 4.0]), 1.0), [0.6, 0.8], rtol=1e-15)


def test_groups_are_a_loop_over_groups():
    labels = rng.integers(0, 30, size=200)
    v = rng.normal(size=200) * 10.0 ** (labels - 15)  # of very different sizes
    radii = 10.0 ** (np.arange(31) - 15) * rng.uniform(0, 6, size=31)  # one group is empty
    ball, largest = (
        np.asarray(f(jnp.asarray(v), radii, labels, 31)) for f in (prox.l1_ball_groups, prox.linf_groups)
    )
    for g in np.unique(labels):
        mine = labels == g
        want = to_ball(v[mine], radii[g])
        slack = 1e-13 * np.abs(v[mine]).max()
        np.testing.assert_allclose(ball[mine], want, atol=slack)
        np.testing.assert_array_equal(ball[mine] == 0, want == 0)
        np.testing.assert_allclose(largest[mine], v[mine] - want, atol=slack)
        assert np.all(largest[mine] == 0) == (np.abs(v[mine]).sum() <= radii[g])
