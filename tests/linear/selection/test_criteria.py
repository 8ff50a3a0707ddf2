"""Criteria against explicit loops and closed forms; their gradients against central differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

import jaxreg as jr
from jaxreg import losses as L
from jaxreg.linear.selection.tune import _FitOptions, _Solve

N, p = 40, 6
rng = np.random.default_rng(5)
X = 3 + 2 * rng.normal(size=(N, p)) * np.arange(1, p + 1)
Y = X @ (0.5 * rng.normal(size=p)) + rng.normal(size=N)
WEIGHT, OFFSET, FOLD_OF = rng.uniform(0.5, 2, size=N), rng.normal(size=N), rng.permutation(np.arange(N) % 4)
SCALED = {"standardize": True, "scale_target": True}


def solver():
    """Return `solve` for criteria, to the rounding of the dtype."""
    return _Solve(_FitOptions(None, jnp.asarray(1e-24), jnp.asarray(10_000)), None)


def problem(rows=slice(None), loss=L.SquaredError(), **options):  # noqa: B008
    return jr.Problem(loss, X[rows], Y[rows], sample_weight=WEIGHT[rows], offset=OFFSET[rows], **options)


def ridge(rows, lam=0.2, intercept=True, scale_target=False):
    """Return the predictor of all samples by a ridge with standardised features on some, in closed form."""
    w = WEIGHT[rows] / WEIGHT[rows].sum()
    deviation = lambda x: np.sqrt(w @ (x - w @ x) ** 2)  # noqa: E731
    unit = deviation(Y[rows]) if scale_target else 1.0
    scale, y = deviation(X[rows]), (Y - OFFSET)[rows] / unit
    mean, centre = (w @ X[rows], w @ y) if intercept else (0.0, 0.0)
    Z = (X - mean) / scale
    gram = Z[rows].T * w @ Z[rows] + lam * np.eye(p)
    return unit * (Z @ np.linalg.solve(gram, Z[rows].T * w @ (y - centre)) + centre) + OFFSET


def logistic_ridge(X, y, rows, lam):
    """Return the predictor of all samples by a logistic ridge with standardised features on some."""
    scale = X[rows].std(axis=0)
    Z = (X - X[rows].mean(axis=0)) / np.where(scale > 0, scale, np.inf)
    Z, factors = np.column_stack([Z, np.ones(len(y))]), np.append(np.full(X.shape[1], lam), 0.0)
    w = np.zeros(factors.size)
    for _ in range(20):
        mean = 1 / (1 + np.exp(-Z[rows] @ w))
        hessian = Z[rows].T * (mean * (1 - mean)) @ Z[rows] / rows.sum() + np.diag(factors)
        w -= np.linalg.solve(hessian, Z[rows].T @ (mean - y[rows]) / rows.sum() + factors * w)
    return Z @ w


def value(criterion, data, lam=0.2):
    """Return the criterion of a ridge at λ, after a check of its gradient by central differences."""
    value_and_grad = jax.jit(jax.value_and_grad(lambda lam: criterion(data, jr.SquaredL2(lam), solver())))
    h = 1e-4
    ends = [value_and_grad(lam + s * h)[0] for s in (1, -1)]
    value, got = value_and_grad(lam)
    np.testing.assert_allclose(got, (ends[0] - ends[1]) / (2 * h), rtol=1e-5)
    return float(value)


@pytest.mark.slow
def test_held_out_is_the_weighted_mean_loss_of_other_samples():
    train, new = np.arange(N) < 25, np.arange(N) >= 25
    criterion = jr.criteria.held_out(problem(new, loss=L.Huber(0.8), **SCALED))
    losses = np.asarray(jax.jit(L.Huber(0.8).value)(ridge(train, scale_target=True), Y))
    wanted = np.average(losses[new], weights=WEIGHT[new])
    np.testing.assert_allclose(value(criterion, problem(train, **SCALED)), wanted, rtol=1e-9)


@pytest.mark.slow_except("scaled")
@pytest.mark.parametrize("options", [{"scale_target": True}, {"intercept": False}], ids=["scaled", "bare"])
def test_k_fold_is_a_loop_over_problems_without_the_fold(options):
    losses = []
    for k in range(4):
        fold = np.equal(FOLD_OF, k)
        error = (ridge(~fold, **options) - Y) ** 2 / 2
        losses.append(np.average(error[fold], weights=WEIGHT[fold]))
    criterion, data = jr.criteria.k_fold(FOLD_OF), problem(standardize=True, **options)
    if "intercept" in options:  # one check of the gradient is enough
        got = jax.jit(lambda lam: criterion(data, jr.SquaredL2(lam), solver()))(0.2)
    else:
        got = value(criterion, data)
    np.testing.assert_allclose(got, np.mean(losses), rtol=1e-9)


@pytest.mark.slow
def test_k_fold_of_classes_with_a_sparse_column_that_is_constant_outside_of_its_fold():
    features = np.where(rng.uniform(size=(N, p)) < 0.5, X, 0.0)
    features[:, 0] = FOLD_OF == 0
    classes = (X[:, 1] > 3).astype(float)
    data = jr.Problem(L.Logistic(), scipy.sparse.csr_matrix(features), classes, standardize=True)
    got = jax.jit(lambda lam: jr.criteria.k_fold(FOLD_OF)(data, jr.SquaredL2(lam), solver()))(0.1)
    losses = []
    for k in range(4):
        fold = np.equal(FOLD_OF, k)
        z = logistic_ridge(features, classes, ~fold, 0.1)[fold]
        losses.append(np.mean(np.logaddexp(0, z) - classes[fold] * z))
    np.testing.assert_allclose(got, np.mean(losses), rtol=1e-6)


def test_random_folds_are_of_equal_size():
    masks = jr.criteria.k_fold(3).args[0](N)
    assert masks.sum(0).tolist() == [1] * N and masks.sum(1).tolist() == [14, 13, 13]


@pytest.mark.slow
def test_sure_of_an_orthonormal_lasso_counts_the_support():
    # Rademacher directions have δᵢ² = 1, so that one of them is exact where the Jacobian is diagonal.
    n, sigma, lam = 20, 0.01, 0.05
    y = np.linspace(-3, 3, n) * lam * n / 2
    data = jr.Problem(L.SquaredError(), np.eye(n), y, intercept=False)
    size = np.sum(np.abs(y) > lam * n)
    assert 0 < size < n
    error = np.mean(np.minimum(np.abs(y), lam * n) ** 2)
    got = jax.jit(lambda lam: jr.criteria.sure(sigma)(data, jr.L1(lam), solver()))(lam)
    np.testing.assert_allclose(got, error - sigma**2 + 2 * sigma**2 * size / n, rtol=1e-10)


@pytest.mark.slow
def test_sure_of_a_ridge_with_all_directions_is_its_closed_form():
    got = value(jr.criteria.sure(0.7, draws=3), problem(standardize=True))
    w = WEIGHT / WEIGHT.sum()
    Z = X - w @ X
    Z /= np.sqrt(w @ Z**2)
    hat = np.sqrt(w)[:, None] * Z
    hat = hat @ np.linalg.solve(hat.T @ hat + 0.2 * np.eye(p), hat.T)
    error = w @ (Y - ridge(slice(None))) ** 2
    # The weighted hat matrix of centred features, and the intercept.
    jacobian = hat * np.sqrt(w) / np.sqrt(w)[:, None] + w
    directions = jax.random.rademacher(jax.random.key(0), (3, N), float)
    freedom = np.mean([(w * d) @ jacobian @ d for d in directions])
    np.testing.assert_allclose(got, error - 0.49 + 2 * 0.49 * freedom, rtol=1e-6)


def test_refusals():
    criteria = jr.criteria
    with pytest.raises(TypeError, match="must be a Problem"):
        criteria.held_out(X)
    for folds, error, message in (
        (1, ValueError, "at least 2 folds"),
        (2.5, TypeError, "number of folds or integer"),
        ([0, 2, 2], ValueError, "at least one sample"),
        ([-1, 0, 1], ValueError, "at least one sample"),
    ):
        with pytest.raises(error, match=message):
            criteria.k_fold(folds)
    for folds, message in (([0, 1], "2 labels for 40 samples"), (41, "41 folds need")):
        with pytest.raises(ValueError, match=message):
            criteria.k_fold(folds)(problem(), jr.L1(0.1), solver())
    for sigma in (0.0, -1.0, np.nan, [1.0, 2.0]):
        with pytest.raises(ValueError, match="sigma must be"):
            criteria.sure(sigma)
    for criterion, first in ((criteria.k_fold, 5), (criteria.sure, 1.0)):
        with pytest.raises(TypeError, match="key must be an integer or a key such as"):
            criterion(first, key="seed")
    with pytest.raises(TypeError, match="squared error, got Huber"):
        criteria.sure(1.0)(problem(loss=L.Huber(1.0)), jr.L1(0.1), solver())
