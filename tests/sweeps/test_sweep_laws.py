"""A sweep is a loop of single calls with labels, whatever the devices, the chunks and the lanes beside it."""

import functools
import io
import itertools
import os
import re
import subprocess
import sys
import warnings
from collections import OrderedDict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray
from jax.sharding import Mesh

import jaxreg as jr
from jaxreg.sweeps.store import Memory
from tests.members import compilations

SWEEP = sys.modules["jaxreg.sweeps.sweep"]
rng = np.random.default_rng(0)
X = rng.normal(size=(30, 4))
Y = X[:, 0] - X[:, 1] + 0.3 * rng.normal(size=30)
PROBLEM = jr.Problem(jr.losses.SquaredError(), X, Y)
LAMS = np.geomspace(0.01, 1.0, 5)
AXES = {"lam": LAMS, "seed": range(3)}


# ---------------------------------------------------------------- functions of λ and a seed


def number(lam, seed):
    return jnp.sin(lam) + seed


def array(lam, seed):
    return lam * jax.random.normal(jax.random.key(seed), (2, 3))


def nested(lam, seed):
    return {"a": lam, "deep": {"b": [seed, (lam + seed, lam > 0.1)]}, "c": jnp.arange(3) * seed}


def module(lam, seed):
    net = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(seed))
    return eqx.filter(jax.tree.map(lambda w: lam * w if eqx.is_array(w) else w, net), eqx.is_array)


def solved(lam, seed):
    penalty = jr.ElasticNet(lam, 1.0 - 0.1 * seed)
    return eqx.filter(jr.solve(PROBLEM, penalty, tol=1e-9), eqx.is_array)


def trained(lam, seed):
    def loss(w, batch):
        return 0.5 * jnp.mean((batch[0] @ w - batch[1]) ** 2)

    penalty, key = jr.L1(lam), jax.random.key(seed)
    optimizer = jr.transforms.proximal_sgd(0.05, penalty)
    data, start = (jnp.asarray(X), jnp.asarray(Y)), jax.random.normal(key, (4,))
    w, history = jr.train(
        loss, start, optimizer, data, steps=20, batch_size=10, key=key, penalty=penalty, every=10
    )
    return {"w": w, "history": history}


