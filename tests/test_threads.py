"""Calls in threads: their order, their number, and none within another."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import _threads
from tests.members import compilations


@pytest.mark.parametrize(("factorises", "threads"), [(False, 4), (True, 2)])
def test_factorisations_leave_half_of_the_cores_free(monkeypatch, factorises, threads):
    """XLA waits for ever where programs that call LAPACK take all of its threads."""
    monkeypatch.setattr(_threads, "n_cores", lambda: 4)
    seen = set()

    def name(k):
        time.sleep(0.02)
        seen.add(threading.get_ident())
        return k

    assert _threads.map_in_threads(name, 13, factorises=factorises) == list(range(13))
    assert len(seen - {threading.get_ident()}) == threads


def test_a_thread_starts_no_further_ones(monkeypatch):
    monkeypatch.setattr(_threads, "n_cores", lambda: 2)
    here = lambda k: threading.get_ident()  # noqa: E731
    inner = _threads.map_in_threads(lambda k: set(_threads.map_in_threads(here, 5)), 4)
    assert all(len(threads) == 1 for threads in inner)
    assert len(set.union(*inner)) <= 2


def test_a_program_that_several_threads_need_is_compiled_once(monkeypatch):
    monkeypatch.setattr(_threads, "n_cores", lambda: 2)
    start, x = threading.Barrier(2), np.arange(7.0)
    program = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(jnp.cumsum(x)), x))

    def call(_):
        start.wait(timeout=60)
        return np.asarray(program(x))

    assert compilations(lambda: _threads.map_in_threads(call, 2)) == 1
