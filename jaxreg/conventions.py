"""Convert λ, alpha, C and weight decay between other libraries and jaxreg.

In jaxreg the empirical loss is a mean over samples, `L1` is λ·Σ|w| and `SquaredL2` is λ/2·Σw². `from_…`
returns jaxreg's λ for another library's number, or a pair `Lams` where that library's cost has both
penalties; `to_…` is the inverse.
"""

from typing import NamedTuple

from jaxreg._module import with_public_names

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


@with_public_names
class Lams(NamedTuple):
    """λ of `L1` and λ of `SquaredL2`, whose penalties add up."""

    l1: float
    l2: float


def from_sklearn_elastic_net(alpha: float, l1_ratio: float = 1.0) -> Lams:
    """Convert from scikit-learn's `Lasso` and `ElasticNet`: RSS/(2n) + α(r‖β‖₁ + (1−r)/2‖β‖²).

    >>> from_sklearn_elastic_net(2.0, 0.75)
    Lams(l1=1.5, l2=0.5)
    """
    return Lams(alpha * l1_ratio, alpha * (1 - l1_ratio))


def to_sklearn_elastic_net(l1: float, l2: float) -> tuple[float, float]:
    """Return (alpha, l1_ratio) of scikit-learn's `ElasticNet`.

    >>> to_sklearn_elastic_net(1.5, 0.5)
    (2.0, 0.75)
    """
    total = l1 + l2
    return total, l1 / total if total else 1.0


def from_sklearn_ridge(alpha: float, n: int) -> float:
    """Convert from scikit-learn's `Ridge`, RSS + alpha·‖β‖² over n samples, to the λ of `SquaredL2`.

    >>> from_sklearn_ridge(5.0, 10)
    0.5
    """
    return alpha / n


def to_sklearn_ridge(lam: float, n: int) -> float:
    """Return alpha of scikit-learn's `Ridge`.

    >>> to_sklearn_ridge(0.5, 10)
    5.0
    """
    return lam * n


def from_sklearn_logistic(C: float, n: int) -> float:
    """Convert from scikit-learn's `LogisticRegression`: C·Σ loss + ‖β‖₁ (λ of `L1`) or ½‖β‖² (`SquaredL2`).

    >>> from_sklearn_logistic(0.5, 10)
    0.2
    """
    return 1 / (C * n)


def to_sklearn_logistic(lam: float, n: int) -> float:
    """Return C of scikit-learn's `LogisticRegression`.

    >>> to_sklearn_logistic(0.2, 10)
    0.5
    """
    return 1 / (lam * n)


def from_sklearn_poisson(alpha: float) -> float:
    """Convert from scikit-learn's `PoissonRegressor`, mean deviance/2 + alpha/2·‖β‖², to `SquaredL2`.

    >>> from_sklearn_poisson(0.5)
    0.5
    """
    return alpha


def to_sklearn_poisson(lam: float) -> float:
    """Return alpha of scikit-learn's `PoissonRegressor`.

    >>> to_sklearn_poisson(0.5)
    0.5
    """
    return lam


def from_glmnet(lam: float, alpha: float = 1.0, sd_y: float = 1.0) -> Lams:
    """Convert from glmnet's lambda and alpha.

    For family gaussian glmnet minimises the cost of scikit-learn's `ElasticNet` for y/sd_y and scales back,
    so that its ridge part acts as lambda/sd_y; other families have mean deviance/2 + λ(α‖β‖₁ + (1−α)/2‖β‖²).

    Args:
        lam: glmnet's lambda.
        alpha: glmnet's alpha.
        sd_y: The standard deviation of y with divisor n for family gaussian, else 1.

    References:
        Friedman, Hastie and Tibshirani (2010), Regularization paths for generalized linear models via
        coordinate descent, and glmnet's vignette on its objective.

    >>> from_glmnet(2.0, alpha=0.5, sd_y=4.0)
    Lams(l1=1.0, l2=0.25)
    """
    return Lams(lam * alpha, lam * (1 - alpha) / sd_y)


def to_glmnet(l1: float, l2: float, sd_y: float = 1.0) -> tuple[float, float]:
    """Return (lambda, alpha) of glmnet.

    >>> to_glmnet(1.0, 0.25, sd_y=4.0)
    (2.0, 0.5)
    """
    return to_sklearn_elastic_net(l1, l2 * sd_y)


def from_isl(n: int, *, lasso: float = 0.0, ridge: float = 0.0) -> Lams:
    """Convert from An Introduction to Statistical Learning, p. 215 and 219: RSS + λΣ|β| or RSS + λΣβ².

    >>> from_isl(10, lasso=4.0, ridge=5.0)
    Lams(l1=0.2, l2=0.5)
    """
    return Lams(lasso / (2 * n), ridge / n)


def to_isl(l1: float, l2: float, n: int) -> tuple[float, float]:
    """Return (λ of the lasso, λ of ridge regression) in An Introduction to Statistical Learning.

    >>> to_isl(0.2, 0.5, 10)
    (4.0, 5.0)
    """
    return 2 * n * l1, n * l2


def from_nielsen(n: int, *, l1: float = 0.0, l2: float = 0.0) -> Lams:
    """Convert from Nielsen, Neural Networks and Deep Learning, ch. 3: C₀ + (λ/n)Σ|w| or C₀ + (λ/2n)Σw².

    C₀ is a mean over the n samples.

    >>> from_nielsen(10, l2=5.0)
    Lams(l1=0.0, l2=0.5)
    """
    return Lams(l1 / n, l2 / n)


def to_nielsen(l1: float, l2: float, n: int) -> tuple[float, float]:
    """Return (λ of L1, λ of L2) in Neural Networks and Deep Learning.

    >>> to_nielsen(0.0, 0.5, 10)
    (0.0, 5.0)
    """
    return n * l1, n * l2


def from_unhalved(*, l1: float = 0.0, l2: float = 0.0) -> Lams:
    """Convert from mean loss + λΣ|w| or + λΣw², with gradients ±λ and 2λw, as in many lecture notes.

    >>> from_unhalved(l1=0.5, l2=0.5)
    Lams(l1=0.5, l2=1.0)
    """
    return Lams(l1, 2 * l2)


def to_unhalved(l1: float, l2: float) -> tuple[float, float]:
    """Return (λ of Σ|w|, λ of Σw²).

    >>> to_unhalved(0.5, 1.0)
    (0.5, 0.5)
    """
    return l1, l2 / 2


def from_weight_decay(weight_decay: float) -> float:
    """Convert from the coupled `weight_decay` of optax and PyTorch: weight_decay·w added to the gradient.

    The result is the λ of `SquaredL2`. AdamW's decay is decoupled from the gradient and is no penalty of the
    cost.

    >>> from_weight_decay(0.01)
    0.01
    """
    return weight_decay


def to_weight_decay(lam: float) -> float:
    """Return the coupled `weight_decay` of optax and PyTorch.

    >>> to_weight_decay(0.01)
    0.01
    """
    return lam
