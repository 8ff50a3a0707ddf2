"""The primal-dual active set method on a Gram matrix, with the inverse of its active block kept from step
to step.

For a quadratic loss and penalties whose prox has a derivative of 0 or of one number per coordinate (L1,
weights, bounds, with or without a square: *flat* here), the linear system of a semismooth Newton step is the
active block of the Gram matrix plus a diagonal, the penalty's bend. From one λ to the next a few coordinates
come and go: a block pivot exchanges them in the inverse by two thin products instead of a factorisation (the
sweep operator; Goodnight 1979). The bend of all changes with λ; there the old inverse preconditions
conjugate gradients, for which a factor of the bend is an easy case. Where all that fails, for dependent
columns or from afar, the caller goes on with damped steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import Scalar
from jaxreg.linear.solvers._factor import inverse_factor
from jaxreg.linear.solvers._krylov import conjugate_gradients
from jaxreg.penalties import Penalty

__all__ = ["Pivoted", "active_set", "continued", "flat", "nothing"]

#: Coordinates exchanged at once each way; rounds for one λ.
_WIDTH, _ROUNDS = 16, 10
#: By how much the residual may grow on the way; the shortest stride of a continuation.
_LOST, _SHORTEST = 300.0, 0.05
#: How exactly a linear system is solved, in how many iterations; how many times less the penalty may bend
#: than it did in the inverse.
_FORCING, _ITERATIONS, _STALE = 1e-5, 30, 20.0
#: What is left of a column's square, relative, when those in the block are taken out, for it to depend on
#: them.
_DEPENDENT = 1e-10


class Pivoted(eqx.Module):
    """The inverse of the active block of gram + diag(bend), (m, m) and 0 outside; which block that is."""

    inverse: Array
    active: Array
    bend: Array


def nothing(gram: Array) -> Pivoted:
    """Of an empty block."""
    m = gram.shape[0]
    return Pivoted(jnp.zeros_like(gram), jnp.zeros(m, bool), jnp.zeros(m, gram.dtype))


def flat(penalty: Penalty, shape: tuple[int, ...], scale: Scalar) -> Array:
    """Whether the prox's derivative, at points of many sizes, is 0 or one number ≤ 1 per coordinate."""
    signs = jnp.where(jnp.arange(shape[0]) % 2 == 0, 1.0, -1.0)

    def slopes(size: Scalar) -> Array:
        v = size * signs
        return jax.jvp(lambda v: penalty.prox(v, jnp.ones_like(v)), (v,), (jnp.ones_like(v),))[1]

    # No power of 2, which a bound may be: at a kink itself the derivative is between two.
    found = jax.lax.map(slopes, 1.0472 * scale * 2.0 ** jnp.arange(-12.0, 13.0))
    top = jnp.max(found, axis=0)
    same = jnp.abs(found - top) <= 8 * jnp.finfo(found.dtype).eps
    return jnp.all((found == 0) | (same & (top <= 1)))


def active_set(
    gram: Array,
    linear: Array,
    prox: Callable[[Array, Array], Array],
    start: Array,
    kept: Pivoted,
    enough: Scalar,
) -> tuple[Array, Pivoted, Array, Array]:
    """A point that its prox step moves by ‖·‖∞/t ≤ `enough`; the inverse there; rounds; whether all went
    well.
    """
    diagonal = jnp.diagonal(gram)
    t = 1 / jnp.maximum(diagonal, 1e-6 * jnp.max(diagonal) + jnp.finfo(gram.dtype).tiny)

    def look(u: Array) -> tuple[Array, ...]:
        v = u - t * (linear + gram @ u)
        ahead, slope = jax.jvp(lambda v: prox(v, t), (v,), (jnp.ones_like(v),))
        return u, ahead, slope, jnp.max(jnp.abs(u - ahead) / t)

    def round_(carry: tuple[Any, Pivoted, Array]) -> tuple[Any, Pivoted, Array]:
        (u, ahead, slope, _), kept, k = carry
        on = slope > 0
        bend = jnp.where(on, (1 / jnp.where(on, slope, 1.0) - 1) / t, kept.bend)
        # The first round leaves the active set as it is. Its gradients say what comes and goes far better
        # than those at the start, where all that is near its bound seems to cross it.
        kept = _exchange(gram, kept, jnp.where((k > 0) | ~jnp.any(before), on, before), bend)
        # What depends on the active columns waits until one of them leaves.
        waits = on & ~kept.active
        rest = jnp.where(waits, 0.0, u - ahead)
        off = jnp.where(kept.active, 0.0, rest)
        right = jnp.where(kept.active, gram @ off - (1 / t + bend) * rest, 0.0)
        moved = _solve(gram, bend, kept, right, enough)
        return look(jnp.where(kept.active, u + moved, jnp.where(waits, u, ahead))), kept, k + 1

    first = look(start)

    def going(carry: tuple[Any, Pivoted, Array]) -> Array:
        residual = carry[0][-1]
        return (residual > enough) & (carry[2] < _ROUNDS) & (residual <= _LOST * first[-1])

    before, on = kept.active, first[2] > 0
    kept = _unless_stale(kept, on, (1 / jnp.where(on, first[2], 1.0) - 1) / t)
    (_, ahead, _, residual), kept, k = jax.lax.while_loop(going, round_, (first, kept, jnp.array(0)))
    # A start that is good enough stays as it is.
    return jnp.where(k > 0, ahead, start), kept, k, residual <= enough


