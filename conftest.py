"""Settings of every test: double precision on, compiled programs kept between runs.

They are not kept where `CI` is set: a fresh checkout has little to gain, and XLA was once seen to crash while
it wrote one out.
"""

import os
import pathlib

if not os.environ.get("CI"):
    cache = pathlib.Path(__file__).parent / ".jax_cache"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Four virtual devices, for what spreads lanes over a mesh; everything else runs on the first.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Both working precisions."""
    return jnp.dtype(request.param)


@pytest.fixture(autouse=True)
def _names(doctest_namespace):
    doctest_namespace["jnp"] = jnp
