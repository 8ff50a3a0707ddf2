"""The quadratic model of a loss plus a penalty, minimised by semismooth Newton: autodiff of the prox is all
it needs.

The minimiser of ⟨s, u − x⟩ + ½⟨u − x, H(u − x)⟩ + g(u) is a zero of r(u) = u − prox(u − t∇, t) for any t >
0. The derivative J of the prox comes from `jax.jvp`; nothing is written per penalty. Where J has a zero
row, the coordinate is set to what the prox says, an exact zero for L1. On the rest A the linearised r is
symmetric,

    (H_AA + (J_AA⁻¹ − I)/t) δ_A = −J_AA⁻¹ r_A/t − H_AI δ_I,

and solved by one Cholesky factorisation. J is one number per coordinate where the penalty is separable;
where its prox couples blocks of coordinates, it is probed with one jvp for each place in a block (Curtis,
Powell and Reid 1974). For L1 the iteration is the primal-dual active set method (Hintermüller, Ito and
Kunisch 2003).

It converges in a few rounds from near by and may cycle from afar: `damping` adds damping·diag(H) around x,
with which it converges wherever the damping is large enough. The caller raises and lowers it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._types import Scalar
from jaxreg.linear.solvers._factor import cholesky_solve
from jaxreg.penalties import Penalty
from jaxreg.penalties.base import Blocks

__all__ = ["Model", "blocks", "lengths", "minimum", "prox"]

#: Rounds before the model counts as not solved; by how much its residual is to fall.
_ROUNDS, _FORCING = 10, 1e-4


class Model(NamedTuple):
    """H (m, m), the gradient s (m,) and the point x (m,) of `count` coordinates; what is beyond them is 0.

    `prox` takes a vector of them and the `lengths` of steps; m is `padded`.
    """

    gram: Array
    slope: Array
    x: Array
    prox: Callable[[Array, Array], Array]
    count: Array
    blocks: Blocks | None


def lengths(penalty: Penalty, diagonal: Array, damping: Scalar | float = 0.0) -> Array:
    """The length t of prox steps: one over the curvature, per coordinate where the penalty is separable."""
    return _lengths(diagonal, damping, penalty.separable)


def _lengths(diagonal: Array, damping: Scalar | float, separable: bool) -> Array:
    floor = 1e-6 * jnp.max(diagonal) + jnp.finfo(diagonal.dtype).tiny
    bound = (1 + damping) * jnp.maximum(diagonal, floor)
    return 1 / bound if separable else jnp.full_like(bound, 1 / jnp.max(bound))


def prox(penalty: Penalty, shape: tuple[int, ...], v: Array, t: Array) -> Array:
    """The prox of ravelled params, at the `lengths` of this penalty."""
    step = t.reshape(shape) if penalty.separable else t[0]
    return penalty.prox(v.reshape(shape), step).ravel()


def blocks(penalty: Penalty, coef: Array, index: Array) -> Blocks:
    """The penalty's blocks of the coordinates `index`; those beyond are in a block of their own."""
    found = penalty.blocks(coef)
    assert found is not None, "asked of penalties that `newton.accepts` alone"
    labels, count, size = found
    return Blocks(labels.ravel().at[index].get(mode="fill", fill_value=count), count, size)


def minimum(model: Model, damping: Scalar) -> tuple[Array, Array]:
    """A point near the model's minimum, which a prox gave; and whether its residual fell as it should."""
    m = model.x.size
    real, eye = jnp.arange(m) < model.count, jnp.eye(m, dtype=model.x.dtype)
    diagonal = jnp.diagonal(model.gram)
    t = _lengths(diagonal, damping, model.blocks is None)
    # Where the loss is flat, a little curvature is lent; the next model starts from the new point.
    extra = damping * jnp.maximum(diagonal, 1e-6 * jnp.max(diagonal))
    probe = _separable(model, t) if model.blocks is None else _blockwise(model, t)

    def bent(d: Array) -> Array:
        return model.gram @ d + extra * d

    def look(u: Array) -> tuple[Array, Array, Array, Array]:
        v = u - t * (model.slope + bent(u - model.x))
        ahead = jnp.where(real, model.prox(v, t), 0.0)
        return u, v, ahead, jnp.max(jnp.abs(u - ahead) / t)

    def round_(carry: tuple[tuple[Array, ...], Array]) -> tuple[tuple[Array, ...], Array]:
        (u, v, ahead, _), k = carry
        rest = u - ahead
        on, back = probe(v)
        on &= real
        moving = jnp.where(on, rest, 0.0)
        if back.ndim == 1:
            pull, added = back * moving, jnp.diag((back - 1) / t + extra)
        else:
            pull, added = back @ moving, (back - eye) / t + jnp.diag(extra)
        right = jnp.where(on, bent(rest - moving) - pull / t, 0.0)
        matrix = jnp.where(on[:, None] & on, model.gram + added, eye)
        moved = cholesky_solve(matrix, right, model.count)
        return look(jnp.where(on, u + moved, ahead)), k + 1

    def going(carry: tuple[tuple[Array, ...], Array]) -> Array:
        return (carry[0][-1] > wanted) & (carry[1] < _ROUNDS)

    first = look(model.x)
    wanted = _FORCING * first[-1]
    (_, _, ahead, residual), _ = jax.lax.while_loop(going, round_, (first, jnp.array(0)))
    return ahead, residual <= wanted


def _separable(model: Model, t: Array) -> Callable[[Array], tuple[Array, Array]]:
    """At v: where the prox's derivative is not 0, and one over it there."""

    def at(v: Array) -> tuple[Array, Array]:
        slope = jax.jvp(lambda v: model.prox(v, t), (v,), (jnp.ones_like(v),))[1]
        on = slope > 0
        return on, 1 / jnp.where(on, slope, 1.0)

    return at


def _blockwise(model: Model, t: Array) -> Callable[[Array], tuple[Array, Array]]:
    """At v: where the prox's derivative is not 0, and the inverse there of a matrix of blocks."""
    assert model.blocks is not None
    labels, count, size = model.blocks
    order = jnp.argsort(labels, stable=True)
    first = jnp.searchsorted(labels[order], labels[order], side="left")
    place = jnp.zeros_like(labels).at[order].set(jnp.arange(labels.size) - first)
    inside = (labels[:, None] == labels) & (labels < count)

    def at(v: Array) -> tuple[Array, Array]:
        def column(k: Array) -> Array:
            return jax.jvp(lambda v: model.prox(v, t), (v,), ((place == k).astype(v.dtype),))[1]

        columns = jax.vmap(column)(jnp.arange(size))
        at_own = jnp.minimum(place, size - 1), jnp.arange(labels.size)
        on = (columns[at_own] > 0) & (labels < count) & (place < size)
        used = jnp.zeros((count, size), bool).at[labels, place].set(on, mode="drop")
        parts = jnp.zeros((count, size, size), v.dtype).at[labels, place].set(columns.T, mode="drop")
        parts = jnp.where(used[:, :, None] & used[:, None], parts, jnp.eye(size, dtype=v.dtype))
        inverse = jnp.linalg.inv(parts)
        return on, jnp.where(inside, inverse[labels[:, None], place[:, None], place], 0.0)

    return at
