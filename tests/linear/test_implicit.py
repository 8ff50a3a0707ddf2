"""Derivatives of solutions equal central differences, forward and reverse, in every number of a problem."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxreg as jr
from jaxreg import losses as L
from jaxreg import penalties as P
from jaxreg.linear.implicit import _least_norm
from tests.members import compilations, devices

N, p, K = 40, 6, 3
LABELS = np.array([0, 0, 1, 1, 2, 2])
rng = np.random.default_rng(3)
COEF = np.array([1.0, -1.0, 0.6, 0.0, 0.0, 0.3])
X = rng.normal(size=(N, p)) + 0.4 * rng.normal(size=(N, 1))
OTHERS = {name: rng.normal(size=shape) for name, shape in (("coef", p), ("rows", (p, K)), ("levels", K))}
OTHERS["levels"] -= OTHERS["levels"].mean()  # the classes of a multinomial model may be shifted together

#: Losses by name: the loss and its targets.
LOSSES = {
    "squared": (L.SquaredError(), X @ COEF + 0.5 * rng.normal(size=N)),
    "huber": (L.Huber(1.0), X @ COEF + rng.standard_t(2, size=N)),
    "logistic": (L.Logistic(), np.clip(1 / (1 + np.exp(-X @ COEF)) + 0.1 * rng.normal(size=N), 0.02, 0.98)),
    "poisson": (L.Poisson(), 0.5 + rng.poisson(np.exp(0.5 * X @ COEF)).astype(float)),
    "multinomial": (L.Multinomial(K), np.arange(N) % K),
    "outputs": (L.SquaredError(), X @ OTHERS["rows"] + rng.normal(size=(N, K))),
}
#: Penalties by name, functions of λ and of factors per coordinate, feature or group.
PENALTIES = {
    "l1": lambda lam, f: P.L1(lam, f),
    "ridge": lambda lam, f: P.SquaredL2(lam, f),
    "elastic net": lambda lam, f: P.ElasticNet(lam, 0.7, f),
    "unpenalised": lambda lam, f: P.L1(lam, f * np.array([0.0, 1, 1, 1, 1, 1])),
    "bounded": lambda lam, f: P.L1(lam, f) + P.Box(-0.3, 0.4),
    "toward": lambda lam, f: P.Toward(P.L1(lam), 0.1 * f),
    "mcp": lambda lam, f: P.MCP(lam * f[0], 4.0),
    "groups": lambda lam, f: P.GroupL2(lam, LABELS, f[:3]),
    "sparse groups": lambda lam, f: P.SparseGroup(lam, LABELS, 0.3, f[:3]),
    "variation": lambda lam, f: P.TotalVariation(lam, f[:5]),
    "sorted": lambda lam, f: P.SortedL1(lam * jnp.sort(f)[::-1]),
    "largest": lambda lam, f: P.LInf(lam * f[0]),
    "rows": lambda lam, f: P.RowL2(lam * f[0]),
    "nuclear": lambda lam, f: P.NuclearNorm(lam * f[0]),
}
OPTIONS = {
    "plain": {},
    "no intercept": {"intercept": False},
    "standardised": {"standardize": True},
    "scaled target": {"standardize": True, "scale_target": True},
}
MATRICES = ("rows", "nuclear")
COUPLED = ("variation", "sorted", "largest", "nuclear")
FAST = {
    ("squared", "l1", "standardised"),
    ("huber", "bounded", "scaled target"),
}


def cases():
    for k, (loss, penalty) in enumerate((a, b) for a in LOSSES for b in PENALTIES):
        if (loss in ("multinomial", "outputs")) != (penalty in MATRICES):
            continue
        option = list(OPTIONS)[k % (4 if loss in ("squared", "huber", "outputs") else 3)]
        fast = [c for c in FAST if c[:2] == (loss, penalty)]
        option = fast[0][2] if fast else option
        yield pytest.param(loss, penalty, option, marks=() if fast else pytest.mark.slow)


def scalar_of_solution(loss, penalty, option, tol=1e-20):
    """Return a function of (lam, factors, weight, offset, y, X) and where to differentiate it."""
    loss, y = LOSSES[loss]
    wide = penalty in MATRICES
    floats = jnp.issubdtype(jnp.asarray(y).dtype, jnp.floating)
    theta = {"lam": 0.08, "factors": np.linspace(0.8, 1.3, p), "weight": np.linspace(1, 2, N), "X": X}
    theta["offset"] = 0.1 * rng.normal(size=(N, K) if wide else N)
    theta |= {"y": y} if floats else {}
    family = PENALTIES[penalty]
    # Newton steps end at the rounding of the dtype, which central differences need.
    solver = None if penalty in COUPLED else jr.Newton()

    def value(theta):
        problem = jr.Problem(
            loss,
            theta["X"],
            theta.get("y", y),
            sample_weight=theta["weight"],
            offset=theta["offset"],
            **OPTIONS[option],
        )
        fit = jr.solve(
            problem,
            family(theta["lam"], theta["factors"]),
            tol=tol,
            throw=False,
            solver=solver,
            max_steps=20_000,
        )
        parts = jnp.sum(jnp.sin(fit.coef) * (OTHERS["rows"] if wide else OTHERS["coef"]))
        return parts + jnp.sum(fit.intercept * (OTHERS["levels"] if wide else 0.7)) + 0.3 * fit.objective

    return value, jax.tree.map(jnp.asarray, theta)


@pytest.mark.slow_except("squared-l1-standardised")
@pytest.mark.parametrize(("loss", "penalty", "option"), list(cases()))
def test_derivatives_are_central_differences(loss, penalty, option):
    value, theta = scalar_of_solution(loss, penalty, option)
    draw = np.random.default_rng(7)
    reverse = jax.jit(jax.grad(value))(theta)
    forward = jax.jit(lambda theta, dot: jax.jvp(value, (theta,), (dot,))[1])
    value = jax.jit(value)
    for name, x in theta.items():
        dot = jax.tree.map(jnp.zeros_like, theta)
        dot[name] = jnp.asarray(draw.normal(size=x.shape)) if x.ndim else jnp.ones_like(x)
        got = forward(theta, dot), jnp.sum(reverse[name] * dot[name])
        # A kink of the solution may lie between the ends of a longer difference.
        for h in (1e-4, 1e-6):
            ends = [value(jax.tree.map(lambda a, b, step=s * h: a + step * b, theta, dot)) for s in (1, -1)]
            wanted = (ends[0] - ends[1]) / (2 * h)
            if np.allclose(got, wanted, rtol=1e-5, atol=1e-7):
                break
        np.testing.assert_allclose(got, [wanted, wanted], rtol=1e-5, atol=1e-7, err_msg=name)


def held_out(lam, penalty=jr.SquaredL2):
    fit = jr.solve(
        jr.Problem(L.SquaredError(), X[:25], LOSSES["squared"][1][:25]), penalty(lam), tol=1e-14, throw=False
    )
    return jnp.mean((fit.predict(X[25:]) - LOSSES["squared"][1][25:]) ** 2)


def test_second_derivative_of_a_ridge_is_its_closed_form():
    def closed_form(lam):
        Z, z = X[:25] - X[:25].mean(0), LOSSES["squared"][1][:25]
        w = jnp.linalg.solve(Z.T @ Z / 25 + lam * jnp.eye(p), Z.T @ (z - z.mean()) / 25)
        b = z.mean() - X[:25].mean(0) @ w
        return jnp.mean((X[25:] @ w + b - LOSSES["squared"][1][25:]) ** 2)

    np.testing.assert_allclose(*(jax.jit(jax.hessian(f))(0.3) for f in (held_out, closed_form)), rtol=1e-6)


@pytest.mark.slow
def test_second_derivative_of_the_objective():
    # d²F*/dλ² = dComplexity(w*)/dλ, which needs the derivative of the solution.
    problem = jr.Problem(L.SquaredError(), X, LOSSES["squared"][1])
    solved = lambda lam: jr.solve(problem, jr.SquaredL2(lam), tol=1e-14, throw=False)  # noqa: E731
    complexity = lambda lam: jr.SquaredL2(1.0).value(solved(lam).coef)  # noqa: E731
    objective = lambda lam: solved(lam).objective  # noqa: E731
    first, second = jax.jit(lambda lam: jax.value_and_grad(jax.grad(objective))(lam))(0.3)
    np.testing.assert_allclose([first, second], jax.jit(jax.value_and_grad(complexity))(0.3), rtol=1e-6)


def test_a_batch_of_gradients_compiles_once_and_is_a_loop():
    compiled = jax.jit(jax.vmap(jax.value_and_grad(lambda lam: held_out(lam, jr.L1))))
    lambdas = jnp.geomspace(0.5, 0.01, 8)
    values, slopes = compiled(lambdas)
    compiled(2 * lambdas)
    assert compiled._cache_size() == 1
    one = jax.jit(jax.value_and_grad(lambda lam: held_out(lam, jr.L1)))
    for k in (1, 6):
        value, slope = one(lambdas[k])
        np.testing.assert_allclose([values[k], slopes[k]], [value, slope], rtol=1e-6)


def test_zero_where_nothing_moves_and_not_zero_at_a_solution():
    problem = jr.Problem(L.SquaredError(), X, LOSSES["squared"][1])
    top = float(jr.lambda_max(problem, jr.L1))

    def total(lam, init=None):
        return jnp.sum(jnp.abs(jr.solve(problem, jr.L1(lam), init=init, throw=False).coef))

    assert jax.grad(total)(1.5 * top) == 0
    # Just below λ_max no step may be needed, but the weight that enters has its slope.
    assert jax.grad(total)(0.999 * top) < -0.5
    fit = jr.solve(problem, jr.L1(0.1), tol=1e-12)
    warm = jax.grad(lambda lam: total(lam, (fit.coef, fit.intercept)))(0.1)
    np.testing.assert_allclose(warm, jax.grad(total)(0.1), rtol=1e-4)


@pytest.mark.slow
def test_duplicated_columns_share_the_derivative():
    twice = np.concatenate([X, X[:, :1]], axis=1)
    problem = jr.Problem(L.SquaredError(), twice, LOSSES["squared"][1])
    once = jr.Problem(L.SquaredError(), X, LOSSES["squared"][1])

    def derivative(problem):
        solved = lambda lam: jr.solve(problem, jr.L1(lam), tol=1e-12, throw=False).coef  # noqa: E731
        return np.asarray(jax.jit(jax.jacfwd(solved))(0.05))

    dot, wanted = derivative(problem), derivative(once)
    np.testing.assert_allclose(dot[0] + dot[6], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(dot[1:6], wanted[1:], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("n_active", ["few", pytest.param("all", marks=pytest.mark.slow)])
def test_more_features_than_a_dense_system_holds(n_active):
    r = np.random.default_rng(0)
    wide = r.normal(size=(60, 700))
    y = wide[:, :5].sum(1) + 0.1 * r.normal(size=60)
    problem, new = jr.Problem(L.SquaredError(), wide, y), r.normal(size=(20, 700))
    family = jr.L1 if n_active == "few" else lambda lam: jr.ElasticNet(lam, 1e-3)
    lam = 0.2 if n_active == "few" else 5.0

    def error(lam, tol=1e-13):
        fit = jr.solve(problem, family(lam), tol=tol, throw=False, solver=jr.Newton())
        return jnp.sum(fit.predict(new) ** 2)

    h, value_and_grad = 1e-4 * lam, jax.jit(jax.value_and_grad(error))
    wanted = (value_and_grad(lam + h)[0] - value_and_grad(lam - h)[0]) / (2 * h)
    np.testing.assert_allclose(value_and_grad(lam)[1], wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["warm", "batched"])
def test_a_path_has_the_derivatives_of_its_solutions(mode):
    y = jnp.asarray(LOSSES["squared"][1])
    lambdas = np.array([0.3, 0.1, 0.03])

    def path(y):
        problem = jr.Problem(L.SquaredError(), X, y, standardize=True)
        found = jr.path(problem, jr.L1, lambdas, mode=mode, tol=1e-13)
        return found.coef, found.objective

    def loop(y):
        problem = jr.Problem(L.SquaredError(), X, y, standardize=True)
        found = [jr.solve(problem, jr.L1(lam), tol=1e-13, throw=False) for lam in lambdas]
        return jnp.stack([fit.coef for fit in found]), jnp.stack([fit.objective for fit in found])

    dot = jnp.cos(jnp.arange(float(N)))
    got, wanted = (jax.jit(lambda y, f=f: jax.jvp(f, (y,), (dot,))[1])(y) for f in (path, loop))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.slow_except("lasso")
@pytest.mark.parametrize(
    ("loss", "family"),
    [
        ("squared", jr.L1),
        ("logistic", lambda lam: jr.GroupL2(lam, np.arange(60) // 3)),
        ("outputs", jr.RowL2),
    ],
    ids=["lasso", "logistic group lasso", "rows"],
)
def test_a_path_on_working_sets_has_derivatives(loss, family):
    """Outside of jit the path runs on working sets, and its derivatives are those of separate solves."""
    loss, y = LOSSES[loss]
    r = np.random.default_rng(5)
    wide = np.concatenate([X, r.normal(size=(N, 54))], axis=1)
    lambdas = np.array([0.2, 0.1, 0.06])

    def path(y):
        found = jr.path(jr.Problem(loss, wide, y, standardize=True), family, lambdas, tol=1e-13)
        assert "on working sets" in found.reason
        return found.coef, found.intercept, found.objective

    def loop(y):
        problem = jr.Problem(loss, wide, y, standardize=True)
        found = [jr.solve(problem, family(lam), tol=1e-13, throw=False) for lam in lambdas]
        return [jnp.stack(x) for x in zip(*((f.coef, f.intercept, f.objective) for f in found), strict=True)]

    y, dot = jnp.asarray(y), jnp.cos(jnp.arange(float(y.size))).reshape(y.shape)
    got = jax.jvp(path, (y,), (dot,))[1]
    wanted = jax.jit(lambda y: jax.jvp(loop, (y,), (dot,))[1])(y)
    assert all(jnp.any(x != 0) for x in got)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)
    by_reverse = jax.grad(lambda y: sum(jnp.sum(x) for x in path(y)))(y)
    np.testing.assert_allclose(jnp.sum(by_reverse * dot), sum(jnp.sum(x) for x in wanted), rtol=1e-5)


def test_a_gradient_outside_of_jit_compiles_few_programs():
    """Not one for each operation."""
    problem = jr.Problem(L.SquaredError(), X[:, :4], LOSSES["squared"][1])
    jr.solve(problem, jr.L1(0.1))
    gradient = jax.grad(lambda lam: jr.solve(problem, jr.L1(lam)).intercept)
    assert 1 <= compilations(lambda: gradient(0.1)) <= 10


@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("kind", ["regular", "nearly singular", "singular", "indefinite", "with empty rows"])
def test_symmetric_systems_have_solutions_of_least_norm(kind, scale):
    """In the scale of the diagonal: where the matrix is regular, this is its solution."""
    r = np.random.default_rng(6)
    A = r.normal(size=(30, 8))
    if kind == "nearly singular":
        A[:, 1] = A[:, 0] + 1e-4 * A[:, 1]
    if kind == "singular":
        A[:, 1] = A[:, 0]
    if kind == "with empty rows":
        A[:, [2, 5]] = 0
    matrix = A.T @ A
    if kind == "indefinite":
        matrix[3, 3] *= -1
    unit = scale ** (np.arange(8) / 7)
    matrix *= unit[:, None] * unit
    right = matrix @ r.normal(size=8)
    size = np.sqrt(np.abs(np.diagonal(matrix)))
    size = np.where(size > 0, size, np.inf)
    wanted = np.linalg.lstsq(matrix / size[:, None] / size, right / size, rcond=1e-14)[0]
    got = np.asarray(_least_norm(jnp.asarray(matrix), jnp.asarray(right)))
    assert np.all(got[np.isinf(size)] == 0)
    got = np.where(np.isinf(size), 0.0, got * np.where(np.isinf(size), 0.0, size))
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())


def test_training_is_differentiable_in_its_hyperparameters():
    """Through the scan over steps: reverse mode keeps every step in memory."""

    def error(log_lam):
        optimizer = jr.transforms.proximal_sgd(0.1, jr.L1(jnp.exp(log_lam)))
        loss_fn = lambda w, batch: 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)  # noqa: E731
        data = (jnp.asarray(X), jnp.asarray(LOSSES["squared"][1]))
        w, _ = jr.train(loss_fn, jnp.zeros(p), optimizer, data, steps=40, key=jax.random.key(0))
        return jnp.sum(w**2)

    h = 1e-5
    wanted = (error(-2.0 + h) - error(-2.0 - h)) / (2 * h)
    for derivative in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(derivative(error)(-2.0), wanted, rtol=1e-5)


@pytest.mark.slow_except("Auto")
@pytest.mark.parametrize("axis_type", ["Auto", "Explicit"])
def test_derivatives_with_rows_spread_over_devices(axis_type):
    """On explicit axes JAX wants the mesh in context."""
    mesh = jax.make_mesh((4,), ("rows",), (getattr(AxisType, axis_type),), devices=devices(4).devices.ravel())

    @jax.jit
    def gradients(X, y):
        def size(lam, y):
            problem = jr.Problem(L.SquaredError(), X, y)
            return jnp.sum(jr.solve(problem, jr.L1(lam), tol=1e-10).coef ** 2)

        return jax.grad(size, argnums=(0, 1))(jnp.asarray(0.05), y)

    X_, y = jnp.asarray(X), jnp.asarray(LOSSES["squared"][1])
    rows = NamedSharding(mesh, PartitionSpec("rows"))
    wanted = gradients(X_, y)
    with jax.set_mesh(mesh) if axis_type == "Explicit" else contextlib.nullcontext():
        got = gradients(jax.device_put(X_, rows), jax.device_put(y, rows))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
