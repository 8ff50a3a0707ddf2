"""Unpenalised directions: an orthonormal basis of their predictors, and the fit along that basis.

Penalty factors of 0, `Masked`, a chain's mean under total variation and λ = 0 leave directions U of the
coefficients unpenalised. Together with the intercept they span the predictors X·U. Both the null fit and the
dual point of a certificate minimise the loss over that span. In coordinates of the columns this is as
ill-conditioned as the columns are (age, age², age³; two features correlated at 0.999999). In an orthonormal
basis Q of the span under the sample weights, the condition of a Newton system is that of the loss's
curvatures.

Q comes from the eigenvectors of the Gram matrix of the columns, scaled to norm 1, in three passes: the first
resolves singular values σ down to √eps, the second, on the result of the first, down to about eps, and the
third tells which of the smallest are rounding errors (the idea of CholeskyQR2, Yamamoto et al. 2015, with
eigenvectors because columns may be dependent). All are matrix products of one shape, on any device and under
vmap. Columns that differ from dependent ones by the rounding of the dtype count as dependent.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxreg._compilation import is_traced, jit_at_level
from jaxreg._krylov import conjugate_gradients
from jaxreg._numerics import norm
from jaxreg._pytree import tree_where
from jaxreg._typing import Scalar
from jaxreg.linear._shapes import Coef, Flag, Intercept, Predictor
from jaxreg.linear.problem import Problem
from jaxreg.penalties import Penalty, PenaltyGrid
from jaxreg.penalties.piecewise_quadratic import Elementary

__all__ = ["Basis", "Capacity", "Refit", "count_unpenalised", "gradient_noise", "orthonormal_basis", "refit"]

#: Largest number of unpenalised columns in a basis for a concrete penalty.
_MAX_COLUMNS = 1024

#: Number of unpenalised columns in a basis for a traced penalty, whose factors cannot be counted.
_TRACED_COLUMNS = 16

#: Number of unpenalised directions in a basis that are not columns, such as a mean under total variation.
_OTHERS = 4

#: Squared length after two passes below which a direction is dependent: its σ is below 2·√m·eps.
_DEPENDENT = 0.25

#: Rounding errors in a weighted loss gradient: of predictor, mean, difference, product and sum.
_ROUNDINGS = 4.0


class Capacity(NamedTuple):
    """Upper limit of the number of unpenalised directions that a certificate handles; sizes of a `Basis`.

    Attributes:
        columns: limit of the unpenalised columns.
        others: limit of the other unpenalised directions, such as the mean under total variation.
    """

    columns: int
    others: int


class Basis(eqx.Module):
    """Orthonormal predictors of unpenalised directions for each output; m = intercept + columns + others.

    Attributes:
        q: rows with Σᵢ ωᵢqᵢ² = 1, or 0 for a direction that depends linearly on other directions.
        mixing: row k of `q` is the sum of `mixing[k]` times the directions themselves.
        error: 1/σ, the rounding error of each row of `q` in units of eps; 0 for dependent directions.
        columns: indices of the unpenalised features, filled up with p.
        others: the other unpenalised directions, as coefficients.
    """

    q: Float[Array, "outputs m n"]
    mixing: Float[Array, "outputs m m"]
    error: Float[Array, "outputs m"]
    columns: Int[Array, " k"]
    others: Float[Array, "r p outputs"]

    def change(self, u: Float[Array, "outputs m"], problem: Problem) -> tuple[Coef, Intercept]:
        """Return the change of working coefficients and intercept that changes the predictor by u @ q."""
        mixed = jnp.einsum("ck,ckj->cj", u, self.mixing)
        first, k = int(problem.intercept), self.columns.size
        coef, intercept = problem.zeros()
        by_output = jnp.zeros((coef.shape[0], u.shape[0]), coef.dtype)
        by_output = by_output.at[self.columns].add(mixed[:, first : first + k].T, mode="drop")
        by_output = by_output + jnp.einsum("rpc,cr->pc", self.others, mixed[:, first + k :])
        # Rounding mixes directions that are 0 into the others.
        by_output = jnp.where(problem.constant[:, None], 0.0, by_output)
        shift = mixed[:, 0] if problem.intercept else jnp.zeros(u.shape[0], coef.dtype)
        return by_output.reshape(coef.shape), shift.reshape(intercept.shape)


class Refit(NamedTuple):
    """Minimum of the loss over unpenalised directions.

    Attributes:
        z: the predictor.
        u: its coordinates in the basis.
        grad: the gradient in these coordinates.
        decrement: half the squared Newton decrement, by which a further step would reduce the loss.
        noise: the rounding error of `grad` along a unit vector.
        step: the largest change of the predictor in a further Newton step, or in a step for a gradient of the
            size of `noise`. It stays large if there is no minimum.
    """

    z: Predictor
    u: Float[Array, "outputs m"]
    grad: Float[Array, "outputs m"]
    decrement: Scalar
    noise: Scalar
    step: Scalar


def count_unpenalised(problem: Problem, penalty: Penalty | PenaltyGrid) -> Capacity:
    """Count the unpenalised directions of a working penalty, or of the penalty of a grid with the most.

    Counts are rounded up to powers of 2, which keeps compiled shapes few. A traced penalty cannot be counted:
    the result is 16 columns, since λ may be 0.
    """
    grid = penalty if isinstance(penalty, PenaltyGrid) else PenaltyGrid([], *jax.tree.flatten(penalty))
    one = grid.at(0)
    p = problem.shape[1]
    if not one.has_conjugate:
        return Capacity(0, 0)
    others = 0 if one.separable else _OTHERS
    if is_traced(grid):
        return Capacity(min(p, _TRACED_COLUMNS), others)
    if isinstance(one, Elementary):
        columns, others = _count_elementary(grid), 0
    else:
        columns, other = (int(x) for x in _count(grid, problem.zeros()[0]))
        others = others if other else 0
    return Capacity(min(p, _MAX_COLUMNS, 1 << (columns - 1).bit_length()) if columns else 0, others)


def _count_elementary(grid: PenaltyGrid) -> int:
    """Count on the host the rows with a slope of 0 on a side that is neither bounded nor curved."""
    # All λ at once: numbers of one λ are aligned with the coordinates, λ is the axis before these.
    leaves = [
        *(np.asarray(leaf)[0] for leaf in grid.carried),
        *(leaf for leaf in grid.shared if leaf is not None),
    ]
    ndim = max((leaf.ndim for leaf in leaves), default=0)
    carried = [
        np.asarray(leaf).reshape(-1, *(1,) * (ndim - leaf.ndim + 1), *leaf.shape[1:]) for leaf in grid.carried
    ]
    shared = [None if leaf is None else np.asarray(leaf) for leaf in grid.shared]
    c = PenaltyGrid(carried, shared, grid.structure).row(carried).coefficients()
    left, right = (c.negative == 0) & np.isinf(c.lower), (c.positive == 0) & np.isinf(c.upper)
    unpenalised = np.asarray((left | right) & (c.curvature == 0) & ~np.asarray(c.excluded))
    if ndim == 0:
        return _MAX_COLUMNS * int(unpenalised.any())
    unpenalised = unpenalised.any(axis=-1) if ndim == 2 else unpenalised
    return int(unpenalised.sum(axis=-1).max())


@jit_at_level(0)
def _count(grid: PenaltyGrid, zeros: Coef) -> tuple[Array, Array]:
    """Return the largest number of unpenalised rows on the grid, and whether there are other directions."""
    probe = _probes(zeros, 1)[0]

    def count(carried: list[Array]) -> tuple[Array, Array]:
        penalty, ones = grid.row(carried), jnp.ones_like(zeros)
        projections = jnp.stack([penalty.project_on_unpenalised(probe, at) for at in (None, ones, -ones)])
        columns = jnp.any(projections == probe, axis=0)
        other = jnp.any((projections != probe) & (projections != 0))
        return jnp.sum(jnp.any(columns.reshape(columns.shape[0], -1), axis=1)), other

    if not grid.carried:
        return count([])
    counts, other = jax.vmap(count)(grid.carried)
    return jnp.max(counts), jnp.any(other)


def _probes(zeros: Coef, number: int) -> Array:
    """Return vectors of coefficients (number, p, …) in general position, no entry of which is 0."""
    index = jnp.arange(number * zeros.size, dtype=zeros.dtype)
    return (1.5 + jnp.cos(1.7 * index + 0.3)).reshape(number, *zeros.shape)


def orthonormal_basis(problem: Problem, penalty: Penalty, capacity: Capacity, coef: Coef) -> Basis:
    """Return the basis of intercept and unpenalised directions.

    Args:
        problem: the problem.
        penalty: the working penalty.
        capacity: the upper limit of the number of directions; columns beyond it are left out.
        coef: working coefficients (p,) or (p, K), near which a direction may be unpenalised on one side.
    """
    (n, p), outputs, dtype = problem.shape, (*problem.outputs, 1)[0], coef.dtype
    intercept = jnp.ones((outputs, int(problem.intercept), n), problem.dtype)
    if not any(capacity):
        # The sample weights sum to 1, so the constant predictor has norm 1.
        one = jnp.ones(intercept.shape[:2], dtype)
        return Basis(intercept, one[..., None], one, jnp.zeros(0, int), jnp.zeros((0, p, outputs), dtype))
    probe = _probes(coef, 1)[0]
    is_column = (penalty.project_on_unpenalised(probe, coef) == probe).reshape(p, outputs)
    columns = jnp.nonzero(jnp.any(is_column, axis=1), size=capacity.columns, fill_value=p)[0]
    others = jax.vmap(lambda d: penalty.project_on_unpenalised(d, coef))(_probes(coef, capacity.others))
    others = jnp.where(is_column, 0.0, others.reshape(capacity.others, p, outputs))
    rows = [intercept]
    if capacity.columns:
        unpenalised = jnp.take(is_column, columns, axis=0, mode="fill", fill_value=False)
        rows.append(jnp.where(unpenalised.T[..., None], problem.design.columns(columns).XT, 0.0))
    if capacity.others:
        rows.append(jax.vmap(problem.design.matmul)(others).transpose(2, 0, 1))
    directions = jnp.where(problem.weight > 0, jnp.concatenate(rows, axis=1), 0.0)
    orthonormal = jax.vmap(lambda rows: _orthonormalise(rows, problem.weight))
    return Basis(*orthonormal(directions), columns, others)


def _orthonormalise(
    rows: Float[Array, "m n"], weight: Float[Array, " n"]
) -> tuple[Float[Array, "m n"], Float[Array, "m m"], Float[Array, " m"]]:
    """Return orthonormal combinations of rows, the coefficients of the combinations, and 1/σ of each."""
    m, eps = rows.shape[0], jnp.finfo(rows.dtype).eps
    # Rows are first divided by their largest entry, so that squares neither overflow nor underflow.
    largest = jnp.max(jnp.abs(rows), axis=1)
    unit = 1 / jnp.where(largest > 0, largest, 1.0)
    length = jnp.sqrt(jnp.sum(weight * (unit[:, None] * rows) ** 2, axis=1))
    unit = unit / jnp.where(length > 0, length, 1.0)
    rows = unit[:, None] * rows

    mixing = jnp.eye(m, dtype=rows.dtype)
    for floor in (8 * m * eps, 2 * eps):
        # Below `floor` an eigenvalue is rounding; the next pass resolves these directions.
        squared, vectors = jnp.linalg.eigh(_gram(mixing @ rows, weight))
        mixing = (vectors.T @ mixing) / jnp.sqrt(jnp.maximum(squared, floor))[:, None]
    # Directions with σ below 4·√m·eps still have norm < 1. At norm ≤ ½ they are rounding error, which must
    # not be mixed with the other directions.
    independent = jnp.sum(weight * (mixing @ rows) ** 2, axis=1) > _DEPENDENT
    mixing = jnp.where(independent[:, None], mixing, 0.0)
    squared, vectors = jnp.linalg.eigh(_gram(mixing @ rows, weight))
    scale = jnp.where(squared > 0.5 * _DEPENDENT, 1 / jnp.sqrt(jnp.maximum(squared, 0.5 * _DEPENDENT)), 0.0)
    mixing = scale[:, None] * (vectors.T @ mixing)
    return mixing @ rows, mixing * unit, jnp.sqrt(jnp.sum(mixing**2, axis=1))


def _gram(rows: Float[Array, "m n"], weight: Float[Array, " n"]) -> Float[Array, "m m"]:
    return (rows * weight) @ rows.T


def gradient_noise(problem: Problem, z: Predictor) -> Scalar:
    """Return the rounding error of the loss's derivative along a predictor of norm 1 under the weights."""
    # The loss gradient is mean − target, and the mean is evaluated at a rounded predictor.
    gradient, by_rounding = jax.jvp(lambda z: problem.loss.gradient(z, problem.y), (z,), (jnp.abs(z),))
    size = jnp.abs(gradient) + jnp.abs(problem.loss.mean(z)) + jnp.abs(by_rounding)
    return _ROUNDINGS * jnp.finfo(z.dtype).eps * norm(problem.weighted(size))


