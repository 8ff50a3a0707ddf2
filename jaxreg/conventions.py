"""Other people's λ, alpha, C and weight decay, to ours and back.

Our empirical loss is a mean over samples, L1 is λ·Σ|w| and SquaredL2 is λ/2·Σw². Each function takes their
number and returns our λ; the ones named `to_…` go back.
"""

from typing import NamedTuple

__all__ = [
    "ElasticNetLams",
    "from_sklearn_elastic_net",
    "from_sklearn_logistic",
    "from_sklearn_poisson",
    "from_sklearn_ridge",
    "to_sklearn_elastic_net",
    "to_sklearn_logistic",
    "to_sklearn_poisson",
    "to_sklearn_ridge",
]


class ElasticNetLams(NamedTuple):
    """λ of `L1` and λ of `SquaredL2`, to be added."""

    l1: float
    l2: float


def from_sklearn_elastic_net(alpha: float, l1_ratio: float = 1.0) -> ElasticNetLams:
    """scikit-learn's `Lasso` and `ElasticNet`: RSS/(2n) + α(r‖β‖₁ + (1−r)/2‖β‖²).

    >>> from_sklearn_elastic_net(2.0, 0.75)
    ElasticNetLams(l1=1.5, l2=0.5)
    """
    return ElasticNetLams(alpha * l1_ratio, alpha * (1 - l1_ratio))


def to_sklearn_elastic_net(l1: float, l2: float) -> tuple[float, float]:
    """(alpha, l1_ratio) of scikit-learn's `ElasticNet`.

    >>> to_sklearn_elastic_net(1.5, 0.5)
    (2.0, 0.75)
    """
    total = l1 + l2
    return total, l1 / total if total else 1.0


def from_sklearn_ridge(alpha: float, n: int) -> float:
    """scikit-learn's `Ridge`: RSS + alpha·‖β‖², n samples. Our λ of `SquaredL2`.

    >>> from_sklearn_ridge(5.0, 10)
    0.5
    """
    return alpha / n


def to_sklearn_ridge(lam: float, n: int) -> float:
    """alpha of scikit-learn's `Ridge`.

    >>> to_sklearn_ridge(0.5, 10)
    5.0
    """
    return lam * n


def from_sklearn_logistic(C: float, n: int) -> float:
    """scikit-learn's `LogisticRegression`: C·Σ loss + ‖β‖₁ or ½‖β‖². Our λ of `L1` or `SquaredL2`.

    >>> from_sklearn_logistic(0.5, 10)
    0.2
    """
    return 1 / (C * n)


def to_sklearn_logistic(lam: float, n: int) -> float:
    """C of scikit-learn's `LogisticRegression`.

    >>> to_sklearn_logistic(0.2, 10)
    0.5
    """
    return 1 / (lam * n)


def from_sklearn_poisson(alpha: float) -> float:
    """scikit-learn's `PoissonRegressor`: mean deviance/2 + alpha/2·‖β‖². Our λ of `SquaredL2`.

    >>> from_sklearn_poisson(0.5)
    0.5
    """
    return alpha


def to_sklearn_poisson(lam: float) -> float:
    """alpha of scikit-learn's `PoissonRegressor`.

    >>> to_sklearn_poisson(0.5)
    0.5
    """
    return lam
