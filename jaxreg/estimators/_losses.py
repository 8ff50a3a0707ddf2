"""Losses by name, and the expected targets of a linear predictor."""

import numpy as np
from jaxtyping import Float

from jaxreg import metrics
from jaxreg._compilation import jit_at_level, on_device
from jaxreg.linear.size_classes import size_class
from jaxreg.losses import Huber, Logistic, Loss, Multinomial, Poisson, SquaredError

__all__ = ["class_loss", "expected_targets", "explained_deviance", "regression_loss"]

_REGRESSION = {"auto": SquaredError, "squared_error": SquaredError, "huber": Huber, "poisson": Poisson}
_CLASSES = ("auto", "logistic", "multinomial")


def regression_loss(loss: str | Loss) -> Loss:
    """Return the loss of a name, or the loss that is given.

    Raises:
        TypeError: The loss is of another type, or one of classes.
        ValueError: The name is unknown.

    >>> regression_loss("poisson")
    Poisson()
    """
    if isinstance(loss, str):
        if loss not in _REGRESSION:
            raise ValueError(f"loss is {loss!r}: wanted one of {', '.join(_REGRESSION)}, or an object")
        return _REGRESSION[loss]()
    if isinstance(loss, Multinomial):
        raise TypeError("Multinomial is a loss of classes: take PenalizedClassifier")
    return _instance(loss)


def class_loss(loss: str | Loss, n_classes: int) -> Loss:
    """Return the loss of a name for some number of classes, or the loss that is given.

    Raises:
        TypeError: The loss is of another type.
        ValueError: The name is unknown, or the loss has no form for more than two classes.

    >>> class_loss("auto", 2), class_loss("auto", 3)
    (Logistic(), Multinomial(num_classes=3))
    """
    if isinstance(loss, str) and loss not in _CLASSES:
        raise ValueError(f"loss is {loss!r}: wanted one of {', '.join(_CLASSES)}, or an object")
    if loss == "multinomial" or (loss == "auto" and n_classes > 2):
        return Multinomial(n_classes)
    chosen = Logistic() if isinstance(loss, str) else _instance(loss)
    if n_classes > 2 and not isinstance(chosen, Multinomial):
        name = type(chosen).__name__
        raise ValueError(f"{name} separates 2 classes and y has {n_classes} classes: take loss='multinomial'")
    return chosen


def expected_targets(loss: Loss, z: Float[np.ndarray, "n *K"]) -> Float[np.ndarray, "n *K"]:
    """Return the mean of the target at the linear predictor z.

    Rows are added up to the next size class, so that data of similar sizes share compiled programs.
    """
    if type(loss).mean is Loss.mean:
        return z
    return np.asarray(_mean(loss, on_device(_padded(z))))[: len(z)].astype(z.dtype)


def explained_deviance(
    loss: Loss, z: Float[np.ndarray, "n *K"], y: np.ndarray, weight: Float[np.ndarray, " n"]
) -> float:
    """Return the share of the null deviance that predictions explain, see `metrics.explained_deviance`."""
    z, y, weight = (on_device(_padded(np.asarray(x, float))) for x in (z, y, weight))
    return float(_explained_deviance(loss, z, loss.encode(y, z.dtype), weight))


_explained_deviance = jit_at_level(0)(metrics.explained_deviance)


@jit_at_level(0)
def _mean(loss: Loss, z: Float[np.ndarray, "n *K"]) -> Float[np.ndarray, "n *K"]:
    return loss.mean(z)


def _padded(x: np.ndarray) -> np.ndarray:
    """Return an array with rows of 0 added up to its size class."""
    return np.concatenate([x, np.zeros((size_class(len(x)) - len(x), *x.shape[1:]), x.dtype)])


def _instance(loss: object) -> Loss:
    if isinstance(loss, Loss):
        return loss
    got = f"the class {loss.__name__}" if isinstance(loss, type) else f"of type {type(loss).__name__}"
    raise TypeError(f"loss is {got}: wanted a name or an instance, such as jaxreg.losses.Huber(1.0)")
