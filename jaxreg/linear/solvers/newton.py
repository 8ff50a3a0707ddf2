"""Proximal Newton by semismooth Newton: a few steps to high accuracy, with exact zeros.

Each step minimises the quadratic model of the loss at the present point plus the penalty (see `_model`), on
those coordinates that a prox step would not leave where they are; the others join in the next step if they
must. The step is globalised by damping (the regularised proximal Newton method of Kanzow and Lechner 2021):
a point that does not lower the objective, or a model that could not be solved, is answered by a damping ten
times larger, with which the step becomes a short proximal gradient step in the metric diag(H) and must
fall; a good step divides it. So every iterate came out of a prox: it is feasible and its zeros are exact.
Where the penalty is not convex the end is a stationary point.

A curvature that takes passes over the data may serve many steps (`keep`): each costs one gradient then, and
comes nearer by a factor, not by the square. Another is computed where that factor is poor (Shamanskii 1967).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxreg._typing import Scalar
from jaxreg.linear.null_fit import NullFit
from jaxreg.linear.problem import Problem
from jaxreg.linear.solvers import _model
from jaxreg.linear.solvers._factor import padded
from jaxreg.linear.solvers._pivot import Pivoted, active_set, nothing
from jaxreg.linear.solvers._smooth import (
    Bent,
    Data,
    Place,
    Quadratic,
    Smooth,
    is_quadratic,
    quadratic,
)
from jaxreg.linear.solvers.base import Solver, State
from jaxreg.penalties import Penalty

__all__ = ["Newton", "accepts", "advance", "aging", "begin", "chosen", "keep", "reprice"]

#: Damping of the first step after a failure; what a failure multiplies it by, a success divides it by.
_DAMPED, _RAISE, _LOWER = 1e-2, 10.0, 4.0
#: To what part of itself a step must bring the residual, for the curvature to be kept for the next one, and
#: where steps are cheap, since an inverse is kept with it; to what part a model is solved then.
_FAST, _CHEAP, _FORCING = 0.2, 0.5, 1e-3
#: How much longer than it should be a prox step is, to see which coordinates may join in a model.
_FURTHER = (1.0, 1.02, 1.1)


class _Inner(NamedTuple):
    """`kept` is the curvature that serves more than one step, or None where each computes its own."""

    place: Place
    diagonal: Array
    damping: Scalar
    quadratic: Quadratic | None
    kept: "Kept | None"


class Kept(NamedTuple):
    """The curvature on the first `count` coordinates, of which there are no others; whether the point has
    changed since; for flat penalties the inverse of its active block.
    """

    bent: Bent
    count: Array
    aged: Array
    pivoted: Pivoted | None


class Newton(Solver):
    """Semismooth proximal Newton, for every loss, and for penalties that act on coordinates, groups or rows.

    A step factorises a matrix of the size of the active set; with a sparse design it takes products with the
    data and conjugate gradients instead (on a path from 448 columns in use on, with a dense one from 4,032).
    `gram` says whether squared error is reduced to XᵀWX first; None does so in float64 where p ≤ n, and on a
    path for the columns in use. A penalty that couples all coordinates (total variation, sorted L1, nuclear
    norm) raises TypeError: take `ProximalGradient` there.
    """

    gram: bool | None = eqx.field(default=None, static=True)

    def init(
        self, problem: Problem, penalty: Penalty, null_fit: NullFit, start: tuple[Array, Array]
    ) -> State:
        """The state at `start`, projected on the penalty's domain."""
        coef, intercept = start
        if not accepts(penalty, coef):
            raise TypeError(
                "Newton needs a penalty that acts on each coordinate or on blocks of them, got"
                f" {type(penalty).__name__}: take solver=jaxreg.ProximalGradient()"
            )
        n, p = problem.shape
        pays = p <= n and problem.design.dense_like
        reduced = is_quadratic(problem) and (pays if self.gram is None else self.gram)
        smooth = quadratic(problem, null_fit.intercept) if reduced else None
        intercept = null_fit.intercept if reduced else intercept
        coef = penalty.prox(coef, jnp.zeros((), problem.dtype))
        return begin(
            smooth or _data(problem), penalty, null_fit.max_grad, (coef, intercept), quadratic=smooth
        )

    def step(self, problem: Problem, penalty: Penalty, null_fit: NullFit, state: State) -> State:
        """One damped step; the old point with more damping where the objective would rise."""
        return advance(state.inner.quadratic or _data(problem), penalty, null_fit.max_grad, state)


def _data(problem: Problem) -> Data:
    """With matrices, where they are not of columns that would have to be made dense."""
    return Data(problem, problem.design.dense_like)


def accepts(penalty: Penalty, coef: Array) -> bool:
    """Whether the prox's derivative is a number per coordinate, or a matrix of blocks."""
    return penalty.separable or penalty.blocks(coef) is not None


