"""Losses of classes: two classes or proportions, and K classes."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreg._compilation import on_device
from jaxreg._typing import AnyArray, ArrayLike, DTypeLike
from jaxreg._validation import require
from jaxreg.losses.base import Loss, log_of_mean, require_finite_targets, sum_outputs, with_weight

__all__ = ["Logistic", "Multinomial"]


class Logistic(Loss):
    """log(1 + eᶻ) − y·z for y in [0, 1]: minus the log-likelihood of a Bernoulli with logit z.

    y is a class, 0 or 1, or a proportion of successes; the number of trials is then the sample weight.

    >>> round(float(Logistic().value(jnp.array([0.0]), jnp.array([1.0]))[0]), 4)
    0.6931
    >>> round(float(Logistic().value(jnp.array([2.0]), jnp.array([0.25]))[0]), 4)
    1.6269
    """

    null_predictor_is_exact: ClassVar[bool] = True

    def value(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, " n"]:
        """Return the loss of the nearer class, softplus(±z), plus z times the distance to that class.

        Where the signs of the two terms differ the first is twice the second: no digits cancel at large |z|.
        """
        near = jnp.where(y > 0.5, 1.0, 0.0).astype(z.dtype)
        return sum_outputs(jax.nn.softplus((1 - 2 * near) * z) - (y - near) * z)

    def gradient(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return the probability of class 1 less y, by the distance to the nearer class as in `value`."""
        near = jnp.where(y > 0.5, 1.0, 0.0).astype(z.dtype)
        sign = 1 - 2 * near
        return sign * jax.nn.sigmoid(sign * z) - (y - near)

    def conjugate(self, v: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Float[Array, " n"]:
        """Return the negative entropy of v + y in [0, 1]."""
        p = v + y
        slack = 8 * jnp.finfo(p.dtype).eps
        inside = (p >= -slack) & (p <= 1 + slack)
        q = jnp.clip(p, 0.0, 1.0)
        return sum_outputs(jnp.where(inside, -entr(q) - entr(1 - q), jnp.inf))

    def smoothness(self) -> float:
        """Return 1/4."""
        return 0.25

    def mean(self, z: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return the probability of class 1."""
        return jax.nn.sigmoid(z)

    def link(self, mean: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """Return the logit."""
        return log_of_mean(mean) - jnp.log1p(-mean)

    def prediction_error(self, z: Float[Array, "n *K"], y: Float[Array, "n *K"]) -> Bool[Array, "n *K"]:
        """Return where the more probable class is not that of the target."""
        return (z > 0) != (y > 0.5)

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Raise ValueError for targets outside [0, 1], and where a class has no sample of positive weight."""
        require_finite_targets(y, "Logistic")
        require(
            (y >= 0) & (y <= 1),
            f"Logistic needs y in {{0, 1}}, or proportions in [0, 1], got {np.unique(y)[:5].tolist()}:"
            " encode the classes as 0 and 1",
        )
        y, where = with_weight(y, weight)
        for k, column in enumerate(y.reshape(len(y), -1).T):
            name = f"column {k} of y" if y.ndim == 2 else "y"
            message = f"{name} holds one class only ({column[0]:g}){where}: Logistic needs both 0 and 1"
            require(np.any(column > 0) and np.any(column < 1), message)


#: Advice about targets that are not the labels 0 … K−1.
_RELABEL = "relabel by np.unique(y, return_inverse=True)[1]"


class Multinomial(Loss):
    """Softmax cross-entropy, logsumexp(z) − z_y, for integer labels y in 0 … K−1; z is (n, K).

    y may also be one-hot, (n, K) of 0 and 1. `num_classes` is K; None takes the largest label + 1, which
    needs concrete targets and a sample of each class.

    >>> round(float(Multinomial(2).value(jnp.zeros((1, 2)), jnp.array([1]))[0]), 4)
    0.6931
    """

    null_predictor_is_exact: ClassVar[bool] = True

    num_classes: int | None = eqx.field(default=None, static=True)

    def value(self, z: Float[Array, "n K"], y: Int[Array, " n"]) -> Float[Array, " n"]:
        """Return minus the log-probability of the label."""
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1)[:, 0]

    def conjugate(self, v: Float[Array, "n K"], y: Int[Array, " n"]) -> Float[Array, " n"]:
        """Return the negative entropy of v + onehot(y) on the simplex."""
        p = v + jax.nn.one_hot(y, v.shape[-1], dtype=v.dtype)
        slack = 16 * jnp.finfo(p.dtype).eps * v.shape[-1]
        inside = jnp.all(p >= -slack, axis=-1) & (jnp.abs(jnp.sum(p, axis=-1) - 1) <= slack)
        return jnp.where(inside, jnp.sum(-entr(jnp.clip(p, 0.0, None)), axis=-1), jnp.inf)

    def smoothness(self) -> float:
        """Return 1/2, the largest eigenvalue of diag(π) − ππᵀ over all probabilities π."""
        return 0.5

    def mean(self, z: Float[Array, "n K"]) -> Float[Array, "n K"]:
        """Return the probabilities of the classes, (n, K)."""
        return jax.nn.softmax(z, axis=-1)

    def link(self, mean: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """Return log-probabilities."""
        return log_of_mean(mean)

    def null_predictor(self, y: Array, weight: Array, outputs: tuple[int, ...] = ()) -> Array:
        """Return the logarithms of the classes' weights, (K,)."""
        return self.link(weight @ jax.nn.one_hot(y, outputs[0], dtype=weight.dtype))

    def prediction_error(self, z: Float[Array, "n K"], y: Int[Array, " n"]) -> Bool[Array, " n"]:
        """Return where the most probable class is not the label."""
        return jnp.argmax(z, axis=-1) != y

    def outputs(self, y: Shaped[AnyArray, "n *L"]) -> tuple[int, ...]:
        """Return (K,)."""
        if y.ndim == 2:
            return (y.shape[1],)
        if self.num_classes is None and isinstance(y, jax.core.Tracer):
            raise ValueError("Multinomial under a trace cannot count the classes: give num_classes")
        return (int(np.max(y)) + 1 if self.num_classes is None else self.num_classes,)

    def encode(self, y: ArrayLike, dtype: DTypeLike) -> Array:
        """Return integer labels (n,), also of one-hot rows (n, K)."""
        if isinstance(y, jax.core.Tracer):
            return jnp.argmax(y, axis=1) if y.ndim == 2 else y.astype(int)
        return on_device(np.argmax(y, axis=1) if y.ndim == 2 else np.asarray(y).astype(np.int32))

    def saturated(self, y: Int[Array, " n"]) -> Float[Array, " n"]:
        """Return 0."""
        return jnp.zeros(y.shape[:1])

    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Raise ValueError for targets other than labels 0 … K−1 or one-hot rows.

        Every class must have a sample of positive weight unless `num_classes` was given, when two must.
        """
        require_finite_targets(y, "Multinomial")
        count, labels = self.num_classes, self._labels(y)
        classes = np.unique(labels)
        whole = bool(np.all((classes == np.round(classes)) & (classes >= 0)))
        require(
            whole, f"Multinomial needs integer labels 0 … K−1, got for example {classes[0]:g}: {_RELABEL}"
        )
        top = classes[-1] if y.ndim == 1 else y.shape[1] - 1
        require(count is None or top < count, f"y has label {top:g}, but num_classes is {count}: {_RELABEL}")
        labels, where = with_weight(labels, weight)
        classes = np.unique(labels)
        single = f"y holds one class only ({classes[0]:g}){where}: Multinomial needs at least two"
        require(len(classes) > 1, single)
        if count is None and len(classes) <= top:
            missing = np.setdiff1d(np.arange(len(classes) + 1), classes)[0]
            raise ValueError(
                f"y has labels up to {top:g}, but class {missing} has no sample{where}: {_RELABEL}, or give"
                " num_classes to keep classes without samples"
            )

    def _labels(self, y: np.ndarray) -> np.ndarray:
        """Return labels as they are and one-hot rows as labels; ValueError for any other matrix."""
        if y.ndim == 1:
            return y
        advice = ": take y[:, 0]" if y.shape[1] == 1 else " whose rows are not one-hot"
        onehot = y.shape[1] > 1 and np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=1) == 1)
        wanted = "Multinomial needs labels (n,) or one-hot rows (n, K) of 0 and 1"
        require(onehot, f"{wanted}, got y of shape {y.shape}{advice}")
        message = f"y has {y.shape[1]} one-hot classes, but num_classes is {self.num_classes}"
        require(self.num_classes in (None, y.shape[1]), f"{message}: give y as labels (n,)")
        return np.argmax(y, axis=1)
