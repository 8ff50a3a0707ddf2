"""A `while_loop` whose finished lanes leave the batch under `vmap`, so that a slow lane holds up no other.

Under `jax.vmap`, `jax.lax.while_loop` runs every lane until the last one is done. `compacting_loop` is the
same loop for a single lane; its batching rule moves the lanes that are not done into a smaller batch as soon
as they fit into one. The sizes of the batches are fixed at trace time (`batch_sizes`): the loop is one
program and never asks the host.

Worked example: eight lanes need 1, 1, 2, 2, 3, 3, 5 and 9 steps, and the batch sizes are 8 and 2.

| turn   | lanes not done | batch size |
|--------|----------------|------------|
| 1      | 8              | 8          |
| 2      | 6              | 8          |
| 3      | 4              | 8          |
| 4 to 5 | 2              | 2          |
| 6 to 9 | 1              | 2          |

This runs 3·8 + 6·2 = 36 steps, where `jax.vmap` of `jax.lax.while_loop` runs 9·8 = 72 and the lanes need 26.

The body has two parts: a cheap `step`, and an `evaluate` that follows some steps and takes long to compile
(in the solvers it computes the certificate). Steps are compiled once for each batch size. Evaluations are
compiled for one size, a quarter of the lanes: the lanes that are ready for one pass through it quarter by
quarter. Ready lanes wait while other lanes step, until all of them together have waited through two steps for
every lane that is not done.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jax.extend import core
from jaxtyping import Array, Bool, Int, PyTree

from jaxreg._batching import transparent_rule
from jaxreg._typing import ArrayLike

__all__ = ["batch_sizes", "compacting_loop"]

#: Divisors of the number of lanes that give the sizes of the smaller batches, by the least number of lanes.
#: Each size compiles the steps once more, which few lanes do not pay back.
_DIVISORS = {512: (2, 8), 64: (4,), 0: ()}
#: Lanes are evaluated in this many parts, where there is more than one batch size.
_EVALUATION_PARTS = 4
#: Cost of an evaluation, in steps.
_EVALUATION_COST = 2

_T = TypeVar("_T")
#: The carry of a loop, a pytree of arrays.
_X = TypeVar("_X")

#: Arrays that no function of the loop changes, or arrays that the loop carries.
Arrays = list[Array]
#: The carry and the number of steps after the loop.
_Result = tuple[Arrays, Array]
#: Tangents of the constants and of the carry; symbolic zeros stand for arrays without one.
_Tangents = tuple[list[Array | SymbolicZero], list[Array | SymbolicZero]]


def batch_sizes(lanes: int) -> list[int]:
    """Return the sizes of the batches through which so many lanes pass, the largest first.

    >>> batch_sizes(1000), batch_sizes(100), batch_sizes(40)
    ([1000, 500, 125], [100, 25], [40])
    """
    divisors = next(divisors for least, divisors in _DIVISORS.items() if lanes >= least)
    return [lanes, *(-(-lanes // divisor) for divisor in divisors)]


def compacting_loop(
    not_done: Callable[[_X], Array],
    keep_stepping: Callable[[_X], Array],
    step: Callable[[_X], _X],
    evaluate: Callable[[_X], _X],
    init: _X,
) -> tuple[_X, Array]:
    """Run `while not_done(x): { while keep_stepping(x): x = step(x); x = evaluate(x) }` from `init`.

    Forward-mode derivatives are those of `jax.lax.while_loop`, whose lanes stay in the batch.

    Args:
        not_done: Boolean function of x.
        keep_stepping: Boolean function of x.
        step: Function from x to x, of the same shapes and dtypes.
        evaluate: Function from x to x, of the same shapes and dtypes.
        init: A pytree of arrays.

    Returns:
        The last x, and the number of steps run. In a batch the number also counts steps during which the
        lane waited or was done, so that the sum over the lanes is all the work.

    Raises:
        TypeError: `step` or `evaluate` changes a shape or a dtype.
    """
    traced = _trace((not_done, keep_stepping, step, evaluate), init)
    carry, steps = _differentiable(traced.loop)(traced.constants, traced.carry)
    return traced.restore(carry), steps


class _Loop(NamedTuple):
    """The functions of a loop, each of its constants and its carry."""

    not_done: Callable[[Arrays, Arrays], Array]
    keep_stepping: Callable[[Arrays, Arrays], Array]
    step: Callable[[Arrays, Arrays], Arrays]
    evaluate: Callable[[Arrays, Arrays], Arrays]


class _TracedLoop(NamedTuple):
    """A loop with its constants, its first carry, and the function from a carry back to x."""

    loop: _Loop
    constants: Arrays
    carry: Arrays
    restore: Callable[[Arrays], PyTree[Array]]


def _trace(functions: Sequence[Callable[[_X], _X | Array]], init: _X) -> _TracedLoop:
    """Trace the four functions and separate what they change from what they do not.

    Constants are the arrays that the functions close over, and the leaves of x that `step` and `evaluate`
    both return untouched (such as a Gram matrix): lanes that share a constant share one copy.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(_strong, init))

    def flat(function: Callable[[_X], _X | Array]) -> Callable[..., Arrays]:
        return lambda *leaves: jax.tree.leaves(
            jax.tree.map(_strong, function(jax.tree.unflatten(structure, leaves)))
        )

    jaxprs = [jax.make_jaxpr(flat(function))(*leaves) for function in functions]
    updates = jaxprs[2:]
    for update in updates:
        _check_form(leaves, update)
    is_constant = [all(u.jaxpr.outvars[i] is u.jaxpr.invars[i] for u in updates) for i in range(len(leaves))]
    changed = [i for i, constant in enumerate(is_constant) if not constant]
    closed_over = (x for jaxpr in jaxprs for x in jaxpr.consts)
    by_id = {id(x): x for x in (*closed_over, *_select(leaves, is_constant))}
    position = {key: k for k, key in enumerate(by_id)}

    def all_leaves(constants: Arrays, carry: Arrays) -> Arrays:
        rest = iter(carry)
        pairs = zip(leaves, is_constant, strict=True)
        return [constants[position[id(x)]] if constant else next(rest) for x, constant in pairs]

    def bind(jaxpr: core.ClosedJaxpr, output: Callable[[Arrays], _T]) -> Callable[[Arrays, Arrays], _T]:
        consts = [position[id(x)] for x in jaxpr.consts]

        def call(constants: Arrays, carry: Arrays) -> _T:
            function = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr.jaxpr, [constants[k] for k in consts]))
            return output(function(*all_leaves(constants, carry)))

        return call

    first, carried = (lambda out: out[0]), (lambda out: [out[i] for i in changed])
    outputs = (first, first, carried, carried)
    loop = _Loop(*(bind(jaxpr, output) for jaxpr, output in zip(jaxprs, outputs, strict=True)))
    constants = list(by_id.values())
    restore = lambda carry: jax.tree.unflatten(structure, all_leaves(constants, carry))  # noqa: E731
    return _TracedLoop(loop, constants, carried(leaves), restore)


