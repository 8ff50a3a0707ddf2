"""Sums and multiples: which are refused and how, what their parts decide, and what must not be refused.

Those with an exact prox stand in tests/members.py and meet the laws in the other files.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from tests.members import LABELS, QR, P, V
from tests.penalties import formulas

w = jnp.asarray([2.0, -1.5, 0.3, 0.0, 1.0, 1.0])
G = P.GroupL2(0.6, LABELS)

REFUSED = {
    "TotalVariation + L1": P.TotalVariation(1.0) + P.L1(0.5, weights=V),
    "TotalVariation + SquaredL2": P.TotalVariation(1.0) + P.SquaredL2(0.5, weights=V),
    "TotalVariation + MCP": P.TotalVariation(1.0) + P.MCP(0.5),
    "TotalVariation + LInf": P.TotalVariation(1.0) + P.LInf(0.5),
    "LInf + SquaredL2": P.LInf(1.0) + P.SquaredL2(0.5, weights=V),
    "SortedL1 + SquaredL2": P.SortedL1(np.linspace(1, 0, 6)) + P.SquaredL2(0.5, weights=V),
    "Box + GroupL2": P.Box(-1.0, 1.0) + G,
    "GroupL2 + LInf": G + P.LInf(1.0),
    "GroupL2 + GroupL2": G + P.GroupL2(0.3, [0, 0, 0, 1, 1, 1]),
    "GroupL2 + HuberNorm": G + P.HuberNorm(0.5),
    "GroupMCP + L1": P.GroupMCP(1.0, LABELS) + P.L1(0.5),
    "MCP + L1": P.MCP(1.0) + P.L1(0.5),
    "L0 + Box": P.L0(1.0) + P.Box(-1.0, 1.0),
    "SCAD + HuberNorm": P.SCAD(1.0) + P.HuberNorm(0.5),
    "Simplex + L1": P.Simplex(1.0) + P.L1(0.5),
    "Orthogonal + L1": P.Orthogonal(P.L1(1.0), QR) + P.L1(0.5),
    "Toward + L1": P.Toward(G, 0.5) + P.L1(0.5),
    "L2Ball + Simplex": P.L2Ball(1.0) + P.Simplex(1.0),
    "LInf + L1": 2.0 * P.LInf(1.0) + 3.0 * P.Box(-0.5, 0.5) + P.L1(0.5),
    "NuclearNorm + L1": P.NuclearNorm(1.0) + P.L1(0.5),
    "NuclearNorm + RowL2": P.NuclearNorm(1.0) + P.RowL2(0.5),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_both_parts_and_the_value_works(name):
    p = REFUSED[name]
    at = w.reshape(3, 2) if "Nuclear" in name else w
    np.testing.assert_allclose(p.value(at), formulas.value(p, np.asarray(at)[None])[0], rtol=1e-12)
    with pytest.raises(TypeError, match="no closed form") as caught:
        p.prox(at, 1.0)
    message = str(caught.value)
    assert "\n" not in message and ": " in message
    missing = [part for part in name.split(" + ") if part not in message]
    assert not missing, f"{missing} is not named in: {message}"


@pytest.mark.parametrize(
    "pair",
    [
        (2.0 * P.TotalVariation(0.3) + P.L1(0.3), P.TotalVariation(0.6) + P.L1(0.3)),
        (
            2.0 * P.FusedLasso(0.1, 0.3) + P.SquaredL2(0.3),
            P.TotalVariation(0.6) + P.L1(0.2) + P.SquaredL2(0.3),
        ),
        (P.TotalVariation(0.6) + 0.5 * P.L1(0.6), P.TotalVariation(0.6) + P.L1(0.3)),
        (P.TotalVariation(0.6) + P.Masked(P.L1(0.3), True), P.TotalVariation(0.6) + P.L1(0.3)),
        (G + 2.0 * P.L1(0.15, weights=V), G + P.L1(0.3, weights=V)),
        (2.0 * (G + P.L1(0.3)) + P.SquaredL2(0.5), P.GroupL2(1.2, LABELS) + P.ElasticNet(1.1, 6 / 11)),
    ],
    ids=[
        "2 TV + L1",
        "2 Fused + SquaredL2",
        "TV + 0.5 L1",
        "TV + Masked",
        "G + 2 L1",
        "2 (G + L1) + SquaredL2",
    ],
)
def test_two_ways_to_write_a_sum_are_one(pair):
    """A multiple of a part, or a sum in a sum, has the same prox, conjugate and capabilities."""
    u = 0.3 * (w - jnp.mean(w))
    evaluate = jax.jit(lambda pair: [(p.value(w), p.prox(w, 0.7), p.dual_scale(u)) for p in pair])
    (value, prox, scale), (other_value, other_prox, other_scale) = evaluate(pair)
    np.testing.assert_allclose(value, other_value, rtol=1e-13)
    np.testing.assert_allclose(prox, other_prox, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(scale, other_scale, rtol=1e-10)
    one, other = pair
    assert one.has_conjugate == other.has_conjugate


def test_a_sum_is_flat_and_commutes():
    a, b, c = P.L1(0.3), P.SquaredL2(0.5), P.Box(-1.0, 1.0)
    assert len(((a + b) + c).parts) == len((a + (b + c)).parts) == 3
    one, other = (a + b + c).prox(w, 1.0), (c + b + a).prox(w, 1.0)
    np.testing.assert_allclose(one, other, rtol=1e-14)
    np.testing.assert_array_equal((G + b).prox(w, 0.4), (b + G).prox(w, 0.4))


def test_a_multiple_by_zero_keeps_sets_alone():
    for p in (P.Box(-1.0, 1.0), P.Simplex(1.0), P.L1(1.0) + P.NonNegative(), G + P.NonNegative()):
        zero = 0.0 * p
        np.testing.assert_allclose(zero.prox(w, 3.0), p.prox(w, 0.0), rtol=1e-14)
        assert jnp.isinf(zero.value(-w)) and zero.value(p.prox(w, 0.0)) == 0


def test_capabilities_follow_the_parts():
    assert (P.L1() + P.Box()).separable and (P.L1() + P.Box()).elementary and (P.L1() + G).metric
    assert not (P.L1() + P.HuberNorm()).elementary and not (G + P.LInf()).metric
    assert (2.0 * P.MCP()).separable and not (P.MCP() + P.SquaredL2()).convex
    assert not (P.MCP() + P.SquaredL2()).has_conjugate and (G + P.L1()).has_conjugate
    # Nothing says that it has a conjugate and then refuses to give it, where it has a prox.
    assert not (P.TotalVariation() + P.HuberNorm()).has_conjugate


def test_declared_capabilities_are_those_of_the_coefficients():
    """Members of one form declare what depends on their coefficients instead of computing it."""
    from jaxreg.penalties.piecewise_quadratic import Elementary

    for member in (P.L1(), P.L1(weights=V), P.SquaredL2(), P.ElasticNet(), P.Box(0.0, 1.0), P.NonNegative()):
        assert member.capabilities == Elementary(member.coefficients()).capabilities, member
    skewed = P.AsymmetricL1()
    assert skewed.capabilities == Elementary(skewed.coefficients()).capabilities


def test_numbers_stay_leaves():
    total = 0.5 * jr.L1(0.3) + jr.SquaredL2(2.0)
    assert len(jax.tree.leaves(total)) == 3
