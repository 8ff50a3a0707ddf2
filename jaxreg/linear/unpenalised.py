"""Directions that the penalty leaves alone: an orthonormal basis of them, and the fit along it.

Penalty factors of 0, `Masked`, a chain's mean under total variation and λ = 0 leave directions U of the
coefficients unpenalised. Together with the intercept they span predictors X·U. Both the null fit and the dual
point of a certificate minimise the loss over that span. In the columns themselves this is as ill-conditioned
as they are (age, age², age³; two features correlated at 0.999999), so it is done in an orthonormal basis Q of
the span under the sample weights, where a Newton system has the condition of the loss's curvatures alone.

Q comes from the Gram matrix of the columns, scaled to norm 1, and its eigenvectors, applied three times: the
first pass resolves singular values σ down to √eps, the second, on the result of the first, down to about eps,
and the third tells which of the smallest are rounding (the idea of CholeskyQR2, Yamamoto et al. 2015, with
eigenvectors because columns may be dependent). It takes matrix products of one shape, on any device and under
vmap. Columns that differ from dependent ones by the rounding of the dtype count as dependent.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, Int

from jaxreg._numerics import norm
from jaxreg._typing import Scalar
from jaxreg.linear.problem import Problem
from jaxreg.penalties import Penalty, PenaltyGrid
from jaxreg.penalties.piecewise_quadratic import Elementary

__all__ = ["Basis", "Capacity", "Refit", "capacity", "gradient_noise", "orthonormal_basis", "refit"]

#: Unpenalised columns that a basis has room for: known ones, and ones that a trace may hide.
_KNOWN, _TRACED = 1024, 16
#: Directions other than columns that a basis has room for.
_OTHERS = 4
#: Squared length after two passes below which a direction is dependent: its σ is below 2·√m·eps.
_DEPENDENT = 0.25
#: Rounding errors in a residual: of the predictor, the mean, the difference, the product, the sum.
_ROUNDINGS = 4.0


class Capacity(NamedTuple):
    """Static sizes of a basis: unpenalised columns, and unpenalised directions that are not columns."""

    columns: int
    others: int


class Basis(eqx.Module):
    """Orthonormal predictors of unpenalised directions, by output; m = intercept + columns + others.

    `q` has rows q with Σᵢ wᵢ qᵢ² = 1, or 0 for a direction that depends on the others. Row k is the sum of
    `mixing[k]` times the directions themselves: the intercept, the features `columns` (p for none), and
    `others`. `error[k]` is 1/σ: the rounding error of row k in units of eps.
    """

    q: Float[Array, "outputs m n"]
    mixing: Float[Array, "outputs m m"]
    error: Float[Array, "outputs m"]
    columns: Int[Array, " k"]
    others: Float[Array, "r p outputs"]

    def change(self, u: Float[Array, "outputs m"], problem: Problem) -> tuple[Array, Array]:
        """Return the change of working coefficients and intercept that moves the predictor by u @ q."""
        mixed = jnp.einsum("ck,ckj->cj", u, self.mixing)
        first, k = int(problem.intercept), self.columns.size
        coef, intercept = problem.zeros()
        by_output = jnp.zeros((coef.shape[0], u.shape[0]), coef.dtype)
        by_output = by_output.at[self.columns].add(mixed[:, first : first + k].T, mode="drop")
        by_output = by_output + jnp.einsum("rpc,cr->pc", self.others, mixed[:, first + k :])
        shift = mixed[:, 0] if problem.intercept else jnp.zeros(u.shape[0], coef.dtype)
        return by_output.reshape(coef.shape), shift.reshape(intercept.shape)


class Refit(NamedTuple):
    """Minimum over unpenalised directions: predictor, position `u` and gradient `grad` in the basis.

    `decrement` is half the squared Newton decrement, what a further step would gain. `noise` is the rounding
    error of `grad` along a unit vector. `step` is the largest change of the predictor in a further Newton
    step, or by a gradient as large as the noise: it does not become small where there is no minimum.
    """

    z: Array
    u: Float[Array, "outputs m"]
    grad: Float[Array, "outputs m"]
    decrement: Scalar
    noise: Scalar
    step: Scalar


def capacity(problem: Problem, penalty: Penalty | PenaltyGrid) -> Capacity:
    """Count the unpenalised directions of a working penalty, or the most of any on a grid.

    Counts are rounded up to powers of 2, which keeps compiled shapes few. Where numbers are traced there is
    room for some: λ may be 0.
    """
    grid = penalty if isinstance(penalty, PenaltyGrid) else PenaltyGrid([], *_flat(penalty))
    one = grid.row([leaf[0] for leaf in grid.carried])
    p = problem.shape[1]
    if not one.has_conjugate:
        return Capacity(0, 0)
    others = 0 if one.separable else _OTHERS
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(grid)):
        return Capacity(min(p, _TRACED), others)
    if isinstance(one, Elementary):
        columns, others = _count_elementary(grid), 0
    else:
        columns, other = (int(x) for x in _count(grid, problem.zeros()[0]))
        others = others if other else 0
    return Capacity(min(p, _KNOWN, 1 << (columns - 1).bit_length()) if columns else 0, others)


def _flat(penalty: Penalty) -> tuple[list[Array | None], object]:
    leaves, structure = jax.tree.flatten(penalty)
    return leaves, structure


def _count_elementary(grid: PenaltyGrid) -> int:
    """Count rows with a slope of 0 on a side that neither a bound nor a curvature closes, on the host."""
    shared = [None if leaf is None else np.asarray(leaf) for leaf in grid.shared]
    host = PenaltyGrid([np.asarray(leaf) for leaf in grid.carried], shared, grid.structure)
    most = 0
    for k in range(host.carried[0].shape[0] if host.carried else 1):
        c = host.at(k).coefficients()
        left, right = (c.negative == 0) & np.isinf(c.lower), (c.positive == 0) & np.isinf(c.upper)
        free = (left | right) & (c.curvature == 0) & ~np.asarray(c.excluded)
        free = free.any(axis=1) if free.ndim == 2 else free
        most = max(most, int(free.sum()) if free.ndim else _KNOWN * int(free))
    return most


@eqx.filter_jit
def _count(grid: PenaltyGrid, zeros: Array) -> tuple[Array, Array]:
    """Return the largest number of unpenalised rows on the grid, and whether there are other directions."""
    probe = _probes(zeros, 1)[0]

    def one(part: list[Array]) -> tuple[Array, Array]:
        penalty = grid.row(part)
        anywhere = [
            penalty.unpenalised(probe, at) for at in (None, jnp.ones_like(zeros), -jnp.ones_like(zeros))
        ]
        own = jnp.any(jnp.stack([x == probe for x in anywhere]), axis=0)
        other = jnp.any(jnp.stack([(x != probe) & (x != 0) for x in anywhere]))
        return jnp.sum(jnp.any(own.reshape(own.shape[0], -1), axis=1)), other

    if not grid.carried:
        return one([])
    counts, other = jax.vmap(one)(grid.carried)
    return jnp.max(counts), jnp.any(other)


def _probes(zeros: Array, number: int) -> Array:
    """Return vectors of coefficients (number, p, …) in general position, no entry of which is 0."""
    place = jnp.arange(number * zeros.size, dtype=zeros.dtype)
    return (1.5 + jnp.cos(1.7 * place + 0.3)).reshape(number, *zeros.shape)


def orthonormal_basis(problem: Problem, penalty: Penalty, size: Capacity, coef: Array) -> Basis:
    """Return the basis at working coefficients; columns beyond the capacity are left out."""
    p, outputs = problem.shape[1], (*problem.outputs, 1)[0]
    columns, others = jnp.zeros(0, int), jnp.zeros((0, p, outputs), coef.dtype)
    if any(size):  # a penalty without a conjugate has no projection to ask for
        probe = _probes(coef, 1)[0]
        own = (penalty.unpenalised(probe, coef) == probe).reshape(p, outputs)
        columns = jnp.nonzero(jnp.any(own, axis=1), size=size.columns, fill_value=p)[0]
        others = jax.vmap(lambda d: penalty.unpenalised(d, coef))(_probes(coef, size.others))
        others = jnp.where(own, 0.0, others.reshape(size.others, p, outputs))
    rows = [jnp.ones((outputs, int(problem.intercept), problem.shape[0]), problem.dtype)]
    if size.columns:
        seen = jnp.take(own, columns, axis=0, mode="fill", fill_value=False)
        rows.append(jnp.where(seen.T[..., None], problem.design.columns(columns).XT, 0.0))
    rows += [jax.vmap(problem.design.matmul)(others).transpose(2, 0, 1)] if size.others else []
    q, mixing, error = jax.vmap(lambda rows: _orthonormal(rows, problem.weight))(
        jnp.concatenate(rows, axis=1)
    )
    return Basis(q, mixing, error, columns, others)


def _orthonormal(rows: Float[Array, "m n"], weight: Float[Array, " n"]) -> tuple[Array, Array, Array]:
    """Return orthonormal combinations of rows, the coefficients of these, and 1/σ of each."""
    m, eps = rows.shape[0], jnp.finfo(rows.dtype).eps
    # Divided by the largest entry first, so that squares neither overflow nor vanish.
    top = jnp.max(jnp.abs(rows), axis=1)
    unit = 1 / jnp.where(top > 0, top, 1.0)
    norm = jnp.sqrt(jnp.sum(weight * (unit[:, None] * rows) ** 2, axis=1))
    unit = unit / jnp.where(norm > 0, norm, 1.0)
    rows = unit[:, None] * rows

    mixing = jnp.eye(m, dtype=rows.dtype)
    for least in (8 * m * eps, 2 * eps):
        # Below `least` an eigenvalue is rounding; the next pass measures these directions anew.
        squared, vectors = jnp.linalg.eigh(_gram(mixing @ rows, weight))
        mixing = (vectors.T @ mixing) / jnp.sqrt(jnp.maximum(squared, least))[:, None]
    # Directions with σ below 4·√m·eps are still shorter than 1; half as short, they are rounding, which must
    # not be mixed with the others.
    there = jnp.sum(weight * (mixing @ rows) ** 2, axis=1) > _DEPENDENT
    mixing = jnp.where(there[:, None], mixing, 0.0)
    squared, vectors = jnp.linalg.eigh(_gram(mixing @ rows, weight))
    scale = jnp.where(squared > 0.5 * _DEPENDENT, 1 / jnp.sqrt(jnp.maximum(squared, 0.5 * _DEPENDENT)), 0.0)
    mixing = scale[:, None] * (vectors.T @ mixing)
    return mixing @ rows, mixing * unit, jnp.sqrt(jnp.sum(mixing**2, axis=1))


def _gram(rows: Array, weight: Array) -> Array:
    return (rows * weight) @ rows.T


def gradient_noise(problem: Problem, z: Array) -> Scalar:
    """Return the rounding error of the loss's derivative along a predictor of norm 1 under the weights."""
    gradient = lambda z: problem.loss.gradient(z, problem.y)  # noqa: E731
    # The residual is a difference of mean and target, the mean that of a predictor that is rounded.
    here, shifted = jax.jvp(gradient, (z,), (jnp.abs(z),))
    size = jnp.abs(here) + jnp.abs(problem.loss.mean(z)) + jnp.abs(shifted)
    weight = problem.weight if z.ndim == 1 else problem.weight[:, None]
    return _ROUNDINGS * jnp.finfo(z.dtype).eps * norm(weight * size)