def _strong(x: ArrayLike) -> Array:
    """Return the array without JAX's weak type, which the result of a loop would not have."""
    x = jnp.asarray(x)
    return jax.lax.convert_element_type(x, x.dtype) if getattr(x, "weak_type", False) else x


def _check_form(leaves: Arrays, update: core.ClosedJaxpr) -> None:
    wanted, got = ([f"{x.dtype}{x.shape}" for x in avals] for avals in (leaves, update.out_avals))
    if got != wanted:
        raise TypeError(f"a step of the loop turns {wanted} into {got}: it must keep shapes and dtypes")


def _select(items: Sequence[_T], chosen: Sequence[bool]) -> list[_T]:
    return [item for item, yes in zip(items, chosen, strict=True) if yes]


def _run_single(loop: _Loop, constants: Arrays, carry: Arrays) -> _Result:
    """Run the loop of one lane; returns its last carry and the number of steps."""

    def inner(state: _Result) -> _Result:
        return loop.step(constants, state[0]), state[1] + 1

    def outer(state: _Result) -> _Result:
        carry, steps = jax.lax.while_loop(lambda s: loop.keep_stepping(constants, s[0]), inner, state)
        return loop.evaluate(constants, carry), steps

    return jax.lax.while_loop(lambda s: loop.not_done(constants, s[0]), outer, (carry, jnp.array(0)))