class _Iterate(NamedTuple):
    """An iterate of Newton's method; `u`, `grad` and the step `newton` are coordinates in the basis."""

    z: Predictor
    u: Float[Array, "outputs m"]
    grad: Float[Array, "outputs m"]
    newton: Float[Array, "outputs m"]
    value: Scalar
    noise: Scalar


class _LossInBasis:
    """The loss as a function of coordinates in a basis."""

    def __init__(self, problem: Problem, basis: Basis) -> None:
        self.problem, self.basis = problem, basis

    def predictor(self, u: Float[Array, "outputs m"]) -> Predictor:
        """Return u @ q in the shape of the predictor."""
        z = jnp.einsum("ck,ckn->nc", u, self.basis.q)
        return z if self.problem.outputs else z[:, 0]

    def project(self, residual: Predictor) -> Float[Array, "outputs m"]:
        """Return the products of a weighted loss gradient with the basis."""
        return jnp.einsum("ckn,nc->ck", self.basis.q, residual.reshape(residual.shape[0], -1))

    def newton_step(
        self, z: Predictor, grad: Float[Array, "outputs m"], tol: float
    ) -> Float[Array, "outputs m"]:
        """Solve the Newton system at z by conjugate gradients; 0 where the curvature is 0."""

        def hessian(d: Float[Array, "outputs m"]) -> Float[Array, "outputs m"]:
            return self.project(jax.jvp(self.problem.residual, (z,), (self.predictor(d),))[1])

        if self.problem.outputs and self.problem.y.ndim == 1:
            grad = grad - jnp.mean(grad, axis=0)  # the loss is constant where all classes shift together
        target = tol * jnp.max(jnp.abs(grad), initial=0.0)
        step = conjugate_gradients(hessian, lambda r: r, grad, target, max_steps=100)
        return jnp.where(jnp.isfinite(step), step, 0.0)

    def evaluate(self, z: Predictor, u: Float[Array, "outputs m"]) -> _Iterate:
        """Evaluate gradient and Newton step, which is 0 where the gradient is 0 up to rounding."""
        grad, noise = self.project(self.problem.residual(z)), gradient_noise(self.problem, z)
        significant = jnp.max(jnp.abs(grad), initial=0.0) > noise
        newton = self.newton_step(z, jnp.where(significant, grad, 0.0), tol=1e-3)
        return _Iterate(z, u, grad, newton, self.problem.value(z), noise)

    def sensitivity(self, z: Predictor) -> Scalar:
        """Estimate the largest change of the predictor by a gradient of norm 1 in general position."""
        grad = jnp.where(self.basis.error > 0, _probes(self.basis.error, 1)[0], 0.0)
        grad = grad / jnp.maximum(jnp.linalg.norm(grad), jnp.finfo(z.dtype).tiny)
        return jnp.max(jnp.abs(self.predictor(self.newton_step(z, grad, tol=1e-2))))


