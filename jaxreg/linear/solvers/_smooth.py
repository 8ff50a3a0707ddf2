"""What Newton asks of the smooth part of a cost: value, gradient, and curvature on some of the coordinates.

`Data` answers from the problem's data, for every loss. `Quadratic` answers from a Gram matrix, for squared
error: nothing of the size of the data is touched again.
"""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxreg._typing import Scalar
from jaxreg.linear.design import Columns
from jaxreg.linear.problem import Problem
from jaxreg.losses import SquaredError

__all__ = ["Bent", "Data", "Implied", "Place", "Quadratic", "Smooth", "part", "quadratic"]

#: Samples and rows that enter a weighted Gram matrix at once.
_SAMPLES, _ROWS = 1024, 256


class Place(NamedTuple):
    """The value, the size of the terms that it is a sum of, and with it of its rounding; the gradient in
    coefficients and intercept; what the curvature depends on.
    """

    value: Scalar
    terms: Scalar
    slope: Array
    tilt: Array
    bends: Array


class Curvature(NamedTuple):
    """The second derivative: in m coefficients (m, m), across to K intercepts (m, K), in the intercepts (K,
    K).
    """

    gram: Array
    cross: Array
    corner: Array


class Bent(NamedTuple):
    """A curvature without the intercepts, which follow the coefficients: gram (m, m), cross (m, K), the
    inverse of the corner (K, K), and its product with crossᵀ.
    """

    gram: Array
    cross: Array
    inverse: Array
    lift: Array

    @property
    def diagonal(self) -> Array:
        """Of the Gram matrix."""
        return jnp.diagonal(self.gram)

    def part(self, index: Array) -> "Bent":
        """That of the coordinates `index`, 0 beyond."""
        some = lambda x: x.at[index].get(mode="fill", fill_value=0.0)  # noqa: E731
        return Bent(part(self.gram, index), some(self.cross), self.inverse, some(self.lift.T).T)

    def damped(self, damping: Scalar) -> "Bent":
        """With intercepts that are damped too, or theirs would be long steps that no damping makes good."""
        less = damping / (1 + damping)
        inverse, lift = self.inverse - less * self.inverse, self.lift - less * self.lift
        return Bent(self.gram + less * (self.cross @ self.lift), self.cross, inverse, lift)

    def times(self, d: Array) -> Array:
        """The Gram matrix times d (m,)."""
        return self.gram @ d

    def across(self, shift: Array) -> Array:
        """What intercepts (K,) that move do to the gradient (m,)."""
        return self.cross @ shift

    def follow(self, d: Array) -> Array:
        """By how much the intercepts (K,) fall where the coefficients move by d (m,)."""
        return self.lift @ d


class Implied(NamedTuple):
    """The same by products with the data: `bends` (n,) or (n, K, K) per sample, the diagonal (m,)."""

    problem: Problem
    bends: Array
    inverse: Array
    diagonal: Array
    gram: None = None

    def damped(self, damping: Scalar) -> "Implied":
        """As of a matrix."""
        return self._replace(inverse=self.inverse / (1 + damping))

    def times(self, d: Array) -> Array:
        """Two products with the data."""
        along = self.problem.design.matmul(d.reshape(-1, *self.problem.outputs))
        fall = self.inverse @ jnp.sum(self._bend(along).reshape(-1, self.inverse.shape[0]), axis=0)
        return self._back(along - fall.reshape(self.problem.outputs))

    def across(self, shift: Array) -> Array:
        """One product."""
        n = self.bends.shape[0]
        return self._back(jnp.broadcast_to(shift.reshape(self.problem.outputs), (n, *self.problem.outputs)))

    def follow(self, d: Array) -> Array:
        """One product."""
        along = self.problem.design.matmul(d.reshape(-1, *self.problem.outputs))
        return self.inverse @ jnp.sum(self._bend(along).reshape(-1, self.inverse.shape[0]), axis=0)

    def _bend(self, z: Array) -> Array:
        return self.bends * z if z.ndim == 1 else jnp.einsum("nkl,nl->nk", self.bends, z)

    def _back(self, z: Array) -> Array:
        return self.problem.design.rmatmul(self._bend(z)).ravel()


