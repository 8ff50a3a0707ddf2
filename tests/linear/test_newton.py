"""Newton: its linear algebra, the penalties it refuses, and hard problems by the hundred."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg.linear.solvers import _active_inverse, _factor, _packed_inverse, newton
from jaxreg.linear.solvers._hessian_cache import CachedHessian, CachedInverse, FreshHessian
from jaxreg.linear.solvers._packed_inverse import ActiveInverse
from jaxreg.linear.solvers._smooth_part import DataSmoothPart
from jaxreg.linear.solvers._subproblem import Objective
from tests.members import LOSSES, problem

P = jr.penalties


def spd(rng, m):
    A = rng.normal(size=(m, 2 * m))
    return A @ A.T / m


@pytest.mark.parametrize(
    ("m", "count", "dtype"),
    [
        pytest.param(m, count, dtype, marks=() if (k % 2 == 0) == (dtype == "float32") else pytest.mark.slow)
        for k, (m, count) in enumerate(
            [
                (5, 5),
                (40, 33),
                (100, 64),
                (100, 1),
                (300, 170),
                (300, 300),
                (700, 530),
                (1100, 1100),
                (1100, 650),
            ]
        )
        for dtype in ("float32", "float64")
    ],
)
def test_cholesky_of_the_leading_part(m, count, dtype):
    rng = np.random.default_rng(m)
    size = _factor.padded(m)
    inside = np.arange(size) < count
    matrix = np.where(inside[:, None] & inside, spd(rng, size), np.eye(size)).astype(dtype)
    right = np.where(inside, rng.normal(size=size), 0.0).astype(dtype)
    found = jax.jit(lambda a, b, k: _factor.substitute(_factor.factor(a, k), b))(matrix, right, count)
    wanted = np.linalg.solve(matrix.astype(float), right)
    np.testing.assert_allclose(found, wanted, atol=1e3 * jnp.finfo(dtype).eps)


def test_cholesky_of_an_indefinite_matrix_is_not_a_number():
    chol = _factor.factor(jnp.diag(jnp.array([1.0, -1.0, 1.0])), jnp.array(3))
    assert jnp.isnan(_factor.substitute(chol, jnp.ones(3))).any()


def unpacked(found):
    """Return the inverse in the order of the coordinates; its places and coordinates refer to each other."""
    place, m = np.asarray(found.place), found.place.size
    used = np.flatnonzero(place < m)
    assert np.array_equal(np.asarray(found.coordinate)[place[used]], used)
    assert np.sum(np.asarray(found.coordinate) < m) == used.size
    out = np.zeros((m, m))
    out[np.ix_(used, used)] = np.asarray(found.inverse)[np.ix_(place[used], place[used])]
    free = np.asarray(found.coordinate) == m
    assert not np.any(np.asarray(found.inverse)[free]) and not np.any(np.asarray(found.inverse)[:, free])
    return out


@pytest.mark.parametrize(
    ("m", "curved", "whole"), [(90, False, 512), (192, True, 0)], ids=["whole", "in tiles, curved"]
)
def test_pivots_keep_the_inverse_of_the_active_block(m, curved, whole, monkeypatch):
    """The inverse is that of gram + diag(c), where a coordinate keeps the c with which it entered."""
    rng = np.random.default_rng(0)
    gram = jnp.asarray(spd(rng, m))
    found, entered = ActiveInverse.empty(gram), np.zeros(m)
    monkeypatch.setattr(_packed_inverse, "_MAX_WHOLE", whole)
    exchange, x = jax.jit(ActiveInverse.exchanged), rng.normal(size=m)
    for _ in range(30):
        active, curvature = rng.random(m) < rng.random(), curved * rng.exponential(size=m)
        entered = np.where(active & ~np.asarray(found.active), curvature, entered)
        found = exchange(found, gram, jnp.asarray(active), jnp.asarray(curvature))
        assert np.array_equal(found.active, active)
        block = np.ix_(active, active)
        wanted = np.zeros((m, m))
        wanted[block] = np.linalg.inv((np.asarray(gram) + np.diag(entered))[block])
        np.testing.assert_allclose(unpacked(found), wanted, atol=1e-8)
    np.testing.assert_allclose(found.times(jnp.asarray(x)), wanted @ x, atol=1e-7)


def test_a_reordered_inverse_is_that_of_the_reordered_matrix():
    rng = np.random.default_rng(4)
    gram, active = jnp.asarray(spd(rng, 128)), jnp.asarray(rng.random(128) < 0.4)
    found = ActiveInverse.empty(gram).exchanged(gram, active, jnp.arange(128.0))
    stay = np.flatnonzero(active | (rng.random(128) < 0.5))
    order = np.full(192, 128)
    order[: stay.size] = rng.permutation(stay)
    moved = found.reordered(jnp.asarray(order))
    taken = order[: stay.size]
    wanted = np.zeros((192, 192))
    wanted[: stay.size, : stay.size] = unpacked(found)[np.ix_(taken, taken)]
    np.testing.assert_array_equal(unpacked(moved), wanted)
    np.testing.assert_array_equal(moved.active[: stay.size], active[taken])
    np.testing.assert_array_equal(moved.prox_curvature[: stay.size], found.prox_curvature[taken])
    order[: stay.size] = np.where(taken == np.flatnonzero(active)[0], 128, taken)
    emptied = found.reordered(jnp.asarray(order))
    assert not np.any(emptied.active) and not np.any(unpacked(emptied))


def test_an_inverse_of_another_curvature_solves_too():
    rng = np.random.default_rng(3)
    gram, active = jnp.asarray(spd(rng, 60)), jnp.asarray(rng.random(60) < 0.6)
    curvature = jnp.asarray(rng.exponential(size=60))
    inverse = ActiveInverse.empty(gram).exchanged(gram, active, 15 * curvature)
    right = jnp.where(active, jnp.asarray(rng.normal(size=60)), 0.0)
    found = _active_inverse._solve(gram, curvature, inverse, right, jnp.asarray(1e-12))
    matrix = (np.asarray(gram) + np.diag(curvature))[np.ix_(active, active)]
    residual = matrix @ np.asarray(found[active]) - np.asarray(right[active])
    assert np.abs(residual).max() <= _active_inverse._CG_REDUCTION * np.abs(right).max()
    assert np.all(found[~active] == 0)


def test_dependent_columns_stay_out_of_the_inverse():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(30, 12))
    X[:, 5] = X[:, 2]
    gram = jnp.asarray(X.T @ X / 30)
    found = ActiveInverse.empty(gram).exchanged(gram, jnp.ones(12, bool), jnp.zeros(12))
    assert int(found.active.sum()) == 11 and not bool(found.active[5])
    block = np.ix_(*2 * [np.asarray(found.active)])
    wanted = np.linalg.inv(np.asarray(gram)[block])
    np.testing.assert_allclose(unpacked(found)[block], wanted, atol=1e-8)


@pytest.mark.parametrize(
    ("penalty", "answer"),
    [
        (jr.L1(0.3), True),
        (jr.L1(0.3, weights=[0.0, 1.0, jnp.inf, 2.0]), True),
        (jr.L1(0.3) + jr.NonNegative(), True),
        (jr.ElasticNet(0.3, 0.5), True),
        (jr.ElasticNet(0.3, 0.5, weights=[0.0, 1.0, 3.0, 2.0]) + jr.Box(-1.0, 0.5), True),
        (jr.SquaredL2(0.3), True),
        (P.MCP(0.3), False),
        (P.HuberNorm(0.3, 0.1), False),
    ],
)
def test_slopes_of_a_prox(penalty, answer):
    assert bool(_active_inverse.prox_slopes_are_0_or_1(penalty, (4,), jnp.asarray(1.0))) is answer


@pytest.mark.parametrize("penalty", [P.TotalVariation(0.1), P.SortedL1(jnp.arange(8.0)[::-1]), P.LInf(0.1)])
def test_a_penalty_that_couples_everything_is_refused(penalty):
    X = np.random.default_rng(0).normal(size=(20, 8))
    with pytest.raises(TypeError, match=r"take solver=jaxreg.ProximalGradient\(\)"):
        jr.solve(jr.Problem(jr.losses.SquaredError(), X, X[:, 0]), penalty, solver=jr.Newton())


#: Each loss with one cache, and Logistic with both.
FAST = [(name, CachedHessian) for name in ("Logistic", "Multinomial", "Poisson")]
FAST += [(name, CachedInverse) for name in ("Huber", "Logistic", "SquaredError")]


@pytest.mark.slow_except("SquaredError-CachedInverse", "Logistic-CachedInverse", "Poisson-CachedHessian")
@pytest.mark.parametrize(
    ("name", "cache"),
    [
        pytest.param(name, cache, marks=() if (name, cache) in FAST else pytest.mark.slow)
        for name in LOSSES
        for cache in (CachedHessian, CachedInverse)
        if (name, cache) != ("Multinomial", CachedInverse)
    ],
)
def test_a_cached_hessian_leads_to_the_same_point(name, cache):
    """A cache serves as long as it is good and is refreshed where it is not; no step raises the objective.

    Steps on an inverse are not damped: they start near the solution.
    """
    here = problem(name, n=80, p=6)
    penalty = here.working_penalty(jr.L1(0.01))
    objective = Objective(DataSmoothPart(here), penalty, jnp.asarray(1.0))
    coef, intercept = jax.tree.map(lambda x: x + 1.0, here.zeros())
    if cache is CachedInverse:
        near = jr.solve(here, jr.L1(0.01), tol=1e-4)
        coef, intercept = here.to_working(near.coef, near.intercept)

    def compute():
        return cache.compute(
            objective.smooth, objective.smooth.evaluate(coef, intercept), jnp.array(coef.size)
        )

    step = jax.jit(lambda state: newton.newton_step(objective, state))
    begin = jax.jit(lambda source: newton.init_state(objective, coef, intercept, source))
    states = [begin(FreshHessian()), begin(jax.jit(compute)())]
    for k, state in enumerate(states):
        for _ in range(60):
            before, state = state, step(state)
            assert state.objective <= before.objective + 1e-14
        states[k] = state
    for state in states:
        assert state.residual < 1e-10
    np.testing.assert_allclose(states[0].coef, states[1].coef, atol=1e-9)
    assert np.array_equal(states[0].coef == 0, states[1].coef == 0)


@pytest.mark.slow
def test_a_vmapped_solve_is_a_loop_of_solves():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(50, 70))
    here = jr.Problem(jr.losses.Logistic(), X, (X[:, 0] + rng.normal(size=50) > 0).astype(float))
    lams = jnp.array([0.1, 0.03, 0.01])

    def one(lam):
        return jr.solve(here, jr.L1(lam), solver=jr.Newton(), tol=1e-9, throw=False)

    batch = jax.vmap(one)(lams)
    for k, lam in enumerate(lams):
        np.testing.assert_allclose(batch.coef[k], one(lam).coef, atol=1e-6)
        assert np.array_equal(batch.coef[k] != 0, one(lam).coef != 0)


def hard(rng, n, p, logistic):
    """Correlated, with copies of columns, constant columns, heavy weights; some classes are separable."""
    rho = rng.choice([0.0, 0.5, 0.9, 0.99])
    X = np.sqrt(rho) * rng.normal(size=(n, 1)) + np.sqrt(1 - rho) * rng.normal(size=(n, p))
    if rng.random() < 0.3:
        X[:, p // 2 : p // 2 + 5] = X[:, :5]
    if rng.random() < 0.2:
        X[:, -1], X[:, -2] = 0.0, 3.0
    if rng.random() < 0.2:
        X *= 10.0 ** rng.uniform(-2, 2, size=p)
    z = X[:, : rng.integers(1, p // 4)].sum(1)
    z = (z - z.mean()) / max(z.std(), 1e-9)
    weight = rng.exponential(size=n) ** (3 if rng.random() < 0.3 else 0)
    if not logistic:
        return X, z + 0.5 * rng.normal(size=n), weight
    y = (z > 0) if rng.random() < 0.3 else rng.random(n) < 1 / (1 + np.exp(-3 * z))
    y[:2] = False, True
    return X, y.astype(float), weight


@pytest.mark.parametrize(
    ("loss", "n", "p", "count"),
    [
        (jr.losses.Logistic(), 50, 50, 28),
        pytest.param(jr.losses.SquaredError(), 40, 100, 28, marks=pytest.mark.slow),
        *(
            pytest.param(loss, n, p, 84, marks=pytest.mark.slow)
            for loss in (jr.losses.SquaredError(), jr.losses.Logistic())
            for n, p in ((40, 100), (100, 40), (50, 50))
        ),
    ],
)
def test_hard_problems(loss, n, p, count):
    """99 % of them are certified, the others say so rightly; proximal gradient finds the same cost."""
    rng = np.random.default_rng(n)
    data = [hard(rng, n, p, isinstance(loss, jr.losses.Logistic)) for _ in range(count)]
    X, y, weight = (np.stack(part) for part in zip(*data, strict=True))
    share = 10.0 ** rng.uniform(-2.5, -0.3, size=count)
    ratio = rng.choice([1.0, 0.5], size=count)

    def one(solver, max_steps, X, y, weight, share, ratio):
        here = jr.Problem(loss, X, y, sample_weight=weight, standardize=True)
        # At the null fit the mean of both losses is that of the targets.
        residual = here.weight * (here.weight @ here.y - here.y)
        top = jnp.max(jnp.abs(here.design.rmatmul(residual)))
        penalty = jr.ElasticNet(share * top, ratio)
        return jr.solve(here, penalty, solver=solver, tol=1e-6, max_steps=max_steps, throw=False)

    def batch(solver, max_steps):
        # One after the other: a batch would wait for its slowest lane at every step.
        lanes = (X, y, weight, share, ratio)
        return jax.jit(lambda lanes: jax.lax.map(lambda lane: one(solver, max_steps, *lane), lanes))(lanes)

    newton, gradient = batch(jr.Newton(), 300), batch(jr.ProximalGradient(), 1500)
    assert float(newton.converged.mean()) >= 0.99, (int(newton.converged.sum()), newton.gap.max())
    assert np.all((np.asarray(newton.gap) > 1e-6) == ~np.asarray(newton.converged))
    # Both gaps bound the difference of the costs.
    both = np.asarray(newton.converged & gradient.converged)
    assert both.mean() > 0.3
    spread = np.abs(np.asarray(newton.objective - gradient.objective))[both]
    assert np.all(spread <= 2e-6 * np.maximum(np.abs(np.asarray(newton.objective))[both], 1.0) * 10)
