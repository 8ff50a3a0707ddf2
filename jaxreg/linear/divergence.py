r"""Degrees of freedom of a fit by any penalty: the divergence of its predictions.

For squared error the degrees of freedom are Σᵢ ∂ŷᵢ/∂yᵢ (Stein 1981; Efron 2004). With the linear system of
`jaxreg.linear.implicit`, M = J − J² + t·J H J for the derivative J of the prox and the Hessian H of the loss
in coefficients and intercept, they are

    df = tr(J M⁺ J · t·H),

which is the number of nonzero coefficients for the lasso (Zou, Hastie and Tibshirani 2007), the trace
Σ σ²/(σ² + λ) for ridge, its counterpart on the active set for the elastic net, and the divergence of Yuan and
Lin (2006) for the group lasso with orthonormal features. J comes from automatic differentiation, so that a
new penalty needs no formula. For other losses H carries their curvatures (Hastie and Tibshirani 1990).

The trace is exact for an active set of up to 512 coefficients; J has its range there. A penalty that couples
all coefficients, such as total variation, counts all of them as active. Beyond, Hutchinson's estimator
averages vᵀAv over random vectors v of entries ±1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from jaxreg._compilation import jit_at_level
from jaxreg._numerics import take_filled
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Intercept
from jaxreg.linear.implicit import _conjugate_gradients, _System, _Unknowns
from jaxreg.linear.null_fit import fit_null_model
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers.newton import accepts
from jaxreg.penalties import PenaltyGrid

__all__ = ["divergence"]

#: Active coefficients up to which the trace is exact: its eigendecomposition costs their cube for each λ.
_MAX_EXACT = 512
#: Smallest size class of active sets; classes double, which keeps compiled shapes few.
_LEAST_ROOM = 16
#: Random vectors of Hutchinson's estimator.
_DRAWS = 64


@jax.default_matmul_precision("highest")
def divergence(
    problem: Problem, grid: PenaltyGrid, coef: Float[Array, "L p *K"], intercept: Float[Array, "L *K"]
) -> Float[Array, " L"]:
    """Return the degrees of freedom of each solution of a path, less those of the intercept.

    Args:
        problem: a concrete problem.
        grid: its working penalties (`Problem.working_grid`).
        coef: coefficients on the scale of the data.
        intercept: intercepts on the scale of the data.
    """
    size = int(np.prod(coef.shape[1:]))
    max_eigenvalue = fit_null_model(problem, grid.at(0)).max_eigenvalue
    solutions = (problem, grid, coef, intercept, max_eigenvalue)
    if accepts(grid.at(0), problem.zeros()[0]):
        largest = int(np.max(np.count_nonzero(np.asarray(coef).reshape(len(coef), -1), axis=1)))
        room = min(size, max(_LEAST_ROOM, 1 << max(largest - 1, 0).bit_length()))
    else:
        room = size
    return _map_solutions(room if room <= _MAX_EXACT or size <= _MAX_EXACT else None, *solutions)


@jit_at_level(0)
def _map_solutions(
    room: int | None,
    problem: Problem,
    grid: PenaltyGrid,
    coef: Float[Array, "L p *K"],
    intercept: Float[Array, "L *K"],
    max_eigenvalue: Scalar,
) -> Float[Array, " L"]:
    """Return one trace for each λ: exact with `room` for the active set, estimated for None."""
    # The constants of all classes can be shifted together.
    shifts = problem.outputs[0] - int(problem.y.ndim == 1) if problem.outputs else 1

    def at_one_lambda(row: tuple[list[Array], Coef, Intercept]) -> Scalar:
        carried, coef, intercept = row
        at = _Unknowns(*problem.to_working(coef, intercept))
        system = _System(problem, grid.row(carried), max_eigenvalue, at)
        trace = _estimated_trace(system) if room is None else _exact_trace(system, room)
        return trace - shifts * int(problem.intercept)

    return jax.lax.map(at_one_lambda, (grid.carried, coef, intercept))


class _Blocks(NamedTuple):
    """Derivative of the prox and Hessian of the loss on active coefficients and intercept."""

    prox: Float[Array, "m m"]
    hessian: Float[Array, "m m"]


def _exact_trace(system: _System, room: int) -> Scalar:
    """Return tr(J M⁺ J · tH) on the active set, of at most `room` coefficients."""
    size = system.at.coef.size
    active = jnp.arange(size) if room == size else jnp.nonzero(
        system.at.coef.ravel() != 0, size=room, fill_value=size
    )[0]  # fmt: skip
    j, h = _blocks(system, active)
    curved = system.t * h
    return jnp.trace(_generalised_inverse(j - j @ j + j @ curved @ j) @ (j @ curved @ j))


def _blocks(system: _System, active: Int[Array, " r"]) -> _Blocks:
    coef, intercept = system.at
    size, outputs = coef.size, intercept.size
    directions = jnp.zeros((active.size, size), coef.dtype)
    directions = directions.at[jnp.arange(active.size), active].set(1.0, mode="drop")

    def prox_row(direction: Array) -> Array:
        return take_filled(system.prox_derivative(direction.reshape(coef.shape)).ravel(), active)

    def hessian_row(direction: _Unknowns) -> Array:
        product = system.hessian(direction)
        return jnp.concatenate([take_filled(product.coef.ravel(), active), product.intercept.ravel()])

    prox = jax.vmap(prox_row)(directions)
    shifts = jnp.eye(outputs, dtype=coef.dtype)
    every = _Unknowns(
        jnp.concatenate([directions, jnp.zeros((outputs, size), coef.dtype)]).reshape(-1, *coef.shape),
        jnp.concatenate([jnp.zeros((active.size, outputs), coef.dtype), shifts]).reshape(
            -1, *intercept.shape
        ),
    )
    prox = jnp.zeros((active.size + outputs,) * 2, coef.dtype).at[: active.size, : active.size].set(prox)
    if system.problem.intercept:
        prox = prox.at[active.size :, active.size :].set(shifts)
    return _Blocks(prox, jax.vmap(hessian_row)(every))


def _generalised_inverse(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """Return a generalised inverse of a symmetric matrix, whose rank is told in the scale of its diagonal."""
    matrix = (matrix + matrix.T) / 2
    diagonal = jnp.abs(jnp.diagonal(matrix))
    scale = jnp.where(diagonal > 0, 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1.0)), 0.0)
    values, vectors = jnp.linalg.eigh(scale[:, None] * matrix * scale)
    least = 8 * len(matrix) * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.abs(values))
    inverse = jnp.where(jnp.abs(values) > least, 1 / jnp.where(values == 0, 1.0, values), 0.0)
    half = scale[:, None] * vectors
    return (half * inverse) @ half.T


def _estimated_trace(system: _System) -> Scalar:
    """Estimate tr(J M⁺ J · tH) by Hutchinson's estimator, with the same random vectors for all λ."""
    flat, back = ravel_pytree(system.at)
    directions = jax.random.rademacher(jax.random.key(0), (_DRAWS, flat.size), flat.dtype)
    with_intercept = float(system.problem.intercept)

    def quadratic_form(direction: Array) -> Scalar:
        v = back(direction)
        curved = system.hessian(v)
        right = _Unknowns(
            system.t * system.prox_derivative(curved.coef), with_intercept * system.t * curved.intercept
        )
        x = _conjugate_gradients(system.matvec, right, None)
        return jnp.sum(v.coef * system.prox_derivative(x.coef)) + jnp.sum(v.intercept * x.intercept)

    return jnp.mean(jax.lax.map(quadratic_form, directions))