class _Iterate(NamedTuple):
    """Predictor, position, gradient and Newton step in the basis, loss, rounding error of the gradient."""

    z: Array
    u: Array
    grad: Array
    newton: Array
    value: Scalar
    noise: Scalar


class _InBasis:
    """The loss as a function of the position in a basis."""

    def __init__(self, problem: Problem, basis: Basis) -> None:
        self.problem, self.basis = problem, basis

    def predictors(self, u: Array) -> Array:
        """Return u @ q in the shape of the predictor."""
        z = jnp.einsum("ck,ckn->nc", u, self.basis.q)
        return z if self.problem.outputs else z[:, 0]

    def project(self, residual: Array) -> Array:
        """Return the products of a weighted residual with the basis."""
        return jnp.einsum("ckn,nc->ck", self.basis.q, residual.reshape(residual.shape[0], -1))

    def solve(self, z: Array, right: Array, tol: float) -> Array:
        """Solve a Newton system at z by conjugate gradients; 0 where the curvature is 0."""

        def hessian(d: Array) -> Array:
            return self.project(jax.jvp(self.problem.residual, (z,), (self.predictors(d),))[1])

        if self.problem.outputs and self.problem.y.ndim == 1:
            right = right - jnp.mean(right, axis=0)  # classes shifted together: neither slope nor curvature
        found, _ = cg(hessian, right, tol=tol, maxiter=100)
        return jnp.where(jnp.isfinite(found), found, 0.0)

    def at(self, z: Array, u: Array) -> _Iterate:
        """Return the gradient and the Newton step; a gradient within rounding of 0 asks for no step."""
        grad, noise = self.project(self.problem.residual(z)), gradient_noise(self.problem, z)
        newton = self.solve(z, jnp.where(jnp.max(jnp.abs(grad), initial=0.0) > noise, grad, 0.0), 1e-3)
        return _Iterate(z, u, grad, newton, self.problem.value(z), noise)

    def flatness(self, z: Array) -> Scalar:
        """Return how far a gradient of norm 1 moves the predictor, estimated with one in general position."""
        right = jnp.where(self.basis.error > 0, _probes(self.basis.error, 1)[0], 0.0)
        right = right / jnp.maximum(jnp.linalg.norm(right), jnp.finfo(z.dtype).tiny)
        return jnp.max(jnp.abs(self.predictors(self.solve(z, right, 1e-2))))