def refit(problem: Problem, basis: Basis, z: Predictor, steps: int) -> Refit:
    """Minimise the loss over z + u @ q by damped Newton steps, to the rounding of the working dtype.

    Args:
        problem: the problem.
        basis: the basis with rows q.
        z: the predictor to start from, (n,) or (n, K).
        steps: the limit of Newton steps.
    """
    eps, loss = jnp.finfo(problem.dtype).eps, _LossInBasis(problem, basis)
    scales = 0.5 ** jnp.arange(12, dtype=problem.dtype)

    def step(carry: tuple[_Iterate, Array, Array]) -> tuple[_Iterate, Array, Array]:
        now, _, k = carry
        # The rounding error of the loss, which is a difference of terms as large as z.
        slack = 4 * eps * (jnp.abs(now.value) + jnp.sum(problem.weight @ jnp.abs(now.z)))
        direction = loss.predictor(now.newton)
        values = jax.vmap(lambda t: problem.value(now.z - t * direction))(scales)
        # The longest step that does not raise the loss by more than rounding (NaN compares as false).
        t = scales[jnp.argmax(values <= now.value + slack)]
        new = loss.evaluate(now.z - t * direction, now.u - t * now.newton)
        # If the loss no longer falls, the squared gradient must fall by a factor of 4.
        smaller = jnp.sum(new.grad**2) < 0.25 * jnp.sum(now.grad**2)
        accepted = (new.value < now.value - slack) | (smaller & (new.value <= now.value + slack)) | (k == 0)
        return tree_where(accepted, new, now), accepted, k + 1

    def unfinished(carry: tuple[_Iterate, Array, Array]) -> Flag:
        now, accepted, k = carry
        return (k == 0) | (k <= steps) & accepted & jnp.any(now.newton != 0)

    # The first round evaluates z itself, so that the evaluation is compiled once, in the body of the loop.
    none = jnp.zeros(basis.error.shape, z.dtype)
    start = _Iterate(z, none, none, none, jnp.asarray(jnp.inf, z.dtype), jnp.zeros((), z.dtype))
    now = jax.lax.while_loop(unfinished, step, (start, jnp.array(True), jnp.array(0)))[0]
    newton = jnp.max(jnp.abs(loss.predictor(now.newton)))
    change = jnp.maximum(newton, now.noise * loss.sensitivity(now.z))
    return Refit(now.z, now.u, now.grad, 0.5 * jnp.sum(now.grad * now.newton), now.noise, change)
