"""The experiments compile many programs and run each briefly here: compile fast rather than well."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def _compiled_fast():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
