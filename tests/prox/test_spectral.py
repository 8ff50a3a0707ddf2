"""Soft threshold of singular values, and the derivative of singular values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import prox
from jaxreg.prox.spectral import singular_values

rng = np.random.default_rng(3)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 5)])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.5])
def test_singular_soft_is_stationary(shape, t):
    M = rng.normal(size=shape)
    X = np.asarray(prox.singular_soft(jnp.asarray(M), t))
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
    f, h = jax.jit(prox.singular_soft), 1e-5
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
        slopes = jax.jit(jax.vmap(j(prox.singular_soft, argnums=(0, 1)), (0, None)))
        assert all(jnp.all(jnp.isfinite(s)) for t in (0.0, 1.0, 3.0) for s in slopes(M, t))


def test_singular_soft_drops_exactly():
    M = jnp.asarray(spectrum((3, 0.9, 0.5), (5, 3)))
    assert jnp.all(prox.singular_soft(M, 3.01) == 0)
    values = np.linalg.svd(np.asarray(prox.singular_soft(M, 1.0)), compute_uv=False)
    np.testing.assert_allclose(values, [2, 0, 0], atol=1e-15)
    np.testing.assert_array_equal(prox.singular_soft(M, 0.0), M)
    eye = jax.jit(jax.jacfwd(prox.singular_soft))(M, 0.0).reshape(15, 15)
    np.testing.assert_allclose(eye, np.eye(15), atol=1e-14)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_singular_soft_at_extreme_magnitudes(scale):
    M = spectrum((3, 0.9, 0.5), (5, 3))
    X = prox.singular_soft(jnp.asarray(M * scale, jnp.float32), np.float32(scale))
    np.testing.assert_allclose(X / scale, prox.singular_soft(jnp.asarray(M), 1.0), atol=3e-6)


def test_derivative_of_singular_values():
    """Finite differences where they are apart, finite where they are tied or 0."""
    M, dM = spectrum((3, 2, 0.5), (5, 3)), np.random.default_rng(6).normal(size=(5, 3))
    f, h = jax.jit(singular_values), 1e-6
    _, got = jax.jvp(f, (jnp.asarray(M),), (jnp.asarray(dM),))
    np.testing.assert_allclose(got, (f(M + h * dM) - f(M - h * dM)) / (2 * h), atol=1e-8)
    for values in ((3, 3, 1), (2, 0, 0), (0, 0, 0)):
        assert jnp.all(
            jnp.isfinite(jax.jvp(f, (jnp.asarray(spectrum(values, (5, 3))),), (jnp.asarray(dM),))[1])
        )
