"""The problem of each fold: weight 0 on the rows that are left out, centred and scaled without them.

The problems of all folds share the features of the whole problem and the shapes of its arrays, and with them
the compiled programs of a path. Moments and Gram matrices of the remaining rows are those of all rows less
those of the rows left out, unless too few digits would remain or each fold has features of its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxreg._compilation import jit_at_level
from jaxreg._typing import Scalar
from jaxreg.linear._targets import working_targets
from jaxreg.linear.design import Design, Standardized
from jaxreg.linear.path.matrix_columns import whole_gram
from jaxreg.linear.problem import Problem
from jaxreg.linear.selection._fold_features import FoldFeatures
from jaxreg.linear.selection.folds import Folds
from jaxreg.linear.standardization import ColumnScaling, Standardization, column_scaling

__all__ = ["FoldProblem", "FoldProblems", "in_form_of_folds", "padded_rows"]

#: Smallest share of a column's sum of squares that must remain without a fold for differences to be used:
#: they lose two digits at most.
_MIN_REMAINING = 0.01
#: Largest share of the rows that a fold may leave out for its Gram matrix to be a difference: beyond it the
#: Gram matrix of the remaining rows takes no longer.
_MAX_LEFT_OUT = 0.5


class FoldProblem(NamedTuple):
    """The problem of one fold.

    Attributes:
        problem: the problem of the fold's fit.
        whole: the problem of all rows with the features of this fold, by which rows are predicted.
        gram: Gram matrix XᵀWX of the fit where that is known.
    """

    problem: Problem
    whole: Problem
    gram: Float[Array, "p p"] | None


class _Columns(NamedTuple):
    """Centring and scaling by the remaining rows, in working coordinates of all rows.

    `by_difference` says whether they were computed from sums over all rows less those over the rows left out.
    """

    scaling: ColumnScaling
    by_difference: bool


class _Arrays(NamedTuple):
    """Arrays of the whole problem on the host."""

    y: np.ndarray
    offset: np.ndarray
    weight: np.ndarray
    standardization: Standardization


class FoldProblems(NamedTuple):
    """The problems of all folds, made one by one.

    Attributes:
        whole: the problem of all rows.
        train: rows of each fit.
        left_out: indices of the other rows, filled up with n.
        columns: centring and scaling of each fit; none where each has features of its own.
        features: makes the features of each fit; None where all fits share those of the problem.
        arrays: arrays of the whole problem on the host.
        gram: Gram matrix of all rows; None where those of the folds are not differences from it.
    """

    whole: Problem
    train: Bool[np.ndarray, "S n"]
    left_out: Int[np.ndarray, "S m"]
    columns: list[_Columns]
    features: FoldFeatures | None
    arrays: _Arrays
    gram: Float[Array, "p p"] | None

    @classmethod
    def of(
        cls, problem: Problem, folds: Folds, features: FoldFeatures | None = None, *, with_gram: bool
    ) -> "FoldProblems":
        """Return the problems of folds, with their Gram matrices where these are differences.

        Raises:
            ValueError: where a fold's rows have no weight, or determine no fit (a class without a sample).
        """
        fields = (problem.y, problem.offset, problem.weight, problem.standardization)
        arrays = _Arrays(*jax.tree.map(np.asarray, fields))
        for k, train in enumerate(folds.train):
            _require_fit(problem, k, arrays.y, np.where(train, arrays.weight, 0))
        left_out = padded_rows(~folds.train)
        if features is not None:
            return cls(problem, folds.train, left_out, [], features, arrays, None)
        columns = list(_fold_columns(problem, np.where(folds.train, 0, arrays.weight)))
        with_gram = with_gram and left_out.shape[1] <= _MAX_LEFT_OUT * folds.train.shape[1]
        gram = whole_gram(problem) if with_gram else None
        return cls(problem, folds.train, left_out, columns, None, arrays, gram)

    def fold(self, k: int) -> FoldProblem:
        """Return the problem of a fold."""
        weight = np.where(self.train[k], self.arrays.weight, 0)
        remaining = np.sum(weight)
        if self.features is None:
            whole, columns = self.whole, self.columns[k]
        else:
            whole = self.features.problem(self.whole, self.train[k])
            columns = _exact_columns(whole, weight)
        weight = (weight / remaining).astype(self.arrays.weight.dtype)
        # Arrays of NumPy would be copied to the device by every program.
        fold = jax.device_put(_with_weight(whole, weight, columns.scaling, self.arrays))
        if self.gram is None or not columns.by_difference:
            return FoldProblem(fold, whole, None)
        gram = _gram_by_difference(whole, self.gram, self.left_out[k], remaining, fold.design)
        return FoldProblem(fold, whole, gram)


def in_form_of_folds(problem: Problem) -> Problem:
    """Return an equal problem whose pytree has the structure of the folds' problems, to share programs."""
    if isinstance(problem.design, Standardized) or not _restandardizes(problem):
        return problem
    p, dtype = problem.shape[1], problem.dtype
    identity = ColumnScaling(np.zeros(p, dtype), np.ones(p, dtype), np.asarray(problem.constant))
    return jax.device_put(eqx.tree_at(lambda x: x.design, problem, _design(problem, identity)))


