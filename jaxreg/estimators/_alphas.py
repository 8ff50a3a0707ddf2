"""One alpha that is given, and one that cross-validation chooses."""

import numbers
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from jaxreg._typing import ArrayLike, FeaturesLike
from jaxreg.estimators._model import Chosen, PenalizedModel, non_negative
from jaxreg.linear.path.grid import lambda_max
from jaxreg.linear.problem import Problem
from jaxreg.linear.selection.cross_validation import cross_validate
from jaxreg.linear.selection.folds import FoldsLike
from jaxreg.linear.selection.scores import Score
from jaxreg.linear.solve import solve
from jaxreg.losses import Loss
from jaxreg.penalties import Family

__all__ = ["ChosenAlpha", "GivenAlpha"]

#: Random states of NumPy become seeds below this number.
_SEEDS = 2**31 - 1


class GivenAlpha(PenalizedModel):
    """An estimator whose alpha is given."""

    def __init__(  # noqa: PLR0913, public options by keyword
        self,
        loss: str | Loss = "auto",
        penalty: str | Family = "l1",
        alpha: float = 0.1,
        *,
        l1_ratio: float = 0.5,
        gamma: float | None = None,
        feature_groups: ArrayLike | Callable[[np.ndarray], ArrayLike] | None = None,
        penalty_factors: ArrayLike | None = None,
        positive: bool = False,
        fit_intercept: bool = True,
        standardize: bool = False,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.gamma = gamma
        self.feature_groups = feature_groups
        self.penalty_factors = penalty_factors
        self.positive = positive
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.tol = tol
        self.max_iter = max_iter

    def _solve(self, problem: Problem, groups: None) -> Chosen:
        alpha = non_negative("alpha", self.alpha)
        if np.ndim(self.l1_ratio):
            raise ValueError(f"l1_ratio is {self.l1_ratio!r}: wanted one number; the CV form takes several")
        family = self._family(problem.shape[1], self.l1_ratio)
        solution = solve(problem, family(alpha), tol=self.tol, max_steps=self.max_iter, throw=False)
        return Chosen(solution, alpha)

    def lambda_max(self, X: FeaturesLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the smallest alpha at which all penalised coefficients are 0, for grids of alpha.

        For penalties without a threshold, such as "l2", the largest alpha of glmnet's grid, see
        `jaxreg.lambda_max`. The estimator need not be fitted, and does not change.

        Args:
            X: Features (n, p).
            y: Targets or classes.
            sample_weight: Weights (n,).

        Raises:
            ValueError: The features explain nothing of y, as for a constant target.
        """
        fresh = clone(self)
        problem = fresh._problem(X, y, sample_weight)
        return float(lambda_max(problem, fresh._family(problem.shape[1], fresh.l1_ratio)))


class ChosenAlpha(PenalizedModel):
    """An estimator whose alpha is chosen by cross-validation."""

    def __init__(  # noqa: PLR0913, public options by keyword
        self,
        loss: str | Loss = "auto",
        penalty: str | Family = "l1",
        *,
        l1_ratio: float | Sequence[float] = 0.5,
        alphas: ArrayLike | None = None,
        n_alphas: int = 100,
        eps: float | None = None,
        cv: FoldsLike = 5,
        choose: str = "min",
        metric: str | Score | None = None,
        random_state: int | np.random.RandomState | None = None,
        gamma: float | None = None,
        feature_groups: ArrayLike | Callable[[np.ndarray], ArrayLike] | None = None,
        penalty_factors: ArrayLike | None = None,
        positive: bool = False,
        fit_intercept: bool = True,
        standardize: bool = False,
        tol: float | None = None,
        max_iter: int | None = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.l1_ratio = l1_ratio
        self.alphas = alphas
        self.n_alphas = n_alphas
        self.eps = eps
        self.cv = cv
        self.choose = choose
        self.metric = metric
        self.random_state = random_state
        self.gamma = gamma
        self.feature_groups = feature_groups
        self.penalty_factors = penalty_factors
        self.positive = positive
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.tol = tol
        self.max_iter = max_iter

    def _solve(self, problem: Problem, groups: ArrayLike | None) -> Chosen:
        if self.choose not in ("min", "1se"):
            raise ValueError(f"choose is {self.choose!r}: wanted 'min' or '1se'")
        family = self._family(problem.shape[1], self.l1_ratio)
        mixed = np.ndim(self.l1_ratio) > 0
        result = cross_validate(
            problem,
            family,
            None if self.alphas is None else np.unique(np.asarray(self.alphas, float))[::-1],
            second={"l1_ratio": self.l1_ratio} if mixed else None,
            groups=groups,
            **self._options(problem),
        )
        best, ratio = (result.best, result.best_value) if mixed else (result, self.l1_ratio)
        self.cv_result_, self.l1_ratio_, self.alphas_ = result, ratio, np.asarray(best.lambdas)
        self.alpha_ = float(self.alphas_[best.index(self.choose)])
        self.lambda_max_ = float(self.alphas_[0])
        if self.alphas is not None:
            self.lambda_max_ = _lambda_max(problem, partial(family, l1_ratio=ratio) if mixed else family)
        return Chosen(best.solution(self.choose), self.alpha_)

    def _options(self, problem: Problem) -> dict[str, object]:
        """Return the options of `cross_validate` that need no family."""
        drawn = isinstance(self.cv, numbers.Integral)
        return {
            "folds": int(self.cv) if drawn else self.cv,
            "key": _seed(self.random_state),
            "stratify": drawn and not problem.loss.has_unit and hasattr(self, "classes_"),
            "metric": self.metric,
            "num": self.n_alphas,
            "ratio": self.eps,
            "tol": self.tol,
            "max_steps": self.max_iter,
        }


def _lambda_max(problem: Problem, family: Family) -> float:
    """Return λ_max, or NaN where there is none, as for a constant target."""
    try:
        return float(lambda_max(problem, family))
    except ValueError:
        return float("nan")


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """Return the seed of random folds: 0 for None, an integer as it is, else a number that is drawn."""
    if random_state is None or isinstance(random_state, numbers.Integral):
        return int(random_state or 0)
    return int(check_random_state(random_state).randint(_SEEDS))
