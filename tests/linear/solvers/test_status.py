"""Statuses of solvers, with their codes and names."""

import jax.numpy as jnp
import numpy as np

from jaxreg.linear.solvers.status import (
    STATUS_NAMES,
    Status,
    status_codes,
    status_from_codes,
    status_names,
)


def test_every_status_has_a_name():
    assert len(STATUS_NAMES) == len(Status)
    assert all(hasattr(Status, name) for name in STATUS_NAMES)


def test_codes_names_and_statuses_agree():
    codes = jnp.arange(len(STATUS_NAMES))
    statuses = status_from_codes(codes)
    assert np.array_equal(status_codes(statuses), codes)
    assert status_names(statuses).tolist() == list(STATUS_NAMES)
    assert bool(jnp.all(statuses == status_from_codes(status_codes(statuses))))
