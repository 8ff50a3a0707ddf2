"""The compiled programs of a sweep: how many there are, whose they are, what they hold and need."""

import functools
import os
import subprocess
import sys
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import jaxreg as jr
from jaxreg.sweeps._program import Program
from tests.members import compilations, devices, problem
from tests.sweeps.functions import AXES, LAMS, looped, number, shrunk

RUNNER = sys.modules["jaxreg.sweeps._runner"]

# ---------------------------------------------------------------- one program


def test_one_program_for_all_chunks():
    """The last chunk is filled up; the last round is too, where boxes are fewer than devices."""
    fn = lambda lam, seed: 3.25 * lam + seed  # noqa: E731

    def call(count, size):
        return jr.sweep(fn, lam=np.arange(size) / 7, seed=range(2), max_lanes=4, mesh=devices(count))

    for count, size in ((1, 7), (2, 9), (4, 50)):
        assert 1 <= compilations(functools.partial(call, count, size)) <= count


@pytest.mark.parametrize("count", [1, 4])
def test_another_grid_for_the_same_function_compiles_nothing(count):
    scale, mesh = 3.5 * jnp.ones(7), devices(count)
    fn = lambda lam, seed: jnp.sum(scale * lam) + seed  # noqa: E731
    assert 1 <= compilations(lambda: jr.sweep(fn, **AXES, max_lanes=4, mesh=mesh)) <= count
    other = lambda: jr.sweep(fn, lam=2 * LAMS[:2], seed=range(7, 10), max_lanes=4, mesh=mesh)  # noqa: E731
    assert compilations(other) == 0
    alike = lambda: jr.sweep(fn, lam=2 * LAMS, seed=range(7, 10), max_lanes=4, mesh=mesh)  # noqa: E731
    assert compilations(alike) == 0
    assert 1 <= compilations(lambda: jr.sweep(fn, **AXES, max_lanes=2, mesh=mesh)) <= count


def test_the_function_runs_once_in_python():
    calls = []

    def fn(lam, seed):
        calls.append((lam, seed))
        return lam * seed

    jr.sweep(fn, **AXES, max_lanes=2)
    assert len(calls) == 1


@pytest.fixture
def programs(monkeypatch):
    """The programs that sweeps compile, in turn."""
    made, compile_lanes = [], RUNNER.compile_lanes

    def kept(*given):
        made.append(compile_lanes(*given))
        return made[-1]

    monkeypatch.setattr(RUNNER, "compile_lanes", kept)
    monkeypatch.setattr(RUNNER, "_COMPILED", OrderedDict())
    return made


LARGE = np.random.default_rng(1).normal(size=(200, 300))
LARGE_ON_DEVICE = jnp.asarray(LARGE)
CLOSED_OVER = {
    "numpy": lambda lam: jnp.sum(lam * LARGE),
    "jax": lambda lam: jnp.sum(lam * LARGE_ON_DEVICE),
    "scan": lambda lam: jax.lax.scan(lambda a, _: (a + jnp.sum(LARGE * a), None), lam, length=3)[0],
    "cond": lambda lam: jax.lax.cond(lam > 0.1, lambda: jnp.sum(lam * LARGE), lambda: lam),
}


@pytest.mark.parametrize("kind", list(CLOSED_OVER))
def test_large_arrays_are_arguments(kind, programs):
    """Not part of the program, which would hold them once more for every size of chunk."""
    jr.sweep(CLOSED_OVER[kind], lam=LAMS)
    (program,) = programs
    text = program.runtime_executable().hlo_modules()[0].as_serialized_hlo_module_proto()
    assert len(text) < LARGE.nbytes / 10
    assert program.memory_analysis().argument_size_in_bytes >= LARGE.nbytes


def test_what_the_function_closes_over_is_an_argument():
    X = jnp.arange(1000.0)
    program = Program(lambda lam: jnp.sum(lam * X), {"lam": np.array([1.0])})
    assert [np.shape(x) for x in program.closed.consts] == [(1000,)]
    text = jax.jit(program.run).lower([jax.ShapeDtypeStruct((1000,), X.dtype)], [1.0]).as_text()
    assert (
        "tensor<1000x" in text.split("{")[1] + text.split("\n")[2] and "dense<" not in text.split("1000")[0]
    )


# ---------------------------------------------------------------- never that of another function


def test_other_functions_of_the_same_shape_are_not_mixed_up():
    """Programs are kept from call to call: never that of another function."""

    def made(factor):
        return jr.sweep(lambda lam: factor * lam, lam=LAMS).value.values

    for factor in (2.0, 3.0):
        np.testing.assert_allclose(made(factor), factor * LAMS)
        np.testing.assert_allclose(made(np.full(2, factor)), factor * LAMS[:, None].repeat(2, 1))


