"""Data sets that come with scikit-learn, as arrays that an experiment can use at once."""

from typing import Any, NamedTuple

import numpy as np

import jaxreg as jr

__all__ = ["NAMES", "Data", "bundled"]

NAMES = ("diabetes", "linnerud", "breast_cancer", "wine", "digits")


class Data(NamedTuple):
    """Standardised features X (n, p), targets y and the loss that fits them."""

    loss: Any
    X: np.ndarray
    y: np.ndarray
    features: list[str]

    @property
    def problem(self) -> jr.Problem:
        """The fit of y from X, with an intercept that is not penalised."""
        return jr.Problem(self.loss, self.X, self.y)


def bundled(name: str) -> Data:
    """One of `NAMES`: features with mean 0 and standard deviation 1, targets that are numbers likewise.

    diabetes predicts the progression of the disease, linnerud three measures of the body from three
    exercises, the others the class. Columns without variation are left out.
    """
    from sklearn import datasets

    if name not in NAMES:
        raise ValueError(f"no data set {name!r}: take one of {', '.join(NAMES)}")
    found = getattr(datasets, f"load_{name}")()
    X, y = np.asarray(found.data, float), np.asarray(found.target)
    kept = X.std(axis=0) > 0
    features = [str(f) for f, keep in zip(found.feature_names, kept, strict=True) if keep]
    X = _standard(X[:, kept])
    if name in ("diabetes", "linnerud"):
        return Data(jr.losses.SquaredError(), X, _standard(y.astype(float)), features)
    if name == "breast_cancer":
        return Data(jr.losses.Logistic(), X, y.astype(float), features)
    return Data(jr.losses.Multinomial(), X, y, features)


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)