def _differentiable(loop: _Loop) -> Callable[[Arrays, Arrays], _Result]:
    """Return the loop as a function of its constants and carry, with rules for vmap and forward mode."""
    batched = custom_vmap(lambda constants, carry: _run_single(loop, constants, carry))
    batched.def_vmap(transparent_rule(_CompactingRule(loop)))
    run = jax.custom_jvp(lambda constants, carry: batched(constants, carry))

    def jvp(primals: tuple[Arrays, Arrays], tangents: _Tangents) -> tuple[_Result, _Result]:
        """Differentiate `jax.lax.while_loop`; arrays without a tangent are left out."""
        constants, carry = primals
        values, dots = [*constants, *carry], [*tangents[0], *tangents[1]]
        has_tangent = [not isinstance(dot, SymbolicZero) for dot in dots]

        def function(differentiated: Arrays) -> _Result:
            rest = iter(differentiated)
            args = [next(rest) if yes else x for yes, x in zip(has_tangent, values, strict=True)]
            return _run_single(loop, args[: len(constants)], args[len(constants) :])

        return jax.jvp(function, (_select(values, has_tangent),), (_select(dots, has_tangent),))

    run.defjvp(jvp, symbolic_zeros=True)
    return run


class _CompactingRule:
    """The batching rule, determined by the loop alone."""

    def __init__(self, loop: _Loop) -> None:
        self.loop = loop

    def __str__(self) -> str:
        # Part of the text of a jaxpr, where the default would print an address.
        return "compacting loop"

    def __call__(
        self, size: int, batched: Sequence[list[bool]], constants: Arrays, carry: Arrays
    ) -> tuple[_Result, tuple[list[bool], bool]]:
        own_constants, own_carry = batched
        pairs = zip(carry, own_carry, strict=True)
        carry = [x if own else jnp.broadcast_to(x, (size, *x.shape)) for x, own in pairs]
        axes = [0 if own else None for own in own_constants]
        loop = _Loop(*(jax.vmap(function, in_axes=(axes, 0)) for function in self.loop))
        active = jnp.broadcast_to(loop.not_done(constants, carry), (size,))
        runner = _BatchRunner(loop, constants, own_constants, batch_sizes(size))
        batch = runner.run(_Batch(carry, active, jnp.zeros(size, int)))
        return (batch.carry, batch.steps), ([True] * len(carry), True)


class _Batch(NamedTuple):
    """Lanes: what they carry, which of them are not done, and the steps run in the slot of each."""

    carry: Arrays
    active: Bool[Array, " lanes"]
    steps: Int[Array, " lanes"]


