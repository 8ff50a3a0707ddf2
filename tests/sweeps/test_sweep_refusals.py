"""Refusals of `sweep`, and its messages when it must stop."""

import functools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxreg as jr
from jaxreg.sweeps.store import MemoryStore
from tests.sweeps.functions import AXES, LAMS, PROBLEM, number


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
    on_truth: ("TracerBoolConversionError", "if lam > 0.1:"),
    by_float: ("ConcretizationTypeError", "return float(lam)"),
    by_numpy: ("TracerArrayConversionError", "return np.sin(lam)"),
    as_a_size: ("TypeError", "return jnp.zeros(lam)"),
    as_an_index: ("TracerIntegerConversionError", "return [1.0, 2.0][lam]"),
    as_a_mask: ("NonConcreteBooleanIndexError", "return jnp.arange(3)[jnp.arange(3) > lam]"),
}


@pytest.mark.parametrize("fn", list(UNTRACEABLE), ids=lambda fn: fn.__name__)
def test_a_function_that_cannot_be_traced(fn):
    """The line is named where a lane's value was used as a known one."""
    said, line = UNTRACEABLE[fn]
    place = re.escape(f"{__file__}:{fn.__code__.co_firstlineno + 1}, `{line}`")
    match = f"{fn.__name__} cannot be traced by JAX: {said} at {place}.*jnp.where"
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
    "a function": (
        lambda lam: {"f": identity, "w": lam}, TypeError, r"returns function at f.*equinox\.filter"
    ),
    "a bare key": (lambda lam: KEY, TypeError, "returns PRNG keys at value"),
    "nothing": (lambda lam: None, TypeError, "returns no array"),
    "an empty dict": (lambda lam: {}, TypeError, "returns no array"),
    "named like an axis": (lambda lam: {"lam": lam}, ValueError, "'lam' would name two things.*rename"),
    "lane_status": (
        lambda lam: {"lane_status": lam}, ValueError, "'lane_status' would name two things.*rename"
    ),
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


# ---------------------------------------------------------------- stopped on the way


def test_stopped_by_hand(monkeypatch):
    """The message says how far it was, in lanes of the grid, and that nothing is kept."""
    write, seen = MemoryStore.write, []

    def stop(self, k, values):
        if k == 3:
            raise KeyboardInterrupt
        seen.append(k)
        write(self, k, values)

    monkeypatch.setattr(MemoryStore, "write", stop)
    with pytest.raises(KeyboardInterrupt, match="stopped with 5 of 15 lanes done, lost"):
        jr.sweep(number, **AXES, max_lanes=2)
    assert seen == [0, 1, 2]


def test_lanes_that_do_not_fit_memory(monkeypatch):
    """XLA's error about memory becomes one sentence; other errors stay."""

    def fail(text):
        def write(self, k, values):
            raise jax.errors.JaxRuntimeError(text)

        monkeypatch.setattr(MemoryStore, "write", write)

    fail("RESOURCE_EXHAUSTED: Out of memory allocating")
    with pytest.raises(MemoryError, match=r"3 lanes on each device .* smaller max_lanes"):
        jr.sweep(number, **AXES, max_lanes=3)
    fail("INTERNAL: broken")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL: broken"):
        jr.sweep(number, **AXES, max_lanes=3)
