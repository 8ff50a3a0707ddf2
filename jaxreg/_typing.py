"""Type aliases for the arrays that pass between modules."""

from typing import Any

from jaxtyping import Array, Float, Shaped

__all__ = ["ArrayLike", "Matrix", "Params", "Scalar", "Vector"]

#: Argument of `jnp.asarray`: an array, a NumPy array, a number, a nested list.
ArrayLike = Any
#: A pytree of float arrays: the weights of a model.
Params = Any
#: One real number.
Scalar = Float[Array, ""]
#: One number per sample or per feature.
Vector = Shaped[Array, " n"]
#: One row per sample, one column per feature.
Matrix = Float[Array, "n p"]
