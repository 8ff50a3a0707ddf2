"""Features that are made anew for each fit of a cross-validation, from the rows of that fit."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import equinox as eqx
import numpy as np
import scipy.sparse
from jaxtyping import Bool

from jaxreg._compilation import on_device
from jaxreg._typing import ArrayLike
from jaxreg._validation import require
from jaxreg.linear import conversion
from jaxreg.linear.design import DenseDesign, Design, Standardized
from jaxreg.linear.problem import Problem
from jaxreg.linear.size_classes import pad_rows

__all__ = ["FeaturesOfFit", "FoldFeatures"]

#: A function from the rows of a fit, booleans (n,), to the features (n, p) of all rows.
FeaturesOfFit: TypeAlias = Callable[[Bool[np.ndarray, " n"]], ArrayLike]


class FoldFeatures(NamedTuple):
    """A function that makes the features of each fit, for `n_rows` rows of data."""

    make: FeaturesOfFit
    n_rows: int

    @classmethod
    def of(cls, make: FeaturesOfFit | None, problem: Problem) -> "FoldFeatures | None":
        """Return the features of the fits of a problem; None where all fits share those of the problem.

        Raises:
            TypeError: for anything but a function, and for a problem of sparse features.
        """
        if make is None:
            return None
        if not callable(make):
            got = type(make).__name__
            raise TypeError(f"fold_features must be a function from rows of a fit to features, got {got}")
        design = problem.design.inner if isinstance(problem.design, Standardized) else problem.design
        if not isinstance(design, DenseDesign):
            raise TypeError("fold_features is for dense features, but X is sparse: give X.toarray()")
        return cls(make, problem.shape[0])

    def problem(self, whole: Problem, train: Bool[np.ndarray, " m"]) -> Problem:
        """Return the whole problem with the features of one fit, in the working coordinates of all rows.

        Args:
            whole: the problem of all rows, followed by rows of weight 0 that are not data.
            train: rows of the fit.

        Raises:
            ValueError: for features of another shape than the problem's, or that are not finite.
        """
        X = conversion.features(self.make(train[: self.n_rows].copy()))
        wanted = (self.n_rows, whole.shape[1])
        require(
            X.shape == wanted and not scipy.sparse.issparse(X),
            f"fold_features returned {type(X).__name__} of shape {X.shape}, wanted a dense array {wanted}",
        )
        conversion.require_finite(X, whole.dtype)
        design, data = whole.design, whole.standardization
        scale = np.asarray(data.scale * data.target_scale)
        stored, where = (np.asarray(X, whole.dtype) - np.asarray(data.mean)) / scale, _design
        if isinstance(design, Standardized):
            stored, where = np.asarray(design.mean) + np.asarray(design.scale) * stored, _inner_design
        else:
            stored = np.where(np.asarray(data.constant), 0.0, stored)
        rows = pad_rows(on_device(stored), whole.shape[0])
        return eqx.tree_at(where, whole, DenseDesign(rows))


def _design(problem: Problem) -> Design:
    return problem.design


def _inner_design(problem: Problem) -> Design:
    return problem.design.inner
