"""Directions that the penalty leaves alone: an orthonormal basis of them, and the fit along it.

Penalty factors of 0, `Masked`, a chain's mean under total variation and λ = 0 leave directions U of the
coefficients unpenalised. Together with the intercept they span predictors X·U. Both the null fit and the dual
point of a certificate minimise the loss over that span. In the columns themselves this is as ill-conditioned
as they are (age, age², age³; two features correlated at 0.999999), so it is done in an orthonormal basis Q of
the span under the sample weights, where a Newton system has the condition of the loss's curvatures alone.

Q comes from the Gram matrix of the columns, scaled to norm 1, and its eigenvectors, applied twice: the first
pass resolves singular values σ down to √eps, the second, on the result of the first, down to about eps
(the idea of CholeskyQR2, Yamamoto et al. 2015, with eigenvectors because columns may be dependent). It takes
matrix products only, of one shape, on any device and under vmap.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float, Int

from jaxreg._types import Scalar
from jaxreg.linear.problem import Problem
from jaxreg.penalties import Penalty, PenaltyGrid
from jaxreg.penalties.separable import Elementary

__all__ = ["Basis", "Capacity", "Refit", "capacity", "orthonormal_basis", "refit"]

#: Unpenalised columns that a basis has room for: known ones, and ones that a trace may hide.
_KNOWN, _TRACED = 1024, 64
#: Directions other than columns that a basis has room for.
_OTHERS = 4
#: Singular values below this many eps·√m belong to directions that are dependent up to rounding.
_DEPENDENT = 30.0


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

    `decrement` is half the squared Newton decrement, what a further step would gain; `step` the largest
    change of the predictor in it.
    """

    z: Array
    u: Float[Array, "outputs m"]
    grad: Float[Array, "outputs m"]
    decrement: Scalar
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
        anywhere = [penalty.free(probe, at) for at in (None, jnp.ones_like(zeros), -jnp.ones_like(zeros))]
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
    probe = _probes(coef, 1)[0]
    own = (penalty.free(probe, coef) == probe).reshape(p, outputs)
    columns = jnp.nonzero(jnp.any(own, axis=1), size=size.columns, fill_value=p)[0]
    others = jax.vmap(lambda d: penalty.free(d, coef))(_probes(coef, size.others))
    others = jnp.where(own, 0.0, others.reshape(size.others, p, outputs))
    seen = jnp.take(own, columns, axis=0, mode="fill", fill_value=False)
    rows = [jnp.ones((outputs, int(problem.intercept), problem.shape[0]), problem.dtype)]
    rows.append(jnp.where(seen.T[..., None], problem.design.columns(columns).XT, 0.0))
    rows += [jax.vmap(problem.design.matmul)(others).transpose(2, 0, 1)] if size.others else []
    q, mixing, error = jax.vmap(lambda rows: _orthonormal(rows, problem.weight))(jnp.concatenate(rows, axis=1))
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

    def eigen(rows: Array) -> tuple[Array, Array]:
        return jnp.linalg.eigh((rows * weight) @ rows.T)

    least = 8 * m * eps
    squared, vectors = eigen(rows)
    first = vectors.T / jnp.sqrt(jnp.maximum(squared, least))[:, None]
    squared, vectors = eigen(first @ rows)
    # The second pass sees σ² in units of the least of the first, with an error of a few eps.
    kept = squared > _DEPENDENT**2 * m * eps**2 / least
    scale = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, squared, 1.0)), 0.0)
    mixing = scale[:, None] * (vectors.T @ first)
    return mixing @ rows, mixing * unit, jnp.sqrt(jnp.sum(mixing**2, axis=1))


def refit(problem: Problem, basis: Basis, z: Array, steps: int) -> Refit:
    """Minimise the loss over z + u @ q by damped Newton steps, to the rounding of the working dtype."""
    eps = jnp.finfo(problem.dtype).eps
    # What rounding does to the loss, which is a difference of terms as large as z.

    def in_basis(residual: Array) -> Array:
        return jnp.einsum("ckn,nc->ck", basis.q, residual.reshape(residual.shape[0], -1))

    def predictors(u: Array) -> Array:
        return jnp.einsum("ck,ckn->nc", u, basis.q).reshape(z.shape)

    def at(z: Array, u: Array) -> tuple[Array, ...]:
        grad = in_basis(problem.residual(z))

        def hessian(d: Array) -> Array:
            return in_basis(jax.jvp(problem.residual, (z,), (predictors(d),))[1])

        newton, _ = cg(hessian, grad, tol=1e-3, maxiter=100)
        return z, u, grad, jnp.where(jnp.isfinite(newton), newton, 0.0), problem.value(z)

    def body(carry: tuple[tuple[Array, ...], Array, Array]) -> tuple[tuple[Array, ...], Array, Array]:
        now, _, k = carry
        z, u, grad, newton, value = now
        slack = 4 * eps * (jnp.abs(value) + jnp.sum(problem.weight @ jnp.abs(z)))
        along = predictors(newton)
        scales = 0.5 ** jnp.arange(12, dtype=problem.dtype)
        values = jax.vmap(lambda t: problem.value(z - t * along))(scales)
        # The longest step that does not raise the loss by more than rounding (NaN compares as false).
        t = scales[jnp.argmax(values <= value + slack)]
        new = at(z - t * along, u - t * newton)
        # Where the loss no longer falls, the gradient must.
        smaller = jnp.sum(new[2] ** 2) < 0.25 * jnp.sum(grad**2)
        taken = (new[4] < value - slack) | (smaller & (new[4] <= value + slack))
        return jax.tree.map(lambda x, y: jnp.where(taken, x, y), new, now), taken, k + 1

    def going(carry: tuple[tuple[Array, ...], Array, Array]) -> Array:
        return (carry[2] < steps) & carry[1] & jnp.any(carry[0][2] != 0)

    start = at(z, jnp.zeros(basis.error.shape, z.dtype))
    z, u, grad, newton, _ = jax.lax.while_loop(going, body, (start, jnp.array(True), jnp.array(0)))[0]
    return Refit(z, u, grad, 0.5 * jnp.sum(grad * newton), jnp.max(jnp.abs(predictors(newton))))
