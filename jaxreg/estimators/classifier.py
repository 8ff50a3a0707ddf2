"""Classification with a penalty: two classes or more, with any labels."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Self

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from jaxreg._typing import ArrayLike, FeaturesLike
from jaxreg.estimators._alphas import ChosenAlpha, GivenAlpha
from jaxreg.estimators._losses import class_loss
from jaxreg.linear.problem import Problem
from jaxreg.linear.selection.folds import FoldsLike
from jaxreg.linear.selection.scores import Score
from jaxreg.losses import Loss
from jaxreg.penalties import Family

__all__ = ["PenalizedClassifier", "PenalizedClassifierCV"]


class _Classification(ClassifierMixin):
    """Methods of classifiers; `coef_` is (1, p) for a loss with one output, or (K, p)."""

    #: Weights of the classes, an option of each classifier.
    class_weight: Mapping[Hashable, float] | str | None

    def _problem(self, X: FeaturesLike, y: ArrayLike, sample_weight: ArrayLike | None) -> Problem:
        X, y = self._checked_data(X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only ({self.classes_[0]}): wanted at least two classes")
        loss = class_loss(self.loss, len(self.classes_))
        if self.class_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
            sample_weight = sample_weight * compute_sample_weight(self.class_weight, y)
        return self._as_problem(loss, X, labels, sample_weight)

    def _set_weights(self, coef: Float[np.ndarray, "p *K"], intercept: Float[np.ndarray, "*K"]) -> None:
        if intercept.ndim:
            # Probabilities stay the same if all intercepts change by one number, so that only centred ones
            # are unique.
            intercept = intercept - intercept.mean()
        self.coef_, self.intercept_ = np.atleast_2d(coef.T), np.atleast_1d(intercept)

    def _weights(self) -> tuple[Float[np.ndarray, "p *K"], Float[np.ndarray, "*K"]]:
        coef, intercept = np.asarray(self.coef_), np.asarray(self.intercept_)
        return (coef[0], intercept[0]) if len(coef) == 1 else (coef.T, intercept)

    def decision_function(self, X: FeaturesLike) -> Float[np.ndarray, "n *K"]:
        """Return the linear predictor: (n,) of the second of two classes, or (n, K).

        Args:
            X: Features (n, p): an array, a data frame or a sparse matrix.
        """
        z = self._linear(X)
        return z[:, 1] - z[:, 0] if z.ndim == 2 and z.shape[1] == 2 else z

    def predict_proba(self, X: FeaturesLike) -> Float[np.ndarray, "n K"]:
        """Return the probability of every class, in the order of `classes_`.

        Args:
            X: Features (n, p).
        """
        mean = self._mean(X)
        return np.column_stack([1 - mean, mean]) if mean.ndim == 1 else mean

    def predict_log_proba(self, X: FeaturesLike) -> Float[np.ndarray, "n K"]:
        """Return the logarithm of the probability of every class, −inf where it rounds to 0.

        Args:
            X: Features (n, p).
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: FeaturesLike) -> Shaped[np.ndarray, " n"]:
        """Return the most probable class of new rows.

        Args:
            X: Features (n, p).
        """
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(int) if z.ndim == 1 else np.argmax(z, axis=1)]


