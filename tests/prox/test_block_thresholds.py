"""Kernels on groups of coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import prox
from tests.prox.kernels import GAMMA, LABELS, METRIC, POINTS, THR, WHOLE, mcp_cost

rng = np.random.default_rng(3)
block_soft = jax.jit(prox.block_soft, static_argnums=3)
block_soft_metric = jax.jit(prox.block_soft_metric, static_argnums=4)


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
    own = np.arange(7)[::-1]
    np.testing.assert_allclose(block_soft(v, t, own, 7), prox.soft(v, t[::-1]), rtol=1e-14)
    with_metric = block_soft_metric(v, t, METRIC, own, 7)
    np.testing.assert_allclose(with_metric, prox.soft(v, t[::-1] * METRIC), rtol=1e-13)


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
    u = np.asarray(block_soft_metric(v, t, metric, labels, 40))
    norms = np.sqrt(np.bincount(labels, u**2, 40))
    np.testing.assert_array_equal(norms == 0, size <= t)
    kept = norms[labels] > 0
    pull = t[labels] * u / np.where(kept, norms[labels], 1.0)
    wrong = np.abs(metric * pull - (v - u))
    assert np.all((wrong <= 1e-9 * np.abs(v - u) + 1e-13 * np.abs(v))[kept])


def test_block_soft_metric_with_one_step_is_block_soft(dtype):
    v = jnp.asarray(POINTS[0], dtype)
    u = block_soft_metric(v, THR, 0.8, LABELS, 3)
    np.testing.assert_allclose(u, block_soft(v, 0.8 * THR, LABELS, 3), rtol=20 * jnp.finfo(dtype).eps)


@pytest.mark.parametrize("step", [0.0, 0.5, 1.9, 2.0, 5.0])
def test_no_point_of_a_plane_costs_less_than_block_mcp(step):
    side = np.linspace(-5, 5, 101)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    labels, lam = jnp.array([0, 0]), 0.9

    def cost(u, v):
        return 0.5 * np.sum((u - v) ** 2, -1) + step * mcp_cost(np.linalg.norm(u, axis=-1), lam, GAMMA)

    for v in rng.normal(size=(20, 2)) * 1.7:
        u = np.asarray(prox.block_mcp(jnp.asarray(v), step, lam, GAMMA, labels, 1))
        scales = cost(np.linspace(0, 1, 2001)[:, None] * v, v).min()
        assert cost(u, v) <= min(cost(plane, v).min(), scales) + 1e-12


@pytest.mark.parametrize("name", ["block_soft", "block_soft_metric", "block_mcp"])
def test_norms_of_groups_neither_overflow_nor_vanish(name):
    call = {
        "block_soft": lambda v, t: prox.block_soft(v, t, LABELS, 3),
        "block_soft_metric": lambda v, t: prox.block_soft_metric(v, t, METRIC, LABELS, 3),
        "block_mcp": lambda v, t: prox.block_mcp(v, 1.0, t, 2.0, LABELS, 3),
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
        "block_soft": lambda v, t: prox.block_soft(v, t, labels, 5),
        "block_soft_metric": lambda v, t: prox.block_soft_metric(v, t, 1.0, labels, 5),
        "block_mcp": lambda v, t: prox.block_mcp(v, t, 1.0, 50.0, labels, 5),
    }[name]
    slopes = [jax.jit(j(call, argnums=(0, 1))) for j in (jax.jacfwd, jax.jacrev)]
    call = jax.jit(call)
    for t in (0.0, 1.0, 5.0):
        assert not np.any(np.asarray(call(v, t))[:2])
        assert all(np.all(np.isfinite(x)) for j in slopes for x in j(v, t))
    assert not np.any(call(v, 5.0))
    np.testing.assert_allclose(call(v, 0.0), v, rtol=1e-15)


def test_derivative_of_block_soft_metric_in_the_metric():
    f = jax.jit(lambda d: prox.block_soft_metric(jnp.asarray(POINTS[0]), THR, d, LABELS, 3))
    forward, back = (np.asarray(jax.jit(j(f))(METRIC)) for j in (jax.jacfwd, jax.jacrev))
    np.testing.assert_allclose(forward, back, atol=1e-12)
    h = 1e-7
    for k in range(7):
        move = h * np.eye(7)[k]
        np.testing.assert_allclose(forward[:, k], (f(METRIC + move) - f(METRIC - move)) / (2 * h), atol=1e-6)
    assert np.any(np.abs(forward - np.diag(np.diag(forward))) > 1e-2)
