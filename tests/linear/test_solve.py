"""Solutions: agreement with peers and published numbers, certificates on random problems, bad input."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model
from sklearn.datasets import load_breast_cancer, load_diabetes

import jaxreg as jr
from jaxreg.linear import certificate
from jaxreg.linear.null_fit import fit_null_model
from jaxreg.linear.path.result import Path
from jaxreg.linear.solve import Solution
from jaxreg.linear.solvers import Status
from tests.members import LOSSES, targets

KNOTS = [949.43526038, 889.31599073, 452.90096891, 316.07405270, 130.13085130, 88.78242982, 68.96522120]
KNOTS += [19.98125468, 5.47747295, 5.08917881, 2.18224973, 1.31043525]
SQUARED = jr.losses.SquaredError()
ENTER = ["bmi", "s5", "bp", "s3", "sex", "s6", "s1", "s4", "s2", "age"]


def test_diabetes_knots():
    data = load_diabetes()
    y = data.target - data.target.mean()
    problem = jr.Problem(jr.losses.SquaredError(), data.data, y)
    np.testing.assert_allclose(jr.lambda_max(problem, jr.L1) * 442, KNOTS[0], rtol=1e-9)
    # Nearer to a knot the entering coefficient changes the objective by less than the tolerance.
    lams = np.ravel([[k * 1.005, k * 0.995] for k in KNOTS]) / 442
    path = jr.path(problem, jr.L1, lams, tol=1e-12)
    assert bool(jnp.all(path.converged))
    for k, name in enumerate(ENTER):
        j = data.feature_names.index(name)
        assert path.coef[2 * k, j] == 0 != path.coef[2 * k + 1, j]
    hdl = data.feature_names.index("s3")
    assert path.coef[20, hdl] != 0 and path.coef[21, hdl] == 0
    assert path.coef[22, hdl] == 0 and path.coef[23, hdl] != 0


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_sklearn_elastic_net(ratio):
    X, y = load_diabetes(return_X_y=True)
    for alpha in (0.01, 0.1, 1.0):
        peer = linear_model.ElasticNet(alpha=alpha, l1_ratio=ratio, tol=1e-13, max_iter=10**6).fit(X, y)
        l1, l2 = jr.conventions.from_sklearn_elastic_net(alpha, ratio)
        ours = jr.solve(jr.Problem(jr.losses.SquaredError(), X, y), jr.L1(l1) + jr.SquaredL2(l2), tol=1e-13)
        np.testing.assert_allclose(ours.coef, peer.coef_, atol=1e-6)
        np.testing.assert_allclose(ours.intercept, peer.intercept_, rtol=1e-8)


def test_sklearn_ridge_poisson_logistic():
    rng = np.random.default_rng(0)
    X, y = load_diabetes(return_X_y=True)
    n = len(y)
    ridge = linear_model.Ridge(alpha=3.0, tol=1e-12).fit(X, y)
    ours = jr.solve(
        jr.Problem(jr.losses.SquaredError(), X, y),
        jr.SquaredL2(jr.conventions.from_sklearn_ridge(3.0, n)),
        tol=1e-14,
    )
    np.testing.assert_allclose(ours.coef, ridge.coef_, rtol=1e-6)
    counts = rng.poisson(np.exp(2 * X[:, 0])).astype(float)
    peer = linear_model.PoissonRegressor(alpha=0.01, tol=1e-12, max_iter=10**4, solver="newton-cholesky").fit(
        X, counts
    )
    ours = jr.solve(jr.Problem(jr.losses.Poisson(), X, counts), jr.SquaredL2(0.01), tol=1e-14)
    np.testing.assert_allclose(ours.coef, peer.coef_, atol=1e-6)
    Xb, yb = load_breast_cancer(return_X_y=True)
    Xb = (Xb - Xb.mean(0)) / Xb.std(0)
    lam = jr.conventions.from_sklearn_logistic(0.5, len(yb))
    for ratio, penalty in ((0.0, jr.SquaredL2(lam)), (1.0, jr.L1(lam))):
        peer = linear_model.LogisticRegression(
            C=0.5, l1_ratio=ratio, solver="saga", tol=1e-10, max_iter=10**5
        ).fit(Xb, yb)
        # The coefficients are as near as the root of the gap.
        ours = jr.solve(jr.Problem(jr.losses.Logistic(), Xb, yb), penalty, tol=1e-14)
        np.testing.assert_allclose(ours.coef, peer.coef_[0], atol=1e-6)
        np.testing.assert_allclose(ours.predict(Xb), peer.predict_proba(Xb)[:, 1], atol=1e-6)


def test_orthonormal_design():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(40, 5)))[0] * np.sqrt(40)
    y = rng.normal(size=40) * 2
    ols = Q.T @ y / 40
    problem = jr.Problem(jr.losses.SquaredError(), Q, y, intercept=False)
    lasso = jr.solve(problem, jr.L1(0.2), tol=1e-14)
    np.testing.assert_allclose(lasso.coef, np.sign(ols) * np.maximum(abs(ols) - 0.2, 0), atol=1e-12)
    assert bool(jnp.all((lasso.coef == 0) == (abs(ols) <= 0.2)))
    np.testing.assert_allclose(jr.solve(problem, jr.SquaredL2(0.5), tol=1e-14).coef, ols / 1.5, atol=1e-7)


def elementary(p, lam, ratio=1.0, weights=1.0, lower=-np.inf, upper=np.inf):
    """Elastic net with factors in a box: one structure, hence one program, for all of its special cases."""
    weights, lower, upper = (np.broadcast_to(np.asarray(x, float), p) for x in (weights, lower, upper))
    return jr.ElasticNet(lam, ratio, weights=weights) + jr.Box(lower, upper)


SHAPES = {"tall": (60, 8), "wide": (30, 50)}
#: One program for each loss and shape; the product of both is slow.
FAST = (
    "Huber tall",
    "Logistic tall",
    "Logistic wide",
    "Multinomial wide",
    "Poisson wide",
    "SquaredError wide",
)


@pytest.mark.slow_except("Poisson-wide", "SquaredError-wide")
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        pytest.param(kind, shape, marks=() if f"{kind} {shape}" in FAST else pytest.mark.slow)
        for kind in LOSSES
        for shape in SHAPES
    ],
)
def test_random_problems_are_certified(kind, shape):
    """Solve twenty problems of every kind of penalty, weights, offset and dependence, all below tolerance."""
    n, p = SHAPES[shape]
    rng = np.random.default_rng([3, n, list(LOSSES).index(kind)])
    failed = []
    for trial in range(20):
        X = rng.normal(size=(n, p)) * rng.uniform(0.2, 3, p) + rng.normal(size=p)
        if trial % 5 < 2:
            X[:, 1] = 2.0
            X[:, 2] = X[:, 3]
        y = targets(kind, X[:, :3] @ rng.normal(size=3) * 0.5, rng)
        problem = jr.Problem(
            LOSSES[kind], X, y,
            sample_weight=rng.uniform(0, 2, n) if trial % 4 < 2 else np.ones(n),
            offset=0.3 * rng.normal(size=(n, 3) if kind == "Multinomial" else n) * (trial % 4 in (1, 2)),
            standardize=shape == "tall",
        )  # fmt: skip
        weights = np.where(np.arange(p) == 0, 0.0, rng.uniform(0.5, 2, p))
        weights[4] = np.inf
        case = [
            {}, {"ratio": 0.0}, {"ratio": 0.5}, {"lower": 0.0}, {"weights": weights},
            {"ratio": 0.5, "lower": -0.3, "upper": 0.5},
        ][trial % 6]  # fmt: skip
        found = jr.solve(problem, elementary(p, 10 ** rng.uniform(-2.5, -0.5), **case), throw=False)
        if not (bool(found.converged) and found.gap <= 1e-6):
            failed.append((trial, kind, case, str(found)))
    assert not failed


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        pytest.param(kind, dtype, marks=() if (k % 2 == 0) == (dtype == "float32") else pytest.mark.slow)
        for k, kind in enumerate(LOSSES)
        for dtype in ("float32", "float64")
    ],
)
def test_certificate_is_honest(kind, dtype):
    """A gap bounds the distance in objective from a much better solution; a point far off has a large one."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 8)).astype(dtype)
    problem = jr.Problem(LOSSES[kind], X, targets(kind, X[:, 0] - X[:, 1], rng), standardize=True)
    penalty = elementary(8, 0.05, 0.7)
    tol = 1e-5 if dtype == "float32" else 1e-12
    best = jr.solve(problem, penalty, tol=tol)
    assert best.coef.dtype == dtype
    assert best.gap <= tol
    loose = jr.solve(problem, penalty, tol=1e-1, throw=False, max_steps=2)
    assert loose.objective >= best.objective * (1 - 1e-6)
    assert loose.gap > best.gap