class PenalizedClassifier(_Classification, GivenAlpha):
    r"""Logistic or multinomial regression with any penalty, solved to a duality gap.

    Minimises the weighted mean of log(1 + eᶻ) − y·z, or of the cross-entropy of several classes, plus the
    penalty at λ = `alpha`. scikit-learn's `LogisticRegression(C)` on n samples, with L1 or L2, is
    alpha = 1/(C·n); `jaxreg.conventions` converts the λ of other libraries.

    Args:
        loss: "logistic" for two classes, "multinomial" for any number of classes, "auto" for the one that
            fits, or a loss of jaxreg.
        penalty: As in `PenalizedRegressor`; "rows" takes all classes of a feature together.
        alpha: λ ≥ 0.
        class_weight: Factors of the sample weights by class, as in scikit-learn: a dict, None, or "balanced"
            for n/(K·number of samples of the class).
        l1_ratio: As in `PenalizedRegressor`.
        gamma: As in `PenalizedRegressor`.
        feature_groups: As in `PenalizedRegressor`.
        penalty_factors: As in `PenalizedRegressor`.
        positive: As in `PenalizedRegressor`.
        fit_intercept: As in `PenalizedRegressor`.
        standardize: As in `PenalizedRegressor`.
        tol: As in `PenalizedRegressor`.
        max_iter: As in `PenalizedRegressor`.

    Attributes:
        classes_: The K classes, sorted.
        coef_: Coefficients (1, p) for "logistic", (K, p) for "multinomial".
        intercept_: Intercepts (1,), or (K,) that sum to 0.
        n_iter_: Number of solver steps.
        dual_gap_: Relative duality gap of the fit, inf for non-convex penalties.
        kkt_residual_: Relative KKT residual of the fit.
        loss_: The loss.
        n_features_in_: Number of features p.
        feature_names_in_: Names of the features, where X has names.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = PenalizedClassifier(alpha=0.01, standardize=True).fit(X, y)
    >>> int((model.coef_ == 0).sum()), round(model.score(X, y), 2)
    (7, 0.97)
    """

    def __init__(  # noqa: PLR0913, public options by keyword
        self,
        loss: str | Loss = "auto",
        penalty: str | Family = "l1",
        alpha: float = 0.1,
        *,
        class_weight: Mapping[Hashable, float] | str | None = None,
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
        super().__init__(
            loss, penalty, alpha, l1_ratio=l1_ratio, gamma=gamma, feature_groups=feature_groups,
            penalty_factors=penalty_factors, positive=positive, fit_intercept=fit_intercept,
            standardize=standardize, tol=tol, max_iter=max_iter,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: FeaturesLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model.

        Args:
            X: Features (n, p): an array, a data frame or a sparse matrix.
            y: Classes (n,): numbers or text.
            sample_weight: Weights (n,) ≥ 0; None weighs all samples alike.

        Raises:
            TypeError: `loss` or `penalty` is of another type.
            ValueError: The data or an option are out of their range, or there is one class only.
        """
        return self._fit_problem(self._problem(X, y, sample_weight))


class PenalizedClassifierCV(_Classification, ChosenAlpha):
    r"""Logistic or multinomial regression with any penalty, whose alpha cross-validation chooses.

    Runs `jaxreg.cross_validate`: one certified path on all rows and one for each fold, with the classes in
    equal shares in all folds where `cv` is a number. The attributes of a fit are those of
    `PenalizedClassifier`.

    Args:
        loss: As in `PenalizedClassifier`.
        penalty: As in `PenalizedRegressor`; "rows" takes all classes of a feature together.
        l1_ratio: Share of L1 in "elastic_net" and "sparse_group"; of several the best one is taken.
        class_weight: As in `PenalizedClassifier`; "balanced" counts all samples. Weights count in fits and
            scores.
        alphas: As in `PenalizedRegressorCV`.
        n_alphas: As in `PenalizedRegressorCV`.
        eps: As in `PenalizedRegressorCV`.
        cv: As in `PenalizedRegressorCV`.
        choose: As in `PenalizedRegressorCV`.
        metric: Score of a fold: "deviance" (None), "misclassification", "auc" for two classes, or a function
            as in `jaxreg.cross_validate`.
        random_state: As in `PenalizedRegressorCV`.
        gamma: As in `PenalizedRegressor`.
        feature_groups: As in `PenalizedRegressor`.
        penalty_factors: As in `PenalizedRegressor`.
        positive: As in `PenalizedRegressor`.
        fit_intercept: As in `PenalizedRegressor`.
        standardize: As in `PenalizedRegressorCV`.
        tol: As in `PenalizedRegressor`.
        max_iter: As in `PenalizedRegressor`.

    Attributes:
        alpha_: The chosen alpha.
        l1_ratio_: The chosen l1_ratio.
        alphas_: The grid at this l1_ratio, falling.
        lambda_max_: Smallest alpha at which all penalised coefficients are 0, see `jaxreg.lambda_max`; NaN
            where there is none, as for a constant target.
        cv_result_: The `jaxreg.CrossValidation`, or `jaxreg.CrossValidations` for several l1_ratio.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = PenalizedClassifierCV(choose="1se", standardize=True, n_alphas=15, eps=0.01)
    >>> (model.fit(X[50:], y[50:]).coef_ != 0).tolist(), model.score(X[50:], y[50:])
    ([[False, True, True, True]], 0.95)
    """

    def __init__(  # noqa: PLR0913, public options by keyword
        self,
        loss: str | Loss = "auto",
        penalty: str | Family = "l1",
        *,
        class_weight: Mapping[Hashable, float] | str | None = None,
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
        super().__init__(
            loss, penalty, l1_ratio=l1_ratio, alphas=alphas, n_alphas=n_alphas, eps=eps, cv=cv,
            choose=choose, metric=metric, random_state=random_state, gamma=gamma,
            feature_groups=feature_groups, penalty_factors=penalty_factors, positive=positive,
            fit_intercept=fit_intercept, standardize=standardize, tol=tol, max_iter=max_iter,
        )  # fmt: skip
        self.class_weight = class_weight

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
            y: Classes (n,): numbers or text.
            sample_weight: Weights (n,) ≥ 0, which count in the fits and in the scores.
            groups: Label of the group of each row (n,); rows of a group stay in one fold.

        Raises:
            TypeError: `loss` or `penalty` is of another type.
            ValueError: The data, an option or the folds are out of their range, or there is one class only.
        """
        return self._fit_problem(self._problem(X, y, sample_weight), groups)
