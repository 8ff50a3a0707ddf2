"""Hessians of the smooth part in the ravelled coefficients, with the intercepts eliminated.

With H_ww, H_wb and H_bb the blocks of the second derivative in m coefficients w and K intercepts b, the
intercepts that minimise the quadratic model follow the coefficients by δ_b = −H_bb⁻¹ H_bw δ_w. What is left
for the coefficients is the Schur complement H = H_ww − H_wb H_bb⁻¹ H_bw. `ReducedHessian` holds it as a
matrix, `MatrixFreeHessian` by products with the data.

Damping by μ replaces H_bb by (1 + μ)H_bb: undamped intercepts would take long steps that no damping of the
coefficients makes good. (The damping of the coefficients, μ·diag(H), is added by `_model`.)
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreg._numerics import diagonal, take_filled
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Flat, Index, Square
from jaxreg.linear.problem import Problem

__all__ = ["MatrixFreeHessian", "ReducedHessian", "invert_intercept_block"]


class ReducedHessian(NamedTuple):
    """Hessian as a matrix.

    Attributes:
        matrix: H, the Schur complement of the intercepts.
        hess_coef_intercept: H_wb.
        hess_intercept_inverse: H_bb⁻¹.
        intercept_solve: H_bb⁻¹ H_bw.
    """

    matrix: Square
    hess_coef_intercept: Float[Array, "m K"]
    hess_intercept_inverse: Float[Array, "K K"]
    intercept_solve: Float[Array, "K m"]

    @classmethod
    def eliminate_intercepts(
        cls,
        hess_coef: Square,
        hess_coef_intercept: Float[Array, "m K"],
        hess_intercept: Float[Array, "K K"],
    ) -> "ReducedHessian":
        """Return the Hessian reduced from its three blocks."""
        inverse = invert_intercept_block(hess_intercept)
        intercept_solve = inverse @ hess_coef_intercept.T
        matrix = hess_coef - hess_coef_intercept @ intercept_solve
        return cls(matrix, hess_coef_intercept, inverse, intercept_solve)

    @property
    def diag(self) -> Flat:
        return diagonal(self.matrix)

    def restricted(self, index: Index) -> "ReducedHessian":
        """Return the Hessian in the coordinates `index`; an index out of range gives zeros."""
        return ReducedHessian(
            take_filled(self.matrix, index[:, None], index),
            take_filled(self.hess_coef_intercept, index),
            self.hess_intercept_inverse,
            take_filled(self.intercept_solve.T, index).T,
        )

    def damped(self, damping: Scalar) -> "ReducedHessian":
        """Return the Hessian for H_bb multiplied by 1 + `damping`."""
        share = damping / (1 + damping)
        inverse = self.hess_intercept_inverse - share * self.hess_intercept_inverse
        intercept_solve = self.intercept_solve - share * self.intercept_solve
        matrix = self.matrix + share * (self.hess_coef_intercept @ self.intercept_solve)
        return ReducedHessian(matrix, self.hess_coef_intercept, inverse, intercept_solve)

    def times(self, d: Flat) -> Flat:
        """Return H d."""
        return self.matrix @ d

    def times_intercept(self, shift: Float[Array, " K"]) -> Flat:
        """Return H_wb · shift, the change of the gradient when the intercepts move by `shift`."""
        return self.hess_coef_intercept @ shift

    def solve_intercept(self, d: Flat) -> Float[Array, " K"]:
        """Return H_bb⁻¹ H_bw d, by how much the intercepts fall when the coefficients move by d."""
        return self.intercept_solve @ d


class MatrixFreeHessian(NamedTuple):
    """Hessian Xᵀ D X by products with the data.

    Attributes:
        problem: source of the design matrix X.
        sample_curvature: D, second derivatives of the weighted loss in the predictor of each sample.
        hess_intercept_inverse: H_bb⁻¹, 0 for a problem without intercept.
        diag: diagonal of H_ww.
    """

    problem: Problem
    sample_curvature: Float[Array, "n *KK"]
    hess_intercept_inverse: Float[Array, "K K"]
    diag: Flat

    def damped(self, damping: Scalar) -> "MatrixFreeHessian":
        """Return the Hessian for H_bb multiplied by 1 + `damping`."""
        return self._replace(hess_intercept_inverse=self.hess_intercept_inverse / (1 + damping))

    def times(self, d: Flat) -> Flat:
        """Return H d, by two products with the data."""
        z = self._matmul(d)
        return self._rmatmul(z - self._intercept_fall(z).reshape(self.problem.outputs))

    def times_intercept(self, shift: Float[Array, " K"]) -> Flat:
        """Return H_wb · shift, by one product with the data."""
        n, outputs = self.sample_curvature.shape[0], self.problem.outputs
        return self._rmatmul(jnp.broadcast_to(shift.reshape(outputs), (n, *outputs)))

    def solve_intercept(self, d: Flat) -> Float[Array, " K"]:
        """Return H_bb⁻¹ H_bw d, by one product with the data."""
        return self._intercept_fall(self._matmul(d))

    def _matmul(self, d: Flat) -> Float[Array, "n *K"]:
        return self.problem.design.matmul(d.reshape(-1, *self.problem.outputs))

    def _rmatmul(self, z: Float[Array, "n *K"]) -> Flat:
        return self.problem.design.rmatmul(self._curved(z)).ravel()

    def _intercept_fall(self, z: Float[Array, "n *K"]) -> Float[Array, " K"]:
        per_sample = self._curved(z).reshape(-1, self.hess_intercept_inverse.shape[0])
        return self.hess_intercept_inverse @ jnp.sum(per_sample, axis=0)

    def _curved(self, z: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        return (
            self.sample_curvature * z if z.ndim == 1 else jnp.einsum("nkl,nl->nk", self.sample_curvature, z)
        )


def invert_intercept_block(hess_intercept: Float[Array, "K K"]) -> Float[Array, "K K"]:
    """Return H_bb⁻¹, a pseudo-inverse for K > 1 since softmax is blind to a common shift; 1 for H_bb = 0."""
    if hess_intercept.size > 1:
        return jnp.linalg.pinv(hess_intercept)
    return 1 / jnp.where(hess_intercept > 0, hess_intercept, 1.0)
