"""Other people's λ, alpha, C and weight decay, to ours and back.

Our empirical loss is a mean over samples, L1 is λ·Σ|w| and SquaredL2 is λ/2·Σw². Each function `from_…`
takes their number and returns our λ, or a pair `Lams` where their cost has both penalties; `to_…` goes back.
"""

from typing import NamedTuple

__all__ = [
    "Lams",
    "from_glmnet",
    "from_isl",
    "from_nielsen",
    "from_sklearn_elastic_net",
    "from_sklearn_logistic",
    "from_sklearn_poisson",
    "from_sklearn_ridge",
    "from_unhalved",
    "from_weight_decay",
    "to_glmnet",
    "to_isl",
    "to_nielsen",
    "to_sklearn_elastic_net",
    "to_sklearn_logistic",
    "to_sklearn_poisson",
    "to_sklearn_ridge",
    "to_unhalved",
    "to_weight_decay",
]


class Lams(NamedTuple):
    """λ of `L1` and λ of `SquaredL2`, to be added."""

    l1: float
    l2: float


def from_sklearn_elastic_net(alpha: float, l1_ratio: float = 1.0) -> Lams:
    """scikit-learn's `Lasso` and `ElasticNet`: RSS/(2n) + α(r‖β‖₁ + (1−r)/2‖β‖²).

    >>> from_sklearn_elastic_net(2.0, 0.75)
    Lams(l1=1.5, l2=0.5)
    """
    return Lams(alpha * l1_ratio, alpha * (1 - l1_ratio))


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


def from_glmnet(lam: float, alpha: float = 1.0, sd_y: float = 1.0) -> Lams:
    """glmnet's lambda and alpha; `sd_y` is the 1/n standard deviation of y for family gaussian, else 1.

    Its gaussian cost is that of scikit-learn's `ElasticNet` for y divided by sd_y and scaled back, so that
    its ridge part acts as lambda/sd_y; other families have mean deviance/2 + λ(α‖β‖₁ + (1−α)/2‖β‖²).
    Source: Friedman, Hastie and Tibshirani (2010), and glmnet's vignette on the objective.

    >>> from_glmnet(2.0, alpha=0.5, sd_y=4.0)
    Lams(l1=1.0, l2=0.25)
    """
    return Lams(lam * alpha, lam * (1 - alpha) / sd_y)


def to_glmnet(l1: float, l2: float, sd_y: float = 1.0) -> tuple[float, float]:
    """(lambda, alpha) of glmnet.

    >>> to_glmnet(1.0, 0.25, sd_y=4.0)
    (2.0, 0.5)
    """
    return to_sklearn_elastic_net(l1, l2 * sd_y)


def from_isl(n: int, *, lasso: float = 0.0, ridge: float = 0.0) -> Lams:
    """James et al., An Introduction to Statistical Learning, p. 215 and 219: RSS + λΣ|β| or RSS + λΣβ².

    >>> from_isl(10, lasso=4.0, ridge=5.0)
    Lams(l1=0.2, l2=0.5)
    """
    return Lams(lasso / (2 * n), ridge / n)


def to_isl(l1: float, l2: float, n: int) -> tuple[float, float]:
    """(λ of the lasso, λ of ridge regression) in An Introduction to Statistical Learning.

    >>> to_isl(0.2, 0.5, 10)
    (4.0, 5.0)
    """
    return 2 * n * l1, n * l2


def from_nielsen(n: int, *, l1: float = 0.0, l2: float = 0.0) -> Lams:
    """Nielsen, Neural Networks and Deep Learning, ch. 3: C₀ + (λ/n)Σ|w| or C₀ + (λ/2n)Σw², C₀ a mean.

    >>> from_nielsen(10, l2=5.0)
    Lams(l1=0.0, l2=0.5)
    """
    return Lams(l1 / n, l2 / n)


def to_nielsen(l1: float, l2: float, n: int) -> tuple[float, float]:
    """(λ of his L1, λ of his L2).

    >>> to_nielsen(0.0, 0.5, 10)
    (0.0, 5.0)
    """
    return n * l1, n * l2


def from_unhalved(*, l1: float = 0.0, l2: float = 0.0) -> Lams:
    """Mean loss + λΣ|w| or + λΣw², whose gradients are ±λ and 2λw: the short form of many lecture notes.

    >>> from_unhalved(l1=0.5, l2=0.5)
    Lams(l1=0.5, l2=1.0)
    """
    return Lams(l1, 2 * l2)


def to_unhalved(l1: float, l2: float) -> tuple[float, float]:
    """(λ of Σ|w|, λ of Σw²).

    >>> to_unhalved(0.5, 1.0)
    (0.5, 0.5)
    """
    return l1, l2 / 2


def from_weight_decay(weight_decay: float) -> float:
    """Coupled `weight_decay` of optax and PyTorch: weight_decay·w joins the gradient. Our λ of `SquaredL2`.

    AdamW's decay is decoupled from the gradient and is no penalty of the cost.

    >>> from_weight_decay(0.01)
    0.01
    """
    return weight_decay


def to_weight_decay(lam: float) -> float:
    """Coupled `weight_decay` of optax and PyTorch.

    >>> to_weight_decay(0.01)
    0.01
    """
    return lam
