"""Kernels of the proximal maps: each meets its own cost on a grid, and every law that they share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import thresholds

rng = np.random.default_rng(3)
LAM, GAMMA, A, EPS, DELTA, CAP = 1.3, 2.0, 3.7, 0.4, 0.6, 1.1


def _mcp(u, lam, gamma):
    return np.where(np.abs(u) <= gamma * lam, lam * np.abs(u) - u**2 / (2 * gamma), gamma * lam**2 / 2)


def _scad(u, lam, a):
    size = np.abs(u)
    middle = (2 * a * lam * size - u**2 - lam**2) / (2 * (a - 1))
    top = lam**2 * (a + 1) / 2
    return np.where(size <= lam, lam * size, np.where(size <= a * lam, middle, top))


def _huber(u, lam, delta):
    return lam * np.where(np.abs(u) <= delta, u**2 / (2 * delta), np.abs(u) - delta / 2)


# Kernel of (v, step, *parameters), its cost of (u, *parameters), the parameters, kinks of the cost.
ELEMENTWISE = {
    "soft": (lambda v, t, lam: thresholds.soft(v, t * lam), lambda u, lam: lam * abs(u), (LAM,), ()),
    "hard": (
        lambda v, t, lam: thresholds.hard(v, jnp.sqrt(2 * t * lam)),
        lambda u, lam: lam * (u != 0),
        (LAM,),
        (),
    ),
    "asymmetric_soft": (
        lambda v, t, a, b: thresholds.asymmetric_soft(v, t * a, t * b),
        lambda u, a, b: b * np.maximum(u, 0) + a * np.maximum(-u, 0),
        (-0.3, LAM),
        (),
    ),
    "mcp": (thresholds.mcp, _mcp, (LAM, GAMMA), (GAMMA * LAM,)),
    "scad": (thresholds.scad, _scad, (LAM, A), (LAM, A * LAM)),
    "half": (thresholds.half, lambda u, lam: lam * np.sqrt(abs(u)), (LAM,), ()),
    "log_sum": (thresholds.log_sum, lambda u, lam, eps: lam * np.log1p(abs(u) / eps), (LAM, EPS), ()),
    "huber_norm": (thresholds.huber_norm, _huber, (LAM, DELTA), (DELTA,)),
    "capped": (thresholds.capped, lambda u, lam, c: lam * np.minimum(abs(u), c), (LAM, CAP), (CAP,)),
}
ELEMENTWISE = {name: (jax.jit(kernel), *rest) for name, (kernel, *rest) in ELEMENTWISE.items()}
LABELS = np.array([2, 0, 1, 0, 2, 2, 0], np.int32)
THR = np.array([0.5, 1.5, 0.75])
METRIC = np.array([1.0, 0.25, 0.75, 2.0, 0.125, 1.0, 5.0])


def fit(constant, v):
    """A constant that can be lowered where double precision is off."""
    return constant.astype(np.float64 if v.dtype == float else np.float32)


# Kernel of (v, strength) for v of 7 coordinates: the laws of all go through here.
WHOLE = {
    "block_soft": lambda v, s: thresholds.block_soft(v, s * fit(THR, v), LABELS, 3),
    "block_soft_metric": lambda v, s: thresholds.block_soft_metric(
        v, s * fit(THR, v), fit(METRIC, v), LABELS, 3
    ),
    "block_mcp": lambda v, s: thresholds.block_mcp(v, s, fit(THR, v), 2.0, LABELS, 3),
    "singular_soft": lambda v, s: thresholds.singular_soft(v[:6].reshape(3, 2), s).ravel(),
}
WHOLE = {name: jax.jit(kernel) for name, kernel in WHOLE.items()}
ALL = WHOLE | {
    name: jax.jit(lambda v, s, kernel=kernel, parameters=parameters: kernel(v, s, *parameters))
    for name, (kernel, _, parameters, _) in ELEMENTWISE.items()
}
POINTS = [
    np.array([3.0, -1.0, 0.7, 0.5, -2.0, 4.0, 1.5]),
    np.array([0.1, 2.0, -2.8, -2.0, 0.2, 0.1, 5.0]),
    np.array([0.05, 0.01, 6.0, 0.02, 0.2, 0.1, 0.01]),
]


def test_every_kernel_is_here():
    assert set(ALL) == set(thresholds.__all__)


# ---------------------------------------------------------------- elementwise


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
    u = np.asarray(thresholds.log_sum(jnp.asarray(v), step, lam, eps))
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


def by_row(kernel):
    """The kernel of rows (v, step, *parameters), and its derivatives in all of them, forward and reverse."""
    f = lambda row: kernel(*row)  # noqa: E731
    return [jax.jit(jax.vmap(g)) for g in (f, jax.jacfwd(f), jax.jacrev(f))]


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
        return 0.5 * np.sum((u - v) ** 2, -1) + step * _mcp(np.linalg.norm(u, axis=-1), lam, GAMMA)

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


# ---------------------------------------------------------------- laws of all


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


def test_derivative_of_block_soft_metric_in_the_metric():
    f = jax.jit(lambda d: thresholds.block_soft_metric(jnp.asarray(POINTS[0]), THR, d, LABELS, 3))
    forward, h = jax.jacfwd(f)(jnp.asarray(METRIC)), 1e-7
    np.testing.assert_allclose(forward, jax.jacrev(f)(jnp.asarray(METRIC)), atol=1e-12)
    for k in range(7):
        move = h * jnp.eye(7)[k]
        np.testing.assert_allclose(forward[:, k], (f(METRIC + move) - f(METRIC - move)) / (2 * h), atol=1e-6)
    assert jnp.any(jnp.abs(forward - jnp.diag(jnp.diag(forward))) > 1e-2)


@pytest.mark.parametrize("name", ALL)
def test_vmap_is_a_loop_and_jit_is_eager(name):
    kernel, close = ALL[name], {"rtol": 1e-12, "atol": 1e-14}
    V, strengths = jnp.asarray(np.stack(POINTS)), jnp.array([0.6, 0.0, 2.0])
    loop = jnp.stack([kernel(v, s) for v, s in zip(V, strengths, strict=True)])
    np.testing.assert_allclose(jax.vmap(kernel)(V, strengths), loop, **close)
    with jax.disable_jit():
        np.testing.assert_allclose(kernel(V[0], 0.6), loop[0], **close)


@pytest.mark.parametrize("kind", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ALL)
def test_dtype_is_kept_without_double_precision(name, kind):
    v = jnp.asarray(POINTS[0], kind)
    want = ALL[name](jnp.asarray(np.asarray(v, float)), 0.6)
    with jax.enable_x64(False):
        got = ALL[name](v, 0.6)
    assert got.dtype == kind
    np.testing.assert_allclose(np.asarray(got, float), want, rtol=4 * float(jnp.finfo(kind).eps), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(got) == 0, np.asarray(want) == 0)


@pytest.mark.parametrize("name", ALL)
def test_nan_goes_through(name):
    assert jnp.isnan(ALL[name](jnp.full(7, jnp.nan), 0.6)).all()
