"""Results of cross-validation: the curve of one family, and those of several families on the same folds."""

from collections.abc import Hashable
from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreg._extras import import_extra
from jaxreg._module import Module
from jaxreg._typing import ArrayLike, FeaturesLike
from jaxreg.linear.path.result import Path
from jaxreg.linear.solve import Solution

if TYPE_CHECKING:
    import xarray

__all__ = ["CrossValidation", "CrossValidations"]

#: Choices of λ.
_CHOICES = ("min", "1se")


class CrossValidation(Module):
    """Scores of a path on rows that its fits have not seen, and the λ chosen by them.

    With weights W of the folds (sums of sample weights), `mean` is the weighted mean m of the fold scores s
    and `se` is √(Σ W(s − m)²/ΣW/(N − 1)) over N folds: cvm and cvsd of glmnet's `cv.glmnet`. For repeated
    partitions `se` is the root mean square over the partitions, since repetition adds no data.

    Attributes:
        path: the path on all rows.
        fold_scores: score of each fold at each λ; NaN for a fold whose rows have weight 0.
        fold_weights: sum of the sample weights of the rows of each fold.
        repeat: the partition that each fold belongs to.
        mean: weighted mean over folds.
        se: standard error of the mean.
        fold_gap: relative duality gap of each fit, inf for penalties without a conjugate.
        fold_kkt: relative KKT residual of each fit.
        converged: mask of the fits whose certificate met the tolerance.
        fold_nonzeros: number of nonzero coefficients of each fit.
        train_scores: score of each fit on its own rows, or None.
        predictions: prediction of each row by fits without it, at each λ: expected targets or probabilities.
            The mean over repeats; NaN for rows in no fold. None unless asked for.
        metric: name of the score.
        higher_is_better: whether a higher score is better.
    """

    path: Path
    fold_scores: Float[np.ndarray, "S L"]
    fold_weights: Float[np.ndarray, " S"]
    repeat: Int[np.ndarray, " S"]
    mean: Float[np.ndarray, " L"]
    se: Float[np.ndarray, " L"]
    fold_gap: Float[np.ndarray, "S L"]
    fold_kkt: Float[np.ndarray, "S L"]
    converged: Bool[np.ndarray, "S L"]
    fold_nonzeros: Int[np.ndarray, "S L"]
    train_scores: Float[np.ndarray, "S L"] | None
    predictions: Float[np.ndarray, "n L *K"] | None
    metric: str = eqx.field(static=True)
    higher_is_better: bool = eqx.field(static=True)

    @property
    def lambdas(self) -> Float[Array, " L"]:
        """The grid."""
        return self.path.lambdas

    @property
    def index_min(self) -> int:
        """Index of the best mean score, that of the largest λ among equals."""
        return self.index("min")

    @property
    def index_1se(self) -> int:
        """Index of the largest λ whose mean score is at most one standard error worse than the best."""
        return self.index("1se")

    @property
    def lambda_min(self) -> float:
        """The λ of the best mean score."""
        return float(self.lambdas[self.index_min])

    @property
    def lambda_1se(self) -> float:
        """The largest λ whose mean score is at most one standard error worse than the best."""
        return float(self.lambdas[self.index_1se])

    @property
    def solution_min(self) -> Solution:
        """The solution on all rows at `lambda_min`."""
        return self.solution("min")

    @property
    def solution_1se(self) -> Solution:
        """The solution on all rows at `lambda_1se`."""
        return self.solution("1se")

    @property
    def nonzeros(self) -> Int[np.ndarray, " L"]:
        """Number of nonzero coefficients of the path on all rows."""
        return count_nonzeros(self.path)

    @property
    def _loss(self) -> Float[np.ndarray, " L"]:
        """The mean score, with the sign for which lower is better."""
        return -self.mean if self.higher_is_better else self.mean

    def index(self, choose: str = "min") -> int:
        """Return `index_min` or `index_1se`; ValueError for another name than "min" and "1se"."""
        return int(index_of_choice(self._loss, self.se, choose))

    def solution(self, choose: str = "min") -> Solution:
        """Return the solution on all rows at the chosen λ."""
        return self.path.at(float(self.lambdas[self.index(choose)]))

    def at(self, lam: float) -> Solution:
        """Return the solution on all rows whose λ is nearest to `lam`, see `Path.at`."""
        return self.path.at(lam)

    def predict(
        self, X: FeaturesLike, offset: ArrayLike | None = None, *, choose: str = "min"
    ) -> Shaped[Array, "..."]:
        """Return the expected targets of new rows at the chosen λ, see `Solution.predict`."""
        return self.solution(choose).predict(X, offset)

    def to_xarray(self, features: list[str] | None = None) -> "xarray.Dataset":
        """Return the dataset of the path with scores along `fold` and `lam`; `features` name the columns."""
        data = self.path.to_xarray(features)
        for name in ("mean", "se"):
            data[f"score_{name}"] = ("lam", getattr(self, name))
        for name in ("fold_scores", "fold_gap", "fold_kkt", "fold_nonzeros", "train_scores"):
            if getattr(self, name) is not None:
                data[name] = (("fold", "lam"), getattr(self, name))
        data["fold_converged"] = (("fold", "lam"), self.converged)
        data["fold_weights"], data["repeat"] = ("fold", self.fold_weights), ("fold", self.repeat)
        if self.predictions is not None:
            extra = ("output",) * (self.predictions.ndim - 2)
            data["predictions"] = (("sample", "lam", *extra), self.predictions)
        choices = {"lambda_min": self.lambda_min, "lambda_1se": self.lambda_1se}
        return data.assign_attrs(metric=self.metric, **choices)

    def __str__(self) -> str:
        lines = [f"CrossValidation: {self.metric} on {describe_folds(self.repeat)}, {self.lambdas.size} λ"]
        lines += table([("", "λ", "index", "score", "se", "nonzeros"), *map(self._row, _CHOICES)])
        return "\n".join([*lines, *self._notes()])

    def _row(self, choose: str) -> tuple[str, ...]:
        """Return the cells of one choice of λ."""
        k = self.index(choose)
        numbers = (f"{float(x[k]):.4g}" for x in (self.mean, self.se))
        return (choose, f"{float(self.lambdas[k]):.4g}", str(k), *numbers, str(self.nonzeros[k]))

    def _notes(self) -> list[str]:
        """Return lines about fits without a certificate, and about a minimum at the end of the grid."""
        notes, n_missed = [], int(np.sum(~self.converged))
        if n_missed:
            gap, kkt = (float(np.max(x[np.isfinite(x)], initial=0)) for x in (self.fold_gap, self.fold_kkt))
            missed = f"{n_missed} of {self.converged.size} fits of folds did not meet the tolerance"
            notes.append(f"{missed} (largest gap {gap:.1e}, largest kkt {kkt:.1e})")
        if self.index_min == self.lambdas.size - 1:
            notes.append(
                "the best λ is the smallest one of the grid: a grid that goes further down may do better"
            )
        return notes


