"""Ridge paths: squared error with a multiple of ‖w‖², from one eigendecomposition for all λ and outputs.

With curvature c the solution is w = (XᵀWX + c·I)⁻¹b, where b is the negative gradient at w = 0. Given the
eigenvalues s and eigenvectors V of XᵀWX it is V·diag(1/(s + c))·Vᵀb, so that each λ costs a product with V
instead of a factorisation (Golub and Van Loan 2013, section 6.1.4). With more features than samples the
eigenvectors are those of √W·XXᵀ·√W, since w = Xᵀ√W·(√W·XXᵀ·√W + c·I)⁻¹·√W·r with residuals r at w = 0.

The decomposition is computed on the host, by NumPy in double precision: no program is compiled for it, and
single precision loses no digits of XᵀWX.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, Int

from jaxreg._compilation import jit_at_level
from jaxreg.linear._shapes import Coef, Intercept
from jaxreg.linear.path.kernels import BlockResult
from jaxreg.linear.path.matrix_columns import gram_applies
from jaxreg.linear.path.path_problem import PathProblem
from jaxreg.linear.path.record import PathRecord, record_checked
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers import Newton
from jaxreg.losses import SquaredError
from jaxreg.penalties import PenaltyGrid
from jaxreg.penalties.piecewise_quadratic import Elementary

__all__ = ["is_ridge", "solve_ridge"]

#: Smaller dimension of X up to which it is decomposed: 2,048 take 1.8 s on one core (Intel Xeon).
_MAX_DIMENSION = 2048
#: Entries of X up to which it is copied in double precision: 512 MB.
_MAX_COPIED = 2**26


def is_ridge(problem: Problem, grid: PenaltyGrid) -> bool:
    """Return whether a concrete path is one of squared error with a multiple of ‖w‖² on dense data."""
    if not isinstance(problem.loss, SquaredError) or not problem.design.dense_like:
        return False
    n, p = problem.shape
    fits = min(n, p) <= _MAX_DIMENSION and (n * p <= _MAX_COPIED or gram_applies(problem, Newton()))
    return fits and _curvatures(grid) is not None


def _curvatures(grid: PenaltyGrid) -> Float[np.ndarray, " L"] | None:
    """Return the curvature at each λ, or None where the penalty is not a positive multiple of ‖w‖²."""
    penalty = grid.row(grid.carried)
    if not (isinstance(penalty, Elementary) and grid.is_scalar):
        return None
    c = penalty.coefficients()
    if c.bounded or c.excludes:
        return None
    negative, positive, curvature = (np.asarray(x, float) for x in (c.negative, c.positive, c.curvature))
    is_ridge = not (negative.any() or positive.any()) and (curvature > 0).all()
    return curvature if is_ridge else None


def solve_ridge(path: PathProblem, n_lambdas: int) -> PathRecord:
    """Solve for the first `n_lambdas` of a path for which `is_ridge` holds, and check each λ on the data."""
    solution_at, curvatures = _solution(path), _curvatures(path.grid)
    assert curvatures is not None, "only ridge paths are solved here"
    # Eigenvectors mix columns by rounding errors, also those that are constant, hence 0 once centred.
    constant = np.flatnonzero(path.problem.constant)

    def solve(lam_index: Int[np.ndarray, " B"]) -> BlockResult:
        coef = solution_at(curvatures[lam_index]).astype(path.problem.dtype)
        coef[:, constant] = 0.0
        intercept = np.repeat(np.asarray(path.null_fit.intercept)[None], lam_index.size, axis=0)
        return BlockResult(coef, intercept, np.ones(lam_index.size, int), np.ones(lam_index.size, bool))

    return record_checked(path, n_lambdas, solve)


def _solution(path: PathProblem) -> Callable[[Float[np.ndarray, " B"]], Float[np.ndarray, "B p *K"]]:
    """Return the function from curvatures to working coefficients."""
    problem, intercept = path.problem, path.null_fit.intercept
    if path.gram is not None:
        return _inverses(np.asarray(path.gram), -np.asarray(_gradient(problem, intercept), float))
    X, residual, weight = (np.asarray(x, float) for x in (*_data(problem, intercept), problem.weight))
    root = np.sqrt(weight)
    X = root[:, None] * X
    # The residual of each row holds its weight, of which X has one root.
    residual = -(residual.T / np.where(root > 0, root, 1.0)).T
    if X.shape[0] >= X.shape[1]:
        return _inverses(X.T @ X, X.T @ residual)
    dual = _inverses(X @ X.T, residual)
    return lambda curvatures: np.moveaxis(np.tensordot(X, dual(curvatures), (0, 1)), 0, 1)


def _inverses(
    gram: Float[np.ndarray, "m m"], right: Float[np.ndarray, "m *K"]
) -> Callable[[Float[np.ndarray, " B"]], Float[np.ndarray, "B m *K"]]:
    """Return the function from numbers c to (gram + c·I)⁻¹·right."""
    values, vectors = np.linalg.eigh(gram)
    values, projected = np.maximum(values, 0.0), vectors.T @ right

    def inverses(curvatures: Float[np.ndarray, " B"]) -> Float[np.ndarray, "B m *K"]:
        divisor = (values + curvatures[:, None]).reshape(-1, values.size, *(1,) * (right.ndim - 1))
        # One product for all of them: (m, m) with (m, B, …).
        return np.moveaxis(np.tensordot(vectors, projected / divisor, (1, 1)), 0, 1)

    return inverses


@jit_at_level(0)
def _gradient(problem: Problem, intercept: Intercept) -> Coef:
    """Return the gradient at coefficients of 0."""
    return problem.design.rmatmul(problem.residual(problem.predictor(problem.zeros()[0], intercept)))


@jit_at_level(0)
def _data(problem: Problem, intercept: Intercept) -> tuple[Float[Array, "n p"], Float[Array, "n *K"]]:
    """Return the working features, and the weighted residuals at coefficients of 0."""
    return problem.design.dense(), problem.residual(problem.predictor(problem.zeros()[0], intercept))
