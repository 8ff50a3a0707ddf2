"""The derivative of a solution with respect to the penalty and the data, by the implicit function theorem.

A solution is a fixed point of the prox step, w = prox(v) with v = w − t∇f(w), and ∂f/∂b = 0 for the intercept
b. Let J be the derivative of the prox at v (1 for the intercept) and H the second derivative of the loss f in
(w, b). Dots denote derivatives along a direction in penalty and data, those of ∇f and of the prox (ṗ) at
fixed arguments. Differentiating both equations gives

    ẇ = J v̇ + ṗ,    (J − J² + t·J H J) v̇ = J (ṗ − t(H ṗ + ∇ḟ)),

a symmetric system, positive definite on the range of J if the solution is unique (Bolte et al. 2021;
Bertrand et al. 2022 for the lasso). J is 0 at the zeros of a lasso, so that its system is
that of the active set. J comes from `jax.jvp` of the prox: a new penalty needs no code here. If the system is
singular (duplicated columns, more active columns than rows), v̇ is its least-norm solution in the scale of its
diagonal.

Nothing is unrolled: memory does not depend on the number of solver steps.

References:
    J. Bolte, T. Le, E. Pauwels, A. Silveti-Falls: Nonsmooth implicit differentiation for machine-learning and
    optimization. NeurIPS (2021).
    Q. Bertrand, Q. Klopfenstein, M. Massias, M. Blondel, S. Vaiter, A. Gramfort, J. Salmon: Implicit
    differentiation for fast hyperparameter selection in non-smooth convex learning. JMLR 23 (2022).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import cho_solve
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, PyTree

from jaxreg._compilation import as_operands, is_traced, jit_at_level
from jaxreg._numerics import take_filled
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Flag, Intercept, Predictor
from jaxreg.linear.certificate import curvature_bound
from jaxreg.linear.prediction import LinearPredictor
from jaxreg.linear.problem import Problem
from jaxreg.penalties import Penalty, PenaltyGrid

__all__ = ["constant", "solver_inputs", "with_derivatives", "with_derivatives_on_grid"]

_Tree = TypeVar("_Tree")
_Solution = TypeVar("_Solution", bound=LinearPredictor)
_Penalties = TypeVar("_Penalties", Penalty, PenaltyGrid)

#: Unknowns up to which the system is solved by a factorisation, whose cost grows with their cube.
_MAX_DENSE = 512
#: The capacity for the active set is a multiple of this number, so that compiled shapes stay few.
_ROOM_STEP = 64
#: Multiplications n·p·min(n, p) of a Gram matrix up to which XLA may evaluate it while it compiles.
_MAX_FOLDED = 3e7
#: Smallest pivot of a regular system of unit diagonal, in units of √eps.
_MIN_PIVOT_IN_ROOT_EPS = 100
#: Relative residual at which conjugate gradients stop, in units of eps.
_CG_RTOL = 64
#: Limit of the iterations of conjugate gradients; the derivative is then that of the last iterate.
_MAX_CG_STEPS = 1000


def constant(tree: _Tree) -> _Tree:
    """Return a tree without derivatives. Concrete arrays have none: they come back as they are."""
    return jax.lax.stop_gradient(tree) if is_traced(tree) else tree


def solver_inputs(problem: Problem, penalty: _Penalties) -> tuple[Problem, _Penalties]:
    """Return a problem and its penalties as a solver takes them: without derivatives.

    Large data that a traced function closes over become operands of its program, or XLA would compute their
    Gram matrix while it compiles: 1,000×300 data take it four seconds of CPU time, 500×200 data none.
    """
    problem, penalty = constant((problem, penalty))
    n, p = problem.shape
    if n * p * min(n, p) > _MAX_FOLDED:
        problem = as_operands(problem)
    return problem, penalty


def with_derivatives(
    solution: _Solution, problem: Problem, penalty: Penalty, max_eigenvalue: Scalar
) -> _Solution:
    """Return a solution with the derivatives of its coefficients, intercept and objective.

    Args:
        solution: a solution without derivatives.
        problem: the problem; derivatives are with respect to its arrays.
        penalty: its working penalty; derivatives are with respect to its numbers too.
        max_eigenvalue: largest eigenvalue of XᵀWX, which sets the length of the prox step.
    """
    if not is_traced(problem, penalty):
        return solution
    fields = lambda solution: (solution.coef, solution.intercept, solution.objective)  # noqa: E731
    point = _in_one_program(problem, penalty, max_eigenvalue, *fields(solution))
    solution = eqx.tree_at(fields, solution, point)
    return eqx.tree_at(lambda solution: solution.loss, solution, problem.original_loss)


def with_derivatives_on_grid(
    solutions: _Solution, problem: Problem, grid: PenaltyGrid, max_eigenvalue: Scalar
) -> _Solution:
    """Return solutions, whose arrays have a leading axis of λ, with their derivatives.

    On a CPU one λ after the other: a batch would hold the active columns of all λ at once.
    """
    if not is_traced(problem, grid):
        return solutions

    def one(lane: tuple[list[Array], _Solution]) -> _Solution:
        carried, solution = lane
        return with_derivatives(solution, problem, grid.row(carried), max_eigenvalue)

    over_grid = jax.lax.map if jax.default_backend() == "cpu" else lambda one, lanes: jax.vmap(one)(lanes)
    return over_grid(one, (grid.carried, solutions))


class _Unknowns(NamedTuple):
    """A vector over working coefficients (p,) or (p, K) and the intercept () or (K,)."""

    coef: Coef
    intercept: Intercept


@jit_at_level(0)
def _in_one_program(*args: PyTree) -> tuple[Coef, Intercept, Scalar]:
    """Return `_differentiable(*args)`; outside of a trace, each operation would be a program of its own."""
    return _differentiable(*args)


@eqx.filter_custom_jvp
def _differentiable(
    problem: Problem,
    penalty: Penalty,
    max_eigenvalue: Scalar,
    coef: Coef,
    intercept: Intercept,
    objective: Scalar,
) -> tuple[Coef, Intercept, Scalar]:
    """Return a solution on the scale of the data unchanged; its JVP is that of the implicit function."""
    return coef, intercept, objective


@_differentiable.def_jvp
def _differentiable_jvp(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    problem, penalty, max_eigenvalue, *_ = primals
    problem_dot, penalty_dot, *_ = tangents
    # The outputs depend on problem and penalty too, for derivatives of a higher order.
    coef, intercept, objective = _differentiable(*primals)
    at = _Unknowns(*problem.to_working(coef, intercept))
    system = _System(problem, penalty, max_eigenvalue, at)
    solution_dot = system.derivative(problem_dot, penalty_dot)

    def original(problem: Problem, at: _Unknowns) -> tuple[Coef, Intercept]:
        return problem.to_original(*at)

    def envelope(problem: Problem, penalty: Penalty) -> Scalar:
        return problem.value(problem.predictor(*at)) + system.envelope(penalty)

    def original_objective(problem: Problem, cost: Scalar) -> Scalar:
        return problem.original_objective(cost)

    coef_dot, intercept_dot = _jvp(original, (problem, at), (problem_dot, solution_dot))
    both = (problem, penalty), (problem_dot, penalty_dot)
    cost, cost_dot = problem.value(system.z) + penalty.value(at.coef), _jvp(envelope, *both)
    objective_dot = _jvp(original_objective, (problem, cost), (problem_dot, cost_dot))
    return (coef, intercept, objective), (coef_dot, intercept_dot, objective_dot)


def _jvp(function: Callable[..., _Tree], primals: tuple, tangents: tuple) -> _Tree:
    """Return the derivative along tangents whose leaves may be None, for 0."""
    out, dots = eqx.filter_jvp(function, primals, tangents)
    fill = lambda x, dot: jnp.zeros_like(x) if dot is None else dot  # noqa: E731
    return jax.tree.map(fill, out, dots, is_leaf=lambda x: x is None)


class _System:
    """The linear system of the derivative at a solution."""

    def __init__(self, problem: Problem, penalty: Penalty, max_eigenvalue: Scalar, at: _Unknowns) -> None:
        self.problem, self.penalty, self.at = problem, penalty, at
        self.z = problem.predictor(*at)
        # The solution does not depend on the length of the prox step.
        self.t = jax.lax.stop_gradient(1 / curvature_bound(problem, self.z, max_eigenvalue))
        self.v = at.coef - self.t * self.gradient(problem).coef

    def gradient(self, problem: Problem) -> _Unknowns:
        """Return ∇f at the solution."""
        return self._back(problem, problem.residual(problem.predictor(*self.at)))

    def _back(self, problem: Problem, residual: Predictor) -> _Unknowns:
        """Return the products of a residual with features and intercept."""
        total = jnp.sum(residual, axis=0)
        return _Unknowns(problem.design.rmatmul(residual), total if problem.intercept else 0.0 * total)

    def hessian(self, d: _Unknowns) -> _Unknowns:
        """Return H d."""
        along = self.problem.design.matmul(d.coef) + d.intercept
        return self._back(self.problem, jax.jvp(self.problem.residual, (self.z,), (along,))[1])

    def prox_derivative(self, d: Coef) -> Coef:
        """Return J d for coefficients."""
        return jax.jvp(lambda v: self.penalty.prox(v, self.t), (self.v,), (d,))[1]

    def envelope(self, penalty: Penalty) -> Scalar:
        """Return the Moreau envelope min_u ‖u − v‖²/2t + penalty(u) at v.

        Its derivative in the penalty is that of the cost, also where the solution moves along with a bound or
        a reference point and the penalty's value at a fixed solution has no derivative.
        """
        u = penalty.prox(self.v, self.t)
        return jnp.sum((u - self.v) ** 2) / (2 * self.t) + penalty.value(u)

    def matvec(self, x: _Unknowns) -> _Unknowns:
        """Return (J − J² + t·J H J) x, with J = 1 for the intercept."""
        first = self.prox_derivative(x.coef)
        curved = self.hessian(_Unknowns(first, x.intercept))
        second = self.prox_derivative(self.t * curved.coef - first)
        return _Unknowns(first + second, self.t * curved.intercept)

    def derivative(self, problem_dot: PyTree[Array | None], penalty_dot: PyTree[Array | None]) -> _Unknowns:
        """Return the derivative of working coefficients and intercept."""
        grad_dot = _jvp(self.gradient, (self.problem,), (problem_dot,))
        prox_dot = _jvp(lambda penalty: penalty.prox(self.v, self.t), (self.penalty,), (penalty_dot,))
        curved = self.hessian(_Unknowns(prox_dot, jnp.zeros_like(self.at.intercept)))
        right = _Unknowns(
            self.prox_derivative(prox_dot - self.t * (curved.coef + grad_dot.coef)),
            -self.t * (curved.intercept + grad_dot.intercept),
        )
        x = jax.lax.custom_linear_solve(self.matvec, right, self._solve, symmetric=True)
        return _Unknowns(self.prox_derivative(x.coef) + prox_dot, x.intercept)

    def _solve(self, matvec: Callable[[_Unknowns], _Unknowns], right: _Unknowns) -> _Unknowns:
        """Solve the system by a factorisation if the active set is small, else by conjugate gradients.

        The program contains both, since the size of the active set is known only at run time. The system that
        does not apply gets a right side of 0.
        """
        size = self.at.coef.size
        if self.penalty.separable and self.at.coef.ndim == 1:
            slopes = self.prox_derivative(jnp.ones_like(self.v))
            room = self._room(size)
            fits = jnp.sum(slopes != 0) <= room
            dense = self._solve_on_active_set(slopes, room, _zero_unless(fits, right))
            if room == size:
                return dense
            diagonal = (
                slopes
                - slopes**2
                + self.t * slopes**2 * self.problem.design.squares(self.problem.curvatures(self.z))
            )
            rest = _conjugate_gradients(matvec, _zero_unless(~fits, right), diagonal)
            return jax.tree.map(jnp.add, dense, rest)
        if size <= _MAX_DENSE:
            flat, back = ravel_pytree(right)
            product = lambda x: ravel_pytree(matvec(back(x)))[0]  # noqa: E731
            matrix = jax.vmap(product)(jnp.eye(flat.size, dtype=flat.dtype))
            return back(_least_norm(matrix, flat))
        return _conjugate_gradients(matvec, right, None)

    def _room(self, size: int) -> int:
        """Return the capacity for the active set: all coordinates up to 512, else about one per sample."""
        if size <= _MAX_DENSE:
            return size
        samples = -(-self.problem.shape[0] // _ROOM_STEP) * _ROOM_STEP
        return min(size, samples, _MAX_DENSE)

    def _solve_on_active_set(self, slopes: Float[Array, " p"], room: int, right: _Unknowns) -> _Unknowns:
        """Solve on the coordinates where J is not 0, of which there are at most `room`."""
        p = slopes.size
        index = jnp.nonzero(slopes != 0, size=room, fill_value=p)[0]
        active, curvature = take_filled(slopes, index), self.problem.curvatures(self.z)
        rows = active[:, None] * self.problem.design.columns(index).XT
        ones = jnp.full((1, curvature.size), float(self.problem.intercept), rows.dtype)
        rows = jnp.concatenate([rows, ones])
        matrix = self.t * (rows * curvature) @ rows.T
        every = jnp.arange(room)
        matrix = matrix.at[every, every].add(active - active**2)
        x = _least_norm(matrix, jnp.append(take_filled(right.coef, index), right.intercept))
        return _Unknowns(jnp.zeros_like(slopes).at[index].set(x[:-1], mode="drop"), x[-1])


def _zero_unless(condition: Flag, x: _Unknowns) -> _Unknowns:
    """Return x if a condition holds, else 0: a right side of 0 costs conjugate gradients no iteration."""
    return jax.tree.map(lambda leaf: jnp.where(condition, leaf, 0.0), x)


def _least_norm(matrix: Float[Array, "m m"], right: Float[Array, " m"]) -> Float[Array, " m"]:
    """Solve a symmetric system in the scale of its diagonal; return the solution of least norm.

    A Cholesky factor without small pivots solves the system; a singular or an indefinite one takes an
    eigendecomposition.
    """
    diagonal = jnp.abs(jnp.diagonal(matrix))
    in_use = diagonal > 0
    scale = jnp.where(in_use, 1 / jnp.sqrt(jnp.where(in_use, diagonal, 1.0)), 0.0)
    scaled, scaled_right = scale[:, None] * matrix * scale, scale * right
    # Rows that are 0 belong to no unknown.
    lower = jnp.linalg.cholesky(scaled + jnp.diag(jnp.where(in_use, 0.0, 1.0).astype(scale.dtype)))
    regular = jnp.min(jnp.diagonal(lower)) ** 2 > _MIN_PIVOT_IN_ROOT_EPS * jnp.finfo(right.dtype).eps ** 0.5

    def by_eigenvectors() -> Float[Array, " m"]:
        values, vectors = jnp.linalg.eigh(scaled)
        cutoff = 8 * right.size * jnp.finfo(right.dtype).eps * jnp.max(jnp.abs(values))
        inverse = jnp.where(jnp.abs(values) > cutoff, 1 / jnp.where(values == 0, 1.0, values), 0.0)
        return vectors @ (inverse * (vectors.T @ scaled_right))

    return scale * jax.lax.cond(regular, lambda: cho_solve((lower, True), scaled_right), by_eigenvectors)


def _conjugate_gradients(
    matvec: Callable[[_Unknowns], _Unknowns], right: _Unknowns, diagonal: Float[Array, " p"] | None
) -> _Unknowns:
    """Solve by conjugate gradients, preconditioned by the diagonal of the coefficients where it is known."""

    def precondition(x: _Unknowns) -> _Unknowns:
        if diagonal is None:
            return x
        return _Unknowns(x.coef / jnp.where(diagonal > 0, diagonal, 1.0), x.intercept)

    rtol = _CG_RTOL * jnp.finfo(right.coef.dtype).eps
    solution, _ = cg(matvec, right, tol=rtol, maxiter=_MAX_CG_STEPS, M=precondition)
    return jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, 0.0), solution)
