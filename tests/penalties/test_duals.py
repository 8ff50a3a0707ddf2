"""Laws of conjugates: Moreau, Fenchel–Young, the edge of the domain, and the directions that are free.

Equality at (prox(v), (v − prox(v))/step), for the formula's value, and the inequality at all other pairs say
together that `conjugate` is the supremum: every point of its domain is such a dual, to rounding.
"""

import numpy as np
import pytest

from tests.members import MEMBERS
from tests.penalties import formulas
from tests.penalties.harness import DUAL, STEPS, SUBJECTS, Subject, slow_unless_broad
from tests.penalties.test_laws import without

dual_ones = pytest.mark.parametrize("name", slow_unless_broad(DUAL))
LENGTHS = 10.0 ** np.arange(-2, 4)


def duals(s) -> np.ndarray:
    """96 directions of all lengths."""
    return np.concatenate([s.points * length for length in LENGTHS])


def seen(s, D, p=None):
    """Duals without what is free; 0 where nothing but rounding is left."""
    leak = s.dual(D, p)[2]
    rest = D - leak
    small = np.max(np.abs(rest), axis=1) <= 1e-14 * np.max(np.abs(D), axis=1)
    return np.where(small[:, None] | (leak == D), 0.0, rest), leak


@dual_ones
def test_moreau_and_fenchel_young(name):
    s = SUBJECTS[name]
    V, T = np.repeat(s.points, 6, axis=0), np.tile(np.where(STEPS > 0, STEPS, 2.0), 16)
    W = s.prox(V, T)
    Q = (V - W) / T[:, None]
    rounding = 1e-15 / T * (1 + np.abs(V).max(1)) + 1e-15 * (1 + np.abs(Q).max(1))
    rest, leak = seen(s, Q)
    assert np.all(np.max(np.abs(leak), axis=1) <= 100 * rounding), "a free direction is pulled"
    _, scale, _ = s.dual(rest)
    edge = 1e-12 + 1e-11 / T * (1 + np.abs(V).max(1))
    k = np.argmax((1 - scale) / edge)
    assert 1 - scale[k] <= edge[k], f"the dual {Q[k]} of prox({V[k]}, {T[k]}) is said to be outside"
    inner = rest * np.where(scale < 1, scale * (1 - 1e-15), 1.0)[:, None]
    product = np.sum(W * inner, axis=1)
    pair = s.formula(W) + s.dual(inner)[0] - product
    slack = 1e-10 * (1 + np.abs(product)) + 1e3 * rounding * (1 + np.abs(W).max(1))
    k = np.argmax(np.abs(pair) / slack)
    assert abs(pair[k]) <= slack[k], f"value + conjugate − ⟨w, u⟩ is {pair[k]} at w = {W[k]}, u = {Q[k]}"


@dual_ones
def test_fenchel_young_inequality_and_the_edge(name):
    """dual_scale leads into the domain, and a little beyond the conjugate is inf, unless the scale is 1.

    Inside, a conjugate that is an indicator is 0.
    """
    s = SUBJECTS[name]
    D, _ = seen(s, duals(s))
    scale = s.dual(D)[1]
    assert np.all((scale >= 0) & (scale <= 1))
    inner = D * (scale * np.where(scale < 1, 1 - 1e-14, 1.0))[:, None]
    conjugate = s.dual(inner)[0]
    assert np.all(np.isfinite(conjugate)), f"inf inside the domain: {inner[~np.isfinite(conjugate)][:1]}"
    beyond = s.dual(D * (scale * (1 + 1e-6) + 1e-9)[:, None])[0]
    held = (scale == 1) | np.isinf(beyond)
    assert np.all(held), (D[~held][:1], scale[~held][:1])
    W = np.concatenate([s.landed[:, k] for k in (0, 2, 3)])
    products = inner @ W.T
    gap = s.formula(W) + conjugate[:, None] - products
    assert np.all(gap >= -1e-11 * (1 + np.abs(products))), np.min(gap)


@dual_ones
def test_dual_scale_leads_into_the_domain_for_any_dual(name):
    """Also for one that pulls at free directions: nothing but 0 times it is inside."""
    s = SUBJECTS[name]
    D = duals(s)
    scale = s.dual(D)[1]
    inner = D * (scale * (1 - 1e-14))[:, None]
    conjugate = s.dual(inner)[0]
    assert np.all(np.isfinite(conjugate)), f"dual_scale of {D[~np.isfinite(conjugate)][:1]} leads outside"


@dual_ones
@pytest.mark.parametrize("at_zero", [False, True])
def test_free_is_the_projection_on_what_is_not_seen(name, at_zero):
    s = SUBJECTS[name]
    p = without(s.penalty) if at_zero else s.penalty
    eye = np.concatenate([np.eye(s.size), np.zeros((96 - s.size, s.size))])
    F = s.dual(eye, p)[2][: s.size].T
    np.testing.assert_allclose(F, F.T, atol=1e-14)
    np.testing.assert_allclose(F @ F, F, atol=1e-14)
    w = s.landed[:, 0]
    moved = w + 3.0 * s.points[::-1] @ F.T
    before, after = (formulas.value(p, s.batch(x)) for x in (w, moved))
    np.testing.assert_allclose(after, before, rtol=1e-10, atol=1e-10)
    # All of them: what is left of a dual can be scaled into the domain, where the penalty is even and has 0.
    D = s.points - s.points @ F.T
    both = formulas.value(p, s.batch(np.concatenate([s.points, -s.points])))
    if np.allclose(both[:16], both[16:]) and np.all(np.isfinite(both)):
        some = np.max(np.abs(D), axis=1) > 1e-12
        scale = s.dual(np.concatenate([D, np.zeros((80, s.size))]), p)[1][:16]
        assert np.all(scale[some] > 1e-6), "a direction that is not seen is not free"


@pytest.mark.parametrize(
    "name",
    [n for n in DUAL if n in MEMBERS] + ["GroupL2 + SquaredL2", "TotalVariation + L1", "Simplex + SquaredL2"],
)
def test_multiples(name):
    """The prox of a·p is that of p at a·step, its conjugate a·p*(u/a); 0·p is the domain alone."""
    s = SUBJECTS[name]
    a = 0.3
    m = Subject(name, a * s.penalty, s.like)
    V, T = np.repeat(s.points, 6, axis=0), np.tile(STEPS, 16)
    np.testing.assert_allclose(m.prox(V, T), s.prox(V, a * T), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        m.prox(V, np.full(96, 2.0), 0.0 * s.penalty),
        np.repeat(s.landed[:, 0], 6, axis=0),
        rtol=1e-13,
        atol=1e-13,
    )
    D = duals(s)
    conjugate, scale, _ = m.dual(D)
    own, own_scale, _ = s.dual(D / a)
    np.testing.assert_allclose(scale, own_scale, rtol=1e-12)
    np.testing.assert_allclose(conjugate, a * own, rtol=1e-10, atol=1e-12)


def test_what_is_not_convex_has_no_conjugate():
    for name, s in SUBJECTS.items():
        if not s.penalty.convex:
            assert not s.penalty.has_conjugate, name
            for method in (s.penalty.conjugate, s.penalty.dual_scale):
                with pytest.raises(TypeError, match=r"KKT|closed form"):
                    method(s.like)