def begin(
    smooth: Smooth,
    penalty: Penalty,
    unit: Scalar,
    start: tuple[Array, Array],
    quadratic: Quadratic | None = None,
    kept: Kept | None = None,
) -> State:
    """The state at a feasible point; residuals are in `unit`s of gradient. A curvature that is `kept`, be it
    that of another point, serves as long as steps with it are good ones.
    """
    place = smooth.look(*start)
    damping = jnp.asarray(_least(start[0].dtype), start[0].dtype)
    diagonal = smooth.diagonal(place) if kept is None else jnp.diagonal(kept.bent.gram)
    inner = _Inner(place, diagonal, damping, quadratic, kept)
    objective = place.value + penalty.value(start[0])
    return State(*start, objective, _residual(penalty, start[0], inner) / unit, inner)


def keep(smooth: Smooth, place: Place, count: Array, flat: bool) -> Kept:
    """The curvature on the first `count` coordinates; the features behind them are 0."""
    found = smooth.curvature(place, None, count)
    assert isinstance(found, Bent), "only matrices are kept"
    return Kept(found, count, jnp.array(False), nothing(found.gram) if flat else None)


def advance(
    smooth: Smooth, penalty: Penalty, unit: Scalar, state: State, enough: Scalar | float = 0.0
) -> State:
    """One step of Newton's method with damping, towards a residual of `enough`."""
    inner: _Inner = state.inner
    coef, intercept, solved, kept = _step(smooth, penalty, unit, state, enough)
    place = smooth.look(coef, intercept)
    fresh = inner._replace(place=place, kept=kept)
    if kept is None:
        fresh = fresh._replace(diagonal=smooth.diagonal(place))
    objective, residual = place.value + penalty.value(coef), _residual(penalty, coef, fresh) / unit
    slack = 8 * jnp.finfo(coef.dtype).eps * (jnp.abs(state.objective) + inner.place.terms)
    # Where rounding hides the fall of the objective, that of the residual shows.
    level = (objective <= state.objective + slack) & (residual < state.residual)
    good = jnp.isfinite(objective) & ((objective < state.objective - slack) | level)
    least = _least(coef.dtype)
    less, more = inner.damping / _LOWER, jnp.maximum(_RAISE * inner.damping, _DAMPED)
    # What an aged curvature does not achieve a fresh one may. Below a millionth damping only slows the end.
    more = more if kept is None else jnp.where(inner.kept.aged, inner.damping, more)
    damping = jnp.where(good & solved, jnp.where(less < 1e-6, least, less), more)
    new = _with(chosen(good, State(coef, intercept, objective, residual, fresh), state), damping=damping)
    if kept is None:
        return new
    moved = inner.kept.aged | good
    fast = _FAST if kept.pivoted is None else _CHEAP
    slow = moved & ~(good & (residual <= fast * state.residual))
    return _renewed(smooth, penalty, unit, new, slow, moved)


def chosen(first: Array, one: State, other: State) -> State:
    """One state or the other; the curvature that is kept is that of the first."""
    bare = (_with(state, kept=None) for state in (one, other))
    found = jax.tree.map(lambda a, b: jnp.where(first, a, b), *bare)
    return _with(found, kept=one.inner.kept)


def aging(state: State, moved: Array) -> State:
    """The state, where the point has `moved` away from that of the curvature that is kept."""
    kept = state.inner.kept
    return state if kept is None else _with(state, kept=kept._replace(aged=kept.aged | moved))


def _with(state: State, **inner: Any) -> State:
    return State(state.coef, state.intercept, state.objective, state.residual, state.inner._replace(**inner))


def _renewed(
    smooth: Smooth, penalty: Penalty, unit: Scalar, state: State, wanted: Array, aged: Array
) -> State:
    """The state with the curvature of its own point, where that is `wanted`; a branch, so not for vmap."""
    inner: _Inner = state.inner
    flat = inner.kept.pivoted is not None
    kept = jax.lax.cond(
        wanted,
        lambda: keep(smooth, inner.place, inner.kept.count, flat),
        lambda: inner.kept._replace(aged=aged),
    )
    new = _with(state, kept=kept, diagonal=jnp.diagonal(kept.bent.gram))
    return eqx.tree_at(lambda s: s.residual, new, _residual(penalty, new.coef, new.inner) / unit)


def reprice(penalty: Penalty, unit: Scalar, state: State) -> State:
    """The same point under another penalty."""
    objective = state.inner.place.value + penalty.value(state.coef)
    residual = _residual(penalty, state.coef, state.inner) / unit
    least = jnp.asarray(_least(state.coef.dtype), state.coef.dtype)
    return State(state.coef, state.intercept, objective, residual, state.inner._replace(damping=least))


def _least(dtype: Any) -> float:
    """The damping that is always there: what dependent columns need."""
    return 1e-11 if dtype == jnp.float64 else 1e-5


def _residual(penalty: Penalty, coef: Array, inner: _Inner) -> Scalar:
    """‖(w − prox(w − t∇f, t))/t‖∞ at one over the curvature, and the intercept's gradient."""
    t = _model.lengths(penalty, inner.diagonal)
    w, slope = coef.ravel(), inner.place.slope.ravel()
    moved = w - _model.prox(penalty, coef.shape, w - t * slope, t)
    return jnp.maximum(jnp.max(jnp.abs(moved) / t), jnp.max(jnp.abs(inner.place.tilt)))


