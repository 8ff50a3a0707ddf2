"""Information criteria against their formulas and against scikit-learn."""

import warnings
from math import comb

import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg import losses as L

N, p = 40, 6
rng = np.random.default_rng(6)
X = rng.normal(size=(N, p))
Y = X @ np.array([1.5, -1, 0.5, 0, 0, 0]) + rng.normal(size=N)
PROBLEM = jr.Problem(L.SquaredError(), X, Y)
PATH = jr.path(PROBLEM, jr.L1, num=15, ratio=1e-3, tol=1e-12)


def test_the_criteria_of_least_squares_are_their_formulas():
    found = jr.criteria.information(PATH, PROBLEM, jr.L1)
    size = np.count_nonzero(PATH.coef, axis=1)
    rss = np.sum((np.asarray(PATH.linear(X)) - Y) ** 2, axis=1)
    k = size + 2.0
    full = np.linalg.lstsq(np.column_stack([X, np.ones(N)]), Y)[1][0] / (N - p - 1)
    np.testing.assert_allclose(found.aic, N * np.log(rss / N) + 2 * k)
    np.testing.assert_allclose(found.aicc, found.aic + 2 * k * (k + 1) / (N - k - 1))
    np.testing.assert_allclose(found.bic, N * np.log(rss / N) + np.log(N) * k)
    np.testing.assert_allclose(found.ebic, found.bic + np.log([comb(p, s) for s in size]))
    np.testing.assert_allclose(found.gcv, rss / N / (1 - (size + 1) / N) ** 2)
    np.testing.assert_allclose(found.cp, rss / full - N + 2 * (size + 1), atol=1e-6)
    assert found.nonzero.tolist() == size.tolist() and found.best("bic") == np.argmin(found.bic)
    assert found.lam("aic") <= found.lam("bic") == float(PATH.lambdas[np.argmin(found.bic)])


def test_aic_and_bic_with_known_noise_choose_as_scikit_learn_does():
    from sklearn.linear_model import LassoLarsIC

    lams = jnp.geomspace(1.0, 1e-3, 200)
    path = jr.path(PROBLEM, jr.L1, lams)
    found = jr.criteria.information(path, PROBLEM, jr.L1, sigma=1.1)
    for criterion in ("aic", "bic"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = LassoLarsIC(criterion, noise_variance=1.1**2).fit(X, Y)
        assert abs(np.log(found.lam(criterion) / peer.alpha_)) <= 2 * np.log(1e3) / 199
        constant = N * np.log(2 * np.pi * 1.1**2)
        penalty = {"aic": 2.0, "bic": np.log(N)}[criterion]
        ours = getattr(found, criterion).min() + constant - penalty  # the intercept counts here
        np.testing.assert_allclose(ours, peer.criterion_.min(), rtol=5e-3)


def test_a_table_shows_the_choice_of_each_criterion_that_is_known():
    found = jr.criteria.information(PATH, PROBLEM, jr.L1)
    rows = [line.split() for line in str(found).splitlines()[2:]]
    assert [row[0] for row in rows] == ["aic", "aicc", "bic", "ebic", "gcv", "cp"]
    for name, lam, index, nonzero, _ in rows:
        assert float(lam) == pytest.approx(found.lam(name), rel=1e-3)
        assert (int(index), int(nonzero)) == (found.best(name), found.nonzero[found.best(name)])
    assert "cp" not in str(found._replace(cp=np.full(PATH.lambdas.size, np.nan)))


def test_the_choice_does_not_depend_on_units():
    scaled = jr.Problem(L.SquaredError(), 10 * X, 1e-3 * Y + 5, standardize=True, scale_target=True)
    plain = jr.Problem(L.SquaredError(), X, Y, standardize=True, scale_target=True)
    lams = np.geomspace(0.5, 1e-2, 6)
    family = lambda lam: jr.ElasticNet(lam, 0.5)  # noqa: E731
    one, other = (
        jr.criteria.information(jr.path(problem, family, lams, tol=1e-12), problem, family)
        for problem in (plain, scaled)
    )
    np.testing.assert_allclose(other.deviance, 1e-6 * one.deviance, rtol=1e-6)
    np.testing.assert_allclose(other.degrees_of_freedom, one.degrees_of_freedom, rtol=1e-6)
    np.testing.assert_allclose(other.aicc - other.aicc[0], one.aicc - one.aicc[0], atol=1e-6)
    np.testing.assert_allclose(other.cp, one.cp, rtol=1e-6)


def test_weights_of_zero_are_no_samples_and_glms_count_their_deviance():
    classes, weight = (Y > 0).astype(float), np.where(np.arange(N) < 30, 1.0, 0.0)
    problem = jr.Problem(L.Logistic(), X, classes, sample_weight=weight)
    path = jr.path(problem, jr.SquaredL2, [0.5, 0.1], tol=1e-12)
    found = jr.criteria.information(path, problem, jr.SquaredL2)
    z = np.asarray(path.linear(X))[:, :30]
    deviance = 2 * np.sum(np.logaddexp(0, z) - classes[:30] * z, axis=1)
    np.testing.assert_allclose(found.deviance, deviance)
    np.testing.assert_allclose(found.bic, deviance + np.log(30) * (found.degrees_of_freedom + 1))
    assert np.isnan(found.cp).all()
    with pytest.raises(ValueError, match="cp is NaN at every λ"):
        found.best("cp")


@pytest.mark.slow
def test_single_precision():
    problem = jr.Problem(L.SquaredError(), X.astype(np.float32), Y.astype(np.float32), standardize=True)
    path = jr.path(problem, jr.L1, num=6, ratio=0.05)
    found = jr.criteria.information(path, problem, jr.L1)
    np.testing.assert_allclose(found.degrees_of_freedom, found.nonzero, atol=1e-4)


def test_bad_input():
    with pytest.raises(ValueError, match="coefficients of shape"):
        jr.criteria.information(PATH, jr.Problem(L.SquaredError(), X[:, :3], Y), jr.L1)
    with pytest.raises(TypeError, match="no likelihood"):
        jr.criteria.information(PATH, jr.Problem(L.Huber(), X, Y), jr.L1)
    with pytest.raises(ValueError, match="sigma must be > 0"):
        jr.criteria.information(PATH, PROBLEM, jr.L1, sigma=-1.0)
    with pytest.raises(ValueError, match="ebic_gamma must be in"):
        jr.criteria.information(PATH, PROBLEM, jr.L1, ebic_gamma=2.0)
    with pytest.raises(ValueError, match="criterion must be one of aic, aicc, bic, ebic, gcv, cp"):
        jr.criteria.information(PATH, PROBLEM, jr.L1).best("dic")
