"""Smooth part f of the cost f(w, b) + g(w): value, gradient and Hessian, for both solvers.

`DataSmoothPart` computes them from the data, for every loss. `QuadraticSmoothPart` computes them from a Gram
matrix, for squared error: nothing of the size of the data is touched again.

Both see an iterate through its *image*, a linear function of it: the predictor Xw + b, or the Gram matrix
times w. Combinations of iterates have combinations of images, so that extrapolation takes no product.
"""

from abc import abstractmethod
from typing import ClassVar, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxreg._numerics import diagonal, take_filled
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Count, Flat, Index, Intercept
from jaxreg.linear.certificate import curvature_bound
from jaxreg.linear.design import Columns
from jaxreg.linear.design._gram import blocked_gram
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers._hessian import (
    MatrixFreeHessian,
    ReducedHessian,
    invert_intercept_block,
)
from jaxreg.losses import SquaredError

__all__ = [
    "DataSmoothPart",
    "QuadraticSmoothPart",
    "SmoothEvaluation",
    "SmoothPart",
    "gram_suffices",
    "gram_wanted",
    "smooth_part",
]


class Imaged(Protocol):
    """Iterate together with its image."""

    coef: Coef
    image: Array


class SmoothEvaluation(NamedTuple):
    """Smooth part at an iterate.

    Attributes:
        value: f.
        magnitude: size of the terms that `value` is a sum of; its rounding error is about eps·magnitude.
        grad: ∇f in the coefficients, in their shape.
        intercept_grad: ∇f in the intercepts, 0 for a problem without.
        sample_curvature: second derivatives of the weighted loss in the predictor of each sample, (n,) or
            (n, K, K); empty for a quadratic, whose Hessian is the same everywhere.
    """

    value: Scalar
    magnitude: Scalar
    grad: Coef
    intercept_grad: Intercept
    sample_curvature: Float[Array, "..."]


class SmoothPart(eqx.Module):
    """Base of the two representations of f.

    Attributes:
        matrices: form Hessians as matrices; otherwise Newton systems are solved matrix-free.
        costly_hessian: a Hessian takes passes over the data and is a matrix, so that it is worth caching.
        model_is_exact: the quadratic model is f itself, in all the digits of the dtype.
    """

    matrices: eqx.AbstractVar[bool]
    costly_hessian: eqx.AbstractVar[bool]
    model_is_exact: eqx.AbstractVar[bool]

    @abstractmethod
    def image(self, coef: Coef, intercept: Intercept) -> Array:
        """Return the linear image of an iterate, by one product."""

    @abstractmethod
    def loss_at(self, coef: Coef, image: Array) -> Scalar:
        """Return f."""

    @abstractmethod
    def gradient_at(self, image: Array) -> tuple[Coef, Intercept]:
        """Return ∇f in the coefficients and in the intercepts."""

    @abstractmethod
    def evaluate(self, coef: Coef, intercept: Intercept) -> SmoothEvaluation:
        """Return value, gradient and sample curvatures."""

    @abstractmethod
    def hessian_diag(self, at: SmoothEvaluation) -> Flat:
        """Return the diagonal of the second derivative in the ravelled coefficients."""

    @abstractmethod
    def hessian(
        self, at: SmoothEvaluation, index: Index | None, count: Count
    ) -> ReducedHessian | MatrixFreeHessian:
        """Return the Hessian in the ravelled coefficients index[:count], [:count] without an `index`.

        Rows beyond `count` are 0; there `index` may be out of range. A matrix-free Hessian is that of all
        coefficients.
        """

    @abstractmethod
    def curvature_bound(self, image: Array, max_eigenvalue: Scalar) -> Scalar:
        """Return an upper bound on the curvature in the coefficients, local for a loss without a global one.

        Args:
            image: image of the iterate.
            max_eigenvalue: largest eigenvalue of XᵀWX.
        """

    @abstractmethod
    def secant_curvature(self, a: Imaged, b: Imaged) -> Scalar:
        """Return ⟨∇f(a) − ∇f(b), a − b⟩, in which nothing cancels as it does in f(a) − f(b)."""

    @abstractmethod
    def rounding_size(self, a: Imaged, max_eigenvalue: Scalar) -> Scalar:
        """Return the squared size, in units of coefficients, of the numbers rounded in `secant_curvature`."""


