"""Bad input: one line that says what was got and what was wanted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from tests.members import COMBINED, MEMBERS, P

v = jnp.ones(4)
G = [0, 0, 1, 1]

NEGATIVE = {
    **{
        n: (lambda lam, n=n: MEMBERS[n](lam))
        for n in ("L1", "SquaredL2", "ElasticNet", "AsymmetricL1", "HuberNorm")
    },
    **{n: (lambda lam, n=n: MEMBERS[n](lam)) for n in ("MCP", "SCAD", "L0", "LHalf", "LogSum", "CappedL1")},
    **{
        n: (lambda lam, n=n: MEMBERS[n](lam))
        for n in ("LInf", "RowL2", "NuclearNorm", "TotalVariation", "FusedLasso")
    },
    **{n: (lambda lam, n=n: MEMBERS[n](lam, G)) for n in ("GroupL2", "GroupLInf", "GroupMCP", "SparseGroup")},
    **{n: (lambda x, n=n: MEMBERS[n](x)) for n in ("L1Ball", "L2Ball", "Simplex")},
    "SortedL1": lambda lam: P.SortedL1([1.0, lam]),
    "Scaled": lambda a: a * P.L1(1.0),
}


@pytest.mark.parametrize("bad", [-1.0, np.nan], ids=["negative", "NaN"])
@pytest.mark.parametrize("name", NEGATIVE)
def test_strengths_are_not_negative(name, bad):
    with pytest.raises(ValueError, match="≥ 0") as caught:
        NEGATIVE[name](bad)
    assert "\n" not in str(caught.value)


def test_every_member_with_a_strength_is_here():
    without = {"Box", "NonNegative", "Toward", "Orthogonal"}
    assert set(MEMBERS) - without - set(COMBINED) <= set(NEGATIVE)


VALUE_ERRORS = [
    (lambda: jr.L1(1.0, weights=[-1.0]), "weights"),
    (lambda: jr.L1(1.0, weights=[np.nan]), "weights"),
    (lambda: jr.ElasticNet(1.0, 1.5), "l1_ratio"),
    (lambda: P.AsymmetricL1(1.0, -1.0), "negative and positive"),
    (lambda: P.AsymmetricL1(1.0, 1.0, np.inf), "finite"),
    (lambda: P.HuberNorm(1.0, 0.0), "delta"),
    (lambda: P.Box(1.0, 0.0), "crossed"),
    (lambda: P.Box(np.nan, 0.0), "NaN"),
    (lambda: P.MCP(1.0, 0.0), "gamma"),
    (lambda: P.MCP(1.0, np.nan), "gamma"),
    (lambda: P.SCAD(1.0, 2.0), "a must be > 2"),
    (lambda: P.LogSum(1.0, 0.0), "eps"),
    (lambda: P.CappedL1(1.0, 0.0), "cap"),
    (lambda: P.GroupMCP(1.0, G, 0.0), "gamma"),
    (lambda: P.SparseGroup(1.0, G, 1.5), "l1_ratio"),
    (lambda: P.FusedLasso(1.0, -1.0), "lam_tv"),
    (lambda: P.L1Ball(np.inf), "finite"),
    (lambda: P.L2Ball(np.inf), "finite"),
    (lambda: P.Simplex(np.inf), "finite"),
    (lambda: P.SortedL1([1.0, 2.0]), "sort them"),
    (lambda: P.SortedL1(1.0), "one number per weight"),
    (lambda: P.SortedL1([2.0, 1.0]).value(v), "2 lams do not fit 4"),
    (lambda: P.TotalVariation(1.0, [-1.0]), "weights"),
    (lambda: P.TotalVariation(1.0, [1.0, 1.0]).value(v), "2 weights do not fit a chain of 4"),
    (lambda: P.RowL2(1.0).value(v), "matrices"),
    (lambda: P.NuclearNorm(1.0).value(v), "matrices"),
    (lambda: P.GroupL2(1.0, [0, 0, 2, 2]), "none left out"),
    (lambda: P.GroupL2(1.0, [-1, 0]), "none left out"),
    (lambda: P.GroupL2(1.0, [0.0, 1.0]), "integer labels"),
    (lambda: P.GroupL2(1.0, []), "integer labels"),
    (lambda: P.GroupL2(1.0, [[0, 1], [1, 2]]), "overlapping"),
    (lambda: P.SparseGroup(1.0, [[0, 1, 2], [2, 3]]), "overlapping"),
    (lambda: P.GroupL2(1.0, [0, 0, 1]).value(v), "do not fit params with 4"),
    (lambda: P.GroupLInf(1.0, G, weights=[1.0]), "one per group"),
    (lambda: P.GroupL2(1.0, G, weights=[1.0, -1.0]), "finite numbers ≥ 0"),
    (lambda: P.GroupL2(1.0, G, weights=[1.0, np.inf]), "finite numbers ≥ 0"),
    (lambda: P.GroupL2(1.0, [0, 5, 7], num_groups=2), "label"),
    (lambda: jax.jit(lambda g: P.GroupL2(1.0, g).value(v))(jnp.array(G)), "give num_groups"),
    (lambda: jr.L1(1.0, weights=jnp.ones(4)).value(jnp.ones(5)), "does not fit"),
    (lambda: jr.L1(1.0).prox({"a": v, "b": v}, [1.0, 2.0, 3.0]), "step has structure"),
    (lambda: P.Orthogonal(jr.L1(), jnp.ones((2, 3))), "square"),
    (lambda: P.Orthogonal(jr.L1(), jnp.ones((2, 2))), "orthonormal"),
    (lambda: P.Orthogonal(jr.L1(), jnp.full((2, 2), jnp.nan)), "orthonormal"),
    (lambda: P.Orthogonal(jr.L1(), jnp.eye(2)).value(v), "needs one array of 2 rows"),
    (lambda: P.Orthogonal(jr.L1(), jnp.eye(4)).value([v, v]), "needs one array"),
    (lambda: P.Toward(jr.L1(), {"a": v}).value({"b": v, "c": v}), "reference has structure"),
    (lambda: P.Masked(jr.L1(), {"a": True}).value({"b": v}), "not a prefix"),
    (lambda: P.Masked(jr.L1(), {"a": 1}).value({"a": v}), "holds booleans"),
    (lambda: P.Masked(jr.L1(), lambda p: {"a": 1.0}).value({"a": v}), "holds booleans"),
    (lambda: P.Masked(jr.L1(), jnp.ones(3, bool)).value(v), r"shape \(3,\) does not fit"),
    (lambda: P.Masked(jr.L1(), P.masks.by_path("zzz")).value({"a": v}), "paths are a"),
    (lambda: P.Partition({}, {}), "empty"),
    (lambda: P.Partition({"x": jr.L1()}, {"a": "y"}), "no penalty for the label 'y'"),
    (lambda: P.Partition({"x": jr.L1()}, lambda p: {"a": "y"}).value({"a": v}), "no penalty for the label"),
    (lambda: P.Partition({"x": jr.L1()}, {"a": "x"}).value({"b": v}), "not a prefix"),
    (lambda: (P.Box(0.0, 1.0) + P.Box(2.0, 3.0)).prox(v, 1.0), "crossed"),
    (lambda: P.adaptive_weights(v, 0.0), "gamma"),
    (lambda: P.adaptive_weights(v, 1.0, -1.0), "eps"),
]
TYPE_ERRORS = [
    (lambda: jr.L1(1.0) + 1.0, "unsupported"),
    (lambda: jr.L1(1.0) * jr.L1(1.0), "unsupported"),
    (lambda: P.Masked(P.LInf(), jnp.ones(4, bool)).prox(v, 1.0), "not separable"),
    (lambda: P.MCP().conjugate(v), "not convex"),
    (lambda: P.GroupMCP(1.0, G).dual_scale(v), "no conjugate"),
    (lambda: P.over(lambda lam: 2.0 * lam, jnp.ones(2)), "returned"),
    (lambda: jr.L1(1.0).value({"n": jnp.arange(3)}), "no array of floats"),
    (lambda: P.LInf(1.0).prox(v, v), "LInf takes one step"),
]


@pytest.mark.parametrize(
    ("build", "message", "kind"),
    [(*row, ValueError) for row in VALUE_ERRORS] + [(*row, TypeError) for row in TYPE_ERRORS],
)
def test_bad_input(build, message, kind):
    with pytest.raises(kind, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [n for n in MEMBERS if n not in (*COMBINED, "Box", "NonNegative", "L0")],
)
def test_nan_in_params_is_not_hidden(name):
    """A NaN weight gives a NaN value, and never a hang."""
    p = MEMBERS[name].example((3, 2))
    broken = jnp.ones((3, 2)).at[1, 1].set(jnp.nan)
    value, u = jax.jit(lambda p, w: (p.value(w), p.prox(w, 0.1)))(p, broken)
    assert not jnp.isfinite(value)
    assert not jnp.all(jnp.isfinite(u))


def test_l2_says_which():
    with pytest.raises(AttributeError, match="SquaredL2"):
        jr.L2  # noqa: B018