GROUPS = np.arange(8) // 2


@pytest.mark.parametrize("loss", [SQUARED, jr.losses.Logistic()])
@pytest.mark.parametrize("penalty", [jr.GroupL2(0.05, GROUPS), jr.ElasticNet(0.05, 0.5)])
def test_the_gap_is_that_of_a_good_dual_scale(loss, penalty):
    """At points near to the optimum and far from it: the smallest gap over 2,000 scales, up to 1e-4."""
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(40, 8)), rng.normal(size=40)
    y = y + X[:, 0] if loss is SQUARED else (y + X[:, 0] > 0) * 1.0
    problem = jr.Problem(loss, X, y)
    penalty = problem.working_penalty(penalty)
    null_fit = fit_null_model(problem, penalty)
    best = jr.solve(problem, penalty, tol=1e-10)
    points = [best.coef, best.coef + 0.01, jnp.asarray(rng.normal(size=8)), jnp.zeros(8)]

    @jax.jit
    @jax.vmap
    def gaps(coef):
        at = certificate.evaluate(problem, *problem.to_working(coef, best.intercept))
        found = certificate.certificate_at(problem, penalty, null_fit, at).gap
        dual = certificate._dual_point(problem, penalty, null_fit, at)

        def gap(s):
            terms = problem.weight * problem.loss.fenchel_gap(at.z, problem.y, s * dual.u)
            theta = s * dual.theta
            return (
                jnp.sum(terms) + penalty.value(at.coef) + penalty.conjugate(theta) - jnp.sum(theta * at.coef)
            )

        scales = jnp.linspace(0.0, penalty.dual_scale(dual.theta) * (1 - 1e-12), 2000)
        return found, jnp.min(jax.vmap(gap)(scales)) / null_fit.loss_range

    found, smallest = gaps(jnp.stack(points))
    np.testing.assert_allclose(found, smallest, rtol=1e-4, atol=1e-6)