class DataSmoothPart(SmoothPart):
    """f of any loss, from the data."""

    problem: Problem
    matrices: bool = eqx.field(default=True, static=True)

    @property
    def costly_hessian(self) -> bool:
        return self.matrices

    @property
    def model_is_exact(self) -> bool:
        # In single precision a matrix has too few digits of the data.
        return not self.matrices and isinstance(self.problem.loss, SquaredError)

    def image(self, coef: Coef, intercept: Intercept) -> Float[Array, "n *K"]:
        return self.problem.predictor(coef, intercept)

    def loss_at(self, coef: Coef, image: Float[Array, "n *K"]) -> Scalar:
        return self.problem.value(image)

    def gradient_at(self, image: Float[Array, "n *K"]) -> tuple[Coef, Intercept]:
        residual = self.problem.residual(image)
        total = jnp.sum(residual, axis=0)
        return self.problem.design.rmatmul(residual), total if self.problem.intercept else 0.0 * total

    def evaluate(self, coef: Coef, intercept: Intercept) -> SmoothEvaluation:
        z = self.image(coef, intercept)
        value, (grad, intercept_grad) = self.loss_at(coef, z), self.gradient_at(z)
        return SmoothEvaluation(value, jnp.abs(value), grad, intercept_grad, self.problem.curvatures(z))

    def hessian_diag(self, at: SmoothEvaluation) -> Flat:
        squares = self.problem.design.squares
        if at.sample_curvature.ndim == 1:
            return squares(at.sample_curvature)
        per_output = jnp.diagonal(at.sample_curvature, axis1=1, axis2=2)
        return jax.vmap(squares, 1, 1)(per_output).ravel()

    def hessian(
        self, at: SmoothEvaluation, index: Index | None, count: Count
    ) -> ReducedHessian | MatrixFreeHessian:
        if not self.matrices:
            hess_intercept = jnp.atleast_2d(jnp.sum(at.sample_curvature, axis=0))
            inverse = invert_intercept_block(hess_intercept)
            inverse = inverse if self.problem.intercept else jnp.zeros_like(inverse)
            return MatrixFreeHessian(self.problem, at.sample_curvature, inverse, self.hessian_diag(at))
        blocks = self._one_output if at.sample_curvature.ndim == 1 else self._several_outputs
        hess_coef, hess_coef_intercept, hess_intercept = blocks(at.sample_curvature, index, count)
        if not self.problem.intercept:
            hess_coef_intercept = jnp.zeros_like(hess_coef_intercept)
            hess_intercept = jnp.eye(hess_intercept.shape[0], dtype=hess_intercept.dtype)
        return ReducedHessian.eliminate_intercepts(hess_coef, hess_coef_intercept, hess_intercept)

    def _one_output(
        self, d: Float[Array, " n"], index: Index | None, count: Count
    ) -> tuple[Array, Array, Array]:
        """Return H_ww, H_wb and H_bb of the columns `index`, from one weighted Gram matrix of these."""
        design = self.problem.design
        if index is not None or not isinstance(design, Columns):
            design = design.columns(jnp.arange(design.shape[1]) if index is None else index)
        XT = design.XT
        return blocked_gram(XT, d, count), (XT @ d)[:, None], jnp.sum(d)[None, None]

    def _several_outputs(
        self, d: Float[Array, "n K K"], index: Index | None, count: Count
    ) -> tuple[Array, Array, Array]:
        """Return H_ww, H_wb and H_bb, from a weighted Gram matrix of all columns per pair of outputs."""
        design, (p, K) = self.problem.design, (self.problem.shape[1], d.shape[1])
        first, second = np.triu_indices(K)
        grams = jax.lax.map(lambda kl: design.weighted_gram(d[:, kl[0], kl[1]]), (first, second))
        # The pairs (k, l) and (l, k) have one Gram matrix.
        pair = np.zeros((K, K), int)
        pair[first, second] = pair[second, first] = np.arange(first.size)
        hess_coef = grams[pair].transpose(2, 0, 3, 1).reshape(p * K, -1)
        hess_coef_intercept = jax.vmap(design.rmatmul, in_axes=2, out_axes=2)(d).reshape(p * K, K)
        hess_intercept = jnp.sum(d, axis=0)
        if index is None:
            return hess_coef, hess_coef_intercept, hess_intercept
        hess_coef = take_filled(hess_coef, index[:, None], index)
        return hess_coef, take_filled(hess_coef_intercept, index), hess_intercept

    def curvature_bound(self, image: Float[Array, "n *K"], max_eigenvalue: Scalar) -> Scalar:
        return curvature_bound(self.problem, image, max_eigenvalue)

    def secant_curvature(self, a: Imaged, b: Imaged) -> Scalar:
        residual = self.problem.residual
        return jnp.sum((residual(a.image) - residual(b.image)) * (a.image - b.image))

    def rounding_size(self, a: Imaged, max_eigenvalue: Scalar) -> Scalar:
        return jnp.sum(a.coef**2) + jnp.sum(self.problem.weight * a.image.T**2) / max_eigenvalue


