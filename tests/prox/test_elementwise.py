"""Proximal maps of one number: each beats every point of a grid at its own cost; jumps, ties, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import prox
from tests.prox.kernels import ELEMENTWISE, EPS, GAMMA, LAM, A, by_row

rng = np.random.default_rng(3)


@pytest.mark.parametrize("step", [1e-9, 0.05, 0.3, 1.0, 1.9, 2.0, 2.3, 2.7, 3.5, 4.7, 9.0, 1e4])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_no_point_of_a_grid_costs_less(name, step):
    kernel, penalty, parameters, kinks = ELEMENTWISE[name]
    v = np.concatenate([np.linspace(-9, 9, 181), rng.normal(size=40) * 3, [1e-8, 300.0, -300.0]])
    u = np.asarray(kernel(jnp.asarray(v), step, *parameters))
    near = [0.0, 1e-12, 1e-6, *kinks, *(k + e for k in kinks for e in (-1e-7, 1e-7))]
    grid = np.concatenate([np.linspace(-10, 10, 4001), near, -np.array(near), [300.0, -300.0, 298.7]])

    def cost(u, v):
        return 0.5 * (u - v) ** 2 + step * penalty(u, *parameters)

    best = np.minimum(cost(grid[:, None], v).min(axis=0), cost(v, v))
    assert np.all(cost(u, v) <= best + 1e-12 * (1 + abs(best)))


@pytest.mark.parametrize(
    ("name", "v", "step", "parameters", "at", "above"),
    [
        ("soft", 1.0, 1.0, (1.0,), 0.0, 0.0),
        ("hard", 2.0, 2.0, (1.0,), 0.0, 2.0),
        ("asymmetric_soft", 3.0, 1.0, (1.0, 3.0), 0.0, 0.0),
        ("asymmetric_soft", -1.0, 1.0, (1.0, 3.0), 0.0, 0.0),
        ("mcp", 1.0, 1.0, (1.0, 2.0), 0.0, 0.0),
        ("mcp", 2.0, 2.0, (1.0, 2.0), 0.0, 2.0),
        ("mcp", 4.0, 8.0, (1.0, 2.0), 0.0, 4.0),
        ("scad", 3.0, 2.0, (1.0, 3.0), 1.0, 3.0),
        ("scad", 3.5, 3.0, (1.0, 3.0), 0.5, 3.5),
        ("scad", 4.0, 4.0, (1.0, 3.0), 0.0, 4.0),
        ("scad", 6.0, 9.0, (1.0, 3.0), 0.0, 6.0),
        ("capped", 1.5, 1.0, (1.0, 1.0), 0.5, 1.5),
        ("capped", 4.0, 4.0, (2.0, 1.0), 0.0, 4.0),
        ("half", 1.5, 1.0, (1.0,), 0.0, 1.0),
        ("half", 6.0, 2.0, (4.0,), 0.0, 4.0),
        ("log_sum", 1.0, 1.0, (1.0, 1.0), 0.0, 0.0),
        ("log_sum", 0.5, 0.5, (1.0, 1.0), 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ties_go_to_the_sparser(name, v, step, parameters, at, above, sign, dtype):
    if name == "asymmetric_soft":  # mirrored, the two slopes change places
        parameters = parameters[:: int(sign)]
    kernel = ELEMENTWISE[name][0]
    v, step = jnp.asarray(sign * v, dtype), jnp.asarray(step, dtype)
    assert kernel(v, step, *parameters) == sign * at
    slack = 8 * jnp.finfo(dtype).eps
    beyond = kernel(v * (1 + slack), step, *parameters)
    np.testing.assert_allclose(beyond, sign * above, atol=2e-3 if name == "log_sum" else 60 * slack)
    assert beyond != sign * at


def test_the_jump_of_log_sum_is_where_the_costs_meet():
    step, lam, eps = 1.0, 1.3, 0.4
    v = np.linspace(0.5, 4.0, 20001)
    u = np.asarray(prox.log_sum(jnp.asarray(v), step, lam, eps))
    first = np.argmax(u > 0)
    gain = 0.5 * v**2 - 0.5 * (u - v) ** 2 - step * lam * np.log1p(u / eps)
    assert np.all(u[:first] == 0) and np.all(u[first:] > 0.5)
    assert 0 < gain[first] < 2e-4


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_step_or_lambda_zero_is_the_identity(name):
    kernel, _, parameters, _ = ELEMENTWISE[name]
    none = (0.0,) * len(parameters) if name == "asymmetric_soft" else (0.0, *parameters[1:])
    for kind in (jnp.float64, jnp.float32, jnp.bfloat16):
        v = jnp.asarray(np.concatenate([rng.normal(size=200) * 3, [0.0, 1e-30, -1e30]]), kind)
        for u in (kernel(v, 0.0, *parameters), kernel(v, 1.7, *none), kernel(v, 5.0, *none)):
            assert u.dtype == kind
            np.testing.assert_array_equal(u, v)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_float32_agrees_with_float64_at_extreme_magnitudes(name):
    kernel, _, parameters, _ = ELEMENTWISE[name]
    size = np.float32(10.0) ** np.arange(-30, 31, 2, dtype=np.float32)
    v = jnp.concatenate([jnp.zeros(1, jnp.float32), size, -size]) * jnp.float32(1.07)
    slopes = jax.jit(jax.grad(lambda v, t: jnp.sum(kernel(v, t, *parameters)), argnums=(0, 1)))
    for step in (1e-30, 1e-15, 1.0, 1e15, 1e30):
        small = kernel(v, jnp.float32(step), *parameters)
        large = kernel(v.astype(jnp.float64), float(np.float32(step)), *parameters)
        assert small.dtype == jnp.float32
        np.testing.assert_allclose(small, large, rtol=3e-6, atol=2e-38)
        np.testing.assert_array_equal(small == 0, abs(large) < 2e-38)
        assert all(jnp.all(jnp.isfinite(g)) for g in slopes(v, jnp.float32(step)))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivatives_are_finite_differences(name):
    kernel, _, parameters, _ = ELEMENTWISE[name]
    steps = np.repeat([0.3, 2.4, 4.0, 9.0], 60)
    rows = np.array([[v, t, *parameters] for v, t in zip(rng.uniform(-9, 9, size=240), steps, strict=True)])
    value, ahead, back = by_row(kernel)
    forward = np.asarray(ahead(rows))
    np.testing.assert_allclose(forward, back(rows), rtol=1e-12, atol=1e-14)
    h, smooth = 1e-6, []
    for k in range(rows.shape[1]):
        move = h * np.eye(rows.shape[1])[k]
        up, at, down = (np.asarray(value(rows + e)) for e in (move, 0 * move, -move))
        off = np.abs(up - 2 * at + down) < 1e-9  # no kink and no jump between
        smooth.append(off.mean())
        np.testing.assert_allclose(forward[off, k], (up - down)[off] / (2 * h), rtol=1e-5, atol=1e-6)
    assert min(smooth) > 0.9


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivatives_are_finite_at_zero_and_at_ties(name):
    kernel, _, parameters, kinks = ELEMENTWISE[name]
    places = [0.0, LAM, 2 * LAM, 1.5 * LAM ** (2 / 3), LAM / EPS, *kinks]
    near = [np.nextafter(x, side) for x in (GAMMA, A - 1) for side in (0, 9)]
    rows = np.array(
        [
            [v, step, *change]
            for step in (0.0, EPS**2 / LAM, 1.0, *near, GAMMA, A - 1, A + 1)
            for v in (x * s for x in places for s in (1.0, -1.0, step, 1 + 1e-15))
            for change in (parameters, (0.0, *parameters[1:]))
            if name != "hard" or step * change[0] > 0  # that square root is the test's
        ]
    )
    for j in by_row(kernel):
        assert jnp.all(jnp.isfinite(j(rows)))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_one_parameter_per_coordinate(name):
    kernel, _, parameters, _ = ELEMENTWISE[name]
    v = jnp.asarray(rng.normal(size=(5, 4)) * 3)
    steps = jnp.asarray(rng.uniform(0, 6, size=(5, 4)))
    many = [jnp.asarray(p * rng.uniform(1, 1.2, size=4)) for p in parameters]
    u = kernel(v, steps, *many)
    for i, j in np.ndindex(5, 4):
        np.testing.assert_allclose(u[i, j], kernel(v[i, j], steps[i, j], *(m[j] for m in many)), rtol=1e-12)