def adam(lam, seed):
    """A step of a solver with products of matrices, many times."""
    w, optimizer = jnp.zeros(4) + seed, optax.adam(0.1)
    cost = lambda w: jnp.mean((jnp.asarray(X) @ w - Y) ** 2) + lam * jnp.sum(w**2)  # noqa: E731

    def step(carry, _):
        updates, state = optimizer.update(jax.grad(cost)(carry[0]), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    return jax.lax.scan(step, (w, optimizer.init(w)), length=10)[0][0]


FUNCTIONS = {f.__name__: f for f in (number, array, nested, module, solved, trained, adam)}


def looped(fn, axes):
    """Every result by a plain loop of single calls."""
    one, found = jax.jit(lambda lane: fn(**lane)), {}
    for values in itertools.product(*axes.values()):
        out = one(dict(zip(axes, map(jnp.asarray, values), strict=True)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(out):
            name = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
            found.setdefault(name, []).append(np.asarray(leaf))
    sizes = [len(values) for values in axes.values()]
    return {name: np.reshape(rows, (*sizes, *rows[0].shape)) for name, rows in found.items()}


def devices(count):
    """A mesh of the first few devices."""
    return Mesh(np.array(jax.devices()[:count]), ("lanes",))


def assert_same(a, b):
    """Whether two datasets have the same bits and labels; NaN is NaN."""
    xarray.testing.assert_identical(a, b)
    for name in a.variables:
        assert a[name].dtype == b[name].dtype and a[name].values.tobytes() == b[name].values.tobytes(), name


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_it_is_a_loop_of_single_calls(name):
    found, wanted = jr.sweep(FUNCTIONS[name], **AXES), looped(FUNCTIONS[name], AXES)
    assert set(found.data_vars) == set(wanted)
    for key, values in wanted.items():
        assert found[key].dims[:2] == ("lam", "seed") and found[key].dtype == values.dtype, key
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[key], values, rtol=1e-7, atol=1e-6, err_msg=key)
        elif key == "steps":
            # The certificate of a solver at its end is made of rounding.
            assert (abs(found[key] - values) <= 5).all()
        else:
            np.testing.assert_array_equal(found[key], values, err_msg=key)
    assert (found.lane_status == 1).all() and found.attrs == {"lanes": 15, "done": 15, "not_finite": 0}


def test_the_functions_differ_from_lane_to_lane():
    """Else a sweep that mixes lanes up would pass."""
    for name, fn in FUNCTIONS.items():
        rows = np.concatenate([v.reshape(15, -1).astype(float) for v in looped(fn, AXES).values()], axis=1)
        assert len(np.unique(rows, axis=0)) == 15, name


def test_names_are_key_paths():
    found = jr.sweep(nested, **AXES)
    assert list(found.data_vars) == ["a", "c", "deep/b/0", "deep/b/1/0", "deep/b/1/1"]
    assert found["c"].dims == ("lam", "seed", "c_0") and found["deep/b/1/1"].dtype == bool
    assert list(jr.sweep(module, **AXES).data_vars) == [
        f"layers/{layer}/{leaf}" for layer in (0, 1) for leaf in ("weight", "bias")
    ]
    assert {"coef", "intercept", "gap", "kkt", "steps"} < set(jr.sweep(solved, **AXES).data_vars)


def test_a_bare_array_is_called_value():
    found = jr.sweep(array, **AXES)
    assert list(found.data_vars) == ["value"] and found.value.dims == ("lam", "seed", "value_0", "value_1")
    assert jr.sweep(number, **AXES).value.dims == ("lam", "seed")


def test_axes_keep_their_order():
    found = jr.sweep(array, seed=range(3), lam=LAMS)
    assert found.value.dims[:2] == ("seed", "lam")
    assert_same(found.transpose("lam", "seed", ...), jr.sweep(array, **AXES).transpose("lam", "seed", ...))


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int32", "uint64", "float16", "bfloat16", "float32", "complex64", "complex128"]
)
def test_results_of_every_dtype(dtype):
    found = jr.sweep(lambda n: {"x": n.astype(dtype), "twice": jnp.stack([n, -n]).astype(dtype)}, n=range(5))
    kept = np.dtype("float32" if dtype == "bfloat16" else dtype)
    wanted = np.asarray(jnp.arange(5).astype(dtype)).astype(kept)
    assert found.x.dtype == found.twice.dtype == kept
    assert found.x.values.tobytes() == wanted.tobytes()
    np.testing.assert_array_equal(found.twice[:, 0], wanted)


def test_results_that_are_no_jax_arrays_and_empty_ones():
    found = jr.sweep(
        lambda lam: {"one": 1, "half": 0.5, "np": np.arange(2), "none": jnp.zeros((0, 3))}, lam=LAMS
    )
    assert found.one.dtype == np.int64 and (found.half == 0.5).all() and found.none.shape == (5, 0, 3)
    np.testing.assert_array_equal(found.np, np.tile([0, 1], (5, 1)))


def test_labels_are_kept_as_given():
    labels = {
        "lam": LAMS.astype(np.float32), "seed": np.arange(2, dtype=np.int16), "big": [2**40],
        "yes": [True, False], "tuple": (1, 2.5), "jax": jnp.arange(2),
        "series": xarray.DataArray([3.0]),
    }  # fmt: skip
    found = jr.sweep(lambda **lane: lane["lam"], **labels)
    for name, values in labels.items():
        wanted = np.asarray(values)
        assert found[name].dtype == wanted.dtype
        np.testing.assert_array_equal(found[name], wanted)


def test_labels_of_double_precision_without_it():
    """λ = 0.3 is found by 0.3, though the lanes run in single precision."""
    with jax.enable_x64(False):
        found = jr.sweep(lambda lam, seed: {"w": lam * seed}, lam=[0.1, 0.3], seed=range(3), max_lanes=2)
    assert found.lam.dtype == np.float64 and found.seed.dtype == np.int64 and found.w.dtype == np.float32
    assert found.w.sel(lam=0.3, seed=2) == np.float32(0.3) * np.float32(2)


def test_an_axis_may_hold_nan():
    with pytest.warns(UserWarning, match="1 of 2 lanes"):
        found = jr.sweep(lambda lam: lam, lam=[0.5, np.nan])
    np.testing.assert_array_equal(found.lam, [0.5, np.nan])


@pytest.mark.parametrize("kind", ["partial", "method", "module", "jit", "filter_jit", "keywords"])
def test_any_callable(kind):
    class Scaled(eqx.Module):
        factor: jax.Array

        def __call__(self, lam, seed):
            return self.factor * lam + seed

        def times(self, lam, seed):
            return self(lam, seed)

    scaled = Scaled(jnp.arange(3.0))
    fn = {
        "partial": functools.partial(lambda factor, lam, seed: factor * lam + seed, scaled.factor),
        "method": scaled.times,
        "module": scaled,
        "jit": jax.jit(lambda lam, seed: scaled(lam, seed)),
        "filter_jit": eqx.filter_jit(scaled),
        "keywords": lambda **lane: scaled(**lane),
    }[kind]
    found = jr.sweep(fn, **AXES)
    np.testing.assert_allclose(found.value, looped(scaled, AXES)["value"], rtol=1e-15)


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_the_same_call_gives_the_same_bits(name):
    assert_same(jr.sweep(FUNCTIONS[name], **AXES), jr.sweep(FUNCTIONS[name], **AXES))


@pytest.mark.parametrize(
    ("name", "max_lanes"),
    [("array", 1), ("array", 4), ("adam", 1), ("adam", 4), ("solved", 4), ("solved", 1)],
)
def test_the_number_of_devices_changes_no_bit(name, max_lanes):
    one = jr.sweep(FUNCTIONS[name], **AXES, max_lanes=max_lanes, mesh=devices(1))
    for mesh in (devices(2), devices(4)) if name == "array" else (None,):
        assert_same(one, jr.sweep(FUNCTIONS[name], **AXES, max_lanes=max_lanes, mesh=mesh))


@pytest.mark.parametrize("max_lanes", [1, 2, 7, 100])
def test_the_size_of_a_chunk(max_lanes):
    """No bit of a function of single numbers changes, and no more than rounding of one that adds up."""
    bare, whole = (lambda lam, seed: jnp.maximum(lam - 0.1, 0.0) * seed + lam), jr.sweep(adam, **AXES)
    assert_same(jr.sweep(bare, **AXES), jr.sweep(bare, **AXES, max_lanes=max_lanes))
    xarray.testing.assert_allclose(jr.sweep(adam, **AXES, max_lanes=max_lanes), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["solved", "adam"])
@pytest.mark.parametrize("max_lanes", [None, 4])
def test_a_lane_that_is_not_finite_leaves_the_others_alone(name, max_lanes):
    bad = np.where(np.arange(5) == 2, np.nan, LAMS)
    fine = jr.sweep(FUNCTIONS[name], **AXES, max_lanes=max_lanes)
    with pytest.warns(UserWarning, match="3 of 15 lanes are not finite: lane_status is 2 there") as caught:
        hurt = jr.sweep(FUNCTIONS[name], lam=bad, seed=range(3), max_lanes=max_lanes)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert hurt.attrs == {"lanes": 15, "done": 15, "not_finite": 3}
    np.testing.assert_array_equal(hurt.lane_status, np.where(np.isnan(bad), 2, 1)[:, None].repeat(3, 1))
    others = [0, 1, 3, 4]
    for key in fine.data_vars:
        assert hurt[key][others].values.tobytes() == fine[key][others].values.tobytes(), key


def test_lane_status_sees_every_result():
    """inf or NaN anywhere in a float or complex result, however deep; integers are always finite."""

    def fn(k):
        late = jnp.zeros((2, 2)).at[1, 1].set(jnp.where(k == 1, jnp.inf, 0.0))
        third = jnp.where(k == 3, jnp.nan, 0.0)
        return {
            "a": jnp.where(k == 2, -jnp.inf, 1.0),
            "b": {"c": late},
            "i": k,
            "z": jax.lax.complex(0.0, third),
        }

    with pytest.warns(UserWarning, match="3 of 5"):
        found = jr.sweep(fn, k=range(5))
    assert found.lane_status.values.tolist() == [1, 2, 2, 2, 1] and found.lane_status.dtype == np.uint8
    assert (
        "lane_status" in found.coords
        and found.lane_status.attrs["flag_meanings"] == "not_run finite not_finite"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jr.sweep(lambda k: k, k=range(5))


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


def test_settings_of_jax_are_not_mixed_up():
    draws = lambda seed: jax.random.normal(jax.random.key(seed), (3,))  # noqa: E731
    for on in (True, False):
        with jax.threefry_partitionable(on):
            np.testing.assert_allclose(jr.sweep(draws, seed=[1]).value[0], draws(1))


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


# ---------------------------------------------------------------- one program


def test_one_program_for_all_chunks():
    """The last chunk is filled up; the last round is too, where boxes are fewer than devices."""
    fn = lambda lam, seed: 3.25 * lam + seed  # noqa: E731

    def call(count, size):
        return jr.sweep(fn, lam=np.arange(size) / 7, seed=range(2), max_lanes=4, mesh=devices(count))

    for count, size in ((1, 7), (2, 9), (4, 50)):
        assert 1 <= compilations(functools.partial(call, count, size)) <= count


def test_another_grid_for_the_same_function_compiles_nothing():
    fn = lambda lam, seed: 3.5 * lam + seed  # noqa: E731
    one = devices(1)
    assert compilations(lambda: jr.sweep(fn, **AXES, max_lanes=4, mesh=one)) == 1
    other = lambda: jr.sweep(fn, lam=2 * LAMS[:2], seed=range(7, 10), max_lanes=4, mesh=one)  # noqa: E731
    assert compilations(other) == 0
    assert compilations(lambda: jr.sweep(fn, **AXES, max_lanes=2, mesh=one)) == 1


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
    made, compile_lanes = [], SWEEP.compile_lanes

    def kept(*given):
        made.append(compile_lanes(*given))
        return made[-1]

    monkeypatch.setattr(SWEEP, "compile_lanes", kept)
    monkeypatch.setattr(SWEEP, "_COMPILED", OrderedDict())
    return made


LARGE = rng.normal(size=(200, 300))
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


# ---------------------------------------------------------------- memory


def needed(programs):
    return [SWEEP.needed_bytes(program) for program in programs]


def test_little_memory_makes_small_chunks(programs, monkeypatch):
    """Chunks shrink until they fit, and the results stay."""
    fn = lambda lam: jnp.sum(jnp.sort(jnp.sin(lam * jnp.arange(5000.0) + 1.25)))  # noqa: E731
    lams, one = np.linspace(0, 1, 40), devices(1)
    monkeypatch.setattr(SWEEP, "free_bytes", lambda device: 10**12)
    ample = jr.sweep(fn, lam=lams, mesh=one)
    (most,) = needed(programs)
    programs.clear()
    monkeypatch.setattr(SWEEP, "free_bytes", lambda device: most // 2)
    tight = jr.sweep(fn, lam=lams, mesh=one)
    assert needed(programs)[-1] < most // 2
    xarray.testing.assert_allclose(tight, ample, rtol=1e-12)


def test_no_memory_at_all_runs_lane_by_lane(programs, monkeypatch):
    monkeypatch.setattr(SWEEP, "free_bytes", lambda device: 0)
    found = jr.sweep(lambda lam: 3.75 * lam, lam=LAMS)
    np.testing.assert_allclose(found.value, 3.75 * LAMS)
    assert programs[-1].args_info[0][1][0].shape == (1,)


def test_memory_is_not_asked_where_lanes_are_given(monkeypatch):
    monkeypatch.setattr(SWEEP, "free_bytes", lambda device: pytest.fail("asked"))
    assert jr.sweep(number, **AXES, max_lanes=3).attrs["done"] == 15


def test_unknown_memory_limits_nothing(monkeypatch):
    monkeypatch.setattr(SWEEP, "free_bytes", lambda device: None)
    np.testing.assert_allclose(jr.sweep(lambda lam: lam, lam=LAMS).value, LAMS)


# ---------------------------------------------------------------- progress


def test_silent_where_there_is_no_terminal(capfd):
    jr.sweep(number, **AXES)
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    jr.sweep(number, **AXES, max_lanes=2)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.getvalue())
    assert "lanes" in shown and "15/15" in shown


def test_no_bar_where_none_is_wanted(monkeypatch):
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    jr.sweep(number, **AXES, progress=False)
    assert seen.getvalue() == ""


# ---------------------------------------------------------------- bad input


def identity(lam):
    return lam


KEY = jax.random.key(0)
WRONG_AXES = {
    "empty": ([], ValueError, "axis lam has no value, wanted one row"),
    "empty range": (range(0), ValueError, "axis lam has no value"),
    "scalar": (0.1, ValueError, "axis lam has one value, .*functools.partial"),
    "2-D": ([[0.1, 1.0]], ValueError, r"axis lam has shape \(1, 2\)"),
    "ragged": ([[0.1], [0.1, 1.0]], ValueError, "axis lam is ragged"),
    "text": (["a", "b"], TypeError, "axis lam holds str, wanted numbers.*an index 0, 1"),
    "bare text": ("ab", TypeError, "axis lam holds dtype <U2"),
    "mixed": ([0.1, "a"], TypeError, "axis lam holds float and str, wanted numbers of one kind"),
    "bool and float": ([True, 0.5], TypeError, "axis lam holds bool and float"),
    "bool and int": ([True, 2], TypeError, "axis lam holds bool and int"),
    "none": ([None, 1.0], TypeError, "axis lam holds NoneType and float"),
    "complex": ([1j], TypeError, "axis lam holds complex"),
    "dates": (np.array(["2020"], "M8[D]"), TypeError, "axis lam holds dtype datetime64"),
    "iterator": (iter([0.1]), TypeError, "axis lam holds dtype object"),
    "keys": (jax.random.split(KEY, 2), TypeError, r"axis lam holds PRNG keys.*jax.random.key\(seed\)"),
    "one key": (KEY, TypeError, "axis lam holds PRNG keys"),
    "list of keys": ([KEY, KEY], TypeError, r"axis lam holds .*jax\.random\.key\(seed\)"),
    "longer than int64": ([2**70], TypeError, "axis lam holds int"),
}


@pytest.mark.parametrize("kind", list(WRONG_AXES))
def test_wrong_axes(kind):
    values, error, match = WRONG_AXES[kind]
    with pytest.raises(error, match=match):
        jr.sweep(identity, lam=values)


def test_no_axes():
    with pytest.raises(ValueError, match=r"at least one axis, such as lam=jnp\.geomspace"):
        jr.sweep(lambda: 1.0)


def test_numbers_that_do_not_fit():
    with jax.enable_x64(False):
        with pytest.raises(
            ValueError, match=r"lam holds 1099511627776, which does not fit int32.*jax_enable_x64"
        ):
            jr.sweep(identity, lam=[0, 2**40])
        with pytest.raises(ValueError, match=r"lam holds 1e\+300, which does not fit float32"):
            jr.sweep(identity, lam=[0.1, 1e300])
        with pytest.raises(ValueError, match="lam holds -2147483649"):
            jr.sweep(identity, lam=[-(2**31) - 1])
    assert jr.sweep(identity, lam=[2**40]).value == 2**40


@pytest.mark.parametrize(
    ("fn", "axes", "match"),
    [
        (identity, {"lamb": LAMS}, r"identity\(lam\) does not take the axes lamb by name"),
        (
            identity,
            AXES,
            r"identity\(lam\) .*lam, seed by name \(got an unexpected keyword argument 'seed'\)",
        ),
        (number, {"lam": LAMS}, r"number\(lam, seed\) does not take the axes lam .*missing.*'seed'"),
        (lambda lam, /: lam, {"lam": LAMS}, r"<lambda>\(lam, /\) does not take"),
        (
            functools.partial(number, 0.1),
            AXES,
            r"partial\(seed\) does not take the axes lam, seed|multiple values",
        ),
    ],
)
def test_a_function_that_does_not_take_the_axes(fn, axes, match):
    with pytest.raises(TypeError, match=match):
        jr.sweep(fn, **axes)


def on_truth(lam):
    if lam > 0.1:
        return lam
    return -lam


def by_float(lam):
    return float(lam)


def by_numpy(lam):
    return np.sin(lam)


def as_a_size(lam):
    return jnp.zeros(lam)


def as_an_index(lam):
    return [1.0, 2.0][lam]


def as_a_mask(lam):
    return jnp.arange(3)[jnp.arange(3) > lam]


UNTRACEABLE = {
    on_truth: "if lam > 0.1:",
    by_float: "return float(lam)",
    by_numpy: "return np.sin(lam)",
    as_a_size: "return jnp.zeros(lam)",
    as_an_index: "return [1.0, 2.0][lam]",
    as_a_mask: "return jnp.arange(3)[jnp.arange(3) > lam]",
}


@pytest.mark.parametrize("fn", list(UNTRACEABLE), ids=lambda fn: fn.__name__)
def test_a_function_that_cannot_be_traced(fn):
    """The line is named where a lane's value was used as a known one."""
    line = UNTRACEABLE[fn]
    number = fn.__code__.co_firstlineno + 1
    match = (
        f"{fn.__name__} cannot be traced by JAX: .*{re.escape(f'{__file__}:{number}, `{line}`')}.*jnp.where"
    )
    with pytest.raises(TypeError, match=match) as error:
        jr.sweep(fn, lam=[0, 1] if fn in (as_a_size, as_an_index) else LAMS)
    assert error.value.__cause__ is not None


def test_errors_of_the_function_itself_stay():
    """They are no fault of tracing."""

    def fn(lam):
        raise TypeError("a fault of mine")

    with pytest.raises(TypeError, match=r"^a fault of mine"):
        jr.sweep(fn, lam=LAMS)
    with pytest.raises(ValueError, match=r"init must be \(coef, intercept\)"):
        jr.sweep(lambda lam: jr.solve(PROBLEM, jr.L1(lam), init=lam).coef, lam=LAMS)


WRONG_RESULTS = {
    "text": (lambda lam: {"a": lam, "deep": {"b": "x"}}, TypeError, "returns str at deep/b, wanted arrays"),
    "whole module": (
        lambda lam: eqx.nn.MLP(1, 1, 1, 1, key=KEY), TypeError, r"at activation.*equinox\.filter"
    ),
    "keys": (lambda lam: {"k": jax.random.split(KEY)}, TypeError, r"returns PRNG keys at k.*key_data\(key\)"),
    "nothing": (lambda lam: None, TypeError, "returns no array"),
    "an empty dict": (lambda lam: {}, TypeError, "returns no array"),
    "named like an axis": (lambda lam: {"lam": lam}, ValueError, "'lam'.*rename"),
    "lane_status": (lambda lam: {"lane_status": lam}, ValueError, "'lane_status'.*rename"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(WRONG_RESULTS))
def test_wrong_results(kind):
    fn, error, match = WRONG_RESULTS[kind]
    with pytest.raises(error, match=match):
        jr.sweep(fn, lam=LAMS)


TWICE = {
    "two paths of one name": (lambda lam: {"a/b": lam, "a": {"b": lam + 1}}, {"lam": LAMS}),
    "no name and value": (lambda lam: {"": lam, "value": lam + 1}, {"lam": LAMS}),
    "a dimension of another": (lambda lam: {"a": jnp.ones(5) * lam, "a_0": lam}, {"lam": LAMS}),
    "a dimension like an axis": (lambda a_0: {"a": jnp.ones(5) * a_0}, {"a_0": LAMS}),
    "an axis lane_status": (lambda lane_status: lane_status, {"lane_status": LAMS}),
}


@pytest.mark.parametrize("kind", list(TWICE))
def test_a_name_that_would_mean_two_things(kind):
    fn, axes = TWICE[kind]
    with pytest.raises(ValueError, match=r"would name two things.*rename one"):
        jr.sweep(fn, **axes)


@pytest.mark.parametrize("max_lanes", [0, -1, True, 1.5, "8"])
def test_wrong_max_lanes(max_lanes):
    with pytest.raises(ValueError, match=f"max_lanes must be a whole number ≥ 1, got {max_lanes!r}"):
        jr.sweep(identity, lam=LAMS, max_lanes=max_lanes)


def test_stopped_by_hand(monkeypatch):
    """The message says how far it was, in lanes of the grid, and that nothing is kept."""
    write, seen = Memory.write, []

    def stop(self, k, values):
        if k == 3:
            raise KeyboardInterrupt
        seen.append(k)
        write(self, k, values)

    monkeypatch.setattr(Memory, "write", stop)
    with pytest.raises(KeyboardInterrupt, match="stopped with 5 of 15 lanes done, lost"):
        jr.sweep(number, **AXES, max_lanes=2)
    assert seen == [0, 1, 2]


def test_lanes_that_do_not_fit_memory(monkeypatch):
    """What XLA says about memory, in one sentence; other errors stay."""

    def fail(text):
        def write(self, k, values):
            raise jax.errors.JaxRuntimeError(text)

        monkeypatch.setattr(Memory, "write", write)

    fail("RESOURCE_EXHAUSTED: Out of memory allocating")
    with pytest.raises(MemoryError, match=r"3 lanes on each device .* smaller max_lanes"):
        jr.sweep(number, **AXES, max_lanes=3)
    fail("INTERNAL: broken")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL: broken"):
        jr.sweep(number, **AXES, max_lanes=3)
