"""Conversion without compiling, levels of optimisation, and the cache of programs."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import _compilation
from jaxreg._compilation import jit_at_level, on_device
from tests.members import compilations


def test_a_host_array_is_copied_and_compiles_nothing():
    host = np.arange(1000.0)
    arrays = []
    assert compilations(lambda: arrays.append(on_device(host)) or arrays[0]) == 0
    host[:] = -1.0
    assert isinstance(arrays[0], jax.Array) and np.array_equal(arrays[0], np.arange(1000.0))
    assert on_device(3, jnp.float32).dtype == jnp.float32 and on_device(arrays[0]) is arrays[0]


def test_a_constant_becomes_part_of_a_traced_program():
    def function(x):
        return x + on_device(np.arange(3.0))

    np.testing.assert_array_equal(jax.jit(function)(np.ones(3)), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(jax.vmap(function)(np.ones((2, 3)))[1], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("applies", [True, False])
def test_a_program_at_a_level_works_within_every_transformation(applies, monkeypatch):
    """Compiler options are for a program of its own: within another one the function is traced as it is."""
    monkeypatch.setattr(_compilation, "_levels_apply", lambda: applies)

    @jit_at_level(0)
    def cube(x, power=3):
        return x**power

    x = jnp.asarray(2.0)
    assert cube(x) == cube(x, power=3) == 8 and cube(x, power=2) == 4
    assert jax.jit(cube)(x) == 8 and jax.jit(lambda: cube(x))() == 8 and jax.grad(cube)(x) == 12
    np.testing.assert_array_equal(jax.vmap(cube)(jnp.arange(3.0)), [0, 1, 8])
    assert jax.lax.scan(lambda total, y: (total + cube(x), y), x, jnp.arange(3.0))[0] == 26


SCRIPT = """
import sys, numpy as np, jax
jax.numpy.ones(3) + 1  # a program before the cache
loads = []
jax.monitoring.register_event_listener(lambda event, **_: loads.append(event.endswith("cache_hits")))
import jaxreg as jr
print(jr.cache_programs(sys.argv[1]))
X = np.random.default_rng(0).normal(size=(20, 3))
jr.certify(jr.Problem(jr.losses.SquaredError(), X, X[:, 0]), jr.L1(0.1), np.zeros(3), 0.0)
print(sum(loads))
"""


def test_a_second_process_loads_its_programs(tmp_path):
    def run():
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "programs")]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    folder, loaded = run()
    assert folder == str(tmp_path / "programs") and int(loaded) == 0
    assert int(run()[1]) >= 4
