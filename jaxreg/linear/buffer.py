"""The columns in use: their place in a buffer, and the blocks of λ that are solved on them.

The buffer's size takes few values, so that few programs are compiled: columns that are not needed any more
leave it before a larger one is made. For squared error it keeps the Gram matrix too, and for penalties with a
flat prox the inverse of its active block (`solvers/_pivot`).
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._types import Scalar
from jaxreg.linear.certificate import Point, Reference
from jaxreg.linear.design import Columns
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers._pivot import Pivoted, continued, nothing
from jaxreg.linear.solvers._smooth import Data, Quadratic, Smooth
from jaxreg.linear.solvers.base import State
from jaxreg.linear.solvers.newton import advance, begin, reprice
from jaxreg.penalties import PenaltyGrid

__all__ = ["Checked", "Working"]

#: Up to this many columns all are used from the start. Buffers: the first, what the next ones are multiplied
#: by, and how many columns join at once.
_ALL, _FIRST, _GROWTH, _CHUNK = 512, 256, 2, 64


class Checked(NamedTuple):
    """Of each λ of a block: its certificate; what it moves of the columns outside, and of all further on."""

    objective: Any
    gap: Any
    kkt: Any
    missing: Any
    wanted: Any


class _Buffer(eqx.Module):
    """Columns in use, one after the other, 0 where there is none yet; their Gram matrix for squared error."""

    XT: Array
    gram: Array | None
    kept: Pivoted | None


@partial(jax.jit, donate_argnums=1)
def _join(problem: Problem, buffer: _Buffer, index: Array, at: Array) -> _Buffer:
    """The buffer with the columns `index` (p for none) from row `at` on."""
    rows = problem.design.columns(index).XT
    XT = jax.lax.dynamic_update_slice_in_dim(buffer.XT, rows, at, 0)
    if buffer.gram is None:
        return _Buffer(XT, None, None)
    with jax.default_matmul_precision("highest"):
        fresh = (rows * problem.weight) @ XT.T
    gram = jax.lax.dynamic_update_slice_in_dim(buffer.gram, fresh, at, 0)
    gram = jax.lax.dynamic_update_slice_in_dim(gram, fresh.T, at, 1)
    return _Buffer(XT, gram, buffer.kept)


@jax.jit
def _moved(buffer: _Buffer, order: Array) -> _Buffer:
    """The rows `order` of a buffer, 0 beyond; the inverse too, unless a part of its active block is left."""
    some = lambda x: x.at[order].get(mode="fill", fill_value=0)  # noqa: E731
    both = lambda x: x.at[order[:, None], order].get(mode="fill", fill_value=0)  # noqa: E731
    kept = buffer.kept
    if kept is not None:
        active = some(kept.active)
        whole = jnp.sum(active) == jnp.sum(kept.active)
        kept = Pivoted(jnp.where(whole, both(kept.inverse), 0.0), active & whole)
    return _Buffer(some(buffer.XT), None if buffer.gram is None else both(buffer.gram), kept)


@eqx.filter_jit
def _solve_block(
    smooth: Smooth, grid: PenaltyGrid, before: list[Array], part: list[Array], order: Array, base:
    Reference, start: Any, kept: Pivoted | None, ask: Scalar, limit: Array,
) -> tuple[Any, Pivoted | None]:  # fmt: skip
    """Each λ from the one before: coefficients, intercepts, steps, residuals; and the inverse at the end."""

    def penalty(part: list[Array]) -> Any:
        return grid.row(part).take(order)

    def one(carry: Any, part: list[Array]) -> tuple[Any, tuple[Array, ...]]:
        (state, kept), before = carry
        here, rounds = penalty(part), jnp.array(0)
        if kept is None:
            state = reprice(here, base.gradient, state)
        else:
            enough = ask * base.gradient
            coef, kept, rounds = continued(
                smooth.gram,
                smooth.linear,
                lambda part: penalty(part).prox,
                (before, part),
                state.coef,
                kept,
                enough,
            )
            state = begin(smooth, here, base.gradient, (coef, state.intercept))

        def going(carry: tuple[State, Array]) -> Array:
            state, k = carry
            return (state.residual > ask) & (k < limit) & (state.inner.damping < 1e12)

        def step(carry: tuple[State, Array]) -> tuple[State, Array]:
            return advance(smooth, here, base.gradient, carry[0]), carry[1] + 1

        state, k = jax.lax.while_loop(going, step, (state, jnp.array(0)))
        return ((state, kept), part), (state.coef, state.intercept, rounds + k, state.residual)

    first = penalty([leaf[0] for leaf in part])
    begun = (begin(smooth, first, base.gradient, start), kept), before
    ((_, kept), _), found = jax.lax.scan(one, begun, part)
    return found, kept


@jax.jit
def _gram(problem: Problem) -> Array:
    with jax.default_matmul_precision("highest"):
        return problem.design.weighted_gram(problem.weight)


class Working:
    """The columns in use, on the host: which they are and the buffer that holds them."""

    def __init__(self, problem: Problem, null: Point, labels: np.ndarray, reduced: bool, flat: bool) -> None:
        n, p = problem.shape
        self.problem, self.linear, self.value = problem, np.asarray(null.gradient), problem.value(null.z)
        self.index = np.zeros(0, int)
        self.outside = np.ones(p, bool)
        #: Whether squared error is reduced to its Gram matrix, and the inverse of the active block kept.
        self.reduced, self.flat = reduced, flat
        #: Columns of one label are in use together: the blocks of the penalty.
        self.labels = labels
        self._make(p if p <= min(_ALL, n) else _FIRST)
        if p <= min(_ALL, n):
            self._all()

    def _make(self, capacity: int) -> None:
        """An empty buffer."""
        room = -(-capacity // _CHUNK) * _CHUNK
        XT = jnp.zeros((room, self.problem.shape[0]), self.problem.dtype)
        gram = jnp.zeros((room, room), self.problem.dtype) if self.reduced else None
        self.capacity, self.buffer = room, _Buffer(XT, gram, nothing(gram) if self.flat else None)

    def _all(self) -> None:
        """Every column; of them squared error needs nothing but the Gram matrix."""
        p = self.problem.shape[1]
        if not self.reduced:
            return self.join(np.arange(p))
        gram = _gram(self.problem)
        room = self.capacity - p
        self.buffer = _Buffer(
            jnp.zeros((self.capacity, 0), gram.dtype), jnp.pad(gram, (0, room)), self.buffer.kept
        )
        self.index, self.outside[:] = np.arange(p), False

    def change(self, need: np.ndarray) -> None:
        """Have the columns `need`: others leave where room is wanted; a larger buffer comes if it must."""
        fresh = np.setdiff1d(need, self.index, assume_unique=True)
        if self.index.size + fresh.size > self.room:
            places = np.flatnonzero(np.isin(self.index, need, assume_unique=True))
            old, capacity = self.buffer, self.capacity
            while need.size > capacity - _CHUNK:
                capacity = int(_GROWTH * capacity)
            self._make(capacity)
            order = np.full(self.capacity, old.XT.shape[0])
            order[: places.size] = places
            self.buffer = _moved(old, jnp.asarray(order))
            self.index = self.index[places]
        self.join(fresh)
        self.outside[:] = True
        self.outside[self.index] = False

    def next(self, coef: np.ndarray, seen: Checked, keep: int, solved: np.ndarray, limit: int) -> bool:
        """Have the columns for the next block, after one of which `keep` λ held, the last with `coef`.

        False where those that it cannot do without are more than `limit`.
        """
        if not self.outside.any():
            return True
        # What a try that kept nothing had in use stays: columns join until the next λ holds.
        stay = _used(coef) if keep else ~self.outside
        missing = (seen.missing * solved[:, None])[keep : keep + 3].max(axis=0, initial=0.0)
        wanted = seen.wanted[keep - 1] if keep else np.zeros_like(missing)
        must, soon = _need(*(_whole(x, self.labels) for x in (stay, missing, wanted)), self.room)
        if must.size <= limit:
            self.change(np.concatenate([must, soon])[:limit])
        return must.size <= limit

    def join(self, index: np.ndarray) -> None:
        """More columns, for which there is room."""
        for k in range(0, index.size, _CHUNK):
            part = np.full(_CHUNK, self.problem.shape[1])
            chunk = index[k : k + _CHUNK]
            part[: chunk.size] = chunk
            self.buffer = _join(self.problem, self.buffer, jnp.asarray(part), jnp.asarray(self.index.size))
            self.index = np.concatenate([self.index, chunk])
        self.outside[index] = False

    @property
    def room(self) -> int:
        """Columns that the buffer holds; a chunk is left free, since columns join by the chunk."""
        return self.capacity - _CHUNK

    def solve(
        self,
        grid: PenaltyGrid,
        before: int,
        lanes: np.ndarray,
        base: Reference,
        start: tuple[np.ndarray, np.ndarray],
        ask: float,
        most: int,
    ) -> tuple[np.ndarray, ...]:
        """The λ `lanes` after the λ `before`: coefficients of all columns, intercepts, steps, residuals."""
        parts = grid.part(before), grid.part(lanes)
        point = (self._narrow(start[0]), jnp.asarray(start[1]))
        numbers = (jnp.asarray(ask, self.problem.dtype), jnp.asarray(most))
        found, kept = _solve_block(
            self._smooth(), grid, *parts, self._order(), base, point, self.buffer.kept, *numbers
        )
        self.buffer = _Buffer(self.buffer.XT, self.buffer.gram, kept)
        return self._widen(found[0]), *map(np.asarray, found[1:])

    def _smooth(self) -> Smooth:
        """The loss on the columns in use."""
        if self.reduced:
            linear = np.zeros(self.capacity, self.linear.dtype)
            linear[: self.index.size] = self.linear[self.index]
            return Quadratic(self.buffer.gram, jnp.asarray(linear), self.value)
        return Data(eqx.tree_at(lambda p: p.design, self.problem, Columns(self.buffer.XT)))

    def _order(self) -> Array:
        """The column of each row of the buffer; where there is none, any."""
        order = np.zeros(self.capacity, int)
        order[: self.index.size] = self.index
        return jnp.asarray(order)

    def _narrow(self, coef: np.ndarray) -> Array:
        """Coefficients of all columns (p, …) on those in use."""
        out = np.zeros((self.capacity, *coef.shape[1:]), coef.dtype)
        out[: self.index.size] = coef[self.index]
        return jnp.asarray(out)

    def _widen(self, coef: Array) -> np.ndarray:
        """The inverse, for a block (B, m, …)."""
        coef = np.asarray(coef)
        out = np.zeros((coef.shape[0], self.problem.shape[1], *coef.shape[2:]), coef.dtype)
        out[:, self.index] = coef[:, : self.index.size]
        return out


def _used(coef: np.ndarray) -> np.ndarray:
    """The features in use, of coefficients (p, …)."""
    return np.any(coef.reshape(coef.shape[0], -1) != 0, axis=1)


def _whole(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The largest entry of each block, at all of its columns."""
    top = np.zeros(labels.max() + 1, x.dtype)
    np.maximum.at(top, labels, x)
    return top[labels]


def _need(
    stay: np.ndarray, missing: np.ndarray, wanted: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """Columns for the next block: those that stay or are missing, and the first of those wanted."""
    must = stay | (missing > 0)
    soon = np.flatnonzero((wanted > 0) & ~must)
    must = np.flatnonzero(must)
    most = max(_CHUNK, must.size // 2)
    # What there is room for, unless that is very little.
    most = min(most, room - must.size) if room > 1.1 * must.size else most
    return must, soon[np.argsort(-wanted[soon], kind="stable")][:most]
