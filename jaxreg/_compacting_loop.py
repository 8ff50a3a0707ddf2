"""A loop over lanes that leave the batch when they are done, so that the slowest does not hold the rest.

Under `jax.vmap` a `jax.lax.while_loop` runs all lanes until the last is done. `compacting_loop` is the same
loop for one lane; the rule for a batch gathers the lanes that go on into a smaller batch once few enough are
left. The sizes of the batches are known when it is traced: it is one program, which never asks the host.

The body comes in two parts: cheap steps, and a look now and then which is long to compile. Steps are compiled
once for each size, the look for one size only, which takes the lanes that are ready for it one part after the
other. They wait for others, but not for all: once those who wait have wasted as many steps as a look costs,
it comes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jax.extend import core
from jaxtyping import Array

__all__ = ["compacting_loop", "widths"]

#: From how many lanes on there are smaller batches, and their shares of all lanes: each size compiles the
#: steps again, which few lanes do not pay back.
_SHARES = {512: (2, 8), 64: (4,), 0: ()}
#: The share of all lanes that look at once, and what a look costs, in steps.
_LOOKING, _LOOK = 4, 2


def widths(lanes: int) -> list[int]:
    """The sizes of the batches that so many lanes pass through.

    >>> widths(1000), widths(100), widths(40)
    ([1000, 500, 125], [100, 25], [40])
    """
    shares = next(shares for least, shares in _SHARES.items() if lanes >= least)
    return [lanes, *(-(-lanes // share) for share in shares)]


def compacting_loop(
    more: Callable[[Any], Array],
    stepping: Callable[[Any], Array],
    step: Callable[[Any], Any],
    look: Callable[[Any], Any],
    start: Any,
) -> tuple[Any, Array]:
    """`while more(x): { while stepping(x): x = step(x); x = look(x) }` from `start`: the last x, and rounds.

    x is a pytree of arrays. Rounds are the steps that were run; in a batch also those in which the
    lane's place only waited or was done, so that their sum over lanes is all the work. Forward mode is that
    of `jax.lax.while_loop`, from which no lane leaves.
    """
    leaves, tree = jax.tree.flatten(jax.tree.map(_strong, start))
    loop, fixed, moving, back = _traced((more, stepping, step, look), leaves, tree)
    moved, rounds = _differentiable(loop)(fixed, moving)
    return jax.tree.unflatten(tree, back(moved)), rounds


class _Loop(NamedTuple):
    """The functions of a loop, each of what stays the same and of what moves; both are lists of arrays."""

    more: Callable[..., Any]
    stepping: Callable[..., Any]
    step: Callable[..., Any]
    look: Callable[..., Any]


def _strong(x: Any) -> Array:
    """The array without JAX's weak type, which a loop's result would not have."""
    x = jnp.asarray(x)
    return jax.lax.convert_element_type(x, x.dtype) if getattr(x, "weak_type", False) else x


def _traced(
    functions: Sequence[Callable[[Any], Any]], leaves: list[Array], tree: Any
) -> tuple[_Loop, list[Array], list[Array], Callable[[list[Array]], list[Array]]]:
    """The loop, what stays the same in it, what moves, and how to have all leaves again.

    What the functions close over stays, and so do leaves that they hand on untouched (a Gram matrix): for
    lanes that share it there is one.
    """

    def flat(function: Callable[[Any], Any]) -> Callable[..., list[Array]]:
        return lambda *leaves: jax.tree.leaves(
            jax.tree.map(_strong, function(jax.tree.unflatten(tree, leaves)))
        )

    closed = [jax.make_jaxpr(flat(function))(*leaves) for function in functions]
    for found in closed[2:]:
        wanted, got = ([f"{x.dtype}{x.shape}" for x in avals] for avals in (leaves, found.out_avals))
        if got != wanted:
            raise TypeError(f"a step of the loop turns {wanted} into {got}: it must keep shapes and dtypes")
    still = [all(c.jaxpr.outvars[i] is c.jaxpr.invars[i] for c in closed[2:]) for i in range(len(leaves))]
    moves = [i for i, same in enumerate(still) if not same]
    held = {id(x): x for x in (*(c for found in closed for c in found.consts), *_some(leaves, still))}
    places = {key: k for k, key in enumerate(held)}

    def whole(fixed: list[Array], moving: list[Array]) -> list[Array]:
        rest = iter(moving)
        return [fixed[places[id(x)]] if same else next(rest) for x, same in zip(leaves, still, strict=True)]

    def bound(found: core.ClosedJaxpr, kept: Callable[[list[Array]], Any]) -> Callable[..., Any]:
        where = [places[id(x)] for x in found.consts]

        def call(fixed: list[Array], moving: list[Array]) -> Any:
            function = core.jaxpr_as_fun(core.ClosedJaxpr(found.jaxpr, [fixed[k] for k in where]))
            return kept(function(*whole(fixed, moving)))

        return call

    first, moved = (lambda out: out[0]), (lambda out: [out[i] for i in moves])
    loop = _Loop(*(bound(c, kept) for c, kept in zip(closed, (first, first, moved, moved), strict=True)))
    fixed = list(held.values())
    return loop, fixed, moved(leaves), lambda moving: whole(fixed, moving)


def _some(leaves: list[Array], wanted: list[bool]) -> list[Array]:
    return [x for x, yes in zip(leaves, wanted, strict=True) if yes]


def _alone(loop: _Loop, fixed: list[Array], moving: list[Array]) -> tuple[list[Array], Array]:
    """One lane."""

    def inner(state: tuple[list[Array], Array]) -> tuple[list[Array], Array]:
        return loop.step(fixed, state[0]), state[1] + 1

    def outer(state: tuple[list[Array], Array]) -> tuple[list[Array], Array]:
        moving, rounds = jax.lax.while_loop(lambda s: loop.stepping(fixed, s[0]), inner, state)
        return loop.look(fixed, moving), rounds

    return jax.lax.while_loop(lambda s: loop.more(fixed, s[0]), outer, (moving, jnp.array(0)))


def _differentiable(loop: _Loop) -> Callable[[list[Array], list[Array]], tuple[list[Array], Array]]:
    """The loop as a function of what is fixed and what moves, with its rules for vmap and forward mode."""
    batched = custom_vmap(lambda fixed, moving: _alone(loop, fixed, moving))
    batched.def_vmap(_Rule(loop))
    run = jax.custom_jvp(lambda fixed, moving: batched(fixed, moving))

    def rule(primals: Any, tangents: Any) -> Any:
        """That of `jax.lax.while_loop`: with tangents lanes do not leave, what has none gets none."""
        fixed, moving = primals
        given, dots = [*fixed, *moving], [*tangents[0], *tangents[1]]
        known = [not isinstance(dot, SymbolicZero) for dot in dots]

        def function(some: list[Array]) -> tuple[list[Array], Array]:
            rest = iter(some)
            whole = [next(rest) if yes else x for yes, x in zip(known, given, strict=True)]
            return _alone(loop, whole[: len(fixed)], whole[len(fixed) :])

        return jax.jvp(function, (_some(given, known),), (_some(dots, known),))

    run.defjvp(rule, symbolic_zeros=True)
    return run


class _Batch(NamedTuple):
    """Lanes in a batch: what moves, which go on, and the steps that were run in each place."""

    moving: list[Array]
    alive: Array
    rounds: Array


class _Rule:
    """The batching rule. All that it does follows from the loop itself, which its jaxpr shows."""

    def __init__(self, loop: _Loop) -> None:
        self.loop = loop

    def __str__(self) -> str:
        return "finished lanes leave"

    def __call__(self, size: int, batched: Any, fixed: list[Array], moving: list[Array]) -> Any:
        """All lanes, until each is done."""
        shared, own = batched
        moving = [x if b else jnp.broadcast_to(x, (size, *x.shape)) for x, b in zip(moving, own, strict=True)]
        mapped = [0 if b else None for b in shared]
        loop = _Loop(*(jax.vmap(function, in_axes=(mapped, 0)) for function in self.loop))
        alive = jnp.broadcast_to(loop.more(fixed, moving), (size,))
        batch = _together(loop, shared, fixed, _Batch(moving, alive, jnp.zeros(size, int)))
        return (batch.moving, batch.rounds), ([True] * len(moving), True)


def _together(loop: _Loop, own: list[bool], fixed: list[Array], batch: _Batch) -> _Batch:
    """Turns of steps and looks until no lane goes on; `own` says what of `fixed` each lane has its own of."""
    size = batch.alive.size
    sizes = widths(size)

    def part(index: Array) -> list[Array]:
        return [x[index] if each else x for x, each in zip(fixed, own, strict=True)]

    def steps(k: int, wanted: Array, batch: _Batch) -> _Batch:
        # Under another vmap all branches run: those that are not wanted then take no step.
        here = batch._replace(alive=batch.alive & (wanted == k))
        if k == 0:
            here = _steps(loop, fixed, here)
            return here._replace(alive=batch.alive)
        # Those that go on come first; what fills up are lanes that are done.
        index = jnp.argsort(~batch.alive, stable=True)[: sizes[k]]
        some = _steps(loop, part(index), jax.tree.map(lambda x: x[index], here))
        put = lambda x, y: x.at[index].set(y, unique_indices=True)  # noqa: E731
        moving = [put(x, y) for x, y in zip(batch.moving, some.moving, strict=True)]
        return _Batch(moving, batch.alive, put(batch.rounds, some.rounds))

    def looks(batch: _Batch) -> _Batch:
        ready = batch.alive & ~loop.stepping(fixed, batch.moving)
        width = size if len(sizes) == 1 else -(-size // _LOOKING)
        order = jnp.pad(jnp.argsort(~ready, stable=True), (0, -size % width), constant_values=size)

        def one(state: tuple[_Batch, Array]) -> tuple[_Batch, Array]:
            batch, done = state
            index = jax.lax.dynamic_slice(order, (done,), (width,))
            asked = ready.at[index].get(mode="fill", fill_value=False)
            here, some = part(index), [x[index] for x in batch.moving]
            some = _chosen(asked, loop.look(here, some), some)
            to = jnp.where(asked, index, size)
            moving = [x.at[to].set(y, mode="drop") for x, y in zip(batch.moving, some, strict=True)]
            alive = batch.alive.at[to].set(loop.more(here, some), mode="drop")
            return _Batch(moving, alive, batch.rounds), done + width

        return jax.lax.while_loop(lambda s: s[1] < jnp.sum(ready), one, (batch, jnp.array(0)))[0]

    def turn(batch: _Batch) -> _Batch:
        wanted = jnp.sum(jnp.sum(batch.alive) <= jnp.array(sizes[1:], int))
        branches = [functools.partial(steps, k) for k in range(len(sizes))]
        return looks(jax.lax.switch(wanted, branches, wanted, batch))

    return jax.lax.while_loop(lambda batch: jnp.any(batch.alive), turn, batch)


def _steps(loop: _Loop, fixed: list[Array], batch: _Batch) -> _Batch:
    """Steps of all lanes until none wants one, or those that wait have wasted as many as their look costs."""
    alive, patience = batch.alive, _LOOK * jnp.sum(batch.alive)

    def going(state: tuple[list[Array], Array, Array, Array]) -> Array:
        _, busy, waited, _ = state
        return jnp.any(busy) & (waited < patience)

    def one(state: tuple[list[Array], Array, Array, Array]) -> tuple[list[Array], Array, Array, Array]:
        moving, busy, waited, taken = state
        waited += jnp.sum(alive & ~busy)
        moving = _chosen(busy, loop.step(fixed, moving), moving)
        return moving, busy & loop.stepping(fixed, moving), waited, taken + 1

    begin = (batch.moving, alive & loop.stepping(fixed, batch.moving), jnp.array(0), jnp.array(0))
    moving, _, _, taken = jax.lax.while_loop(going, one, begin)
    return _Batch(moving, alive, batch.rounds + taken)


def _chosen(which: Array, new: list[Array], old: list[Array]) -> list[Array]:
    """Of each lane the new or the old."""
    pick = lambda x, y: jnp.where(jnp.expand_dims(which, range(1, x.ndim)), x, y)  # noqa: E731
    return [pick(x, y) for x, y in zip(new, old, strict=True)]