class CrossValidations(Module):
    """Cross-validations of several families on the same folds, such as elastic nets of several mixtures.

    Attributes:
        name: name of the second axis, such as "l1_ratio".
        values: its values.
        results: one cross-validation for each.
    """

    name: str = eqx.field(static=True)
    values: tuple[Hashable, ...] = eqx.field(static=True)
    results: tuple[CrossValidation, ...]

    @property
    def best_index(self) -> int:
        """Index of the value with the best mean score at its `lambda_min`, the first among equals."""
        return int(np.argmin([cv._loss[cv.index_min] for cv in self.results]))

    @property
    def best_value(self) -> Hashable:
        """The value with the best mean score."""
        return self.values[self.best_index]

    @property
    def best(self) -> CrossValidation:
        """The cross-validation of the best value, with the choices of λ for it."""
        return self.results[self.best_index]

    @property
    def lambda_min(self) -> float:
        """The λ of the best mean score of all."""
        return self.best.lambda_min

    @property
    def lambda_1se(self) -> float:
        """The 1-SE choice of λ at the best value."""
        return self.best.lambda_1se

    @property
    def solution_min(self) -> Solution:
        """The solution on all rows at the best value and `lambda_min`."""
        return self.best.solution_min

    @property
    def solution_1se(self) -> Solution:
        """The solution on all rows at the best value and `lambda_1se`."""
        return self.best.solution_1se

    def solution(self, choose: str = "min") -> Solution:
        """Return the solution on all rows at the best value and the chosen λ."""
        return self.best.solution(choose)

    def predict(
        self, X: FeaturesLike, offset: ArrayLike | None = None, *, choose: str = "min"
    ) -> Shaped[Array, "..."]:
        """Return the expected targets of new rows at the best value and the chosen λ."""
        return self.best.predict(X, offset, choose=choose)

    def at(self, value: Hashable) -> CrossValidation:
        """Return the cross-validation of a value; ValueError for one that was not tried."""
        if value not in self.values:
            raise ValueError(f"{self.name}={value!r} was not tried: it took {list(self.values)}")
        return self.results[self.values.index(value)]

    def to_xarray(self, features: list[str] | None = None) -> "xarray.Dataset":
        """Return the datasets along a further dimension, by the index of λ (`lambdas` has its values)."""
        xarray = import_extra("xarray", "sweeps", "CrossValidations.to_xarray")
        parts = []
        for cv in self.results:
            part = cv.to_xarray(features)
            part["lambdas"] = ("lam", part["lam"].values)
            parts.append(part.drop_vars("lam"))
        data = xarray.concat(parts, dim=self.name, combine_attrs="drop_conflicts")
        return data.assign_coords({self.name: list(self.values)}).assign_attrs(best=self.best_value)

    def __str__(self) -> str:
        first = self.results[0]
        lines = [f"CrossValidations: {first.metric} on {describe_folds(first.repeat)}, {self.name}"]
        rows = [(self.name, "λ min", "score", "se", "nonzeros", "λ 1se", "nonzeros")]
        for k, (value, cv) in enumerate(zip(self.values, self.results, strict=True)):
            _, lam, _, score, se, nonzeros = cv._row("min")
            _, lam_1se, _, _, _, nonzeros_1se = cv._row("1se")
            mark = " (best)" if k == self.best_index else ""
            rows.append((f"{value}{mark}", lam, score, se, nonzeros, lam_1se, nonzeros_1se))
        notes = [f"{value}: {line}" for value, cv in zip(self.values, self.results, strict=True)
                 for line in cv._notes()]  # fmt: skip
        return "\n".join([*lines, *table(rows), *notes])


