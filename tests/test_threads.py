"""Calls in threads: their order, their number, and none within another."""

import threading
import time

import pytest

from jaxreg import _threads


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
    assert all(len(threads) == 1 for threads in inner[1:])
    assert len(set.union(*inner[1:])) <= 2
