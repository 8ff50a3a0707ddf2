"""Result of a cross-validation that chooses one λ for each of several targets."""

from typing import TYPE_CHECKING, ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreg._extras import import_extra
from jaxreg._module import Module
from jaxreg._typing import ArrayLike, FeaturesLike
from jaxreg.linear.path.result import Path
from jaxreg.linear.prediction import LinearPredictor
from jaxreg.linear.selection.cv_result import describe_folds, index_of_choice, table
from jaxreg.losses import Loss

if TYPE_CHECKING:
    import xarray

__all__ = ["TargetCrossValidation", "TargetSolution"]

#: Shares of the targets whose λ a table shows.
_QUANTILES = {"smallest": 0.0, "median": 0.5, "largest": 1.0}


class TargetSolution(LinearPredictor):
    """Solutions of K targets, each at a λ of its own, on the scale of the data.

    Attributes:
        lambdas: λ of each target.
        coef: coefficients.
        intercept: intercepts.
        gap: duality gap of the fit of all targets at the λ of each one, relative to the loss range of all
            targets: a bound on the gap of that target in the same unit.
        loss: the loss, for predictions.
        with_offset: whether the problem had an offset.
    """

    lambdas: Float[Array, " K"]
    coef: Float[Array, "p K"]
    intercept: Float[Array, " K"]
    gap: Float[Array, " K"]
    loss: Loss
    with_offset: bool = eqx.field(static=True)

    one_per_lambda: ClassVar[bool] = False


class TargetCrossValidation(Module):
    """Scores of each of K targets along a common path, and the λ chosen for each.

    `mean` and `se` are those of `CrossValidation`, target by target.

    Attributes:
        path: the path of all targets on all rows.
        fold_scores: score of each fold, λ and target; NaN for a fold whose rows have weight 0.
        fold_weights: sum of the sample weights of the rows of each fold.
        repeat: the partition that each fold belongs to.
        mean: weighted mean over folds.
        se: standard error of the mean.
        fold_gap: relative duality gap of each fit, all targets together.
        fold_kkt: relative KKT residual of each fit, all targets together.
        converged: mask of the fits whose certificate met the tolerance.
        predictions: prediction of each row by fits without it, at each λ; None unless asked for.
        metric: name of the score.
        higher_is_better: whether a higher score is better.
    """

    path: Path
    fold_scores: Float[np.ndarray, "S L K"]
    fold_weights: Float[np.ndarray, " S"]
    repeat: Int[np.ndarray, " S"]
    mean: Float[np.ndarray, "L K"]
    se: Float[np.ndarray, "L K"]
    fold_gap: Float[np.ndarray, "S L"]
    fold_kkt: Float[np.ndarray, "S L"]
    converged: Bool[np.ndarray, "S L"]
    predictions: Float[np.ndarray, "n L K"] | None
    metric: str = eqx.field(static=True)
    higher_is_better: bool = eqx.field(static=True)

    @property
    def lambdas(self) -> Float[Array, " L"]:
        """The grid."""
        return self.path.lambdas

    @property
    def lambda_min(self) -> Float[np.ndarray, " K"]:
        """The λ of the best mean score of each target, the largest among equals."""
        return np.asarray(self.lambdas)[self.index("min")]

    @property
    def lambda_1se(self) -> Float[np.ndarray, " K"]:
        """The largest λ of each target whose mean score is at most one standard error worse than the best."""
        return np.asarray(self.lambdas)[self.index("1se")]

    @property
    def solution_min(self) -> TargetSolution:
        """The solution on all rows, each target at its `lambda_min`."""
        return self.solution("min")

    @property
    def solution_1se(self) -> TargetSolution:
        """The solution on all rows, each target at its `lambda_1se`."""
        return self.solution("1se")

    def index(self, choose: str = "min") -> Int[np.ndarray, " K"]:
        """Return the index on the grid of the chosen λ of each target.

        Args:
            choose: "min" or "1se".

        Raises:
            ValueError: for another name.
        """
        return index_of_choice(-self.mean if self.higher_is_better else self.mean, self.se, choose)

    def score(self, choose: str = "min") -> Float[np.ndarray, " K"]:
        """Return the mean score of each target at its chosen λ."""
        return np.take_along_axis(self.mean, self.index(choose)[None], axis=0)[0]

    def solution(self, choose: str = "min") -> TargetSolution:
        """Return the solution on all rows, each target at its chosen λ."""
        k = self.index(choose)
        coef, intercept, gap, lambdas = (
            np.asarray(x) for x in (self.path.coef, self.path.intercept, self.path.gap, self.lambdas)
        )
        own = np.arange(k.size)
        arrays = jax.device_put((lambdas[k], coef[k, :, own].T, intercept[k, own], gap[k]))
        return TargetSolution(*arrays, loss=self.path.loss, with_offset=self.path.with_offset)

    def predict(
        self, X: FeaturesLike, offset: ArrayLike | None = None, *, choose: str = "min"
    ) -> Shaped[Array, "..."]:
        """Return the expected targets (n, K) of new rows, each target at its chosen λ."""
        return self.solution(choose).predict(X, offset)

    def to_xarray(self, features: list[str] | None = None) -> "xarray.Dataset":
        """Return the dataset of the path with scores along `fold`, `lam` and `output`."""
        import_extra("xarray", "sweeps", "TargetCrossValidation.to_xarray")
        data = self.path.to_xarray(features)
        for name in ("mean", "se"):
            data[f"score_{name}"] = (("lam", "output"), getattr(self, name))
        data["fold_scores"] = (("fold", "lam", "output"), self.fold_scores)
        for name in ("fold_gap", "fold_kkt"):
            data[name] = (("fold", "lam"), getattr(self, name))
        data["fold_converged"] = (("fold", "lam"), self.converged)
        data["fold_weights"], data["repeat"] = ("fold", self.fold_weights), ("fold", self.repeat)
        for name in ("lambda_min", "lambda_1se"):
            data[name] = ("output", getattr(self, name))
        if self.predictions is not None:
            data["predictions"] = (("sample", "lam", "output"), self.predictions)
        return data.assign_attrs(metric=self.metric)

    def __str__(self) -> str:
        folds = describe_folds(self.repeat)
        n_lambdas, n_targets = self.mean.shape
        lines = [f"TargetCrossValidation: {self.metric} on {folds}, {n_lambdas} λ, {n_targets} targets"]
        rows = [("λ of the targets", *_QUANTILES)]
        for choose in ("min", "1se"):
            lambdas = np.sort(np.asarray(self.lambdas)[self.index(choose)])
            order = (round(q * (n_targets - 1)) for q in _QUANTILES.values())
            rows.append((choose, *(f"{lambdas[k]:.4g}" for k in order)))
        lines += table(rows)
        n_missed, at_end = int(np.sum(~self.converged)), int(np.sum(self.index() == n_lambdas - 1))
        if n_missed:
            lines.append(f"{n_missed} of {self.converged.size} fits of folds did not meet the tolerance")
        if at_end:
            lines.append(
                f"the best λ of {at_end} targets is the smallest one of the grid: a grid that goes further"
                " down may do better"
            )
        return "\n".join(lines)
