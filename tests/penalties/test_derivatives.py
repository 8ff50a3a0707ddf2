"""Laws of derivatives in the params and in the numbers of a penalty: right off the kinks, finite at them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.members import MEMBERS
from tests.penalties.harness import BROAD, SUBJECTS
from tests.penalties.test_laws import without

H = 1e-6
rng = np.random.default_rng(11)


class Slopes:
    """The prox (with step 0.7) and the value as functions of (numbers of the penalty, params)."""

    def __init__(self, s) -> None:
        leaves, structure = jax.tree.flatten(s.penalty)
        self.at = [k for k, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)]
        self.fixed, self.s = leaves, s

        def build(numbers):
            out = list(leaves)
            for k, x in zip(self.at, numbers, strict=True):
                out[k] = x
            return structure.unflatten(out)

        def prox(numbers, v):
            return s.prox_1(build(numbers), v, jnp.asarray(0.7))

        def value(numbers, v):
            return build(numbers).value(s.up(v))[None]

        def both(function, numbers, v, dn, dv, ct):
            out, push = jax.jvp(function, (numbers, v), (dn, dv))
            back = jax.vjp(function, numbers, v)[1](ct[: out.size])
            return out, push, back

        def run(function):
            axes = (None, 0, None, None, None)
            call = jax.vmap(lambda n, v, dn, dv, ct: both(function, n, v, dn, dv, ct), axes)
            return jax.jit(call)

        self.runs = {"prox": run(prox), "value": run(value)}
        self.numbers = self.of(s.penalty)
        # A number at 0 or inf cannot move both ways.
        self.dn = [jnp.where(jnp.isfinite(x) & (x != 0), self.direction(x), 0.0) for x in self.numbers]
        self.dv, self.ct = (jnp.asarray(rng.normal(size=s.size)) for _ in range(2))

    def of(self, penalty):
        leaves = jax.tree.leaves(penalty)
        return [leaves[k] for k in self.at]

    @staticmethod
    def direction(x):
        return jnp.asarray(np.random.default_rng(x.size).normal(size=x.shape))

    def __call__(self, what, V, numbers=None, dn=None, dv=None):
        pick = lambda own, given: own if given is None else given  # noqa: E731
        args = pick(self.numbers, numbers), jnp.asarray(V), pick(self.dn, dn), pick(self.dv, dv), self.ct
        return self.runs[what](*args)


SLOPES = {}


def slopes(name):
    if name not in SLOPES:
        SLOPES.clear()  # one at a time: compiled programs are large
        SLOPES[name] = Slopes(SUBJECTS[name])
    return SLOPES[name]


def special(s) -> np.ndarray:
    """(24, q): 0, ties, and where the prox lands: zeros, ties and bounds."""
    return np.concatenate([s.points[8:13], s.landed[:, 3], s.landed[:3, 4]])


#: Of the combinations, the proxes that pass their derivative on in another way.
SOME = """TotalVariation weights/SortedL1 ties/L1 weights/Toward GroupL2/HuberNorm + L1 + Box
NuclearNorm (3, 2)/GroupL2 + SquaredL2, some excluded/GroupL2 + weighted L1/TotalVariation + ElasticNet
RowL2 + L1 + SquaredL2"""
SOME = [(n, "prox") for n in SOME.replace("\n", "/").split("/")]
CASES = [(n, what) for n in SUBJECTS if n in MEMBERS for what in ("prox", "value")] + SOME


def transposed(f, found):
    """Assert that vjp is the transpose of jvp."""
    _, push, back = found
    pairs = zip(back[0], f.dn, strict=True)
    pulled = sum(np.sum(np.asarray(b) * d, axis=tuple(range(1, b.ndim))) for b, d in pairs)
    pulled = pulled + np.asarray(back[1]) @ f.dv
    pushed = np.asarray(push) @ f.ct[: push.shape[1]]
    np.testing.assert_allclose(pulled, pushed, rtol=1e-9, atol=1e-10)
    return found


@pytest.mark.parametrize(("name", "what"), CASES)
def test_derivatives(name, what):
    """jvp = finite differences at generic points; finite at kinks and at λ = 0; vjp = transpose of jvp."""
    f, s = slopes(name), SUBJECTS[name]
    generic = np.random.default_rng(7).normal(size=(24, s.size)) * 2
    generic = generic if what == "prox" else s.project(generic * 0.3) if not s.whole_space else generic
    _, push, _ = transposed(f, f(what, generic))
    if s.whole_space or what == "prox":
        at, left, right = (
            f(what, generic + h * H * f.dv, [x + h * H * d for x, d in zip(f.numbers, f.dn, strict=True)])[0]
            for h in (0, -1, 1)
        )
        quotient, bend = (right - left) / (2 * H), np.abs(right - 2 * at + left) / H
        size = 1 + np.abs(quotient)
        smooth = bend <= 1e-4 * size
        assert np.mean(smooth) > 0.5, "most entries should be off the kinks"
        error = np.where(smooth, np.abs(push - quotient) / size, 0.0)
        k = np.unravel_index(np.argmax(error), error.shape)
        assert error[k] <= 1e-6, (generic[k[0]], push[k], quotient[k])
    for numbers in (f.numbers, f.of(without(s.penalty))):
        V = special(s)
        V = V if what == "prox" else s.project(V)
        out = transposed(f, f(what, V, numbers))
        for x in jax.tree.leaves(out):
            finite = np.isfinite(np.asarray(x)).reshape(24, -1).all(axis=1)
            assert np.all(finite), f"not finite at {V[~finite][:1]}"


FINITE = [
    n
    for n in dict.fromkeys(
        [*BROAD, "GroupLInf weights", "LInf + SquaredL2", "SparseGroup + L1", "AsymmetricL1 by coordinate"]
    )
    if SUBJECTS[n].penalty.convex
    and SUBJECTS[n].whole_space
    # Autodiff adds the shortest subgradients of the terms. Their sum is the shortest where each weight has
    # one kink; not for ties of neighbours or ranks, nor where a term is moved or turned, so that it meets its
    # kink but for rounding, or where another term has a slope at the kink.
    and not re.search("TotalVariation|FusedLasso|SortedL1|Toward|Orthogonal", n)
]


@pytest.mark.parametrize("name", FINITE)
def test_gradient_of_the_value_at_kinks_is_the_shortest_subgradient(name):
    """That is what a short prox step moves by: (w − prox(w, t))/t as t → 0."""
    s = SUBJECTS[name]
    kinks = np.concatenate([s.points[8:13], s.points[15:], s.landed[:8, 2], s.landed[:2, 4]])
    gradient = jax.jit(jax.vmap(jax.grad(lambda w: s.penalty.value(s.up(w)))))(jnp.asarray(kinks))
    lines = gradient @ s.points.T - np.sum(gradient * kinks, axis=1, keepdims=True)
    assert np.all(s.formula(s.points) >= s.formula(kinks)[:, None] + lines - 1e-9), "no subgradient at all"
    # Not asked where a derivative cannot know it: forces shared among tied weights; slopes of two parts that
    # cancel at a kink of one; kinks that a shift or a rotation meets only to rounding.
    if any(word in name for word in ("TotalVariation", "FusedLasso", "SortedL1", "Toward", "Orthogonal")):
        return
    t = 1e-7
    V = np.tile(kinks, (6, 1))
    shortest = ((V - s.prox(V, np.full(96, t))) / t)[:16]
    error = np.max(np.abs(gradient - shortest), axis=1)
    k = np.argmax(error)
    assert error[k] <= 1e-5 * (1 + np.abs(shortest[k]).max()), (kinks[k], gradient[k], shortest[k])


def test_vector_and_tree_give_one_derivative():
    s = SUBJECTS["GroupL2 tree"]
    tree = s.up(jnp.asarray(s.points[0]))
    slope = jax.jit(jax.grad(lambda w: s.penalty.value(w)))(tree)
    own = jax.jit(jax.grad(lambda v: s.penalty.value(s.up(v))))(jnp.asarray(s.points[0]))
    np.testing.assert_allclose(ravel_pytree(slope)[0], own, rtol=1e-14)
