"""Laws that all kernels share: batching, dtypes, NaN, derivatives, homogeneity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import prox
from tests.prox.kernels import (
    ALL,
    HOMOGENEOUS,
    LAMS,
    POINTS,
    PROXES,
    TIED_POINTS,
    WEIGHTS,
    WHOLE,
    by_row,
    sorted_l1,
    total_variation,
)

rng = np.random.default_rng(4)
KERNELS = ALL | HOMOGENEOUS
every = pytest.mark.parametrize("name", KERNELS)


def points(name: str) -> list[np.ndarray]:
    return TIED_POINTS if name in HOMOGENEOUS else POINTS


def by_vector_row(kernel):
    """Return the kernel of rows (*v, strength) and its derivatives in all of them, forward and reverse."""
    return by_row(lambda *row: kernel(jnp.stack(row[:-1]), row[-1]))


def test_every_kernel_is_here():
    assert set(KERNELS) == set(prox.__all__)


@every
def test_vmap_is_a_loop(name):
    kernel, V, strengths = KERNELS[name], np.stack(points(name)), np.array([0.6, 0.0, 2.0])
    loop = np.stack([kernel(v, s) for v, s in zip(V, strengths, strict=True)])
    np.testing.assert_allclose(jax.vmap(kernel)(V, strengths), loop, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["soft", "block_soft", "linf", "sorted_l1", "total_variation"])
def test_jit_is_eager(name):
    v = points(name)[0]
    eager = KERNELS[name].__wrapped__(jnp.asarray(v), 0.6)
    np.testing.assert_allclose(eager, KERNELS[name](v, 0.6), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [jnp.float32, jnp.bfloat16])
@every
def test_dtype_is_kept_without_double_precision(name, kind):
    v = jnp.asarray(points(name)[0], kind)
    want = np.asarray(KERNELS[name](jnp.asarray(np.asarray(v, float)), 0.6))
    with jax.enable_x64(False):
        got = KERNELS[name](v, 0.6)
    assert got.dtype == kind
    np.testing.assert_allclose(np.asarray(got, float), want, rtol=4 * float(jnp.finfo(kind).eps), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(got) == 0, want == 0)


@every
def test_nan_propagates_and_loops_end(name):
    assert jnp.isnan(KERNELS[name](jnp.full(7, jnp.nan), 0.6)).all()
    if name in HOMOGENEOUS:
        assert jnp.isnan(KERNELS[name](jnp.asarray([1.0, jnp.nan, *TIED_POINTS[0][:5]]), 0.6)).any()


@pytest.mark.parametrize("name", WHOLE)
def test_jvp_and_vjp_are_finite_differences(name):
    assert_finite_differences(WHOLE[name], np.array([[*v, s] for v in POINTS for s in (0.37, 0.6, 1.3)]))


def assert_finite_differences(kernel, rows):
    """Forward and reverse derivatives agree with each other and with central differences."""
    value, ahead, back = by_vector_row(kernel)
    forward, h = ahead(rows), 1e-6
    np.testing.assert_allclose(forward, back(rows), atol=1e-12)
    for k in range(8):
        move = h * np.eye(8)[k]
        want = (value(rows + move) - value(rows - move)) / (2 * h)
        np.testing.assert_allclose(forward[..., k], want, atol=1e-6)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_derivatives(name):
    """Finite differences off the kinks, finite at 0 and at ties."""
    kernel = HOMOGENEOUS[name]
    assert_finite_differences(kernel, np.array([[*v, s] for v in TIED_POINTS for s in (0.37, 0.83, 1.3)]))
    ties = [np.zeros(7), np.ones(7), np.array([1.0, -1, 0, 0, 2, 2, -2]), np.arange(7.0), *TIED_POINTS[:2]]
    edges = np.array([[*v, s] for v in ties for s in (0.0, 0.5, 1.0, 7.0, 21.0, 1e6)])
    for j in by_vector_row(kernel)[1:]:
        assert all(jnp.all(jnp.isfinite(j(part))) for part in np.split(edges, 4))


def test_derivative_in_every_weight():
    v, h = jnp.asarray(TIED_POINTS[0]), 1e-6
    for f, w in ((total_variation, WEIGHTS + 0.125), (sorted_l1, LAMS)):
        forward, reverse = (jax.jit(j(f, 1))(v, jnp.asarray(w)) for j in (jax.jacfwd, jax.jacrev))
        np.testing.assert_allclose(forward, reverse, atol=1e-14)
        for k in range(len(w)):
            move = h * np.eye(len(w))[k]
            want = (np.asarray(f(v, w + move)) - np.asarray(f(v, w - move))) / (2 * h)
            np.testing.assert_allclose(forward[:, k], want, atol=1e-6)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_nonexpansive(name):
    a, b = (jnp.asarray(rng.normal(size=(200, 7)) * 3) for _ in range(2))
    pa, pb = (jax.vmap(lambda v: HOMOGENEOUS[name](v, 0.7))(x) for x in (a, b))
    assert jnp.all(jnp.sum((pa - pb) ** 2, 1) <= jnp.sum((pa - pb) * (a - b), 1) + 1e-12)


@pytest.mark.parametrize("name", PROXES)
def test_strength_zero_is_the_identity(name):
    for kind in (jnp.float64, jnp.float32, jnp.bfloat16):
        v = jnp.asarray([3.0, -1.0, 0.0, 1e-30, -1e30, 3.0, 1.5], kind)
        np.testing.assert_array_equal(HOMOGENEOUS[name](v, 0.0), v)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_scale_does_not_matter(name):
    """Each is homogeneous: v and strength in other units give the same in those units, slopes unchanged."""
    kernel, v = HOMOGENEOUS[name], jnp.asarray(TIED_POINTS[0], jnp.float32)
    slope = jax.jit(jax.jacrev(kernel))
    for s in np.float32([1e-30, 1e-15, 1e15, 1e30]):
        u = np.asarray(kernel(v * s, 0.6 * s), float) / float(s)
        np.testing.assert_allclose(u, kernel(v, np.float32(0.6)), rtol=3e-6, atol=1e-6)
        np.testing.assert_allclose(slope(v * s, 0.6 * s), slope(v, np.float32(0.6)), rtol=1e-5, atol=1e-6)