def _step(
    smooth: Smooth, penalty: Penalty, unit: Scalar, state: State, enough: Scalar | float
) -> tuple[Array, Array, Array, Kept | None]:
    """The minimum of the model: coefficients, intercept, whether it was found; the curvature that is kept.

    With an inverse of the active block by pivots; damped steps, which follow where those fail, without.
    """
    inner: _Inner = state.inner
    kept = inner.kept
    if kept is None or kept.pivoted is None:
        return *_to_minimum(smooth, penalty, state, enough * unit), kept
    gram, cross, inverse, lift = kept.bent
    recentre = inverse @ jnp.ravel(inner.place.tilt)

    def quick() -> tuple[Array, Array, Array, Pivoted]:
        linear = inner.place.slope - cross @ recentre - gram @ state.coef
        enough = _FORCING * unit * state.residual
        u, pivoted, _, fine = active_set(gram, linear, penalty.prox, state.coef, kept.pivoted, enough)
        # An inverse that rounding spoilt does not survive a failure.
        pivoted = jax.tree.map(lambda x: jnp.where(fine, x, jnp.zeros_like(x)), pivoted)
        shift = recentre + lift @ (u - state.coef)
        return u, state.intercept - shift.reshape(state.intercept.shape), fine, pivoted

    def slow() -> tuple[Array, Array, Array, Pivoted]:
        return *_to_minimum(smooth, penalty, state, enough * unit), kept.pivoted

    plain = inner.damping <= _least(state.coef.dtype)
    coef, intercept, solved, pivoted = jax.lax.cond(plain, quick, slow)
    return coef, intercept, solved, kept._replace(pivoted=pivoted)


def _to_minimum(smooth: Smooth, penalty: Penalty, state: State, enough: Scalar) -> tuple[Array, Array, Array]:
    """The minimum of the damped model on the coordinates that matter now: coefficients, intercept, whether it
    was found.

    Those coordinates come first in what the model sees, the nearest before the others: its work follows their
    number, its shape does not. Without a matrix all coordinates are in it.
    """
    inner: _Inner = state.inner
    whole = state.coef.ravel()
    index, count = _nearest(penalty, state) if smooth.explicit else (jnp.arange(whole.size), whole.size)
    some = lambda x: x.at[index].get(mode="fill", fill_value=0.0)  # noqa: E731
    kept = inner.kept
    curve = smooth.curvature(inner.place, index, count) if kept is None else kept.bent.part(index)
    curve = curve.damped(inner.damping)
    x, slope = some(whole), some(inner.place.slope.ravel())
    recentre = curve.inverse @ jnp.ravel(inner.place.tilt)

    def prox(v: Array, t: Array) -> Array:
        """Of the coordinates in their order; those that only fill up stay at 0."""
        spread = lambda part: whole.at[index].set(part, mode="drop")  # noqa: E731
        step = jnp.full_like(whole, t[0]).at[index].set(t, mode="drop")
        return some(_model.prox(penalty, state.coef.shape, spread(v), step))

    blocks = None if penalty.separable else _model.blocks(penalty, state.coef, index)
    model = _model.Model(curve, slope - curve.across(recentre), x, prox, count, blocks, smooth.exact)
    u, solved = _model.minimum(model, inner.damping, enough)
    shift = recentre + curve.follow(u - x)
    new = whole.at[index].set(u, mode="drop")
    return new.reshape(state.coef.shape), state.intercept - shift.reshape(state.intercept.shape), solved


def _nearest(penalty: Penalty, state: State) -> tuple[Array, Array]:
    """The coordinates that matter now, the nearest before the others, then what is beyond; their number."""
    size = state.coef.size
    distance = _distance(penalty, state)
    count = jnp.sum(distance < len(_FURTHER))
    order = jnp.argsort(distance, stable=True)
    order = jnp.pad(order, (0, padded(size) - size))
    return jnp.where(jnp.arange(order.size) < count, order, size), count


def _distance(penalty: Penalty, state: State) -> Array:
    """How far each coordinate is from mattering: by how much longer than it should be a prox step must be to
    move it, or to have a derivative there, as a place among `_FURTHER`, which has no end; whole blocks.
    """
    inner: _Inner = state.inner
    t, whole = _model.lengths(penalty, inner.diagonal), state.coef.ravel()

    def still(further: Array) -> Array:
        v = whole - further * t * inner.place.slope.ravel()
        step = lambda v: _model.prox(penalty, state.coef.shape, v, t)  # noqa: E731
        ahead, slope = jax.jvp(step, (v,), (jnp.ones_like(v),))
        return (ahead == whole) & (slope == 0)

    found = jnp.sum(jax.vmap(still)(jnp.asarray(_FURTHER, t.dtype)), axis=0)
    if penalty.separable:
        return found
    labels, count, _ = _model.blocks(penalty, state.coef, jnp.arange(whole.size))
    return jax.ops.segment_min(found, labels, count)[labels]
