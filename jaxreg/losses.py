"""What a wrong prediction costs.

A loss is a function of the linear predictor z (with intercept and offset) and the target y, per sample.
Gradients and curvature come from autodiff. To add one: subclass `Loss`, write `value`, `conjugate`,
`smoothness` and `check`, with a link also `mean` and `link`, name it in `__all__`, and the laws find it.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, xlogy
from jaxtyping import Array

from jaxreg._module import Module
from jaxreg._typing import Scalar
from jaxreg._validation import holds, hyperparameter, require

__all__ = ["Huber", "Logistic", "Loss", "Multinomial", "Poisson", "SquaredError"]


class Loss(Module):
    """Base of all losses. z is (n,) or (n, K); every method works on the whole batch.

    `jax.jit(loss.value)` compiles the loss's numbers, such as `delta`, into the program as constants.
    """

    #: Whether y has a unit and no zero: in_units(1/c).value(c·z + d, c·y + d) = c²·value(z, y).
    has_unit: ClassVar[bool] = False

    @abstractmethod
    def value(self, z: Array, y: Array) -> Array:
        """The loss of each sample, (n,)."""

    @abstractmethod
    def conjugate(self, v: Array, y: Array) -> Array:
        """sup_z ⟨v, z⟩ − value(z, y) of each sample, (n,); inf outside its domain."""

    @abstractmethod
    def smoothness(self) -> float | Array:
        """The supremum of the second derivative in z, inf where unbounded."""

    def mean(self, z: Array) -> Array:
        """Return the expected target at the predictor z, the inverse link: z itself by default."""
        return z

    def link(self, mean: Array) -> Array:
        """Return the predictor whose mean this is: where a fit of the intercept starts."""
        return mean

    @abstractmethod
    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Raise ValueError where concrete targets are outside the loss's domain or do not determine a fit.

        `y` is (n,) or (n, K), on the host. Samples whose `weight` (n,) is 0 do not count as samples of a
        class or as positive counts; without weights all samples count.
        """

    def outputs(self, y: Array) -> tuple[int, ...]:
        """Shape of the predictor of one sample: () or (K,)."""
        return tuple(y.shape[1:])

    def encode(self, y: Array, dtype: Any) -> Array:
        """Targets as the other methods take them."""
        return jnp.asarray(y, dtype)

    def saturated(self, y: Array) -> Array:
        """The smallest loss of each sample over all predictors, (n,)."""
        return -self.conjugate(jnp.zeros_like(self.encode(y, jnp.result_type(y))), y)

    def total(self, z: Array, y: Array, weight: Array) -> Scalar:
        """The empirical loss: the weighted mean over samples; `weight` sums to 1."""
        return jnp.sum(weight * self.value(z, y))

    def target_scale(self, y: Array, weight: Array) -> Scalar:
        """Return the unit in which targets are measured: their deviation, or 1 where they have no unit."""
        return _deviation(y, weight) if self.has_unit else jnp.ones((), weight.dtype)

    def in_units(self, unit: Scalar) -> Self:
        """Return the loss for targets that were divided by `unit`."""
        return self

    def optimal_shift(self, z: Array, y: Array, weight: Array) -> Array | None:
        """Return the shift () or (K,) that minimises `total` over z + shift; None without a closed form."""
        return None

    def gradient(self, z: Array, y: Array) -> Array:
        """The derivative of each sample's loss in its own z, shaped like z."""
        return jax.grad(lambda z: jnp.sum(self.value(z, y)))(z)

    def fenchel_gap(self, z: Array, y: Array, v: Array) -> Array:
        """value(z) + conjugate(v) − ⟨v, z⟩ of each sample: never negative, 0 where v is the gradient."""
        return self.value(z, y) + self.conjugate(v, y) - _rows(v * z)


def _finite(y: np.ndarray, name: str) -> None:
    bad = int(np.sum(~np.isfinite(y.astype(float))))
    require(bad == 0, f"y has {bad} NaN or infinite values: {name} needs finite targets; drop those rows")


