"""Every row of the table of conventions: the same cost up to a factor, and the peers' own numbers."""

import csv
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

import jaxreg as jr
from jaxreg import conventions as c

rng = np.random.default_rng(0)
N, P = 30, 4
X, y = rng.normal(size=(N, P)), rng.normal(size=N) * 3 + 1
SD = y.std()


def rss(w):
    return np.sum((X @ w - y) ** 2)


def logs(w):
    s = np.where(y > 0, 1, -1)
    return np.sum(np.log1p(np.exp(-s * (X @ w))))


def l1(w):
    return np.sum(np.abs(w))


def l2(w):
    return np.sum(w**2)


# Their cost, our loss, our (λ of L1, λ of SquaredL2).
ROWS = {
    "unhalved": (
        lambda w: rss(w) / (2 * N) + 0.7 * l1(w) + 0.2 * l2(w),
        "squared",
        c.from_unhalved(l1=0.7, l2=0.2),
    ),
    "sklearn elastic net": (
        lambda w: rss(w) / (2 * N) + 0.7 * (0.3 * l1(w) + 0.35 * l2(w)),
        "squared",
        c.from_sklearn_elastic_net(0.7, 0.3),
    ),
    "sklearn ridge": (lambda w: rss(w) + 0.7 * l2(w), "squared", (0.0, c.from_sklearn_ridge(0.7, N))),
    "sklearn logistic l1": (
        lambda w: 0.7 * logs(w) + l1(w),
        "logistic",
        (c.from_sklearn_logistic(0.7, N), 0.0),
    ),
    "sklearn logistic l2": (
        lambda w: 0.7 * logs(w) + l2(w) / 2,
        "logistic",
        (0.0, c.from_sklearn_logistic(0.7, N)),
    ),
    "glmnet": (
        lambda w: rss(w) / (2 * N) + 0.7 * (0.3 * l1(w) + 0.35 / SD * l2(w)),
        "squared",
        c.from_glmnet(0.7, 0.3, SD),
    ),
    "isl": (lambda w: rss(w) + 0.7 * l1(w) + 0.4 * l2(w), "squared", c.from_isl(N, lasso=0.7, ridge=0.4)),
    "nielsen": (
        lambda w: rss(w) / (2 * N) + 0.7 / N * l1(w) + 0.4 / (2 * N) * l2(w),
        "squared",
        c.from_nielsen(N, l1=0.7, l2=0.4),
    ),
}


@pytest.mark.parametrize("name", list(ROWS))
def test_their_cost_is_ours_up_to_a_factor(name):
    theirs, loss, lams = ROWS[name]
    target = y if loss == "squared" else (y > 0).astype(float)
    ours = jr.losses.SquaredError() if loss == "squared" else jr.losses.Logistic()
    penalty = jr.L1(lams[0]) + jr.SquaredL2(lams[1])

    def cost(w):
        return float(jnp.mean(ours.value(X @ w, target)) + penalty.value(jnp.asarray(w)))

    points = rng.normal(size=(6, P))
    a = np.array([theirs(w) for w in points])
    b = np.array([cost(w) for w in points])
    ratio = (a[1:] - a[0]) / (b[1:] - b[0])
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("there", "back", "numbers"),
    [
        (
            lambda a, b: c.from_sklearn_elastic_net(a, b),
            lambda p, q: c.to_sklearn_elastic_net(p, q),
            (0.7, 0.3),
        ),
        (lambda a, b: c.from_glmnet(a, b, 2.5), lambda p, q: c.to_glmnet(p, q, 2.5), (0.7, 0.3)),
        (lambda a, b: c.from_isl(9, lasso=a, ridge=b), lambda p, q: c.to_isl(p, q, 9), (0.7, 0.3)),
        (lambda a, b: c.from_nielsen(9, l1=a, l2=b), lambda p, q: c.to_nielsen(p, q, 9), (0.7, 0.3)),
        (lambda a, b: c.from_unhalved(l1=a, l2=b), lambda p, q: c.to_unhalved(p, q), (0.7, 0.3)),
        (lambda a: (c.from_sklearn_ridge(a, 9),), lambda p: (c.to_sklearn_ridge(p, 9),), (0.7,)),
        (lambda a: (c.from_sklearn_logistic(a, 9),), lambda p: (c.to_sklearn_logistic(p, 9),), (0.7,)),
        (lambda a: (c.from_sklearn_poisson(a),), lambda p: (c.to_sklearn_poisson(p),), (0.7,)),
        (lambda a: (c.from_weight_decay(a),), lambda p: (c.to_weight_decay(p),), (0.7,)),
    ],
)
def test_there_and_back(there, back, numbers):
    np.testing.assert_allclose(back(*there(*numbers)), numbers, rtol=1e-14)