def test_weights_offset_and_rows():
    """An integer sample weight is the row repeated; an offset shifts the target of squared error."""
    rng = np.random.default_rng(2)
    X, y, w = rng.normal(size=(20, 4)), rng.normal(size=20), rng.integers(0, 4, 20)
    for standardize in (False, True):
        one = jr.Problem(jr.losses.SquaredError(), X, y, sample_weight=w, standardize=standardize)
        two = jr.Problem(
            jr.losses.SquaredError(), np.repeat(X, w, 0), np.repeat(y, w), standardize=standardize
        )
        a, b = (jr.solve(p, jr.L1(0.05), tol=1e-13) for p in (one, two))
        np.testing.assert_allclose(a.coef, b.coef, atol=1e-10)
        np.testing.assert_allclose(a.intercept, b.intercept, atol=1e-10)
    offset = rng.normal(size=20)
    a = jr.solve(jr.Problem(jr.losses.SquaredError(), X, y, offset=offset), jr.L1(0.05), tol=1e-13)
    b = jr.solve(jr.Problem(jr.losses.SquaredError(), X, y - offset), jr.L1(0.05), tol=1e-13)
    np.testing.assert_allclose(a.coef, b.coef, atol=1e-10)


def test_constant_column_and_bounds():
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(30, 4)) * [1, 5, 1, 1], rng.normal(size=30)
    X[:, 2] = 7.0
    problem = jr.Problem(jr.losses.SquaredError(), X, y + X[:, 1], standardize=True)
    found = jr.solve(problem, jr.L1(0.01) + jr.Box(-0.2, 0.5), tol=1e-10)
    assert found.coef[2] == 0
    assert jnp.all(jnp.isfinite(found.coef))
    np.testing.assert_allclose(found.coef[1], 0.5, atol=1e-12)


def test_inside_jit_vmap_and_no_recompilation():
    rng = np.random.default_rng(4)
    X, y = jnp.asarray(rng.normal(size=(30, 4))), jnp.asarray(rng.normal(size=30))
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def coef(lam, weight):
        problem = jr.Problem(jr.losses.SquaredError(), X, y, sample_weight=weight, standardize=True)
        return jr.solve(problem, jr.L1(lam), tol=1e-10).coef

    ones = jnp.ones(30)
    alone = jnp.stack([coef(lam, ones) for lam in (0.01, 0.1)])
    batch = jax.jit(jax.vmap(coef.__wrapped__.__wrapped__, in_axes=(0, None)))(jnp.array([0.01, 0.1]), ones)
    np.testing.assert_allclose(alone, batch, atol=1e-8)


