"""Read an axis of a sweep: one row of numbers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import ArrayLike

__all__ = ["Axis", "read_axis"]

_USE_SEEDS = "sweep integer seeds and make the key inside the function, jax.random.key(seed)"


class Axis(NamedTuple):
    """Values of an axis, as labels of the results and as the lanes get them: in a dtype that JAX has now."""

    labels: np.ndarray
    values: np.ndarray


def read_axis(name: str, values: ArrayLike) -> Axis:
    """Read the values of an axis.

    Raises:
        ValueError: The values are not one row of at least one value, or do not fit JAX's present dtypes.
        TypeError: The values are not numbers of one kind.
    """
    labels = _labels(name, values)
    with np.errstate(over="ignore"):
        lanes = labels.astype(jax.dtypes.canonicalize_dtype(labels.dtype))
    integers = labels.dtype.kind in "iu"
    lost = labels != lanes if integers else np.isfinite(labels) & ~np.isfinite(lanes)
    if np.any(lost):
        raise ValueError(
            f"axis {name} holds {labels[lost][0]}, which does not fit {lanes.dtype}: turn on 64 bits by"
            ' jax.config.update("jax_enable_x64", True), or take smaller numbers'
        )
    return Axis(labels, lanes)


def _labels(name: str, values: ArrayLike) -> np.ndarray:
    """Return the values as a NumPy array with one dimension."""
    if isinstance(values, jax.Array) and jnp.issubdtype(values.dtype, jax.dtypes.prng_key):
        raise TypeError(f"axis {name} holds PRNG keys, wanted numbers: {_USE_SEEDS}")
    try:
        labels = np.asarray(list(values) if isinstance(values, range) else values)
    except ValueError as error:
        raise ValueError(f"axis {name} is ragged, wanted one row of numbers") from error
    except TypeError as error:
        raise TypeError(f"axis {name} holds what are no numbers ({error}): {_USE_SEEDS}") from error
    types = sorted({type(v).__name__ for v in values}) if isinstance(values, list | tuple) else []
    if labels.dtype.kind not in "fiub" or ("bool" in types and len(types) > 1):
        got = " and ".join(types) or f"dtype {labels.dtype}"
        raise TypeError(
            f"axis {name} holds {got}, wanted numbers of one kind: sweep over an index 0, 1, … and look the"
            " rest up inside the function"
        )
    if labels.ndim != 1 or labels.size == 0:
        got = "one value" if labels.ndim == 0 else f"shape {labels.shape}" if labels.size else "no value"
        raise ValueError(
            f"axis {name} has {got}, wanted one row of at least one number such as [0.1, 1.0]; fix a value"
            " with functools.partial"
        )
    return labels