def bent(curvature: Curvature) -> Bent:
    """The curvature where the intercepts are the best for each coefficients."""
    gram, cross, corner = curvature
    inverse = _inverse(corner)
    lift = inverse @ cross.T
    return Bent(gram - cross @ lift, cross, inverse, lift)


def _inverse(corner: Array) -> Array:
    return jnp.linalg.pinv(corner) if corner.size > 1 else 1 / jnp.where(corner > 0, corner, 1.0)


class Smooth(eqx.Module):
    """Base of both."""

    @property
    @abstractmethod
    def explicit(self) -> bool:
        """Whether curvatures are matrices; else products with the data stand for them."""

    @property
    @abstractmethod
    def costly(self) -> bool:
        """Whether a curvature is worth keeping: it takes passes over the data, and is there after them."""

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether it is its own quadratic model, in as many digits as are asked for."""

    @abstractmethod
    def look(self, coef: Array, intercept: Array) -> Place:
        """At working coefficients (p,) or (p, K)."""

    @abstractmethod
    def diagonal(self, at: Place) -> Array:
        """Of the second derivative in the ravelled coefficients."""

    @abstractmethod
    def curvature(self, at: Place, index: Array | None, count: Array) -> Bent | Implied:
        """On the ravelled coefficients index[:count], or [:count] without an `index`; the rest is 0.

        The rest of `index` may be beyond their number.
        """


class Data(Smooth):
    """Any loss, from its data; curvatures are made where they are asked to be `matrices`."""

    problem: Problem
    matrices: bool = eqx.field(default=True, static=True)

    @property
    def explicit(self) -> bool:
        """As asked for."""
        return self.matrices

    @property
    def costly(self) -> bool:
        """Where there are matrices."""
        return self.matrices

    @property
    def exact(self) -> bool:
        """By products with the data squared error is; a matrix in single precision has too few digits."""
        return not self.matrices and isinstance(self.problem.loss, SquaredError)

    def look(self, coef: Array, intercept: Array) -> Place:
        """Two products with the design."""
        problem = self.problem
        z = problem.predictor(coef, intercept)
        residual = problem.residual(z)
        tilt = jnp.sum(residual, axis=0)
        tilt = tilt if problem.intercept else 0.0 * tilt
        value, slope = problem.value(z), problem.design.rmatmul(residual)
        return Place(value, jnp.abs(value), slope, tilt, problem.curvatures(z))

    def diagonal(self, at: Place) -> Array:
        """One pass over the design for each output."""
        if at.bends.ndim == 1:
            return self.problem.design.squares(at.bends)
        own = jnp.diagonal(at.bends, axis1=1, axis2=2)
        return jax.vmap(self.problem.design.squares, 1, 1)(own).ravel()

    def curvature(self, at: Place, index: Array | None, count: Array) -> Bent | Implied:
        """A weighted Gram matrix of some columns; for K outputs one of all columns for each pair of them."""
        if not self.explicit:
            return self._implied(at)
        return bent(self._matrices(at, index, count))

    def _implied(self, at: Place) -> Implied:
        """On all coordinates; where the problem has no intercept, nothing follows."""
        corner = jnp.atleast_2d(jnp.sum(at.bends, axis=0))
        inverse = _inverse(corner) if self.problem.intercept else jnp.zeros_like(corner)
        return Implied(self.problem, at.bends, inverse, self.diagonal(at))

    def _matrices(self, at: Place, index: Array | None, count: Array) -> Curvature:
        design, bends = self.problem.design, at.bends
        if bends.ndim == 1:
            if index is not None or not isinstance(design, Columns):
                design = design.columns(jnp.arange(design.shape[1]) if index is None else index)
            XT = design.XT
            return self._joined(_gram(XT, bends, count), (XT @ bends)[:, None], jnp.sum(bends)[None, None])
        p, outputs = design.shape[1], bends.shape[1]
        first, second = np.triu_indices(outputs)
        some = jax.lax.map(lambda kl: design.weighted_gram(bends[:, kl[0], kl[1]]), (first, second))
        # A pair is that of the same two outputs the other way round.
        pair = np.zeros((outputs, outputs), int)
        pair[first, second] = pair[second, first] = np.arange(first.size)
        blocks = some[pair].transpose(2, 0, 3, 1)
        cross = jax.vmap(design.rmatmul, in_axes=2, out_axes=2)(bends).reshape(p * outputs, outputs)
        gram, corner = blocks.reshape(p * outputs, -1), jnp.sum(bends, axis=0)
        if index is not None:
            gram, cross = part(gram, index), cross.at[index].get(mode="fill", fill_value=0.0)
        return self._joined(gram, cross, corner)

    def _joined(self, gram: Array, cross: Array, corner: Array) -> Curvature:
        """With the intercepts; where the problem has none, nothing leads to them."""
        if self.problem.intercept:
            return Curvature(gram, cross, corner)
        return Curvature(gram, jnp.zeros_like(cross), jnp.eye(corner.shape[0], dtype=corner.dtype))


def part(gram: Array, index: Array) -> Array:
    """The rows and columns `index` of a matrix, 0 beyond."""
    return gram.at[index[:, None], index].get(mode="fill", fill_value=0.0)


def _gram(XT: Array, weight: Array, count: Array) -> Array:
    """Xᵀ diag(weight) X for columns of which the first `count` alone are not 0.

    A block of samples after the other, so that what is scaled stays in the cache; some rows after the other,
    as many as there are.
    """
    m, n = XT.shape
    size, tall = min(_SAMPLES, n), m if m <= _ROWS else _ROWS
    tiles = -(-m // tall)

    def block(k: Array, gram: Array) -> Array:
        # The last block reaches back over samples that were counted, whose weight is then 0.
        at = jnp.minimum(k * size, n - size)
        part = jax.lax.dynamic_slice_in_dim(XT, at, size, 1)
        own = jax.lax.dynamic_slice_in_dim(weight, at, size) * (at + jnp.arange(size) >= k * size)
        scaled = part * own
        if tiles == 1:
            return gram + scaled @ part.T

        def rows(i: Array, gram: Array) -> Array:
            # The last tile reaches back too, and writes the same rows again.
            at = jnp.minimum(i * tall, m - tall)
            more = jax.lax.dynamic_slice_in_dim(scaled, at, tall) @ part.T
            again = (at + jnp.arange(tall) < i * tall)[:, None]
            old = jax.lax.dynamic_slice_in_dim(gram, at, tall)
            return jax.lax.dynamic_update_slice_in_dim(gram, jnp.where(again, old, old + more), at, 0)

        return jax.lax.fori_loop(0, jnp.minimum((count + tall - 1) // tall, tiles), rows, gram)

    return jax.lax.fori_loop(0, -(-n // size), block, jnp.zeros((m, m), XT.dtype))


class Quadratic(Smooth):
    """value + ⟨linear, w⟩ + ½⟨w, gram w⟩, one output; centred features make it blind to intercepts."""

    gram: Array
    linear: Array
    value: Scalar
    explicit: ClassVar[bool] = True
    costly: ClassVar[bool] = False
    exact: ClassVar[bool] = True

    def look(self, coef: Array, intercept: Array) -> Place:
        """One product with the Gram matrix."""
        bent = self.gram @ coef
        value = self.value + jnp.sum(coef * (self.linear + 0.5 * bent))
        none = jnp.zeros((0,), coef.dtype)
        return Place(value, jnp.abs(self.value), self.linear + bent, jnp.zeros_like(intercept), none)

    def diagonal(self, at: Place) -> Array:
        """That of the Gram matrix."""
        return jnp.diagonal(self.gram)

    def curvature(self, at: Place, index: Array | None, count: Array) -> Bent:
        """A part of the Gram matrix."""
        gram = self.gram if index is None else part(self.gram, index)
        return bent(Curvature(gram, jnp.zeros((gram.shape[0], 1), gram.dtype), jnp.ones((1, 1), gram.dtype)))


def quadratic(problem: Problem, intercept: Array) -> Quadratic:
    """Of a problem with squared error and one output; `intercept` is that of the null fit."""
    null = problem.predictor(problem.zeros()[0], intercept)
    linear = problem.design.rmatmul(problem.residual(null))
    return Quadratic(problem.design.weighted_gram(problem.weight), linear, problem.value(null))


def is_quadratic(problem: Problem) -> bool:
    """Whether `quadratic` may stand for it: float32 has too few digits for a Gram matrix."""
    return isinstance(problem.loss, SquaredError) and not problem.outputs and problem.dtype == jnp.float64
