"""Cost of a model: Cost(h) = EmpLoss(h) + λ·Complexity(h)."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from jaxtyping import PyTree

from jaxreg._typing import Params, Scalar
from jaxreg.penalties import Penalty

__all__ = ["cost"]

_Args = ParamSpec("_Args")
#: A scalar, or a pair (scalar, anything).
_Out = TypeVar("_Out", bound=Scalar | tuple[Scalar, PyTree])


def cost(
    loss_fn: Callable[Concatenate[Params, _Args], _Out], penalty: Penalty, *, has_aux: bool = False
) -> Callable[Concatenate[Params, _Args], _Out]:
    """Return the pure function loss_fn(params, *args) + penalty.value(params), for jit, grad and vmap.

    Args:
        loss_fn: Returns a scalar, or with `has_aux` a pair (scalar, anything).
        penalty: The penalty.
        has_aux: Whether `loss_fn` returns a pair, whose second part the cost returns too.

    Raises:
        TypeError: `penalty` is not a penalty.

    >>> import jax
    >>> from jaxreg.penalties import L1
    >>> total = cost(lambda w, x: jnp.sum((w - x) ** 2), L1(0.5))
    >>> float(total(jnp.array([1.0, -2.0]), 1.0))
    10.5
    >>> jax.grad(total)(jnp.array([1.0, -2.0]), 1.0).tolist()
    [0.5, -6.5]
    """
    if not isinstance(penalty, Penalty):
        raise TypeError(f"wanted a penalty such as jaxreg.L1(0.1), got {type(penalty).__name__}")

    @wraps(loss_fn)
    def total(params: Params, *args: _Args.args, **kwargs: _Args.kwargs) -> _Out:
        out = loss_fn(params, *args, **kwargs)
        if has_aux:
            loss, aux = out
            return loss + penalty.value(params), aux
        return out + penalty.value(params)

    return total
