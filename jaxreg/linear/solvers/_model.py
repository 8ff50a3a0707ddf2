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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._types import Scalar
from jaxreg.linear.solvers._factor import Factor, factor, no_factor, substitute
from jaxreg.penalties import Penalty
from jaxreg.penalties.base import Blocks

__all__ = ["Model", "blocks", "lengths", "minimum", "prox"]

#: Rounds before the model counts as not solved; by how much its residual is to fall, and where the model is
#: the loss itself; by how much it falls in a round after which the factor serves again.
_ROUNDS, _FORCING, _EXACT, _NEAR = 10, 1e-4, 1e-7, 1e-2


class Model(NamedTuple):
    """H (m, m), the gradient s (m,) and the point x (m,) of `count` coordinates; what is beyond them is 0.

    `prox` takes a vector of them and the `lengths` of steps; m is `padded`. A model that is `exact` is the
    loss itself: it is solved well at once.
    """

    gram: Array
    slope: Array
    x: Array
    prox: Callable[[Array, Array], Array]
    count: Array
    blocks: Blocks | None
    exact: bool


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
    places, eye = 1 + jnp.arange(m), jnp.eye(m, dtype=model.x.dtype)
    real = places <= model.count
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

    def round_(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        (u, v, ahead, residual), (made, of, before), k = carry
        rest = u - ahead
        back = probe(v)
        on = back.on & real
        moving = jnp.where(on, rest, 0.0)
        right = jnp.where(on, bent(rest - moving) - back.times(moving) / t, 0.0)

        def fresh() -> Factor:
            matrix = jnp.where(on[:, None] & on, model.gram + jnp.diag(extra), eye)
            return factor(back.bent(matrix), jnp.max(jnp.where(on, places, 0)))

        # On the same coordinates, and as near as this, the last factor is as good as a new one.
        same = jnp.all(on == of) & (residual < _NEAR * before)
        made = jax.lax.cond(same, lambda: made, fresh)
        return look(jnp.where(on, u + substitute(made, right), ahead)), (made, on, residual), k + 1

    def going(carry: tuple[Any, ...]) -> Array:
        return (carry[0][-1] > wanted) & (carry[2] < _ROUNDS)

    first = look(model.x)
    rounding = 1e3 * jnp.finfo(t.dtype).eps * jnp.max(jnp.abs(model.slope))
    wanted = _FORCING * first[-1]
    wanted = jnp.maximum(_EXACT * first[-1], jnp.minimum(rounding, wanted)) if model.exact else wanted
    start = first, (no_factor(m, t.dtype), jnp.zeros(m, bool), first[-1]), jnp.array(0)
    (_, _, ahead, residual), _, _ = jax.lax.while_loop(going, round_, start)
    return ahead, residual <= wanted


class _Back(NamedTuple):
    """Where the prox's derivative J is not 0; x ↦ J⁻¹x there; and a matrix with (J⁻¹ − I)/t added to it."""

    on: Array
    times: Callable[[Array], Array]
    bent: Callable[[Array], Array]


def _separable(model: Model, t: Array) -> Callable[[Array], _Back]:
    """J⁻¹ at v: one number per coordinate."""
    every = jnp.arange(t.size)

    def at(v: Array) -> _Back:
        slope = jax.jvp(lambda v: model.prox(v, t), (v,), (jnp.ones_like(v),))[1]
        on = slope > 0
        back = 1 / jnp.where(on, slope, 1.0)
        return _Back(on, lambda x: back * x, lambda matrix: matrix.at[every, every].add((back - 1) / t))

    return at


def _blockwise(model: Model, t: Array) -> Callable[[Array], _Back]:
    """J⁻¹ at v: a matrix for each block. What is off has a row of the identity in it."""
    assert model.blocks is not None
    labels, count, size = model.blocks
    order = jnp.argsort(labels, stable=True)
    first = jnp.searchsorted(labels[order], labels[order], side="left")
    place = jnp.zeros_like(labels).at[order].set(jnp.arange(labels.size) - first)
    # The coordinate at each place of a block; one beyond all where there is none.
    members = jnp.full((count, size), labels.size).at[labels, place].set(jnp.arange(labels.size), mode="drop")

    def at(v: Array) -> _Back:
        def column(k: Array) -> Array:
            return jax.jvp(lambda v: model.prox(v, t), (v,), ((place == k).astype(v.dtype),))[1]

        columns = jax.vmap(column)(jnp.arange(size))
        at_own = jnp.minimum(place, size - 1), jnp.arange(labels.size)
        on = (columns[at_own] > 0) & (labels < count) & (place < size)
        used = on.at[members].get(mode="fill", fill_value=False)
        eye = jnp.eye(size, dtype=v.dtype)
        parts = columns.T.at[members].get(mode="fill", fill_value=0.0)
        inverse = jnp.linalg.inv(jnp.where(used[:, :, None] & used[:, None], parts, eye))

        def times(x: Array) -> Array:
            found = jnp.einsum("bij,bj->bi", inverse, x.at[members].get(mode="fill", fill_value=0.0))
            return jnp.zeros_like(x).at[members].set(found, mode="drop")

        def bent(matrix: Array) -> Array:
            here = members[:, :, None], members[:, None]
            return matrix.at[here].add((inverse - eye) / t[0], mode="drop")

        return _Back(on, times, bent)

    return at
