"""`sweep` in memory: it is a loop over single calls, labelled, whatever the chunks and devices are."""

import functools
import os
import pty
import subprocess
import sys
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxreg as jr
from jaxreg.sweeps._program import Program
from tests.members import compilations

SWEEP = sys.modules["jaxreg.sweeps.sweep"]
LAMS, SEEDS = [0.05, 0.2, 0.4], range(4)


def shrunk(lam, seed):
    """Elementwise, so that the bits do not depend on the number of lanes."""
    w = jax.random.normal(jax.random.key(seed), (3,))
    return {"l1": jr.L1(lam).prox(w, 1.0), "of": {"l2": jr.SquaredL2(lam).prox(w, 1.0)}, "n": jnp.sum(w > 0)}


def loop(fn, name):
    """The results of single calls."""
    single = jax.jit(lambda lam, seed: eqx.filter(fn(lam, seed), eqx.is_array))
    rows = [[jax.tree.map(np.asarray, single(lam, seed)) for seed in SEEDS] for lam in LAMS]
    for key in name.split("/"):
        rows = [[out[key] for out in row] for row in rows]
    return np.array(rows)


@pytest.mark.parametrize("max_lanes", [None, 1, 5, 100])
def test_it_is_a_loop_over_single_calls(max_lanes):
    found = jr.sweep(shrunk, lam=LAMS, seed=SEEDS, max_lanes=max_lanes)
    assert set(found.data_vars) == {"l1", "of/l2", "n"}
    assert found["of/l2"].dims == ("lam", "seed", "of/l2_0")
    for name in found.data_vars:
        np.testing.assert_array_equal(found[name].values, loop(shrunk, name))
    assert (found["lane_status"] == 1).all() and found.attrs == {"lanes": 12, "done": 12, "not_finite": 0}


def test_labels_stay_as_they_were_given():
    found = jr.sweep(shrunk, lam=np.array(LAMS, np.float32), seed=np.array(SEEDS, np.int16))
    assert found.lam.dtype == np.float32 and found.seed.dtype == np.int16
    assert found["l1"].sel(lam=np.float32(0.2), seed=3).shape == (3,)


def test_a_bare_array_is_called_value():
    found = jr.sweep(lambda lam: lam * 2, lam=LAMS)
    assert found["value"].values.tolist() == [0.1, 0.4, 0.8]


@pytest.mark.parametrize("dtype", ["bool", "int32", "float16", "bfloat16", "complex64", "uint8"])
def test_every_kind_of_number_comes_back(dtype):
    found = jr.sweep(lambda k: k.astype(dtype), k=[0, 1, 3])["value"]
    assert found.dtype == ("float32" if dtype == "bfloat16" else dtype)
    assert found.values.tolist() == np.array([0, 1, 3]).astype(found.dtype).tolist()


def test_solutions_and_trainings_are_lanes():
    X = jax.random.normal(jax.random.key(0), (30, 4))
    problem = jr.Problem(jr.losses.SquaredError(), X, X[:, 0] - X[:, 1])

    def both(lam, seed):
        fit = jr.solve(problem, jr.L1(lam))
        loss = lambda w, batch: jnp.mean((batch @ w) ** 2)  # noqa: E731
        optimizer = jr.transforms.proximal_sgd(0.1, jr.L1(lam))
        w, _ = jr.train(loss, jnp.ones(4), optimizer, X, steps=5, batch_size=10, key=jax.random.key(seed))
        return {"fit": eqx.filter(fit, eqx.is_array), "w": w}

    found = jr.sweep(both, lam=LAMS, seed=SEEDS)
    for k, lam in enumerate(LAMS):
        np.testing.assert_allclose(found["fit/coef"][k, 0], jr.solve(problem, jr.L1(lam)).coef, atol=1e-8)
    np.testing.assert_allclose(found["w"].values, loop(both, "w"), rtol=1e-12)


def test_devices_do_not_change_the_bits():
    X = jax.random.normal(jax.random.key(0), (40, 40))
    fn = lambda lam, seed: jnp.tanh(lam * X @ jax.random.normal(jax.random.key(seed), (40,)))  # noqa: E731
    one, four = (
        jr.sweep(fn, lam=LAMS, seed=SEEDS, max_lanes=2, mesh=Mesh(np.array(jax.devices()[:n]), ("d",)))
        for n in (1, 4)
    )
    assert len(jax.devices()) == 4
    np.testing.assert_array_equal(one["value"].values, four["value"].values)
    other = jr.sweep(fn, lam=LAMS, seed=SEEDS, max_lanes=12)
    np.testing.assert_allclose(one["value"].values, other["value"].values, rtol=1e-12)


def test_one_program_for_all_chunks_and_for_the_next_grid():
    X = jnp.linspace(0.0, 1.0, 7)

    def fn(lam):
        return jnp.sum(X * lam)

    first = compilations(lambda: jr.sweep(fn, lam=np.linspace(0.1, 1.0, 10), max_lanes=3))
    assert first >= 1
    assert compilations(lambda: jr.sweep(fn, lam=np.linspace(0.2, 2.0, 10), max_lanes=3)) == 0


def test_what_the_function_closes_over_is_an_argument():
    X = jnp.arange(1000.0)
    program = Program(lambda lam: jnp.sum(lam * X), {"lam": np.array([1.0])})
    assert [np.shape(x) for x in program.closed.consts] == [(1000,)]
    text = jax.jit(program.run).lower([jax.ShapeDtypeStruct((1000,), X.dtype)], [1.0]).as_text()
    assert (
        "tensor<1000x" in text.split("{")[1] + text.split("\n")[2] and "dense<" not in text.split("1000")[0]
    )


