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

from jaxreg._typing import Scalar
from jaxreg.linear.solvers._factor import Factor, factor, no_factor, substitute
from jaxreg.linear.solvers._krylov import conjugate_gradients
from jaxreg.linear.solvers._smooth import Bent, Implied
from jaxreg.penalties import Penalty
from jaxreg.penalties.base import Blocks

__all__ = ["Model", "blocks", "lengths", "minimum", "prox"]

#: Rounds before the model counts as not solved; by how much its residual is to fall, and where the model is
#: the loss itself; by how much it falls in a round after which the factor serves again.
_ROUNDS, _FORCING, _EXACT, _NEAR = 10, 1e-4, 1e-7, 1e-2
#: How much less than enough a residual is to be, so that it is enough for others too.
_SURE = 0.5
#: How exactly conjugate gradients solve a system, and in how many iterations at most.
_INEXACT, _ITERATIONS = 1e-2, 300


class Model(NamedTuple):
    """H (m, m), the gradient s (m,) and the point x (m,) of `count` coordinates; what is beyond them is 0.

    Without a matrix in it, H is known by its products; its systems are solved by conjugate gradients then.

    `prox` takes a vector of them and the `lengths` of steps; m is `padded`. A model that is `exact` is the
    loss itself: it is solved well at once.
    """

    curve: Bent | Implied
    slope: Array
    x: Array
    prox: Callable[[Array, Array], Array]
    count: Array | int
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


def minimum(model: Model, damping: Scalar, enough: Scalar | float) -> tuple[Array, Array]:
    """A point near the model's minimum, which a prox gave; and whether its residual fell as it should, or to
    what is `enough`.
    """
    m, gram = model.x.size, model.curve.gram
    real = jnp.arange(m) < model.count
    diagonal = model.curve.diagonal
    t = _lengths(diagonal, damping, model.blocks is None)
    # Where the loss is flat, a little curvature is lent; the next model starts from the new point.
    extra = damping * jnp.maximum(diagonal, 1e-6 * jnp.max(diagonal))
    probe = _separable(model, t) if model.blocks is None else _blockwise(model, t)

    def bent(d: Array) -> Array:
        return model.curve.times(d) + extra * d

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

        # On the same coordinates, and as near as this, the last factor is as good as a new one.
        same = jnp.all(on == of) & (residual < _NEAR * before)
        made, moved = solve(made, back._replace(on=on), right, same)
        return look(jnp.where(on, u + moved, ahead)), (made, on, residual), k + 1

    def going(carry: tuple[Any, ...]) -> Array:
        return (carry[0][-1] > wanted) & (carry[2] < _ROUNDS)

    first = look(model.x)
    rounding = 1e3 * jnp.finfo(t.dtype).eps * jnp.max(jnp.abs(model.slope))
    wanted = _FORCING * first[-1]
    wanted = jnp.maximum(_EXACT * first[-1], jnp.minimum(rounding, wanted)) if model.exact else wanted
    wanted = jnp.maximum(wanted, _SURE * enough)
    solve, made = _by_products(model, extra, t, wanted) if gram is None else _by_factor(gram, extra)
    start = first, (made, jnp.zeros(m, bool), first[-1]), jnp.array(0)
    (_, _, ahead, residual), _, _ = jax.lax.while_loop(going, round_, start)
    return ahead, residual <= wanted


#: Of what was made for the last system, the derivative of the prox, the right side, and whether the system
#: is as the last one: what is made for the next, and the solution.
_Solve = Callable[[Any, "_Back", Array, Array], tuple[Any, Array]]


def _by_factor(gram: Array, extra: Array) -> tuple[_Solve, Factor]:
    """Linear systems by Cholesky factors; and none to begin with."""
    places, eye = jnp.arange(extra.size), jnp.eye(extra.size, dtype=extra.dtype)

    def solve(made: Factor, back: _Back, right: Array, same: Array) -> tuple[Factor, Array]:
        on = back.on

        def fresh() -> Factor:
            matrix = jnp.where(on[:, None] & on, gram + jnp.diag(extra), eye)
            return factor(back.bent(matrix), jnp.max(jnp.where(on, 1 + places, 0)))

        made = jax.lax.cond(same, lambda: made, fresh)
        return made, substitute(made, right)

    return solve, no_factor(extra.size, extra.dtype)


def _by_products(model: Model, extra: Array, t: Array, wanted: Scalar) -> tuple[_Solve, None]:
    """Linear systems by conjugate gradients, which begin anew for each."""

    def solve(_: None, back: _Back, right: Array, same: Array) -> tuple[None, Array]:
        on, rest = back.on, model.curve.diagonal + extra + back.diagonal
        rest = jnp.where(on & (rest > 0), rest, jnp.inf)

        def times(d: Array) -> Array:
            return jnp.where(on, model.curve.times(d) + extra * d + (back.times(d) - d) / t, 0.0)

        goal = jnp.maximum(_INEXACT * jnp.max(jnp.abs(right)), 0.1 * wanted)
        return None, conjugate_gradients(times, lambda r: r / rest, right, goal, _ITERATIONS)

    return solve, None


class _Back(NamedTuple):
    """Where the prox's derivative J is not 0; x ↦ J⁻¹x there; a matrix with (J⁻¹ − I)/t added to it; and the
    diagonal of that, where it is one.
    """

    on: Array
    times: Callable[[Array], Array]
    bent: Callable[[Array], Array]
    diagonal: Array | float


def _separable(model: Model, t: Array) -> Callable[[Array], _Back]:
    """J⁻¹ at v: one number per coordinate."""
    every = jnp.arange(t.size)

    def at(v: Array) -> _Back:
        slope = jax.jvp(lambda v: model.prox(v, t), (v,), (jnp.ones_like(v),))[1]
        on = slope > 0
        back = 1 / jnp.where(on, slope, 1.0)
        bend = (back - 1) / t
        return _Back(on, lambda x: back * x, lambda matrix: matrix.at[every, every].add(bend), bend)

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

        return _Back(on, times, bent, 0.0)

    return at