def _unless_stale(kept: Pivoted, on: Array, bend: Array) -> Pivoted:
    """The inverse, or that of nothing where it was made for a penalty that bends much more."""
    fine = ~jnp.any(kept.active & on & (kept.bend > _STALE * bend))
    return Pivoted(jnp.where(fine, kept.inverse, 0.0), kept.active & fine, kept.bend)


def _solve(gram: Array, bend: Array, kept: Pivoted, right: Array, enough: Scalar) -> Array:
    """x with (gram + diag(bend)) x = right on the active block, by conjugate gradients.

    The inverse that is kept preconditions them: it is that of another bend, or of this one, which ends them
    after one step.
    """
    goal = jnp.maximum(_FORCING * jnp.max(jnp.abs(right)), 0.1 * enough)

    def times(x: Array) -> Array:
        return jnp.where(kept.active, gram @ x + bend * x, 0.0)

    return conjugate_gradients(times, lambda r: kept.inverse @ r, right, goal, _ITERATIONS)


class _Way(NamedTuple):
    """How far the continuation has come, the next stride, and the last point that was reached."""

    done: Scalar
    stride: Scalar
    coef: Array
    kept: Pivoted
    rounds: Array


def continued(
    gram: Array,
    linear: Array,
    prox: Callable[[list[Array]], Callable[[Array, Array], Array]],
    ends: tuple[list[Array], list[Array]],
    start: Array,
    kept: Pivoted,
    enough: Scalar,
) -> tuple[Array, Pivoted, Array, Array]:
    """`active_set` from one penalty to the next, in shorter strides between their numbers where it loses
    its way.

    Returns the last point that was reached, the inverse there, the rounds taken, and whether it is the end.
    """
    first, last = ends

    def between(done: Scalar) -> list[Array]:
        mix = lambda a, b: jnp.where(a == b, b, a + done.astype(b.dtype) * (b - a))  # noqa: E731
        return [mix(a, b) for a, b in zip(first, last, strict=True)]

    def stride(way: _Way) -> _Way:
        done = jnp.minimum(way.done + way.stride, 1.0)
        coef, kept, rounds, fine = active_set(gram, linear, prox(between(done)), way.coef, way.kept, enough)
        good = _Way(done, 2 * way.stride, coef, kept, rounds)
        # An inverse that rounding spoilt does not survive a failure.
        bad = way._replace(stride=0.25 * way.stride, kept=nothing(gram))
        return jax.tree.map(lambda a, b: jnp.where(fine, a, b), good, bad)._replace(
            rounds=way.rounds + rounds
        )

    def going(way: _Way) -> Array:
        return (way.done < 1) & (way.stride > _SHORTEST)

    one = jnp.ones((), start.dtype)
    way = jax.lax.while_loop(going, stride, _Way(0 * one, one, start, kept, jnp.array(0)))
    return way.coef, way.kept, way.rounds, way.done >= 1


def _exchange(gram: Array, kept: Pivoted, on: Array, bend: Array) -> Pivoted:
    """The inverse for another active set, `_WIDTH` out and in at a time; dependent ones stay out.

    What comes in has its own `bend`, what stays that with which it came.
    """
    m = on.size
    diagonal = jnp.diagonal(gram)

    def pivot(carry: tuple[Pivoted, Array, Array]) -> tuple[Pivoted, Array, Array]:
        kept, leave, enter = carry
        inverse, active = kept.inverse, kept.active
        out = jnp.nonzero(leave, size=_WIDTH, fill_value=m)[0]
        into = jnp.nonzero(enter, size=_WIDTH, fill_value=m)[0]
        rows = lambda x, index: x.at[index].get(mode="fill", fill_value=0.0)  # noqa: E731
        here = lambda index: jnp.zeros(m, bool).at[index].set(True, mode="drop")  # noqa: E731
        gone, tried = here(out), here(into)
        left = rows(inverse, out)
        inner, _ = _inverse(_columns(left, out), out < m, -jnp.inf)
        across = jnp.where(active & ~gone, rows(gram, into), 0.0)
        made = across @ inverse
        made -= _columns(made, out) @ inner @ left
        own = _columns(rows(gram, into), into) + jnp.diag(rows(bend, into))
        corner, there = _inverse(own - across @ made.T, into < m, _DEPENDENT * rows(diagonal, into))
        into = jnp.where(there, into, m)
        # With −1 at its own place, one product makes all four blocks.
        made = (
            jnp.where(gone | ~there[:, None], 0.0, made).at[jnp.arange(_WIDTH), into].add(-1.0, mode="drop")
        )
        thin = jnp.concatenate([made, left])
        other = jnp.concatenate([corner @ made, -(inner @ left)])
        inverse = jnp.where(gone[:, None] | gone, 0.0, inverse + thin.T @ other)
        fresh = here(into)
        kept = Pivoted(inverse, (active & ~gone) | fresh, jnp.where(fresh, bend, kept.bend))
        return kept, leave & ~gone, enter & ~tried

    start = (kept, kept.active & ~on, on & ~kept.active)
    return jax.lax.while_loop(lambda c: jnp.any(c[1] | c[2]), pivot, start)[0]


def _columns(rows: Array, index: Array) -> Array:
    return rows.at[:, index].get(mode="fill", fill_value=0.0)


def _inverse(block: Array, real: Array, least: Array | float) -> tuple[Array, Array]:
    """The inverse of a small positive definite block, 0 where an entry only fills up or depends on others."""
    both = real[:, None] & real
    half, there = inverse_factor(jnp.where(both, block, jnp.eye(block.shape[0], dtype=block.dtype)), least)
    there &= real
    return jnp.where(there[:, None] & there, half.T @ half, 0.0), there
