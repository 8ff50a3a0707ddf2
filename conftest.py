"""Settings of every test: double precision on, programs compiled fast and kept between runs."""

import collections
import gc
import os
import pathlib
import time

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("MPLBACKEND", "Agg")
# Two workers whose LAPACK threads wait for each other take many times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Four virtual devices for tests that spread lanes over a mesh; every other test runs on the first.
FLAGS = ["--xla_force_host_platform_device_count=4"]
# The suite compiles thousands of programs and runs most of them once. Without LLVM's optimisations, MLIR's
# fusion emitters and threads for each program a logistic solve and path take 5.9 s of CPU time, not 20.3.
# JAXREG_TEST_OPTIMIZED=1 runs the suite on the programs that users get.
if not os.environ.get("JAXREG_TEST_OPTIMIZED"):
    FLAGS += ["--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"]
    FLAGS += ["--xla_cpu_parallel_codegen_split_count=1"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])

import jax
import jax.numpy as jnp
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow the cases of a test that its mark `slow_except` does not name."""
    cases = collections.defaultdict(list)
    for item in items:
        if mark := item.get_closest_marker("slow_except"):
            is_fast = item.callspec.id in mark.args
            cases[item.nodeid.partition("[")[0]].append(is_fast)
            if not is_fast:
                item.add_marker(pytest.mark.slow)
    for name, fast in cases.items():
        # A single case may have been asked for by its name.
        if len(fast) > 1 and not any(fast):
            raise pytest.UsageError(f"slow_except of {name} names none of its cases")


def pytest_collection_finish() -> None:
    """Collect garbage rarely, and never scan what the imports left.

    Tracing allocates many objects that live on in JAX's caches. With Python's defaults some 5 to 10 % of the
    suite's time goes into scanning them and the modules, again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Both working precisions."""
    return jnp.dtype(request.param)


_MAPS = pathlib.Path("/proc/self/maps")
# Regions of memory that a process may map before programs are dropped. Each program that XLA loads maps some
# ten, and Linux allows a process 65,530: thousands of programs end in a crash inside XLA.
MOST_MAPS = 45_000
# The same between modules, which share few programs. To free a program takes a search through all that are
# loaded: 6 s of CPU time and 5 GB of memory for 4,500 programs, a tenth of both for 1,500.
MAPS_BETWEEN_MODULES = 15_000
_seconds = 0.0


def drop_programs(above: int) -> None:
    """Drop compiled programs where the process maps more regions of memory than this."""
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > above:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def _few_programs():
    """Drop compiled programs within a module; compiling takes time, so it is time that says when to look."""
    global _seconds
    start = time.monotonic()
    yield
    _seconds += time.monotonic() - start
    if _seconds > 3:
        _seconds = 0.0
        drop_programs(MOST_MAPS)


@pytest.fixture(autouse=True, scope="module")
def _few_programs_between_modules():
    yield
    drop_programs(MAPS_BETWEEN_MODULES)


@pytest.fixture(autouse=True)
def _names(doctest_namespace):
    doctest_namespace["jnp"] = jnp
