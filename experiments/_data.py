"""The data sets bundled with scikit-learn, standardised and paired with a loss."""

from typing import NamedTuple

import numpy as np

import jaxreg as jr

__all__ = ["NAMES", "Data", "load_bundled"]

NAMES = ("diabetes", "linnerud", "breast_cancer", "wine", "digits")


class Data(NamedTuple):
    """Standardised features X (n, p), targets y and the loss that fits them."""

    loss: jr.losses.Loss
    X: np.ndarray
    y: np.ndarray
    features: list[str]

    @property
    def problem(self) -> jr.Problem:
        """The fit of y from X, with an unpenalised intercept."""
        return jr.Problem(self.loss, self.X, self.y)


def load_bundled(name: str) -> Data:
    """Load one of `NAMES`, with numeric features and targets standardised to mean 0 and standard deviation 1.

    diabetes predicts the progression of the disease, linnerud three body measurements from three exercises,
    the others a class. Constant columns are left out.
    """
    from sklearn import datasets

    if name not in NAMES:
        raise ValueError(f"no data set {name!r}: take one of {', '.join(NAMES)}")
    dataset = getattr(datasets, f"load_{name}")()
    X, y = np.asarray(dataset.data, float), np.asarray(dataset.target)
    varies = X.std(axis=0) > 0
    features = [str(feature) for feature, keep in zip(dataset.feature_names, varies, strict=True) if keep]
    X = _standardize(X[:, varies])
    if name in ("diabetes", "linnerud"):
        return Data(jr.losses.SquaredError(), X, _standardize(y.astype(float)), features)
    if name == "breast_cancer":
        return Data(jr.losses.Logistic(), X, y.astype(float), features)
    return Data(jr.losses.Multinomial(), X, y, features)


def _standardize(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)
