"""A sweep is a loop of single calls with labels, whatever the devices, the chunks and the lanes beside it."""

import functools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import jaxreg as jr
from tests.members import devices
from tests.sweeps.functions import (
    AXES,
    FUNCTIONS,
    LAMS,
    adam,
    array,
    assert_same,
    looped,
    module,
    nested,
    number,
    product,
    shrunk,
    solved,
)

# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_it_is_a_loop_of_single_calls(name):
    found, wanted = jr.sweep(FUNCTIONS[name], **AXES), looped(FUNCTIONS[name], AXES)
    assert set(found.data_vars) == set(wanted)
    for key, values in wanted.items():
        assert found[key].dims[:2] == ("lam", "seed") and found[key].dtype == values.dtype, key
        if values.dtype.kind == "f":
            rtol, atol = {"solved": (1e-7, 1e-8), "trained": (1e-12, 0.0)}.get(name, (1e-12, 1e-14))
            np.testing.assert_allclose(found[key], values, rtol=rtol, atol=atol, err_msg=key)
        elif key == "steps":
            # The certificate of a solver at its end is made of rounding.
            assert (abs(found[key] - values) <= 5).all()
        else:
            np.testing.assert_array_equal(found[key], values, err_msg=key)
    assert (found.lane_status == 1).all() and found.attrs == {"lanes": 15, "done": 15, "not_finite": 0}


@pytest.mark.parametrize("max_lanes", [None, 1, 2, 5, 100])
def test_no_bit_differs_from_single_calls(max_lanes):
    """Where numbers are worked on one by one."""
    found, wanted = jr.sweep(shrunk, **AXES, max_lanes=max_lanes), looped(shrunk, AXES)
    assert set(found.data_vars) == set(wanted) == {"l1", "of/l2", "n"}
    assert found["of/l2"].dims == ("lam", "seed", "of/l2_0")
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
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
    "dtype",
    ["bool", "uint8", "int8", "int32", "uint64", "float16", "bfloat16", "float32", "complex64", "complex128"],
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
    assert found.value.sel(lam=np.float32(LAMS[1]), seed=1).shape == (1, 2, 2, 2, 1)


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
    found, wanted = jr.sweep(fn, **AXES), looped(lambda lam, seed: scaled(lam, seed), AXES)
    np.testing.assert_allclose(found.value, wanted["value"], rtol=1e-15)


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_the_same_call_gives_the_same_bits(name):
    assert_same(jr.sweep(FUNCTIONS[name], **AXES), jr.sweep(FUNCTIONS[name], **AXES))


FAST = (("product", 4), ("adam", 4))


@pytest.mark.parametrize(
    ("name", "max_lanes"),
    [
        pytest.param(name, k, marks=() if (name, k) in FAST or name == "array" else pytest.mark.slow)
        for name in ("array", "product", "adam", "solved")
        for k in (1, 2, 4)
    ],
)
def test_the_number_of_devices_changes_no_bit(name, max_lanes):
    devices(4)
    one = jr.sweep(FUNCTIONS[name], **AXES, max_lanes=max_lanes, mesh=devices(1))
    for count in (2, 4) if name == "array" else (2,):  # each device has a program of its own
        assert_same(one, jr.sweep(FUNCTIONS[name], **AXES, max_lanes=max_lanes, mesh=devices(count)))


@pytest.mark.parametrize("max_lanes", [1, 2, 7, 100])
def test_the_size_of_a_chunk(max_lanes):
    """No bit of a function of single numbers changes, and no more than rounding of one that adds up."""
    bare = lambda lam, seed: jnp.maximum(lam - 0.1, 0.0) * seed + lam  # noqa: E731
    assert_same(jr.sweep(bare, **AXES), jr.sweep(bare, **AXES, max_lanes=max_lanes))
    for fn in (adam, product):
        found, whole = jr.sweep(fn, **AXES, max_lanes=max_lanes), jr.sweep(fn, **AXES)
        xarray.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-14)


@pytest.mark.slow_except("None-solved")
@pytest.mark.parametrize("name", ["solved", "adam"])
@pytest.mark.parametrize("max_lanes", [None, 4])
def test_a_lane_that_is_not_finite_leaves_the_others_alone(name, max_lanes):
    bad = np.where(np.arange(5) == 2, np.nan, LAMS)
    options = {"max_lanes": max_lanes, "mesh": devices(1)}
    fine = jr.sweep(FUNCTIONS[name], **AXES, **options)
    with pytest.warns(UserWarning, match="3 of 15 lanes are not finite: lane_status is 2 there") as caught:
        hurt = jr.sweep(FUNCTIONS[name], lam=bad, seed=range(3), **options)
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
    assert found.attrs["not_finite"] == 3
    # The lane's other results stay.
    np.testing.assert_array_equal(found.a, [1, 1, -np.inf, 1, 1])
    np.testing.assert_array_equal(found.i, range(5))


def test_nothing_warns_without_cause():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jr.sweep(shrunk, **AXES).attrs["done"] == 15
        assert jr.sweep(lambda k: k, k=range(5)).attrs["done"] == 5


@pytest.mark.parametrize("axis_type", ["Auto", "Explicit"])
def test_a_mesh_in_context_changes_nothing(axis_type):
    """A sweep spreads its lanes over the devices itself."""
    types = (getattr(jax.sharding.AxisType, axis_type),)
    mesh = jax.make_mesh((4,), ("rows",), axis_types=types, devices=devices(4).devices.ravel())
    with jax.set_mesh(mesh):
        inside = jr.sweep(lambda lam: lam**2, lam=np.arange(6.0))
    np.testing.assert_array_equal(inside["value"], np.arange(6.0) ** 2)
