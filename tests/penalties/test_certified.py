"""Every convex member has a certificate: a small duality gap from `path` and `solve`, and a true λ_max."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from tests.members import LABELS, MEMBERS, SUMS, P

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 6))
Y = X[:, :2] @ np.array([[1.0, 0.3], [-0.5, 1.0]]) + 0.3 * rng.normal(size=(30, 2))
VECTOR = jr.Problem(jr.losses.SquaredError(), X, Y[:, 0], standardize=False)
TARGETS = jr.Problem(jr.losses.SquaredError(), X, Y, standardize=False)
CLASSES = jr.Problem(jr.losses.Multinomial(2), X, (Y[:, 0] > 0).astype(int), standardize=False)

FAMILIES = {
    "L1": jr.L1,
    "ElasticNet": lambda lam: jr.ElasticNet(lam, 0.6),
    "SquaredL2": jr.SquaredL2,
    "HuberNorm": lambda lam: P.HuberNorm(lam, 0.01),
    "AsymmetricL1": lambda lam: P.AsymmetricL1(lam, 1.0, 0.5),
    "GroupL2": lambda lam: P.GroupL2(lam, LABELS),
    "GroupLInf": lambda lam: P.GroupLInf(lam, LABELS),
    "SparseGroup": lambda lam: P.SparseGroup(lam, LABELS, 0.4),
    "LInf": P.LInf,
    "SortedL1": lambda lam: P.SortedL1(lam * jnp.linspace(1.5, 0.5, 6)),
    "TotalVariation": P.TotalVariation,
    "FusedLasso": lambda lam: P.FusedLasso(0.5 * lam, lam),
    "Toward": lambda lam: P.Toward(P.L1(lam), 0.2),
    "Orthogonal": lambda lam: P.Orthogonal(P.L1(lam), np.linalg.qr(X[:6])[0]),
    "RowL2": P.RowL2,
    "NuclearNorm": P.NuclearNorm,
    "TotalVariation weights": lambda lam: P.TotalVariation(lam, [1.0, 0.0, 1.0, 2.0, 1.0]),
    "LInf + L1": lambda lam: P.LInf(lam) + lam * P.L1(0.2),
}
SETS = {
    "Box": P.Box(-0.2, 0.4),
    "NonNegative": P.NonNegative(),
    "L1Ball": P.L1Ball(0.6),
    "L2Ball": P.L2Ball(0.5),
    "Simplex": P.Simplex(1.0),
}
ONLY = (
    "HuberNorm + L1 + Box",
    "Toward(SquaredL2) + L1",
    "GroupL2 + SquaredL2",
    "GroupL2 + weighted L1",
    "GroupL2 + ElasticNet + NonNegative",
    "LInf + weighted L1 + SquaredL2",
    "TotalVariation + ElasticNet",
    "Simplex + SquaredL2",
)
#: Sums of what others of these are sums of too.
LONG = ("Toward(SquaredL2) + L1", "GroupL2 + SquaredL2", "GroupL2 + weighted L1", "Simplex + SquaredL2")
SMALL = {name: 0.2 * SUMS[name] for name in ONLY}
AT_ZERO = {name: FAMILIES[name](jnp.asarray(0.0)) for name in ("L1", "LInf", "TotalVariation")}
#: Not met by a path: the null fit of these is found by another way, or they have none.
WITHOUT_NULL = ("SquaredL2", "HuberNorm")


def problem(name):
    return {"RowL2": CLASSES, "NuclearNorm": TARGETS}.get(name, VECTOR)


@eqx.filter_jit
def residual(data, coef, intercept):
    """Return the derivative of the loss in the predictor."""
    return jax.grad(data.value)(data.predictor(*data.to_working(coef, intercept)))


def test_every_convex_member_is_here():
    named = {
        n
        for n, cls in MEMBERS.items()
        if n not in ("Scaled", "Sum", "Partition", "Masked") and cls.example((6, 2)).convex
    }
    assert named <= set(FAMILIES) | set(SETS)


#: Families whose paths go the way of another one here.
ALIKE = ("AsymmetricL1", "ElasticNet", "FusedLasso", "LInf + L1", "SquaredL2", "TotalVariation weights")


def params(names):
    return [pytest.param(n, marks=pytest.mark.slow if n in ALIKE + LONG else ()) for n in names]


@pytest.mark.parametrize("name", params(FAMILIES))
def test_path_has_small_gaps_and_starts_at_the_null_fit(name):
    data, family = problem(name), FAMILIES[name]
    path = jr.path(data, family, num=5, ratio=0.1, tol=1e-8)
    assert np.all(path.gap <= 1e-8), path.gap
    if name in WITHOUT_NULL:
        return
    # A prox step from the null fit stays there at the first λ, and moves slightly below it.
    null, intercept, top = path.coef[0], path.intercept[0], path.lambdas[0]
    slope = X.T @ np.asarray(residual(data, null, intercept))
    step = 1 / np.linalg.eigvalsh(X.T @ X / 30).max()
    move = eqx.filter_jit(lambda p: p.prox(null - step * slope, step) - null)
    assert np.max(np.abs(move(family(top * (1 + 1e-6))))) <= 1e-9
    assert np.max(np.abs(move(family(top * 0.98)))) > 1e-6, "the null fit is held below λ_max"


@pytest.mark.parametrize("name", params([*SETS, *SMALL]))
def test_solve_has_a_small_gap(name):
    found = jr.solve(VECTOR, (SETS | SMALL)[name], tol=1e-8)
    assert found.gap <= 1e-8


@pytest.mark.parametrize("name", AT_ZERO)
def test_nothing_is_penalised_at_lambda_zero(name):
    """The least squares fit, and a certificate that says so."""
    found = jr.solve(VECTOR, AT_ZERO[name], tol=1e-8)
    full = np.linalg.lstsq(np.c_[X, np.ones(30)], Y[:, 0], rcond=None)[0]
    np.testing.assert_allclose(found.coef, full[:6], atol=1e-4)
    assert found.gap <= 1e-8


NONCONVEX = {
    "MCP": P.MCP(0.1),
    "L0": P.L0(0.02),
    "LHalf": P.LHalf(0.05),
    "GroupMCP": P.GroupMCP(0.1, LABELS),
    "MCP + SquaredL2": P.MCP(0.1) + P.SquaredL2(0.1),
}


@pytest.mark.parametrize("name", NONCONVEX)
def test_what_is_not_convex_ends_at_a_stationary_point(name):
    found = jr.solve(VECTOR, NONCONVEX[name], tol=1e-6)
    assert found.kkt <= 1e-6 and found.gap == np.inf