def test_a_lane_that_becomes_nan_leaves_the_others_alone():
    def fn(lam, seed):
        return {**shrunk(lam, seed), "loss": jnp.where((seed == 1) & (lam > 0.1), jnp.nan, lam)}

    with pytest.warns(UserWarning, match="2 of 12 lanes are not finite"):
        found = jr.sweep(fn, lam=LAMS, seed=SEEDS)
    bad = np.isnan(found["loss"].values)
    assert bad.sum() == found.attrs["not_finite"] == 2
    np.testing.assert_array_equal(found["lane_status"].values, np.where(bad, 2, 1))
    np.testing.assert_array_equal(found["l1"].values, loop(shrunk, "l1"))


def test_the_chunk_shrinks_to_the_memory_there_is(monkeypatch):
    asked = []
    monkeypatch.setattr(SWEEP, "free_bytes", lambda device: 200_000)
    monkeypatch.setattr(
        SWEEP, "needed_bytes", lambda program: asked.append(program) or 150_000 // len(asked) ** 2
    )
    mesh = Mesh(np.array(jax.devices()[:1]), ("d",))
    found = jr.sweep(shrunk, lam=LAMS * 8, seed=SEEDS, mesh=mesh)
    assert len(asked) == 2
    np.testing.assert_array_equal(found["l1"].values[:3], loop(shrunk, "l1"))


def test_functions_of_every_sort():
    class Model(eqx.Module):
        scale: jax.Array

        def __call__(self, lam):
            return self.scale * lam

        def method(self, lam):
            return self.scale * lam

    model = Model(jnp.array(2.0))
    for fn in (model, model.method, functools.partial(jnp.multiply, 2.0), jax.jit(lambda lam: 2 * lam)):
        axes = {"lam": LAMS}
        if isinstance(fn, functools.partial):
            fn = functools.partial(lambda two, lam: two * lam, 2.0)
        np.testing.assert_allclose(jr.sweep(fn, **axes)["value"].values, 2 * np.array(LAMS))


def test_progress_is_silent_where_nobody_watches(capfd):
    jr.sweep(shrunk, lam=LAMS, seed=SEEDS)
    assert capfd.readouterr() == ("", "")


def test_progress_is_drawn_on_a_terminal():
    ours, theirs = pty.openpty()
    code = "import jaxreg as jr; jr.sweep(lambda lam: lam, lam=[0.1] * 9, max_lanes=2)"
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True, timeout=120)
    assert b"9/9" in os.read(ours, 100_000)


BAD_AXES = {
    "at least one axis": {},
    "axis lam has no value": {"lam": []},
    "axis lam has one value": {"lam": 0.1},
    "axis lam has shape": {"lam": [[0.1, 0.2]]},
    "axis lam is ragged": {"lam": [[0.1], [0.1, 0.2]]},
    "axis lam holds float and str": {"lam": [0.1, "a"]},
    "axis lam holds bool and float": {"lam": [True, 0.5]},
    "axis lam holds str": {"lam": ["a", "b"]},
    "axis lam holds NoneType and float": {"lam": [0.1, None]},
    "axis lam holds PRNG keys": {"lam": jax.random.split(jax.random.key(0), 2)},
    r"fn\(lam\) does not take the axes lam, lamb": {"lam": [0.1], "lamb": [0.1]},
    r"fn\(lam\) does not take the axes lamb": {"lamb": [0.1]},
}


@pytest.mark.parametrize("said", BAD_AXES)
def test_bad_axes_are_refused(said):
    def fn(lam):
        return lam

    with pytest.raises((ValueError, TypeError), match=said):
        jr.sweep(fn, **BAD_AXES[said])


def test_numbers_that_do_not_fit_are_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"axis seed holds 1099511627776.*int32"):
        jr.sweep(lambda seed: seed, seed=[1, 2**40])


@pytest.mark.parametrize("max_lanes", [0, True, 1.5, -3])
def test_a_bad_max_lanes_is_refused(max_lanes):
    with pytest.raises(ValueError, match="max_lanes must be a whole number"):
        jr.sweep(lambda lam: lam, lam=LAMS, max_lanes=max_lanes)


def branches(lam):
    if lam > 0.1:
        return lam
    return -lam


UNTRACEABLE = {
    r"TracerBoolConversionError at .*test_sweep.py:\d+, `if lam > 0.1:`": branches,
    "ConcretizationTypeError": lambda lam: float(lam),
    "TracerArrayConversionError": lambda lam: np.sin(lam),
    "TypeError at": lambda lam: jnp.zeros(lam),
}


@pytest.mark.parametrize("said", UNTRACEABLE)
def test_what_cannot_be_traced_is_named_with_its_line(said):
    with pytest.raises(TypeError, match=said):
        jr.sweep(UNTRACEABLE[said], lam=LAMS)


BAD_RESULTS = {
    "returns str at name": lambda lam: {"name": "x", "w": lam},
    r"returns function at f.*equinox.filter": lambda lam: {"f": branches, "w": lam},
    "returns PRNG keys at value": lambda lam: jax.random.key(0),
    "returns no array": lambda lam: None,
    "'lam' would name two things": lambda lam: {"lam": lam},
    "'lane_status' would name two things": lambda lam: {"lane_status": lam},
}


@pytest.mark.parametrize("said", BAD_RESULTS)
def test_bad_results_are_refused(said):
    with pytest.raises((TypeError, ValueError), match=said):
        jr.sweep(BAD_RESULTS[said], lam=LAMS)


def test_nothing_warns_without_cause():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jr.sweep(shrunk, lam=LAMS, seed=SEEDS).attrs["done"] == 12