@pytest.mark.parametrize("kind", ["callback", "batching rule"])
def test_what_a_jaxpr_does_not_show_is_not_mixed_up(kind):
    def make(factor):
        if kind == "callback":
            out = jax.ShapeDtypeStruct((), float)
            return lambda lam: jax.pure_callback(
                lambda x: np.float64(factor * x), out, lam, vmap_method="sequential"
            )

        @jax.custom_batching.custom_vmap
        def scaled(x):
            return 0.0 * x

        scaled.def_vmap(lambda size, batched, x: (factor * x, True))
        return lambda lam: scaled(lam)

    for factor in (2.0, 3.0):
        np.testing.assert_allclose(jr.sweep(make(factor), lam=LAMS).value, factor * LAMS)


def test_the_same_solve_again_compiles_nothing():
    """Batching rules of this package are marked as transparent, rules of a user are not.

    The prox of total variation has a rule of its own, beside those of every solve.
    """
    here = problem("SquaredError", n=20, p=4)

    def again():
        fit = lambda lam: jr.solve(here, jr.penalties.TotalVariation(lam), throw=False).coef  # noqa: E731
        return lambda: jr.sweep(fit, lam=LAMS, mesh=devices(1))

    assert compilations(again()) == 1
    assert compilations(again()) == 0


def test_settings_of_jax_are_not_mixed_up():
    draws = lambda seed: jax.random.normal(jax.random.key(seed), (3,))  # noqa: E731
    for on in (True, False):
        with jax.threefry_partitionable(on):
            np.testing.assert_allclose(jr.sweep(draws, seed=[1]).value[0], draws(1))


# ---------------------------------------------------------------- memory and threads


def needed(programs):
    return [RUNNER.needed_bytes(program) for program in programs]


def test_little_memory_makes_small_chunks(programs, monkeypatch):
    """Chunks shrink until they fit, and the results stay."""
    fn = lambda lam: jnp.sum(jnp.sort(jnp.sin(lam * jnp.arange(5000.0) + 1.25)))  # noqa: E731
    lams, one = np.linspace(0, 1, 40), devices(1)
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: 10**12)
    ample = jr.sweep(fn, lam=lams, mesh=one)
    (most,) = needed(programs)
    programs.clear()
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: most // 2)
    tight = jr.sweep(fn, lam=lams, mesh=one)
    assert needed(programs)[-1] < most // 2
    xarray.testing.assert_allclose(tight, ample, rtol=1e-12)


def test_no_memory_at_all_runs_lane_by_lane(programs, monkeypatch):
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: 0)
    found = jr.sweep(lambda lam: 3.75 * lam, lam=LAMS)
    np.testing.assert_allclose(found.value, 3.75 * LAMS)
    assert programs[-1].args_info[0][1][0].shape == (1,)


def test_memory_is_not_asked_where_lanes_are_given(monkeypatch):
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: pytest.fail("asked"))
    assert jr.sweep(number, **AXES, max_lanes=3).attrs["done"] == 15


def test_unknown_memory_limits_nothing(monkeypatch):
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: None)
    np.testing.assert_allclose(jr.sweep(lambda lam: lam, lam=LAMS).value, LAMS)


def test_the_chunk_shrinks_to_the_memory_there_is(monkeypatch):
    asked = []
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: 200_000)
    monkeypatch.setattr(
        RUNNER, "needed_bytes", lambda program: asked.append(program) or 150_000 // len(asked) ** 2
    )
    axes = {"lam": np.tile(LAMS, 5), "seed": range(4)}
    found = jr.sweep(shrunk, **axes, mesh=devices(1))
    assert len(asked) == 2
    np.testing.assert_array_equal(found["l1"], looped(shrunk, axes)["l1"])


def test_lanes_that_fit_do_and_more_do_not(programs, monkeypatch):
    fn = lambda lam, seed: jnp.sum(jnp.sort(jnp.sin(lam * jnp.arange(5000.0) + seed)))  # noqa: E731
    axes = {"lam": np.linspace(0, 1, 10), "seed": range(4)}
    assert jr.sweeps.fitting_lanes(fn, **axes) == 40
    (whole,) = needed(programs)
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: whole // 3)
    most = jr.sweeps.fitting_lanes(fn, **axes)
    assert 8 <= most <= 14
    assert needed(programs)[-1] <= whole // 3
    assert jr.sweep(fn, **axes, max_lanes=most).attrs["done"] == 40
    monkeypatch.setattr(RUNNER, "free_bytes", lambda device: 0)
    assert jr.sweeps.fitting_lanes(fn, **axes) == 1
    with pytest.raises(ValueError, match="at least one axis"):
        jr.sweeps.fitting_lanes(fn)


HANGS = """
import jax, jax.numpy as jnp, numpy as np, jaxreg as jr
A = jnp.asarray(np.random.default_rng(0).normal(size=(300, 300)))
fn = lambda lam: jnp.linalg.solve(A @ A.T + lam * jnp.eye(300), A[0])
found = jr.sweep(fn, lam=np.ones(40), max_lanes=2)
print(found.attrs["done"])
"""


def test_chunks_with_large_factorisations_end():
    """On one device: XLA's own threads must not all wait for each other."""
    environment = os.environ | {"XLA_FLAGS": ""}
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], env=environment, check=True, timeout=60, stdout=subprocess.PIPE
    )
    assert int(ended.stdout) == 40