def test_separable_data_have_no_unpenalized_fit():
    X = np.linspace(-1, 1, 20)[:, None]
    assert jr.unpenalized(jr.Problem(jr.losses.Logistic(), X, (X[:, 0] > 0).astype(float))) is None
    rng = np.random.default_rng(0)
    y = rng.normal(size=20)
    coef, intercept = jr.unpenalized(jr.Problem(jr.losses.SquaredError(), X, y))
    np.testing.assert_allclose([coef[0], intercept], np.polyfit(X[:, 0], y, 1), atol=1e-9)


ok = np.random.default_rng(0).normal(size=(5, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: jr.Problem(SQUARED, np.full((5, 2), np.nan), np.ones(5)),
            "10 NaN or infinite entries in 2 columns",
        ),
        (lambda: jr.Problem(SQUARED, ok, np.full(5, np.inf)), "y has 5 NaN or infinite"),
        (lambda: jr.Problem(SQUARED, ok, np.ones(4)), "one target per row"),
        (lambda: jr.Problem(SQUARED, np.ones(5), np.ones(5)), "two dimensions"),
        (lambda: jr.Problem(SQUARED, np.ones((0, 2)), np.ones(0)), "empty"),
        (lambda: jr.Problem(SQUARED, np.ones((1, 2)), np.ones(1)), "one row"),
        (lambda: jr.Problem(SQUARED, ok, np.ones(5), sample_weight=-np.ones(5)), "sample_weight"),
        (lambda: jr.Problem(SQUARED, ok, np.ones(5), sample_weight=np.zeros(5)), "sums to zero"),
        (lambda: jr.Problem(SQUARED, ok, np.ones(5), offset=np.ones(3)), "offset has shape"),
        (lambda: jr.lambda_max(jr.Problem(SQUARED, ok, np.ones(5)), jr.L1), "λ_max is 0"),
        (lambda: jr.lambda_grid(-1.0), "lambda_max must be > 0"),
        (lambda: jr.path(jr.Problem(SQUARED, ok, ok[:, 0]), jr.L1, []), "non-empty"),
        (lambda: jr.path(jr.Problem(SQUARED, ok, ok[:, 0]), jr.L1, [0.1, 0.2]), "must fall"),
        (lambda: jr.path(jr.Problem(SQUARED, ok, ok[:, 0]), jr.L1, [0.1, -0.2]), "≥ 0"),
        (lambda: jr.path(jr.Problem(SQUARED, ok, ok[:, 0]), jr.L1, [np.nan]), "NaN"),
        (lambda: jr.path(jr.Problem(SQUARED, ok, ok[:, 0]), jr.L1, mode="cold"), "mode must be"),
        (lambda: jr.solve(jr.Problem(SQUARED, ok, ok[:, 0]), jr.L1(0.1), tol=0.0), "tol must be > 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_not_a_penalty():
    problem = jr.Problem(SQUARED, ok, ok[:, 0])
    with pytest.raises(TypeError, match="wanted a penalty"):
        jr.solve(problem, 0.1)
    with pytest.raises(TypeError, match="wanted a penalty"):
        jr.path(problem, lambda lam: lam, [0.1])
    with pytest.raises(RuntimeError, match="did not reach"):
        jr.solve(problem, jr.L1(1e-3), tol=1e-14, max_steps=1)


@pytest.mark.parametrize("outputs", [(), (3,)])
def test_a_fit_with_offset_does_not_predict_without_one(outputs):
    """Tracing alone tells what a solution carries; predictions are checked on one made by hand."""
    rng = np.random.default_rng(0)
    X, coef, offset = rng.normal(size=(5, 2)), rng.normal(size=(2, *outputs)), rng.normal(size=(5, *outputs))
    zero = np.zeros(())
    one = Solution(coef, np.ones(outputs), *[zero] * 4, Status.converged, SQUARED, with_offset=True)
    more = [np.stack([x, x]) for x in (zero, coef, np.ones(outputs), *[zero] * 4)]
    both = Path(*more, jax.vmap(lambda _: Status.converged)(np.zeros(2)), SQUARED, more[0], "", "", True)
    for fit in (one, both):
        for call in (fit.linear, fit.predict):
            with pytest.raises(ValueError, match=r"pass offset=, or offset=0\.0") as caught:
                call(X)
            assert "\n" not in str(caught.value)
        z = np.broadcast_to(X @ coef + 1.0, fit.linear(X, offset=0.0).shape)
        np.testing.assert_allclose(fit.predict(X, 0.0), z)
        np.testing.assert_allclose(fit.predict(X, offset), z + offset)
        with pytest.raises(ValueError, match="offset has shape"):
            fit.predict(X, offset[:, None])

    def fits(given):
        here = jr.Problem(SQUARED, X, np.zeros((5, *outputs)), offset=given)
        return jr.solve(here, jr.L1(0.1)), jr.path(here, jr.L1, [0.2, 0.1])

    for fit in eqx.filter_eval_shape(fits, jnp.asarray(offset)):
        assert fit.with_offset
    assert not any(fit.with_offset for fit in eqx.filter_eval_shape(fits, None))


def test_newton_takes_over_where_proximal_gradient_is_slow():
    """By default and on concrete data alone; a solver that is asked for stays, and so does the step limit."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 8)) * 10.0 ** np.linspace(-1, 2, 8)
    y = rng.poisson(np.exp(X[:, 0] * 5 + X[:, 7] / 200)).astype(float)
    problem, penalty = jr.Problem(jr.losses.Poisson(), X, y), elementary(8, 1e-3)
    slow = jr.solve(problem, penalty, solver=jr.ProximalGradient(), max_steps=1500, throw=False)
    assert not bool(slow.converged)
    fit = jr.solve(problem, penalty)
    assert bool(fit.converged) and 1000 < int(fit.steps) < 1100
    short = jr.solve(problem, penalty, max_steps=900, throw=False)
    assert not bool(short.converged) and int(short.steps) == 900
    under_trace = jax.jit(lambda penalty: jr.solve(problem, penalty, max_steps=1500, throw=False).steps)
    assert int(under_trace(penalty)) == 1500


@pytest.mark.parametrize(("n", "p", "hidden"), [(60, 5, False), (700, 250, True)])
def test_large_data_that_a_traced_function_closes_over_are_operands(n, p, hidden):
    """XLA would evaluate the Gram matrix of constants while it compiles, for seconds to minutes."""
    X = np.random.default_rng(0).normal(size=(n, p))
    problem = jr.Problem(jr.losses.SquaredError(), X, X[:, 0])
    calls = (
        lambda lam: jr.solve(problem, jr.L1(lam)).coef,
        lambda lam: jr.path(problem, lambda x: jr.L1(x * lam), np.array([0.5, 0.1])).coef,
    )
    for call in calls:
        assert ("optimization_barrier" in jax.jit(call).lower(0.1).as_text()) == hidden


@pytest.mark.parametrize("loss", ["SquaredError", "Huber", "Logistic", "Poisson", "Multinomial", "outputs"])
def test_the_best_intercept_of_a_predictor(loss):
    """No other intercept has a smaller loss, and the evaluation is that of the shifted predictor."""
    r = np.random.default_rng(0)
    X, z = r.normal(size=(30, 4)), r.normal(size=(30, 3))
    y = {
        "Logistic": (z[:, 0] > 0) + 0.0, "Poisson": r.poisson(2.0, 30), "Multinomial": np.arange(30) % 3,
        "outputs": z,
    }.get(loss, 5 + z[:, 0])  # fmt: skip
    kind = {"Multinomial": jr.losses.Multinomial(3), "outputs": jr.losses.SquaredError()}.get(loss)
    problem = jr.Problem(kind or getattr(jr.losses, loss)(), X, y, sample_weight=r.uniform(size=30))
    coef, intercept = problem.zeros()
    coef = 0.3 * r.normal(size=coef.shape)
    at = certificate.evaluate_at_best_intercept(problem, coef, intercept)
    again = certificate.evaluate(problem, coef, at.intercept)
    np.testing.assert_allclose(at.z, again.z, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(at.gradient, again.gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(jnp.sum(at.residual, axis=0), 0, atol=1e-6)
    assert 0 <= at.intercept_cost < 1e-10
    best = problem.value(at.z)
    assert all(problem.value(at.z + step) >= best for step in 0.01 * r.normal(size=(20, *intercept.shape)))


@pytest.mark.slow
def test_a_predictor_that_is_not_finite_has_no_best_intercept():
    """Its certificate is inf, for penalties with and without a conjugate."""
    problem = jr.Problem(jr.losses.Poisson(), np.eye(6)[:, :3], np.arange(6.0))
    at = certificate.evaluate_at_best_intercept(problem, np.array([1e4, 0.0, np.nan]), np.zeros(()))
    null_fit = fit_null_model(problem, problem.working_penalty(jr.L1(0.1)))
    for penalty in (jr.L1(0.1), jr.MCP(0.1, 3.0)):
        found = certificate.certificate_at(problem, penalty, null_fit, at)
        assert not found.gap <= 1e300 and not found.kkt <= 1e300
