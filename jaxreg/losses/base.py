"""The base class of losses.

A loss is a function of the linear predictor z (intercept and offset included) and the target y, per sample.
Gradients and Hessians come from automatic differentiation.
"""

from abc import abstractmethod
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from jaxreg._compilation import on_device
from jaxreg._module import Module
from jaxreg._typing import AnyArray, ArrayLike, DTypeLike, Scalar
from jaxreg._validation import require

__all__ = ["Loss"]


class Loss(Module):
    """Base of all losses; z is (n,) or (n, K), and every method takes the whole batch.

    To add a loss, subclass `Loss` and write

    - `value` and its convex `conjugate`, each per sample; the conjugate may accept a few roundings outside of
      its domain;
    - `smoothness`, the supremum of the second derivative, inf if there is none;
    - `check`, which refuses targets outside of the domain;
    - `mean`, the inverse link, and `link`, where the mean is not z itself;
    - `prediction_error`, where the error is not the squared one;
    - `fenchel_gap`, `optimal_shift` and `null_predictor_is_exact`, where a closed form is more accurate or
      cheaper.

    Numbers such as `delta` are fields declared with `hyperparameter()`. In this package, name the loss in
    `__all__`: the laws in tests/test_losses.py and tests/linear find it there.

    `jax.jit(loss.value)` compiles the loss's numbers into the program as constants.
    """

    _for_authors = frozenset(
        {
            *("encode", "fenchel_gap", "null_predictor", "null_predictor_is_exact", "optimal_shift"),
            *("outputs", "saturated", "target_scale"),
        }
    )

    #: Whether y has a unit and no zero: in_units(1/c).value(c·z + d, c·y + d) = c²·value(z, y).
    has_unit: ClassVar[bool] = False

    #: Whether `null_predictor` minimises the loss over constant predictors, as for a canonical link.
    null_predictor_is_exact: ClassVar[bool] = False

    @abstractmethod
    def value(self, z: Float[Array, "n *K"], y: Shaped[Array, "n *L"]) -> Float[Array, " n"]:
        """Return the loss of each sample, summed over outputs."""

    @abstractmethod
    def conjugate(self, v: Float[Array, "n *K"], y: Shaped[Array, "n *L"]) -> Float[Array, " n"]:
        """Return sup_z ⟨v, z⟩ − value(z, y) of each sample, inf outside the domain."""

    @abstractmethod
    def smoothness(self) -> float | Array:
        """Return the supremum of the second derivative in z, inf where unbounded.

        For K outputs it is that of the largest eigenvalue of the Hessian.
        """

    @abstractmethod
    def check(self, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Check concrete targets on the host.

        Args:
            y: targets (n,) or (n, K).
            weight: sample weights (n,). Samples of weight 0 do not count as samples of a class or as positive
                counts; without weights all samples count.

        Raises:
            ValueError: if targets are outside the loss's domain or do not determine a fit.
        """

    def mean(self, z: Float[Array, "n *K"]) -> Float[Array, "n *K"]:
        """Return the expected target at the predictor z, the inverse link: z itself by default."""
        return z

    def link(self, mean: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """Return the predictor at which the expected target is `mean`; it is finite for a mean of 0."""
        return mean

    def gradient(self, z: Float[Array, "n *K"], y: Shaped[Array, "n *L"]) -> Float[Array, "n *K"]:
        """Return the gradient of each sample's loss in its own z."""
        return jax.grad(lambda z: jnp.sum(self.value(z, y)))(z)

    def fenchel_gap(
        self, z: Float[Array, "n *K"], y: Shaped[Array, "n *L"], v: Float[Array, "n *K"]
    ) -> Float[Array, " n"]:
        """Return value(z) + conjugate(v) − ⟨v, z⟩ of each sample: ≥ 0, and 0 where v is the gradient."""
        return self.value(z, y) + self.conjugate(v, y) - sum_outputs(v * z)

    def total(self, z: Float[Array, "n *K"], y: Shaped[Array, "n *L"], weight: Float[Array, " n"]) -> Scalar:
        """Return the empirical loss, the weighted mean over samples; `weight` sums to 1."""
        return jnp.sum(weight * self.value(z, y))

    def saturated(self, y: Shaped[Array, "n *L"]) -> Float[Array, " n"]:
        """Return the smallest loss of each sample over all predictors."""
        return -self.conjugate(jnp.zeros_like(y), y)

    def prediction_error(
        self, z: Float[Array, "n *K"], y: Shaped[Array, "n *L"]
    ) -> Float[Array, "n *L"] | Bool[Array, "n *L"]:
        """Return the error of each prediction in the units of reports: the squared error by default."""
        return (z - y) ** 2

    def null_predictor(
        self, y: Shaped[Array, "n *L"], weight: Float[Array, " n"], outputs: tuple[int, ...] = ()
    ) -> Float[Array, "*K"]:
        """Return the constant predictor, of shape `outputs`, at which the mean is the weighted mean of y."""
        return self.link(weight @ y)

    def optimal_shift(
        self, z: Float[Array, "n *K"], y: Shaped[Array, "n *L"], weight: Float[Array, " n"]
    ) -> Float[Array, "*K"] | None:
        """Return the shift that minimises `total` over z + shift; None where there is no closed form."""
        return None

    def outputs(self, y: Shaped[AnyArray, "n *L"]) -> tuple[int, ...]:
        """Return the shape of the predictor of one sample, () or (K,)."""
        return tuple(y.shape[1:])

    def encode(self, y: ArrayLike, dtype: DTypeLike) -> Array:
        """Return targets in the form that the other methods take."""
        return on_device(y, dtype)

    def target_scale(self, y: Shaped[Array, "n *L"], weight: Float[Array, " n"]) -> Scalar:
        """Return the unit of the targets: their standard deviation, or 1 where they have none."""
        return _deviation(y, weight) if self.has_unit else jnp.ones((), weight.dtype)

    def in_units(self, unit: Scalar) -> Self:
        """Return the loss for targets that were divided by `unit`."""
        return self


def sum_outputs(x: Float[Array, "n *K"]) -> Float[Array, " n"]:
    """Sum over outputs, which leaves one number per sample."""
    return jnp.sum(x, axis=-1) if x.ndim == 2 else x


def log_of_mean(mean: Array) -> Array:
    """Return log(mean), finite at 0."""
    return jnp.log(jnp.maximum(mean, jnp.finfo(mean.dtype).tiny))


def require_finite_targets(y: np.ndarray, name: str) -> None:
    """Raise ValueError for NaN and infinite targets of the loss `name`."""
    bad = int(np.sum(~np.isfinite(y.astype(float))))
    require(bad == 0, f"y has {bad} NaN or infinite values: {name} needs finite targets; drop those rows")


def with_weight(y: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, str]:
    """Return the targets of positive weight, and the words that say so in a message."""
    if weight is None or np.all(weight > 0):
        return y, ""
    return y[weight > 0], " among the samples of positive weight"


def _deviation(y: Float[Array, "n *K"], weight: Float[Array, " n"]) -> Scalar:
    """Return the root mean square over outputs of the weighted deviations; squares do not overflow."""
    centred = y - weight @ y
    largest = jnp.max(jnp.abs(centred))
    unit = centred / jnp.where(largest > 0, largest, 1.0)
    return largest * jnp.sqrt(jnp.mean(weight @ unit**2))
