"""Kernels that see several numbers at once: groups of coordinates, and singular values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import thresholds
from tests.kernels import GAMMA, LABELS, METRIC, POINTS, THR, WHOLE, by_row, mcp_cost

rng = np.random.default_rng(3)


@pytest.mark.parametrize("name", WHOLE)
def test_jvp_and_vjp_are_finite_differences(name):
    value, ahead, back = by_row(lambda *row: WHOLE[name](jnp.stack(row[:-1]), row[-1]))
    rows, h = np.array([[*v, s] for v in POINTS for s in (0.37, 0.6, 1.3)]), 1e-6
    forward = ahead(rows)
    np.testing.assert_allclose(forward, back(rows), atol=1e-12)
    for k in range(8):
        move = h * np.eye(8)[k]
        want = (value(rows + move) - value(rows - move)) / (2 * h)
        np.testing.assert_allclose(forward[..., k], want, atol=1e-6)


# ---------------------------------------------------------------- groups


@pytest.mark.parametrize("v", POINTS)
def test_block_soft_is_the_formula_of_each_group(v):
    u = np.asarray(WHOLE["block_soft"](jnp.asarray(v), 1.0))
    for g in range(3):
        part = v[np.asarray(LABELS) == g]
        norm = np.sqrt(np.sum(part**2))
        want = part * max(0.0, 1 - float(THR[g]) / norm)
        np.testing.assert_allclose(u[np.asarray(LABELS) == g], want, rtol=1e-14)
        assert np.all((u[np.asarray(LABELS) == g] == 0) == (norm <= THR[g]))


def test_block_soft_of_single_coordinates_is_soft():
    v = jnp.asarray(POINTS[0])
    t = jnp.asarray(rng.uniform(0, 3, size=7))
    own = jnp.arange(7)[::-1]
    np.testing.assert_allclose(thresholds.block_soft(v, t, own, 7), thresholds.soft(v, t[::-1]), rtol=1e-14)
    with_metric = thresholds.block_soft_metric(v, t, METRIC, own, 7)
    np.testing.assert_allclose(with_metric, thresholds.soft(v, t[::-1] * METRIC), rtol=1e-13)


@pytest.mark.parametrize("strength", [0.0, 1e-6, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("spread", [0.0, 1.0, 6.0])
def test_block_soft_metric_is_stationary(strength, spread):
    """The problem is convex: its optimality conditions are the whole truth, whatever the root finder did."""
    own = np.random.default_rng(int(10 * spread))
    labels = own.integers(0, 40, size=300)
    metric = 10.0 ** own.uniform(-spread, spread, size=300)
    v = own.normal(size=300) * 10.0 ** own.uniform(-spread, spread, size=300)
    size = np.sqrt(np.bincount(labels, (v / metric) ** 2, 40))
    t = strength * size * own.uniform(0, 1.5, size=40)
    u = np.asarray(thresholds.block_soft_metric(jnp.asarray(v), t, metric, jnp.asarray(labels), 40))
    norms = np.sqrt(np.bincount(labels, u**2, 40))
    np.testing.assert_array_equal(norms == 0, size <= t)
    kept = norms[labels] > 0
    pull = t[labels] * u / np.where(kept, norms[labels], 1.0)
    wrong = np.abs(metric * pull - (v - u))
    assert np.all((wrong <= 1e-9 * np.abs(v - u) + 1e-13 * np.abs(v))[kept])


def test_block_soft_metric_with_one_step_is_block_soft(dtype):
    v = jnp.asarray(POINTS[0], dtype)
    u = thresholds.block_soft_metric(v, THR, 0.8, LABELS, 3)
    np.testing.assert_allclose(
        u, thresholds.block_soft(v, 0.8 * THR, LABELS, 3), rtol=20 * jnp.finfo(dtype).eps
    )


@pytest.mark.parametrize("step", [0.0, 0.5, 1.9, 2.0, 5.0])
def test_no_point_of_a_plane_costs_less_than_block_mcp(step):
    side = np.linspace(-5, 5, 101)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    labels, lam = jnp.array([0, 0]), 0.9

    def cost(u, v):
        return 0.5 * np.sum((u - v) ** 2, -1) + step * mcp_cost(np.linalg.norm(u, axis=-1), lam, GAMMA)

    for v in rng.normal(size=(20, 2)) * 1.7:
        u = np.asarray(thresholds.block_mcp(jnp.asarray(v), step, lam, GAMMA, labels, 1))
        scales = cost(np.linspace(0, 1, 2001)[:, None] * v, v).min()
        assert cost(u, v) <= min(cost(plane, v).min(), scales) + 1e-12


@pytest.mark.parametrize("name", ["block_soft", "block_soft_metric", "block_mcp"])
def test_norms_of_groups_neither_overflow_nor_vanish(name):
    call = {
        "block_soft": lambda v, t: thresholds.block_soft(v, t, LABELS, 3),
        "block_soft_metric": lambda v, t: thresholds.block_soft_metric(v, t, METRIC, LABELS, 3),
        "block_mcp": lambda v, t: thresholds.block_mcp(v, 1.0, t, 2.0, LABELS, 3),
    }[name]
    v, t = jnp.asarray(POINTS[0], jnp.float32), jnp.asarray(THR, jnp.float32)
    call, slopes = jax.jit(call), jax.jit(jax.jacrev(call, argnums=(0, 1)))
    for s in np.float32([1e-30, 1e-20, 1e20, 1e30]):
        np.testing.assert_allclose(np.asarray(call(v * s, t * s), float) / float(s), call(v, t), rtol=3e-6)
        for got, want in zip(slopes(v * s, t * s), slopes(v, t), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["block_soft", "block_soft_metric", "block_mcp"])
def test_empty_and_zero_groups(name):
    v = jnp.array([0.0, 0.0, 3.0, 4.0])
    labels = jnp.array([3, 3, 1, 1])
    call = {
        "block_soft": lambda v, t: thresholds.block_soft(v, t, labels, 5),
        "block_soft_metric": lambda v, t: thresholds.block_soft_metric(v, t, 1.0, labels, 5),
        "block_mcp": lambda v, t: thresholds.block_mcp(v, t, 1.0, 50.0, labels, 5),
    }[name]
    slopes = [jax.jit(j(call, argnums=(0, 1))) for j in (jax.jacfwd, jax.jacrev)]
    for t in (0.0, 1.0, 5.0):
        assert jnp.all(call(v, t)[:2] == 0)
        assert all(jnp.all(jnp.isfinite(x)) for j in slopes for x in j(v, t))
    assert jnp.all(call(v, 5.0) == 0)
    np.testing.assert_allclose(call(v, 0.0), v, rtol=1e-15)


def test_derivative_of_block_soft_metric_in_the_metric():
    f = jax.jit(lambda d: thresholds.block_soft_metric(jnp.asarray(POINTS[0]), THR, d, LABELS, 3))
    forward, h = jax.jacfwd(f)(jnp.asarray(METRIC)), 1e-7
    np.testing.assert_allclose(forward, jax.jacrev(f)(jnp.asarray(METRIC)), atol=1e-12)
    for k in range(7):
        move = h * jnp.eye(7)[k]
        np.testing.assert_allclose(forward[:, k], (f(METRIC + move) - f(METRIC - move)) / (2 * h), atol=1e-6)
    assert jnp.any(jnp.abs(forward - jnp.diag(jnp.diag(forward))) > 1e-2)


# ---------------------------------------------------------------- singular values


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 5)])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.5])
def test_singular_soft_is_stationary(shape, t):
    M = rng.normal(size=shape)
    X = np.asarray(thresholds.singular_soft(jnp.asarray(M), t))
    G = M - X
    assert np.linalg.norm(G, 2) <= t + 1e-12
    np.testing.assert_allclose(np.sum(G * X), t * np.linalg.norm(X, "nuc"), rtol=1e-12, atol=1e-13)


def spectrum(values, shape):
    """A matrix with these singular values."""
    own = np.random.default_rng(5)
    U, V = (np.linalg.qr(own.normal(size=(k, k)))[0] for k in shape)
    S = np.zeros(shape)
    np.fill_diagonal(S, values)
    return U @ S @ V.T


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5)])
@pytest.mark.parametrize("values", [(3, 2, 0.5), (3, 3, 3), (3, 3, 0.5), (3, 0.5, 0.5), (3, 0, 0), (0, 0, 0)])
def test_derivative_of_singular_soft_also_at_ties_and_zeros(shape, values):
    M, dM = spectrum(values, shape), np.random.default_rng(6).normal(size=shape)
    f, h = jax.jit(thresholds.singular_soft), 1e-5
    want = (f(jnp.asarray(M + h * dM), 1.0) - f(jnp.asarray(M - h * dM), 1.0)) / (2 * h)
    _, got = jax.jvp(lambda M: f(M, 1.0), (jnp.asarray(M),), (jnp.asarray(dM),))
    np.testing.assert_allclose(got, want, atol=1e-7)
    want = (f(jnp.asarray(M), 1.0 + h) - f(jnp.asarray(M), 1.0 - h)) / (2 * h)
    np.testing.assert_allclose(jax.jvp(lambda t: f(jnp.asarray(M), t), (1.0,), (1.0,))[1], want, atol=1e-9)
    # Self-adjoint: the prox is the gradient of a convex function.
    ct = jnp.asarray(np.random.default_rng(7).normal(size=shape))
    (back,) = jax.vjp(lambda M: f(M, 1.0), jnp.asarray(M))[1](ct)
    np.testing.assert_allclose(jnp.sum(back * dM), jnp.sum(ct * got), rtol=1e-9, atol=1e-12)


def test_derivative_of_singular_soft_is_finite_at_the_threshold():
    M = jnp.stack([jnp.diag(jnp.array(x, float)) for x in ((3, 1, 1), (1, 1, 1), (3, 3, 1), (0, 0, 0))])
    for j in (jax.jacfwd, jax.jacrev):
        slopes = jax.jit(jax.vmap(j(thresholds.singular_soft, argnums=(0, 1)), (0, None)))
        assert all(jnp.all(jnp.isfinite(s)) for t in (0.0, 1.0, 3.0) for s in slopes(M, t))


def test_singular_soft_drops_exactly():
    M = jnp.asarray(spectrum((3, 0.9, 0.5), (5, 3)))
    assert jnp.all(thresholds.singular_soft(M, 3.01) == 0)
    values = np.linalg.svd(np.asarray(thresholds.singular_soft(M, 1.0)), compute_uv=False)
    np.testing.assert_allclose(values, [2, 0, 0], atol=1e-15)
    np.testing.assert_array_equal(thresholds.singular_soft(M, 0.0), M)
    eye = jax.jit(jax.jacfwd(thresholds.singular_soft))(M, 0.0).reshape(15, 15)
    np.testing.assert_allclose(eye, np.eye(15), atol=1e-14)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_singular_soft_at_extreme_magnitudes(scale):
    M = spectrum((3, 0.9, 0.5), (5, 3))
    X = thresholds.singular_soft(jnp.asarray(M * scale, jnp.float32), np.float32(scale))
    np.testing.assert_allclose(X / scale, thresholds.singular_soft(jnp.asarray(M), 1.0), atol=3e-6)
