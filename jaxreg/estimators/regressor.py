"""Regression with a penalty: real targets and counts, one or several outputs."""

from typing import Self

import numpy as np
from jaxtyping import Float
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from jaxreg._typing import ArrayLike, FeaturesLike
from jaxreg.estimators._alphas import ChosenAlpha, GivenAlpha
from jaxreg.estimators._losses import explained_deviance, regression_loss
from jaxreg.linear.problem import Problem
from jaxreg.losses import Poisson

__all__ = ["PenalizedRegressor", "PenalizedRegressorCV"]


class _Regression(RegressorMixin):
    """Methods of regressors; `coef_` is (p,), or (K, p) for K outputs."""

    def _problem(self, X: FeaturesLike, y: ArrayLike, sample_weight: ArrayLike | None) -> Problem:
        loss = regression_loss(self.loss)
        X, y = self._checked_data(X, y, multi_output=True, y_numeric=True)
        return self._as_problem(loss, X, y, sample_weight)

    def _set_weights(self, coef: Float[np.ndarray, "p *K"], intercept: Float[np.ndarray, "*K"]) -> None:
        self.coef_, self.intercept_ = coef.T, intercept[()]

    def _weights(self) -> tuple[Float[np.ndarray, "p *K"], Float[np.ndarray, "*K"]]:
        return np.asarray(self.coef_).T, np.asarray(self.intercept_)

    def predict(self, X: FeaturesLike) -> Float[np.ndarray, "n *K"]:
        """Return the expected targets of new rows (n,), or (n, K) for K outputs.

        Args:
            X: Features (n, p): an array, a data frame or a sparse matrix.
        """
        return self._mean(X)

    def score(self, X: FeaturesLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R²; for counts the share of the deviance that predictions explain, D².

        Args:
            X: Features (n, p).
            y: Targets (n,) or (n, K).
            sample_weight: Weights (n,).
        """
        check_is_fitted(self)
        if self.loss_.has_unit:
            return super().score(X, y, sample_weight)
        z = self._linear(X)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        return explained_deviance(self.loss_, z, np.asarray(y), weight)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        counts = self.loss == "poisson" if isinstance(self.loss, str) else isinstance(self.loss, Poisson)
        tags.target_tags.positive_only = counts
        return tags


class PenalizedRegressor(_Regression, GivenAlpha):
    r"""Linear regression with any loss and penalty, solved to a duality gap.

    Minimises the weighted mean loss plus the penalty at λ = `alpha`. The squared error is ½(z − y)², so that
    `alpha` and `l1_ratio` are those of scikit-learn's `Lasso` and `ElasticNet`:

    | scikit-learn | here |
    |---|---|
    | `Lasso(alpha)` | `penalty="l1"`, alpha |
    | `ElasticNet(alpha, l1_ratio)` | `penalty="elastic_net"`, alpha, l1_ratio |
    | `MultiTaskLasso(alpha)` | `penalty="rows"`, alpha |
    | `Ridge(alpha)` on n samples | `penalty="l2"`, alpha/n |
    | `PoissonRegressor(alpha)` | `loss="poisson"`, `penalty="l2"`, alpha |

    `jaxreg.conventions` converts the λ of other libraries.

    Args:
        loss: "squared_error" ("auto"), "huber" (delta = 1), "poisson" (log link), or an object such as
            `jaxreg.losses.Huber(2.0)`.
        penalty: "l1", "l2", "elastic_net", "mcp", "scad", "l0", "l_half", "group", "sparse_group",
            "group_mcp", "rows" (all outputs of a feature together), or a function of λ that returns a
            penalty.
        alpha: λ ≥ 0, in units of y times those of X. The default suits features and targets whose standard
            deviation is about 1; `lambda_max` returns the alpha above which all coefficients are 0.
        l1_ratio: Share of L1 in "elastic_net" and "sparse_group", in [0, 1].
        gamma: Concavity of "mcp", "group_mcp" (None is 3) and "scad" (None is 3.7).
        feature_groups: Label of the group of each feature (p,), for "group", "sparse_group", "group_mcp"; or
            a function from the names of the features to labels, such as `jaxreg.groups.from_columns`.
        penalty_factors: Factors of λ, (p,) for "l1", "l2", "elastic_net" and (G,) for "group",
            "sparse_group": 0 leaves a feature unpenalised, inf leaves it out.
        positive: Whether coefficients are at least 0, for "l1", "l2", "elastic_net".
        fit_intercept: Whether to fit an intercept, which is not penalised.
        standardize: Whether the penalty sees features divided by their standard deviation. Coefficients are
            for features as they come.
        tol: Relative duality gap, or KKT residual for non-convex penalties, at which a fit stops. None is
            1e-6 in float64 and 1e-4 in float32.
        max_iter: Solver steps at most; None is 50,000.

    Attributes:
        coef_: Coefficients (p,), or (K, p) for K outputs.
        intercept_: Intercept, or (K,).
        n_iter_: Number of solver steps.
        dual_gap_: Relative duality gap of the fit, inf for non-convex penalties.
        kkt_residual_: Relative KKT residual of the fit.
        loss_: The loss.
        n_features_in_: Number of features p.
        feature_names_in_: Names of the features, where X has names.

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = PenalizedRegressor(alpha=1.0).fit(X, y)
    >>> np.flatnonzero(model.coef_).tolist()
    [2, 3, 8]
    >>> bool(model.dual_gap_ <= 1e-6), round(model.score(X, y), 3)
    (True, 0.357)
    >>> bool((model.set_params(alpha=model.lambda_max(X, y)).fit(X, y).coef_ == 0).all())
    True
    """

    def fit(self, X: FeaturesLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model.

        Args:
            X: Features (n, p): an array, a data frame or a sparse matrix.
            y: Targets (n,) or (n, K).
            sample_weight: Weights (n,) ≥ 0; None weighs all samples alike.

        Raises:
            TypeError: `loss` or `penalty` is of another type.
            ValueError: The data or an option are out of their range.
        """
        return self._fit_problem(self._problem(X, y, sample_weight))


class PenalizedRegressorCV(_Regression, ChosenAlpha):
    r"""Linear regression with any loss and penalty, whose alpha cross-validation chooses.

    Runs `jaxreg.cross_validate`: one certified path on all rows and one for each fold. The options that are
    not listed here, and the attributes of a fit, are those of `PenalizedRegressor`.

    Args:
        loss: Loss, as in `PenalizedRegressor`.
        penalty: Penalty, as in `PenalizedRegressor`.
        l1_ratio: Share of L1 in "elastic_net" and "sparse_group"; of several the best one is taken.
        alphas: Grid of alpha; None takes `n_alphas` values from λ_max of all rows.
        n_alphas: Number of alpha of the default grid.
        eps: Smallest over largest alpha of the default grid; None is 1e-4 for n > p, else 1e-2.
        cv: Number of random folds, a splitter, or pairs (rows to train on, rows to test on).
        choose: "min" takes the best mean score, "1se" the largest alpha within one standard error of it.
        metric: Score of a fold, as in `jaxreg.cross_validate`; None is the deviance.
        random_state: Seed of random folds, or a random state of NumPy; None is 0.
        gamma: As in `PenalizedRegressor`.
        feature_groups: As in `PenalizedRegressor`.
        penalty_factors: As in `PenalizedRegressor`.
        positive: As in `PenalizedRegressor`.
        fit_intercept: As in `PenalizedRegressor`.
        standardize: Whether the penalty sees features divided by their standard deviation, computed anew
            for each fold.
        tol: As in `PenalizedRegressor`.
        max_iter: As in `PenalizedRegressor`.

    Attributes:
        alpha_: The chosen alpha.
        l1_ratio_: The chosen l1_ratio.
        alphas_: The grid at this l1_ratio, falling.
        lambda_max_: Smallest alpha at which all penalised coefficients are 0, see `jaxreg.lambda_max`; NaN
            where there is none, as for a constant target.
        cv_result_: The `jaxreg.CrossValidation`, or `jaxreg.CrossValidations` for several l1_ratio.

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = PenalizedRegressorCV(choose="1se", n_alphas=20).fit(X, y)
    >>> int((model.coef_ != 0).sum()), bool(model.alpha_ > model.cv_result_.lambda_min)
    (7, True)
    """

    def fit(
        self,
        X: FeaturesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Choose alpha, and fit the model on all rows.

        Args:
            X: Features (n, p): an array, a data frame or a sparse matrix.
            y: Targets (n,) or (n, K).
            sample_weight: Weights (n,) ≥ 0, which count in the fits and in the scores.
            groups: Label of the group of each row (n,); rows of a group stay in one fold.

        Raises:
            TypeError: `loss` or `penalty` is of another type.
            ValueError: The data, an option or the folds are out of their range.
        """
        return self._fit_problem(self._problem(X, y, sample_weight), groups)