with (pathlib.Path(__file__).parent / "references" / "glmnet.csv").open() as file:
    ROWS_OF_GLMNET = list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.parametrize("row", ROWS_OF_GLMNET, ids=lambda row: "-".join(list(row.values())[:3]))
def test_glmnet_agrees(row):
    kind, standardize, alpha, *expected = row.values()
    expected = np.array(expected, float)
    diabetes, cancer = load_diabetes(), load_breast_cancer()
    family, *extra = kind.split()
    X, y, lam, loss = {
        "gaussian": (diabetes.data * 20, diabetes.target, 3.0, jr.losses.SquaredError()),
        "binomial": (cancer.data[:, :10], cancer.target.astype(float), 0.02, jr.losses.Logistic()),
        "poisson": (diabetes.data * 20, np.round(diabetes.target / 50), 0.02, jr.losses.Poisson()),
    }[family]
    weight = np.resize([1.0, 2.0], len(y)) if "weights" in extra else np.ones(len(y))
    sd = np.sqrt(np.average((y - np.average(y, weights=weight)) ** 2, weights=weight))
    lams = c.from_glmnet(lam, float(alpha), sd if family == "gaussian" else 1.0)
    factors = np.array([0, 1, 2, 1, 1, 1, 1, 1, 1, 1]) if "factors" in extra else np.ones(10)
    # glmnet rescales penalty factors to sum to p.
    factors = factors * 10 / factors.sum()
    problem = jr.Problem(loss, X, y, sample_weight=weight, standardize=standardize == "1")
    penalty = jr.L1(lams.l1, weights=factors) + jr.SquaredL2(lams.l2, weights=factors)
    fit = jr.solve(problem, penalty, tol=1e-12)
    np.testing.assert_allclose([fit.intercept, *fit.coef], expected, atol=1e-5 * np.max(np.abs(expected[1:])))
    np.testing.assert_array_equal(np.asarray(fit.coef) == 0, expected[1:] == 0)


def test_glmnet_path_starts_at_the_same_lambda():
    data = load_diabetes()
    problem = jr.Problem(jr.losses.SquaredError(), data.data * 20, data.target, standardize=True)
    np.testing.assert_allclose(jr.lambda_max(problem, jr.L1), 45.1600300205, rtol=1e-10)


def test_optax_weight_decay_is_squared_l2():
    lam = c.from_weight_decay(0.3)
    optimizer = optax.chain(optax.add_decayed_weights(0.3), optax.sgd(0.1))

    def step(carry, _):
        w, state = carry
        gradient = jax.grad(lambda w: jnp.mean(jr.losses.SquaredError().value(X @ w, y)))(w)
        updates, state = optimizer.update(gradient, state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.zeros(P)
    (w, _), _ = jax.lax.scan(step, (w, optimizer.init(w)), length=2000)
    fit = jr.solve(jr.Problem(jr.losses.SquaredError(), X, y, intercept=False), jr.SquaredL2(lam), tol=1e-14)
    np.testing.assert_allclose(w, fit.coef, atol=1e-7)
