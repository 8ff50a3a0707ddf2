"""Paths output by output: each output's own path, one certificate for all, and penalties that couple them."""

import numpy as np
import pytest

import jaxreg as jr
from tests.members import compilations

N, P_, K, NUM = 92, 12, 3, 10
rng = np.random.default_rng(8)
X = rng.normal(size=(N, P_)) + rng.normal(size=(N, 1))
Y = X[:, :3] @ rng.normal(size=(3, K)) * [1.0, 10.0, 0.1] + rng.normal(size=(N, K)) * [1.0, 10.0, 0.1]
FAMILIES = {
    "L1": jr.L1,
    "ElasticNet": lambda lam: jr.ElasticNet(lam, 0.5),
    "nonnegative": lambda lam: jr.L1(lam) + jr.NonNegative(),
    "MCP": jr.MCP,
}


@pytest.mark.slow_except("L1", "ElasticNet")
@pytest.mark.parametrize("name", FAMILIES)
def test_each_output_has_its_own_path(name):
    weight, offset = 1.0 + np.arange(N) % 2, np.sin(np.arange(float(N * K))).reshape(N, K)
    options = {"standardize": True, "sample_weight": weight}
    here, family = jr.Problem(jr.losses.SquaredError(), X, Y, offset=offset, **options), FAMILIES[name]
    found = jr.path(here, family, num=NUM, tol=1e-12)
    assert "output by output" in found.reason and bool(found.converged.all()), found
    for k in range(K):
        one = jr.Problem(jr.losses.SquaredError(), X, Y[:, k], offset=offset[:, k], **options)
        alone = jr.path(one, family, found.lambdas, tol=1e-12)
        np.testing.assert_allclose(found.coef[:, :, k], alone.coef, atol=1e-7)
        np.testing.assert_allclose(found.intercept[:, k], alone.intercept, atol=1e-7)


def test_the_certificate_is_that_of_all_outputs():
    here = jr.Problem(jr.losses.SquaredError(), X, Y)
    found = jr.path(here, jr.L1, num=NUM, tol=1e-10)
    for k in (0, NUM - 1):
        again = jr.certify(here, jr.L1(found.lambdas[k]), found.coef[k], found.intercept[k])
        assert float(again.gap) <= 1e-10 and float(found.gap[k]) <= 1e-10
    together = jr.path(here, jr.L1, found.lambdas, tol=1e-10, solver=jr.ProximalGradient())
    np.testing.assert_allclose(found.objective, together.objective, rtol=1e-9)
    np.testing.assert_allclose(found.coef, together.coef, atol=1e-4)


def test_the_paths_of_all_outputs_share_their_programs():
    one, many = (jr.Problem(jr.losses.SquaredError(), X, y) for y in (Y[:, 0], np.tile(Y, (1, 5))))
    lams = jr.lambda_grid(jr.lambda_max(many, jr.L1), NUM, 0.01)
    jr.path(one, jr.L1, lams)
    # Null fit, eigenvalue, check and conversion of all outputs: nothing for a single one.
    assert compilations(lambda: jr.path(many, jr.L1, lams).coef) <= 6
    found = jr.path(many, jr.L1, lams)
    np.testing.assert_array_equal(found.coef[..., :3], found.coef[..., 3:6])


COUPLED = {"rows": jr.RowL2, "factors": lambda lam: jr.L1(lam, weights=np.full((P_, K), 2.0))}


@pytest.mark.slow
@pytest.mark.parametrize("family", COUPLED.values(), ids=COUPLED)
def test_outputs_that_share_a_penalty_are_solved_together(family):
    here = jr.Problem(jr.losses.SquaredError(), X, Y)
    found = jr.path(here, family, num=3)
    assert "output by output" not in found.reason and bool(found.converged.all())