class QuadraticSmoothPart(SmoothPart):
    """f(w) = value + ⟨linear, w⟩ + ½⟨w, gram·w⟩ for squared error, with the intercept of the null fit.

    Features are centred, so that the best intercept does not depend on the coefficients.

    Attributes:
        gram: XᵀWX.
        linear: ∇f at 0.
        value: f at 0.
    """

    gram: Float[Array, "p p"]
    linear: Coef
    value: Scalar
    matrices: ClassVar[bool] = True
    costly_hessian: ClassVar[bool] = False
    model_is_exact: ClassVar[bool] = True

    @classmethod
    def of(cls, problem: Problem, intercept: Intercept) -> "QuadraticSmoothPart":
        """Return f of a problem with squared error, at the `intercept` of the null fit."""
        z = problem.predictor(problem.zeros()[0], intercept)
        linear = problem.design.rmatmul(problem.residual(z))
        return cls(problem.design.weighted_gram(problem.weight), linear, problem.value(z))

    def image(self, coef: Coef, intercept: Intercept) -> Coef:
        return self.gram @ coef

    def loss_at(self, coef: Coef, image: Coef) -> Scalar:
        return self.value + jnp.sum(coef * (self.linear + 0.5 * image))

    def gradient_at(self, image: Coef) -> tuple[Coef, Intercept]:
        return self.linear + image, jnp.zeros(image.shape[1:], image.dtype)

    def evaluate(self, coef: Coef, intercept: Intercept) -> SmoothEvaluation:
        image = self.image(coef, intercept)
        none = jnp.zeros((0,), coef.dtype)
        return SmoothEvaluation(
            self.loss_at(coef, image), jnp.abs(self.value), *self.gradient_at(image), none
        )

    def hessian_diag(self, at: SmoothEvaluation) -> Float[Array, " p"]:
        return diagonal(self.gram)

    def hessian(self, at: SmoothEvaluation, index: Index | None, count: Count) -> ReducedHessian:
        gram = self.gram if index is None else take_filled(self.gram, index[:, None], index)
        none, one = jnp.zeros((gram.shape[0], 1), gram.dtype), jnp.ones((1, 1), gram.dtype)
        return ReducedHessian.eliminate_intercepts(gram, none, one)

    def curvature_bound(self, image: Coef, max_eigenvalue: Scalar) -> Scalar:
        return max_eigenvalue

    def secant_curvature(self, a: Imaged, b: Imaged) -> Scalar:
        return jnp.sum((a.coef - b.coef) * (a.image - b.image))

    def rounding_size(self, a: Imaged, max_eigenvalue: Scalar) -> Scalar:
        return jnp.sum(a.coef**2)


def gram_suffices(problem: Problem) -> bool:
    """Return whether Newton's method may work on the Gram matrix: squared error, one output, float64.

    In float32 the Gram matrix keeps half of the few digits of the data.
    """
    return isinstance(problem.loss, SquaredError) and not problem.outputs and problem.dtype == jnp.float64


def gram_wanted(problem: Problem, gram: bool | None) -> bool:
    """Return `gram`; for None, whether the Gram matrix pays: float64 and a dense design with p ≤ n."""
    n, p = problem.shape
    pays = p <= n and problem.dtype == jnp.float64 and problem.design.dense_like
    return pays if gram is None else gram


def smooth_part(problem: Problem, quadratic: QuadraticSmoothPart | None) -> SmoothPart:
    """Return the quadratic, or without one f of the data, with Hessians as matrices for a dense design."""
    return DataSmoothPart(problem, problem.design.dense_like) if quadratic is None else quadratic
