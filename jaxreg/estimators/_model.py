"""Parts that all estimators share: checking data, solving, attributes of a fit, linear prediction."""

import numbers
import warnings
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from jaxreg._typing import ArrayLike, FeaturesLike, ScipyMatrix
from jaxreg.estimators._losses import expected_targets
from jaxreg.estimators._penalties import PenaltyOptions, family_of
from jaxreg.linear.problem import Problem
from jaxreg.linear.solve import Solution
from jaxreg.losses import Loss
from jaxreg.models import FittedModel
from jaxreg.penalties import Family

__all__ = ["Chosen", "PenalizedModel", "non_negative"]

#: Dtypes of X that pass unchanged; other numbers become the first.
_DTYPES = (np.float64, np.float32)


class Chosen(NamedTuple):
    """The solution that becomes the fit, with its λ."""

    solution: Solution
    alpha: float


class PenalizedModel(BaseEstimator):
    """Base of the estimators.

    A subclass has the options as attributes and writes

    - `_problem`, which checks data and makes the problem of them;
    - `_solve`, which returns the one solution of a problem, or a choice among several;
    - `_set_weights` and `_weights`, which convert coefficients (p,) or (p, K) to `coef_` and back.
    """

    def _checked_data(
        self, X: FeaturesLike, y: ArrayLike, **options: bool
    ) -> tuple[np.ndarray | ScipyMatrix, np.ndarray]:
        """Return X as a float array or CSR matrix, and y; sets `n_features_in_` and `feature_names_in_`."""
        return validate_data(self, X, y, accept_sparse="csr", dtype=_DTYPES, ensure_min_samples=2, **options)

    def _as_problem(
        self, loss: Loss, X: np.ndarray | ScipyMatrix, y: np.ndarray, sample_weight: ArrayLike | None
    ) -> Problem:
        """Return the problem of data that were checked."""
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        intercept, standardize = bool(self.fit_intercept), bool(self.standardize)
        return Problem(loss, X, y, sample_weight=sample_weight, intercept=intercept, standardize=standardize)

    def _fit_problem(self, problem: Problem, groups: ArrayLike | None = None) -> Self:
        """Solve and set the attributes of the fit."""
        solution, alpha = self._solve(problem, groups)
        if not bool(solution.converged):
            warnings.warn(
                f"the fit at alpha={alpha:g} stopped before its tolerance: relative duality gap"
                f" {float(solution.gap):.1e}, KKT residual {float(solution.kkt):.1e}. Increase"
                " max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.loss_ = solution.loss
        self._set_weights(np.asarray(solution.coef), np.asarray(solution.intercept))
        self.n_iter_ = int(solution.steps)
        self.dual_gap_, self.kkt_residual_ = float(solution.gap), float(solution.kkt)
        return self

    def _family(self, n_features: int, l1_ratio: float | Sequence[float]) -> Family:
        """Return the penalty of the estimator as a function of λ."""
        groups = self.feature_groups
        if callable(groups):
            if not hasattr(self, "feature_names_in_"):
                raise ValueError(
                    "feature_groups is a function of the names of features, and X has none: give a data frame"
                    ' (in a pipeline .set_output(transform="pandas")), or one label for each feature'
                )
            groups = groups(self.feature_names_in_)
        options = PenaltyOptions(l1_ratio, self.gamma, groups, self.penalty_factors, bool(self.positive))
        return family_of(self.penalty, options, n_features)

    def _linear(self, X: FeaturesLike) -> Float[np.ndarray, "n *K"]:
        """Return the linear predictor of new rows."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=_DTYPES, reset=False)
        weights, intercept = self._weights()
        return np.asarray(X @ weights) + intercept

    def _mean(self, X: FeaturesLike) -> Float[np.ndarray, "n *K"]:
        """Return the expected targets of new rows, or the probabilities of classes."""
        z = self._linear(X)
        return expected_targets(self.loss_, z)

    def to_model(self, **given: object) -> FittedModel:
        """Return the fit as a `jaxreg.FittedModel`, which `jaxreg.save` writes to a file.

        Args:
            **given: Other attributes of the model, such as `target` or `settings`.

        Raises:
            NotFittedError: The estimator has not been fitted.
        """
        check_is_fitted(self)
        weights, intercept = self._weights()
        names = getattr(self, "feature_names_in_", ())
        facts = {"features": tuple(names), "classes": tuple(getattr(self, "classes_", ()))}
        facts |= {"penalty": str(self.penalty) if isinstance(self.penalty, str) else ""}
        facts |= {"lam": float(getattr(self, "alpha_", getattr(self, "alpha", np.nan)))}
        facts |= {"gap": self.dual_gap_, "kkt": self.kkt_residual_}
        return FittedModel(self.loss_, weights, intercept, **facts | given)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def non_negative(name: str, value: object) -> float:
    """Return a finite number ≥ 0; ValueError for anything else."""
    if not isinstance(value, numbers.Real) or not 0 <= float(value) < np.inf:
        raise ValueError(f"{name} is {value!r}: wanted a finite number ≥ 0")
    return float(value)