def _counted(y: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Return the samples of positive weight, and the words that say so in a message."""
    if weight is None or np.all(weight > 0):
        return y, ""
    return y[weight > 0], " among the samples of positive weight"


def _rows(x: Array) -> Array:
    """Sum over outputs, so that one number per sample is left."""
    return jnp.sum(x, axis=-1) if x.ndim == 2 else x


def _deviation(y: Array, weight: Array) -> Scalar:
    """Root mean square over outputs of the weighted standard deviations; squares do not overflow."""
    centred = y - weight @ y
    top = jnp.max(jnp.abs(centred))
    unit = centred / jnp.where(top > 0, top, 1.0)
    return top * jnp.sqrt(jnp.mean(weight @ unit**2))


class SquaredError(Loss):
    """½(z − y)² summed over outputs; y is (n,) or (n, K).

    >>> SquaredError().value(jnp.array([3.0]), jnp.array([1.0])).tolist()
    [2.0]
    """

    has_unit: ClassVar[bool] = True

    def value(self, z: Array, y: Array) -> Array:
        """½(z − y)²."""
        return _rows(0.5 * (z - y) ** 2)

    def conjugate(self, v: Array, y: Array) -> Array:
        """½v² + v·y."""
        return _rows(0.5 * v**2 + v * y)

    def fenchel_gap(self, z: Array, y: Array, v: Array) -> Array:
        """½(v − (z − y))², free of the cancellation between value and conjugate."""
        return _rows(0.5 * (v - (z - y)) ** 2)

    def optimal_shift(self, z: Array, y: Array, weight: Array) -> Array:
        """Return the weighted mean of y − z."""
        return weight @ (y - z)

    def smoothness(self) -> float:
        """1."""
        return 1.0

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Require finite numbers."""
        _finite(y, "SquaredError")


class Huber(Loss):
    """(z − y)²/2 where |z − y| ≤ delta, else delta·|z − y| − delta²/2; y is (n,) or (n, K).

    `delta` is in units of y; delta ≤ 0 raises ValueError. Source: Huber (1964).

    >>> Huber(1.0).value(jnp.array([3.0]), jnp.array([0.0])).tolist()
    [2.5]
    """

    has_unit: ClassVar[bool] = True
    delta: Array = hyperparameter(1.0)

    def __check_init__(self) -> None:
        require(holds(lambda delta: delta > 0, self.delta), f"Huber: delta must be > 0, got {self.delta}")

    def value(self, z: Array, y: Array) -> Array:
        """Quadratic near the target, linear far from it."""
        r, delta = jnp.abs(z - y), self.delta.astype(z.dtype)
        core = jnp.minimum(r, delta)
        return _rows(0.5 * core**2 + delta * (r - core))

    def conjugate(self, v: Array, y: Array) -> Array:
        """½v² + v·y on |v| ≤ delta."""
        delta = self.delta.astype(v.dtype)
        slack = 8 * jnp.finfo(v.dtype).eps * delta
        return _rows(jnp.where(jnp.abs(v) <= delta + slack, 0.5 * v**2 + v * y, jnp.inf))

    def in_units(self, unit: Scalar) -> Self:
        """With `delta` divided by the unit."""
        return type(self)(self.delta / unit)

    def smoothness(self) -> float:
        """1."""
        return 1.0

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Require finite numbers."""
        _finite(y, "Huber")


class Logistic(Loss):
    """log(1 + eᶻ) − y·z for y in [0, 1]: minus the log-likelihood of a Bernoulli with logit z.

    y is a class, 0 or 1, or a proportion of successes; the number of trials is then the sample weight.

    >>> round(float(Logistic().value(jnp.array([0.0]), jnp.array([1.0]))[0]), 4)
    0.6931
    >>> round(float(Logistic().value(jnp.array([2.0]), jnp.array([0.25]))[0]), 4)
    1.6269
    """

    def value(self, z: Array, y: Array) -> Array:
        """The cost of the nearer class, softplus(±z), plus z times the distance to it.

        Where the signs differ the first term is twice the second: no digits cancel at large |z|.
        """
        near = jnp.where(y > 0.5, 1.0, 0.0).astype(z.dtype)
        return _rows(jax.nn.softplus((1 - 2 * near) * z) - (y - near) * z)

    def conjugate(self, v: Array, y: Array) -> Array:
        """The negative entropy of v + y in [0, 1]."""
        p = v + y
        slack = 8 * jnp.finfo(p.dtype).eps
        inside = (p >= -slack) & (p <= 1 + slack)
        q = jnp.clip(p, 0.0, 1.0)
        return _rows(jnp.where(inside, -entr(q) - entr(1 - q), jnp.inf))

    def smoothness(self) -> float:
        """1/4."""
        return 0.25

    def mean(self, z: Array) -> Array:
        """The probability of class 1."""
        return jax.nn.sigmoid(z)

    def link(self, mean: Array) -> Array:
        """The logit."""
        return jnp.log(mean) - jnp.log1p(-mean)

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Require classes 0 and 1, or proportions between them, and some weight on both classes."""
        _finite(y, "Logistic")
        require(
            (y >= 0) & (y <= 1),
            f"Logistic needs y in {{0, 1}}, or proportions in [0, 1], got {np.unique(y)[:5].tolist()}:"
            " encode the classes as 0 and 1",
        )
        y, where = _counted(y, weight)
        for k, column in enumerate(y.reshape(len(y), -1).T):
            name = f"column {k} of y" if y.ndim == 2 else "y"
            message = f"{name} holds one class only ({column[0]:g}){where}: Logistic needs both 0 and 1"
            require(np.any(column > 0) and np.any(column < 1), message)


#: What to do about targets that are not the labels 0 … K−1.
_RELABEL = "relabel by np.unique(y, return_inverse=True)[1]"


class Multinomial(Loss):
    """Softmax cross-entropy, logsumexp(z) − z_y, for integer labels y in 0 … K−1; z is (n, K).

    y may also be one-hot, (n, K) of 0 and 1. `num_classes` is K; None takes the largest label + 1, which
    needs concrete targets and a sample of each class.

    >>> round(float(Multinomial(2).value(jnp.zeros((1, 2)), jnp.array([1]))[0]), 4)
    0.6931
    """

    num_classes: int | None = eqx.field(default=None, static=True)

    def value(self, z: Array, y: Array) -> Array:
        """Minus the log-probability of the label."""
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1)[:, 0]

    def conjugate(self, v: Array, y: Array) -> Array:
        """The negative entropy of v + onehot(y) on the simplex."""
        p = v + jax.nn.one_hot(y, v.shape[-1], dtype=v.dtype)
        slack = 16 * jnp.finfo(p.dtype).eps * v.shape[-1]
        inside = jnp.all(p >= -slack, axis=-1) & (jnp.abs(jnp.sum(p, axis=-1) - 1) <= slack)
        return jnp.where(inside, jnp.sum(-entr(jnp.clip(p, 0.0, None)), axis=-1), jnp.inf)

    def smoothness(self) -> float:
        """1/2: the largest eigenvalue of diag(π) − ππᵀ."""
        return 0.5

    def mean(self, z: Array) -> Array:
        """The probabilities of the classes."""
        return jax.nn.softmax(z, axis=-1)

    def link(self, mean: Array) -> Array:
        """Log-probabilities."""
        return jnp.log(mean)

    def outputs(self, y: Array) -> tuple[int, ...]:
        """(K,)."""
        if y.ndim == 2:
            return (y.shape[1],)
        if self.num_classes is None and isinstance(y, jax.core.Tracer):
            raise ValueError("Multinomial under a trace cannot count the classes: give num_classes")
        return (int(np.max(y)) + 1 if self.num_classes is None else self.num_classes,)

    def encode(self, y: Array, dtype: Any) -> Array:
        """Integer labels, of one-hot rows too."""
        if isinstance(y, jax.core.Tracer):
            return jnp.argmax(y, axis=1) if y.ndim == 2 else y.astype(int)
        return jnp.asarray(np.argmax(y, axis=1) if y.ndim == 2 else np.asarray(y).astype(np.int32))

    def saturated(self, y: Array) -> Array:
        """0."""
        return jnp.zeros(y.shape[:1])

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Require the labels 0 … K−1, all of them unless `num_classes` was given, or one-hot rows."""
        _finite(y, "Multinomial")
        count, labels = self.num_classes, self._labels(y)
        found = np.unique(labels)
        whole = bool(np.all((found == np.round(found)) & (found >= 0)))
        require(whole, f"Multinomial needs integer labels 0 … K−1, got for example {found[0]:g}: {_RELABEL}")
        top = found[-1] if y.ndim == 1 else y.shape[1] - 1
        require(count is None or top < count, f"y has label {top:g}, but num_classes is {count}: {_RELABEL}")
        labels, where = _counted(labels, weight)
        found = np.unique(labels)
        single = f"y holds one class only ({found[0]:g}){where}: Multinomial needs at least two"
        require(len(found) > 1, single)
        if count is None and len(found) <= top:
            missing = np.setdiff1d(np.arange(len(found) + 1), found)[0]
            raise ValueError(
                f"y has labels up to {top:g}, but class {missing} has no sample{where}: {_RELABEL}, or give"
                " num_classes to keep classes without samples"
            )

    def _labels(self, y: np.ndarray) -> np.ndarray:
        """Return labels, or those of one-hot rows; ValueError for any other matrix."""
        if y.ndim == 1:
            return y
        advice = ": take y[:, 0]" if y.shape[1] == 1 else " whose rows are not one-hot"
        onehot = y.shape[1] > 1 and np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=1) == 1)
        wanted = "Multinomial needs labels (n,) or one-hot rows (n, K) of 0 and 1"
        require(onehot, f"{wanted}, got y of shape {y.shape}{advice}")
        message = f"y has {y.shape[1]} one-hot classes, but num_classes is {self.num_classes}"
        require(self.num_classes in (None, y.shape[1]), f"{message}: give y as labels (n,)")
        return np.argmax(y, axis=1)


class Poisson(Loss):
    """eᶻ − y·z for counts y ≥ 0 with a log link: minus the log-likelihood up to a constant in y.

    >>> Poisson().value(jnp.array([0.0]), jnp.array([2.0])).tolist()
    [1.0]
    """

    def value(self, z: Array, y: Array) -> Array:
        """eᶻ − y·z."""
        return _rows(jnp.exp(z) - y * z)

    def conjugate(self, v: Array, y: Array) -> Array:
        """m·log m − m at m = v + y ≥ 0."""
        m = v + y
        slack = 8 * jnp.finfo(m.dtype).eps * (1 + jnp.abs(y))
        q = jnp.maximum(m, 0.0)
        return _rows(jnp.where(m >= -slack, xlogy(q, q) - q, jnp.inf))

    def fenchel_gap(self, z: Array, y: Array, v: Array) -> Array:
        """m·(t − log(1 + t)) at m = v + y and t = eᶻ/m − 1: large counts do not cancel."""
        m = v + y
        slack = 8 * jnp.finfo(m.dtype).eps * (1 + jnp.abs(y))
        mu, positive = jnp.exp(z), m > 0
        t = (mu - m) / jnp.where(positive, m, 1.0)
        gap = jnp.where(positive, m * (t - jnp.log1p(jnp.where(positive, t, 0.0))), mu)
        return _rows(jnp.where(m >= -slack, gap, jnp.inf))

    def optimal_shift(self, z: Array, y: Array, weight: Array) -> Array:
        """Return log Σwy − log Σweᶻ, which makes the expected counts add up to those observed."""
        top = jnp.max(z, axis=0)
        tiny = jnp.finfo(z.dtype).tiny
        return jnp.log(jnp.maximum(weight @ y, tiny)) - jnp.log(weight @ jnp.exp(z - top)) - top

    def smoothness(self) -> float:
        """inf: the curvature eᶻ has no bound."""
        return float("inf")

    def mean(self, z: Array) -> Array:
        """The expected count."""
        return jnp.exp(z)

    def link(self, mean: Array) -> Array:
        """The logarithm."""
        return jnp.log(mean)

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Require counts ≥ 0, and a positive one of positive weight in every output."""
        _finite(y, "Poisson")
        require(y >= 0, f"Poisson needs counts ≥ 0, got {float(np.min(y))}")
        y, where = _counted(y, weight)
        message = f"Poisson needs at least one positive count{where}: all of y is 0"
        require(np.any(y > 0, axis=0), message + (" there" if where else ""))
