"""Toward a reference, in another basis, and penalty factors from an earlier fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from tests.members import LABELS, MEMBERS, QR, P

rng = np.random.default_rng(4)
w = jnp.asarray(rng.normal(size=6) * 2)
r = jnp.asarray(rng.normal(size=6))
SEEING = [n for n in MEMBERS if n not in ("Masked", "Partition", "Scaled", "Sum", "RowL2", "NuclearNorm")]


@pytest.mark.parametrize("name", SEEING)
def test_toward_shifts(name):
    p = MEMBERS[name].example((6,))
    t = P.Toward(p, r)
    run = jax.jit(lambda p, v: (p.value(v), p.prox(v, 0.6)))
    (f, u), (g, z) = run(t, w), run(p, w - r)
    np.testing.assert_allclose(f, g, rtol=1e-13)
    np.testing.assert_allclose(u, r + z, rtol=1e-13, atol=1e-14)
    assert (t.convex, t.has_conjugate, t.metric) == (p.convex, p.has_conjugate, p.metric)


def test_toward_lands_on_the_reference_exactly():
    for dtype in ("float32", "float64"):
        point = r.astype(dtype)
        u = P.Toward(jr.L1(1.0), point).prox(point + 0.5 * jnp.sign(point), 1.0)
        np.testing.assert_array_equal(u, point)


def test_toward_a_tree_and_a_number():
    tree = {"a": w[:2], "b": [w[2:]]}
    out = P.Toward(P.LInf(0.6), {"a": r[:2], "b": [r[2:]]}).prox(tree, 1.0)
    flat = P.Toward(P.LInf(0.6), r).prox(w, 1.0)
    np.testing.assert_allclose(jnp.concatenate([out["a"], out["b"][0]]), flat, rtol=1e-14)
    one = P.Toward(P.LInf(0.6), 0.5).prox(tree, 1.0)
    np.testing.assert_allclose(one["a"], P.Toward(P.LInf(0.6), jnp.full(6, 0.5)).prox(w, 1.0)[:2], rtol=1e-14)


def test_toward_in_a_problem_is_on_the_scale_of_the_data():
    """A very strong pull toward a point gives that point, standardised or not."""
    X = rng.normal(size=(30, 6)) * np.array([1.0, 5.0, 0.2, 1.0, 3.0, 1.0])
    y = X @ np.arange(6.0) + rng.normal(size=30)
    for standardize in (True, False):
        problem = jr.Problem(jr.losses.SquaredError(), X, y, standardize=standardize)
        found = jr.solve(problem, P.Toward(jr.L1(1e4), r))
        np.testing.assert_allclose(found.coef, r, rtol=1e-9)


def test_orthogonal_of_the_identity_and_of_rotations():
    Q = jnp.asarray(QR)
    for p in (jr.L1(0.5), P.GroupL2(0.5, LABELS), P.LInf(0.5), P.MCP(0.5)):
        np.testing.assert_allclose(P.Orthogonal(p, jnp.eye(6)).prox(w, 0.7), p.prox(w, 0.7), rtol=1e-14)
        np.testing.assert_allclose(P.Orthogonal(p, Q).prox(w, 0.7), Q.T @ p.prox(Q @ w, 0.7), rtol=1e-12)
        np.testing.assert_allclose(P.Orthogonal(p, Q).value(w), p.value(Q @ w), rtol=1e-12)
    for p in (jr.SquaredL2(0.5), P.L2Ball(1.0)):  # these see lengths alone
        np.testing.assert_allclose(P.Orthogonal(p, Q).prox(w, 0.7), p.prox(w, 0.7), rtol=1e-12)


def test_adaptive_weights():
    beta = jnp.array([2.0, -0.5, 0.0])
    np.testing.assert_allclose(P.adaptive_weights(beta), [0.5, 2.0, np.inf])
    np.testing.assert_allclose(P.adaptive_weights(beta, 2.0), [0.25, 4.0, np.inf])
    np.testing.assert_allclose(P.adaptive_weights(beta, 1.0, 0.5), [0.4, 1.0, 2.0])
    assert P.adaptive_weights(beta.astype("float32")).dtype == "float32"
    slope = jax.jacobian(lambda b: P.adaptive_weights(b, 1.0))(beta)
    assert jnp.all(jnp.isfinite(slope))
    u = jr.L1(0.1, weights=P.adaptive_weights(beta)).prox(jnp.ones(3), 1.0)
    np.testing.assert_allclose(u, [0.95, 0.8, 0.0])
