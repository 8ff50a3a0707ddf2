"""Scores of predictions: the deviance of a loss, errors, misclassification, area under the ROC curve.

A metric is a function of arrays on the host, `(y_true, prediction, weight) -> float`, where predictions are
means: expected targets or probabilities of classes. `metric_of` finds one by its name.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from jaxreg.losses import Logistic, Loss, Multinomial

__all__ = ["METRICS", "Metric", "metric_of"]

#: Function of targets (r,) or (r, K), predictions (r, …) and weights (r,).
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


class Metric(NamedTuple):
    """A score of predictions.

    Attributes:
        name: name in tables and figures.
        score: the function; None for the deviance, which is computed from the linear predictor.
        higher_is_better: whether a higher score is better.
    """

    name: str
    score: Score | None
    higher_is_better: bool = False


def squared_error(
    y: Shaped[np.ndarray, "r *K"], mean: Float[np.ndarray, "r *K"], weight: Float[np.ndarray, " r"]
) -> float:
    """Return the weighted mean of the squared errors, summed over outputs and classes.

    >>> squared_error(np.array([1.0, 0.0]), np.array([0.0, 0.0]), np.array([1.0, 3.0]))
    0.25
    """
    return _average(np.square(_targets(y, mean) - mean), weight)


def absolute_error(
    y: Shaped[np.ndarray, "r *K"], mean: Float[np.ndarray, "r *K"], weight: Float[np.ndarray, " r"]
) -> float:
    """Return the weighted mean of the absolute errors, summed over outputs and classes."""
    return _average(np.abs(_targets(y, mean) - mean), weight)


def misclassification(
    y: Shaped[np.ndarray, "r *K"], mean: Float[np.ndarray, "r *K"], weight: Float[np.ndarray, " r"]
) -> float:
    """Return the weighted share of samples whose most probable class is not theirs.

    Proportions count by their shares: a proportion of 0.3 is wrong by 0.3 where the class 0 is predicted.
    """
    if mean.ndim > y.ndim:
        return _average(np.argmax(mean, axis=1) != y, weight)
    return _average(np.where(mean > 0.5, 1 - y, y), weight)


def auc(y: Shaped[np.ndarray, " r"], mean: Float[np.ndarray, " r"], weight: Float[np.ndarray, " r"]) -> float:
    """Return the area under the ROC curve, NaN where a class has no sample; ties count one half.

    A proportion counts as that share of a sample of class 1.

    >>> auc(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.2, 0.9]), np.ones(3))
    0.75
    """
    level = np.unique(mean, return_inverse=True)[1].ravel()
    ones, zeros = (np.bincount(level, weight * share) for share in (y, 1 - y))
    below = np.cumsum(zeros) - zeros
    pairs = ones.sum() * zeros.sum()
    return float(ones @ (below + 0.5 * zeros) / pairs) if pairs > 0 else float("nan")


#: Metrics by name.
METRICS: dict[str, Metric] = {
    "deviance": Metric("deviance", None),
    "squared_error": Metric("squared error", squared_error),
    "absolute_error": Metric("absolute error", absolute_error),
    "misclassification": Metric("misclassification", misclassification),
    "auc": Metric("AUC", auc, higher_is_better=True),
}


def metric_of(metric: str | Score | None, loss: Loss, *, higher_is_better: bool | None = None) -> Metric:
    """Return the metric with a name, or of a function.

    Args:
        metric: a name in `METRICS`, None for the deviance, or a function `(y_true, prediction, weight)`.
        loss: the loss of the problem, which must be one of classes for the last two names.
        higher_is_better: for a function, whether higher is better; None is no.

    Raises:
        TypeError: for a metric that is neither a name nor a function.
        ValueError: for an unknown name, and for a metric of classes where the targets are not classes.
    """
    if callable(metric):
        return Metric(getattr(metric, "__name__", "score"), metric, bool(higher_is_better))
    name = "deviance" if metric is None else metric
    if not isinstance(name, str):
        raise TypeError(f"metric must be a name or a function, got {type(metric).__name__}")
    if name not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)} or a function, got {name!r}")
    if higher_is_better is not None:
        raise ValueError(f"higher_is_better is for a metric that is a function: leave it out for {name!r}")
    classes = {"auc": Logistic, "misclassification": (Logistic, Multinomial)}.get(name, Loss)
    if not isinstance(loss, classes):
        raise ValueError(
            f"metric {name!r} needs targets that are classes, not those of {type(loss).__name__}"
        )
    return METRICS[name]


def _targets(y: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return targets in the shape of predictions: labels of classes as rows of 0 and 1."""
    return y if y.ndim == mean.ndim else (y[:, None] == np.arange(mean.shape[1])).astype(mean.dtype)


def _average(x: np.ndarray, weight: np.ndarray) -> float:
    """Return the weighted mean over samples of the sum over outputs."""
    return float(weight @ x.reshape(len(x), -1).sum(axis=1) / weight.sum())