def index_of_choice(
    loss: Float[np.ndarray, "L *K"], se: Float[np.ndarray, "L *K"], choose: str
) -> Int[np.ndarray, "*K"]:
    """Return the index of the chosen λ along the first axis of mean scores.

    Args:
        loss: mean scores, for which lower is better.
        se: their standard errors.
        choose: "min" for the smallest mean, that of the largest λ among equals; "1se" for the largest λ whose
            mean is at most one standard error above the smallest.

    Raises:
        ValueError: for another name.
    """
    if choose not in _CHOICES:
        raise ValueError(f"choose must be 'min' or '1se', got {choose!r}")
    best = np.argmin(loss, axis=0)
    if choose == "min":
        return best
    limit = (np.take_along_axis(x, best[None], axis=0) for x in (loss, se))
    return np.argmax(loss <= sum(limit), axis=0)


def describe_folds(repeat: Int[np.ndarray, " S"]) -> str:
    """Return the number of folds in words; `repeat` is the partition that each fold belongs to."""
    n_fits, n_folds = repeat.size, int(np.sum(repeat == repeat[0]))
    return f"{n_fits} folds" if n_folds == n_fits else f"{n_fits // n_folds} × {n_folds} folds"


def count_nonzeros(path: Path) -> Int[np.ndarray, " L"]:
    """Return the number of nonzero coefficients at each λ."""
    coef = np.asarray(path.coef)
    return np.sum(coef != 0, axis=tuple(range(1, coef.ndim)))


def summarise(
    scores: Float[np.ndarray, "S L *K"], weights: Float[np.ndarray, " S"], repeat: Int[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, "L *K"], Float[np.ndarray, "L *K"]]:
    """Return mean and standard error of fold scores, over the folds of positive weight."""
    counted = weights > 0
    mean = np.average(scores[counted], axis=0, weights=weights[counted])
    squares = []
    for r in np.unique(repeat[counted]):
        part = counted & (repeat == r)
        centre = np.average(scores[part], axis=0, weights=weights[part])
        # An infinite score, as of predictions that overflow, has no standard error.
        with np.errstate(invalid="ignore"):
            variance = np.average((scores[part] - centre) ** 2, axis=0, weights=weights[part])
        squares.append(variance / max(part.sum() - 1, 1))
    return mean, np.sqrt(np.mean(squares, axis=0))


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return lines with aligned columns, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if not k else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