def padded_rows(masks: Bool[np.ndarray, "S n"]) -> Int[np.ndarray, "S m"]:
    """Return the indices of the rows of each mask, filled up with n to the length of the longest."""
    n, longest = masks.shape[1], int(masks.sum(axis=1).max())
    out = np.full((len(masks), longest), n)
    for row, mask in zip(out, masks, strict=True):
        index = np.flatnonzero(mask)
        row[: index.size] = index
    return out


def _restandardizes(problem: Problem) -> bool:
    return problem.intercept or bool(problem.standardizes)


def _require_fit(problem: Problem, k: int, y: np.ndarray, weight: np.ndarray) -> None:
    """Raise ValueError where the rows of a fit have no weight, or their targets determine no fit."""
    if not weight.sum() > 0:
        raise ValueError(f"the rows that fold {k} is fitted on have weight 0: leave the fold out")
    try:
        if not problem.loss.has_unit:
            problem.loss.check(y, weight)
    except ValueError as fault:
        raise ValueError(
            f"without fold {k}: {fault}. Take fewer folds, or stratify= to keep the shares of classes"
        ) from fault


# ---------------------------------------------------------------- centring and scaling


def _fold_columns(problem: Problem, left_out: Float[np.ndarray, "S n"]) -> Iterator[_Columns]:
    """Yield mean, scale and constant columns of each fold, by the rules of `Problem`."""
    whole, left = jax.tree.map(np.asarray, _sums(problem.design, problem.weight, left_out))
    known, tiny = np.asarray(problem.constant), np.finfo(problem.dtype).tiny
    one, zero = np.ones_like(whole.mean), np.zeros_like(whole.mean)
    for k, weight in enumerate(left_out):
        remaining = 1 - weight.sum()
        # The square of a row of weight 0 may be infinite: the differences are then not finite, and not used.
        with np.errstate(invalid="ignore", over="ignore"):
            mean, square = ((a - b[k]) / max(remaining, tiny) for a, b in zip(whole, left, strict=True))
            variance = square - mean**2
            by_difference = np.all(known | (variance * remaining >= _MIN_REMAINING * whole.square))
        if not by_difference:
            yield _exact_columns(problem, np.asarray(problem.weight) - weight)
            continue
        scale = np.sqrt(np.where(known, one, variance)) if bool(problem.standardizes) else one
        mean = mean if problem.intercept else zero
        scaling = ColumnScaling(mean.astype(problem.dtype), scale.astype(problem.dtype), known)
        yield _Columns(scaling, by_difference=True)


class _Sums(NamedTuple):
    """Σωx and Σωx² over some rows, (p,) or for each fold (S, p)."""

    mean: Float[Array, "*S p"]
    square: Float[Array, "*S p"]


@jit_at_level(0)
@jax.default_matmul_precision("highest")
def _sums(design: Design, weight: Float[Array, " n"], left_out: Float[Array, "S n"]) -> tuple[_Sums, _Sums]:
    """Return the sums over all rows, and over the rows that each fold leaves out."""
    whole = _Sums(design.rmatmul(weight), design.squares(weight))
    return whole, _Sums(design.rmatmul(left_out.T).T, jax.lax.map(design.squares, left_out))


