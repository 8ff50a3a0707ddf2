"""Certificates against their definitions, computed by NumPy."""

import numpy as np
import pytest

import jaxreg as jr

N, P, OFFSET = 40, 5, 1.5
rng = np.random.default_rng(11)
X = rng.normal(size=(N, P)) * [1.0, 3.0, 0.2, 1.0, 1.0]
SCORE = X @ [1.0, -0.5, 2.0, 0.0, 0.0]
SIGMOID = 1 / (1 + np.exp(-SCORE))
#: Loss, targets, mean for a predictor, and the bound of the loss's curvature at a predictor.
LOSSES = {
    "SquaredError": (jr.losses.SquaredError(), SCORE + rng.normal(size=N), lambda z: z, lambda _: 1.0),
    "Logistic": (
        jr.losses.Logistic(),
        (rng.random(N) < SIGMOID).astype(float),
        lambda z: 1 / (1 + np.exp(-z)),
        lambda _: 0.25,
    ),
    "Poisson": (jr.losses.Poisson(), rng.poisson(SIGMOID).astype(float), np.exp, lambda z: np.exp(z).max()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_kkt_residual_is_a_prox_step_of_the_length_of_the_curvature(name):
    """Coefficients near 0 tell: a prox step moves them to 0, so that the residual is w/t."""
    loss, y, mean, curvature = LOSSES[name]
    coef, lam = np.array([1e-3, -2e-3, 5e-3, 0.0, 1e-3]), 10.0
    z = X @ coef + OFFSET
    t = 1 / (curvature(z) * np.linalg.eigvalsh(X.T @ X / N)[-1])
    v = coef - t * X.T @ (mean(z) - y) / N
    prox = np.sign(v) * np.maximum(np.abs(v) - t * lam, 0)
    expected = np.abs((coef - prox) / t).max() / np.abs(X.T @ (mean(np.full(N, OFFSET)) - y) / N).max()

    problem = jr.Problem(loss, X, y, offset=np.full(N, OFFSET), intercept=False)
    assert not prox.any()
    np.testing.assert_allclose(jr.certify(problem, jr.L1(lam), coef, 0.0).kkt, expected, rtol=0.02)
