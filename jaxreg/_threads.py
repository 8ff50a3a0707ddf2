"""Fits of several folds or outputs at once on the cores of a CPU.

A path is a sequence of small compiled programs, each of which occupies one core, with work on the host in
between. Compiled programs release Python's global lock, so that threads run several paths at once.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax

from jaxreg._batching import n_cores

__all__ = ["map_in_threads"]

#: Paths solved at once at most: each has buffers of its own.
_MAX_THREADS = 8
#: Start of the names of threads, which start no further ones.
_NAME = "jaxreg-fit"

T = TypeVar("T")


def map_in_threads(function: Callable[[int], T], count: int, *, factorises: bool = False) -> list[T]:
    """Return [function(0), …, function(count − 1)].

    The calls run in threads on a CPU, unless the caller is such a thread itself, or has settings of JAX of
    its own, which threads would not inherit. A program that several of them need is compiled once: JAX has
    the other threads wait for it.

    Args:
        function: the function.
        count: number of calls.
        factorises: whether the programs of `function` factorise matrices by LAPACK, which asks for further
            threads of XLA. Where the programs themselves take all of these, it waits for ever; so half of the
            cores are left free.
    """
    n_threads = min(_MAX_THREADS, n_cores() // 2 if factorises else n_cores(), count)
    nested = threading.current_thread().name.startswith(_NAME)
    if n_threads < 2 or nested or jax.default_backend() != "cpu":
        return list(map(function, range(count)))
    with ThreadPoolExecutor(n_threads, thread_name_prefix=_NAME) as pool:
        if pool.submit(_settings).result() != _settings():
            return list(map(function, range(count)))
        return list(pool.map(function, range(count)))


def _settings() -> tuple:
    """Return the settings of JAX that a context manager may change in one thread."""
    names = ("jax_enable_x64", "jax_default_device", "jax_disable_jit")
    return *(getattr(jax.config, name) for name in names), jax.sharding.get_abstract_mesh()
