"""Reasons for which a solver stops, and their conversion to names and codes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxreg._compilation import on_device

__all__ = ["STATUS_NAMES", "Status", "status_codes", "status_from_codes", "status_names"]


class Status(eqx.Enumeration):
    """Reason for which a solver stopped; the values are the messages."""

    converged = "converged: the certificate is below the tolerance"
    max_steps = "the step limit was reached before the tolerance: raise max_steps or loosen tol"
    stalled = "no further progress in this dtype: the certificate is what its precision can reach"
    nonfinite = "the iterates became NaN or infinite: the problem may have no solution"


#: Names of the statuses; the code of a status is its position here.
STATUS_NAMES = ("converged", "max_steps", "stalled", "nonfinite")


@jax.jit
def status_codes(status: Status) -> Int[Array, "..."]:
    """Return the position in `STATUS_NAMES` of each status of a batch."""
    matches = jnp.stack([status == getattr(Status, name) for name in STATUS_NAMES])
    return jnp.argmax(matches, axis=0)


def status_names(status: Status) -> np.ndarray:
    """Return the name of each status of a concrete batch, as an array of strings; compiles nothing."""

    def code(status: Status) -> Int[np.ndarray, "..."]:
        return np.asarray(jax.tree.leaves(status)[0])

    matches = np.stack([code(status) == code(getattr(Status, name)) for name in STATUS_NAMES])
    return np.asarray(STATUS_NAMES)[np.argmax(matches, axis=0)]


def status_from_codes(codes: Int[np.ndarray, " batch"]) -> Status:
    """Return a batch of statuses from their positions in `STATUS_NAMES`, on the host."""
    each = [getattr(Status, name) for name in STATUS_NAMES]
    return jax.tree.map(lambda *values: on_device(np.asarray(values)[codes]), *each)