class _BatchRunner(NamedTuple):
    """A loop over all lanes of a batch: its vmapped functions, its constants and the batch sizes.

    `is_own` marks the constants of which each lane has its own.
    """

    loop: _Loop
    constants: Arrays
    is_own: list[bool]
    sizes: list[int]

    def run(self, batch: _Batch) -> _Batch:
        """Take turns of steps and evaluations until every lane is done."""

        def turn(batch: _Batch) -> _Batch:
            level = jnp.sum(jnp.sum(batch.active) <= jnp.array(self.sizes[1:], int))
            branches = [functools.partial(self._step_at, k) for k in range(len(self.sizes))]
            return self._evaluate_ready(jax.lax.switch(level, branches, level, batch))

        return jax.lax.while_loop(lambda batch: jnp.any(batch.active), turn, batch)

    def _constants_of(self, index: Array) -> Arrays:
        """Return the constants of some lanes."""
        return [x[index] if own else x for x, own in zip(self.constants, self.is_own, strict=True)]

    def _step_at(self, k: int, level: Array, batch: _Batch) -> _Batch:
        """Step the active lanes in a batch of size k."""
        # Under another vmap all branches of the switch run: those of the other sizes then take no step.
        masked = batch._replace(active=batch.active & (level == k))
        if k == 0:
            return _take_steps(self.loop, self.constants, masked)._replace(active=batch.active)
        # Active lanes come first; lanes that are done fill up the rest.
        index = jnp.argsort(~batch.active, stable=True)[: self.sizes[k]]
        part = jax.tree.map(lambda x: x[index], masked)
        part = _take_steps(self.loop, self._constants_of(index), part)
        put = lambda x, y: x.at[index].set(y, unique_indices=True)  # noqa: E731
        carry = [put(x, y) for x, y in zip(batch.carry, part.carry, strict=True)]
        return _Batch(carry, batch.active, put(batch.steps, part.steps))

    def _evaluate_ready(self, batch: _Batch) -> _Batch:
        """Evaluate the lanes that want no step, part by part, the ready lanes first."""
        size = self.sizes[0]
        ready = batch.active & ~self.loop.keep_stepping(self.constants, batch.carry)
        width = size if len(self.sizes) == 1 else -(-size // _EVALUATION_PARTS)
        order = jnp.pad(jnp.argsort(~ready, stable=True), (0, -size % width), constant_values=size)

        def one_part(state: tuple[_Batch, Array]) -> tuple[_Batch, Array]:
            batch, start = state
            index = jax.lax.dynamic_slice(order, (start,), (width,))
            wanted = ready.at[index].get(mode="fill", fill_value=False)
            constants, carry = self._constants_of(index), [x[index] for x in batch.carry]
            carry = _where(wanted, self.loop.evaluate(constants, carry), carry)
            # Lanes that are not ready are written past the end, that is not at all.
            to = jnp.where(wanted, index, size)
            new = [x.at[to].set(y, mode="drop") for x, y in zip(batch.carry, carry, strict=True)]
            active = batch.active.at[to].set(self.loop.not_done(constants, carry), mode="drop")
            return _Batch(new, active, batch.steps), start + width

        return jax.lax.while_loop(lambda s: s[1] < jnp.sum(ready), one_part, (batch, jnp.array(0)))[0]


class _Stepping(NamedTuple):
    """Lanes that step together: which still want a step, the steps waited by all ready lanes, steps taken."""

    carry: Arrays
    wants_step: Bool[Array, " lanes"]
    waited: Int[Array, ""]
    taken: Int[Array, ""]


def _take_steps(loop: _Loop, constants: Arrays, batch: _Batch) -> _Batch:
    """Step until no lane wants a step, or ready lanes have waited as long as evaluating all lanes costs."""
    active, max_waited = batch.active, _EVALUATION_COST * jnp.sum(batch.active)

    def one_step(state: _Stepping) -> _Stepping:
        waited = state.waited + jnp.sum(active & ~state.wants_step)
        carry = _where(state.wants_step, loop.step(constants, state.carry), state.carry)
        wants_step = state.wants_step & loop.keep_stepping(constants, carry)
        return _Stepping(carry, wants_step, waited, state.taken + 1)

    wants_step = active & loop.keep_stepping(constants, batch.carry)
    init = _Stepping(batch.carry, wants_step, jnp.array(0), jnp.array(0))
    goes_on = lambda state: jnp.any(state.wants_step) & (state.waited < max_waited)  # noqa: E731
    last = jax.lax.while_loop(goes_on, one_step, init)
    return _Batch(last.carry, active, batch.steps + last.taken)


def _where(chosen: Bool[Array, " lanes"], new: Arrays, old: Arrays) -> Arrays:
    """Take the new arrays of the chosen lanes, the old ones of all other lanes."""
    pick = lambda x, y: jnp.where(jnp.expand_dims(chosen, range(1, x.ndim)), x, y)  # noqa: E731
    return [pick(x, y) for x, y in zip(new, old, strict=True)]