def _exact_columns(problem: Problem, weight: Float[np.ndarray, " n"]) -> _Columns:
    """Return mean, scale and constant columns from the remaining rows themselves."""
    weight = np.maximum(weight / weight.sum(), 0)
    scaling = _column_scaling(problem.design, weight, problem.intercept, problem.standardizes)
    mean, scale, constant = map(np.asarray, scaling)
    scaling = ColumnScaling(mean, scale, constant | np.asarray(problem.constant))
    return _Columns(scaling, by_difference=False)


@jit_at_level(0)
@jax.default_matmul_precision("highest")
def _column_scaling(
    design: Design, weight: Float[Array, " n"], intercept: bool, standardize: Bool[Array, ""]
) -> ColumnScaling:
    return column_scaling(design, weight, intercept=intercept, standardize=standardize)


def _design(problem: Problem, scaling: ColumnScaling) -> Design:
    """Return the centred and scaled columns, as one affine map of the stored ones."""
    old, (mean, scale, constant) = problem.design, scaling
    if not _restandardizes(problem):
        return old
    if not isinstance(old, Standardized):
        return Standardized(old, mean, scale, constant)
    stored_mean, stored_scale = np.asarray(old.mean), np.asarray(old.scale)
    mean, scale = stored_mean + stored_scale * mean, stored_scale * scale
    return Standardized(old.inner, mean, scale, constant | np.asarray(old.constant))


def _with_weight(problem: Problem, weight: np.ndarray, scaling: ColumnScaling, arrays: _Arrays) -> Problem:
    """Return the problem under other weights, which are 0 on the rows left out."""
    old, y, offset = arrays.standardization, arrays.y, arrays.offset
    centred = working_targets(
        problem.loss, y, offset, weight, centre=problem.intercept, scale=problem.scales_target
    )
    offset, mean, unit = (np.asarray(x, problem.dtype) for x in centred[1:])
    y = np.asarray(centred.y, y.dtype)
    standardization = old.followed_by(scaling, mean, unit)
    loss = problem.loss
    if problem.scales_target:
        loss = jax.tree.map(lambda x: np.asarray(x, problem.dtype), loss.in_units(unit))
    new = (loss, _design(problem, scaling), y, weight, offset, standardization)
    where = lambda p: (p.loss, p.design, p.y, p.weight, p.offset, p.standardization)  # noqa: E731
    return eqx.tree_at(where, problem, new)


# ---------------------------------------------------------------- Gram matrices


@jit_at_level(0)
@jax.default_matmul_precision("highest")
def _gram_by_difference(
    problem: Problem, whole: Float[Array, "p p"], rows: Int[Array, " m"], remaining: Scalar, fold: Design
) -> Float[Array, "p p"]:
    """Return the Gram matrix of a fold: that of all rows less that of `rows`, centred and scaled anew."""
    left = _gram_of(problem, rows)
    mean, scale, constant = _between(problem.design, fold)
    gram = (whole - left) / remaining - mean[:, None] * mean
    factor = jnp.where(constant, 0.0, 1 / scale)
    return gram * factor[:, None] * factor


def _gram_of(problem: Problem, rows: Int[Array, " m"]) -> Float[Array, "p p"]:
    """Return the part of the Gram matrix that is due to some rows; an index of n stands for none."""
    design, weight = problem.design, problem.weight
    part = design.rows(rows)
    if part is None:
        return design.weighted_gram(jnp.zeros_like(weight).at[rows].set(weight[rows], mode="drop"))
    return part.weighted_gram(weight.at[rows].get(mode="fill", fill_value=0))


def _between(old: Design, new: Design) -> tuple[Float[Array, " p"], Float[Array, " p"], Bool[Array, " p"]]:
    """Return mean, scale and constant columns of `new` in units of `old`."""
    if not isinstance(new, Standardized):
        zero = jnp.zeros(new.shape[1], new.dtype)
        return zero, zero + 1, zero > 0
    if not isinstance(old, Standardized):
        return new.mean, new.scale, new.constant
    return (new.mean - old.mean) / old.scale, new.scale / old.scale, new.constant