def refit(problem: Problem, basis: Basis, z: Array, steps: int) -> Refit:
    """Minimise the loss over z + u @ q by damped Newton steps, to the rounding of the working dtype."""
    eps, loss = jnp.finfo(problem.dtype).eps, _InBasis(problem, basis)

    def body(carry: tuple[_Iterate, Array, Array]) -> tuple[_Iterate, Array, Array]:
        now, _, k = carry
        # What rounding does to the loss, which is a difference of terms as large as z.
        slack = 4 * eps * (jnp.abs(now.value) + jnp.sum(problem.weight @ jnp.abs(now.z)))
        along = loss.predictors(now.newton)
        scales = 0.5 ** jnp.arange(12, dtype=problem.dtype)
        values = jax.vmap(lambda t: problem.value(now.z - t * along))(scales)
        # The longest step that does not raise the loss by more than rounding (NaN compares as false).
        t = scales[jnp.argmax(values <= now.value + slack)]
        new = loss.at(now.z - t * along, now.u - t * now.newton)
        # Where the loss no longer falls, the gradient must.
        smaller = jnp.sum(new.grad**2) < 0.25 * jnp.sum(now.grad**2)
        taken = (new.value < now.value - slack) | (smaller & (new.value <= now.value + slack))
        return jax.tree.map(lambda x, y: jnp.where(taken, x, y), new, now), taken, k + 1

    def going(carry: tuple[_Iterate, Array, Array]) -> Array:
        return (carry[2] < steps) & carry[1] & jnp.any(carry[0].newton != 0)

    start = loss.at(z, jnp.zeros(basis.error.shape, z.dtype))
    now = jax.lax.while_loop(going, body, (start, jnp.array(True), jnp.array(0)))[0]
    step = jnp.maximum(jnp.max(jnp.abs(loss.predictors(now.newton))), now.noise * loss.flatness(now.z))
    return Refit(now.z, now.u, now.grad, 0.5 * jnp.sum(now.grad * now.newton), now.noise, step)
