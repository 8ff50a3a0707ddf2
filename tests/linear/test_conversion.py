"""The door for data: every form of the same numbers makes the same problem, everything else one sentence."""

import decimal
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from jax.experimental.sparse import BCOO, BCSR

import jaxreg as jr
from jaxreg.linear import conversion

rng = np.random.default_rng(0)
#: Small whole numbers, one column of 0 and 1: all forms of the table hold exactly these.
X = np.c_[rng.integers(-4, 5, (20, 2)), rng.integers(0, 2, 20)].astype(float)
y = rng.integers(-4, 5, 20).astype(float)
SQUARED = jr.losses.SquaredError()

frame = pd.DataFrame(X, columns=list("abc"))
frame["c"] = frame["c"] == 1
nullable = frame.astype({"a": "Int64", "b": "Float32", "c": "boolean"})
csr = sp.csr_matrix(X)


def bcoo(X: np.ndarray, room: int = 0) -> BCOO:
    """X as `BCOO.fromdense` makes it, with entries outside of X where there is room; it compiles nothing."""
    entries = np.pad(X[X != 0], (0, max(room - np.count_nonzero(X), 0)))
    index = np.tile(np.array(X.shape, np.int32), (entries.size, 1))
    index[: np.count_nonzero(X)] = np.argwhere(X)
    return BCOO(jax.device_put((entries, index)), shape=X.shape, indices_sorted=True, unique_indices=True)


table = pa.table({"a": X[:, 0], "b": X[:, 1].astype("int16"), "c": X[:, 2] == 1})
FORMS = {
    "list": X.tolist(),
    "int64": X.astype(int),
    "int8": X.astype(np.int8),
    "big endian": X.astype(">f8"),
    "big-endian integers": X.astype(">i4"),
    "long double": X.astype(np.longdouble),
    "objects": X.astype(object),
    "decimals": np.vectorize(decimal.Decimal, otypes=[object])(X.astype(int)),
    "columns first": np.asfortranarray(X),
    "every other row": np.repeat(X, 2, axis=0)[::2],
    "nothing masked": np.ma.array(X),
    "frame with booleans": frame,
    "nullable frame": nullable,
    "Arrow-backed frame": nullable.convert_dtypes(dtype_backend="pyarrow"),
    "frame of objects": frame.astype(object),
    "column names twice": frame.set_axis(["a", "a", "c"], axis=1),
    "sparse frame": pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(X)),
    "Arrow table": table,
    "JAX": jax.device_put(X),
    "JAX integers": jax.device_put(X.astype(np.int32)),
    "BCOO": bcoo(X),
    "padded BCOO": bcoo(X, room=60),
    "BCSR": BCSR(jax.device_put((csr.data, csr.indices, csr.indptr)), shape=X.shape),
    "sparse integers": sp.csr_matrix(X.astype(int)),
    "sparse booleans and lists": sp.lil_matrix(X),
    "sparse diagonals": sp.dia_matrix(X),
    "sparse long double": sp.csr_matrix(X.astype(np.longdouble)),
    "sparse, entries twice": sp.coo_matrix(
        (np.r_[X[X != 0], 2.0, -2.0], tuple(np.c_[np.array(np.nonzero(X)), [[3, 3], [1, 1]]])), X.shape
    ),
}


def dense(found):
    return found.toarray() if sp.issparse(found) else np.asarray(found)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_features_is_the_same_matrix(form):
    found = conversion.features(FORMS[form])
    np.testing.assert_array_equal(dense(found), X)
    assert found.dtype in (np.float64, np.float32) and found.dtype.isnative


@pytest.mark.parametrize("convert", [conversion.targets, lambda v: conversion.offsets(v, (20,))])
def test_every_form_of_a_column_is_the_same_vector(convert):
    forms = [
        y.tolist(), y.astype(">i2"), y.astype(object), y.astype(np.longdouble), jnp.asarray(y),
        np.ma.array(y), pd.Series(y), pd.Series(y).astype("Int32"), pd.Series(y).astype("double[pyarrow]"),
        pa.array(y), pa.chunked_array([y[:7], y[7:]]),
    ]  # fmt: skip
    for form in forms:
        found = convert(form)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, y)


def test_float32_stays():
    single = X.astype("float32")
    for form in (single, sp.csc_matrix(single), pd.DataFrame(single), frame.astype("float32"), pa.table(
        {"a": single[:, 0]}
    )):  # fmt: skip
        assert conversion.features(form).dtype == np.float32
    assert conversion.features(single) is single


BAD = {
    "complex": (TypeError, "complex", lambda a: a + 1j),
    "complex objects": (TypeError, "complex", lambda a: (a + 1j).astype(object)),
    "complex JAX": (TypeError, "complex64|complex128", lambda a: jnp.asarray(a) + 1j),
    "text": (TypeError, "text", lambda a: a.astype(str)),
    "text objects": (TypeError, "objects of type str", lambda a: a.astype(str).astype(object)),
    "bytes": (TypeError, "bytes", lambda a: a.astype("S8")),
    "dates": (TypeError, "dates", lambda a: a.astype("M8[D]")),
    "durations": (TypeError, "durations", lambda a: a.astype("m8[s]")),
    "records": (TypeError, "records", lambda a: np.zeros(a.shape, [("a", float)])),
    "masked": (ValueError, "masked", lambda a: np.ma.masked_greater(a, 1)),
    "None": (ValueError, "missing", lambda a: np.where(a == 1, None, a)),
    "pandas NA": (ValueError, "missing", lambda a: pd.DataFrame(a).astype("Int64").replace(1, pd.NA)),
    "pandas NaN": (ValueError, "missing", lambda a: pd.DataFrame(np.where(a == 1, np.nan, a))),
    "nothing": (TypeError, "is None", lambda a: None),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_a_number_is_refused_by_one_sentence(bad):
    kind, message, make = BAD[bad]
    ones = np.arange(20.0) % 3
    calls = {
        "X": lambda: conversion.features(make(X)),
        "y": lambda: conversion.targets(make(ones)),
        "sample_weight": lambda: (
            conversion.normalised(make(ones), 20, float) if bad != "nothing" else make(0)[0]
        ),
        "offset": lambda: conversion.offsets(make(ones), (20,)) if bad != "nothing" else make(0)[0],
    }
    for name in ("X", "y") if bad == "nothing" else calls:
        with pytest.raises(kind, match=message) as caught:
            calls[name]()
        assert name in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: frame.assign(b=nullable["b"].where(X[:, 0] > 0)), "missing values in the columns 'b'"),
        (lambda: frame.assign(city="x", day=pd.Timestamp("2020")), r"'city' \(.*'day' \(datetime64"),
        (lambda: table.append_column("d", pa.array([None, *range(19)])), "missing values in the columns 'd'"),
        (lambda: frame.assign(k=pd.Categorical(["u", "v"] * 10)), "'k'"),
        (lambda: [[1.0, 2.0], [3.0]], "rows have different lengths"),
        (lambda: sp.csr_matrix(X + 1j), "complex"),
        (lambda: BCOO.fromdense(jnp.ones((4, 3, 2)), n_batch=1), "batched"),
    ],
)
def test_columns_at_fault_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        conversion.features(make())
    assert "\n" not in str(caught.value)


def test_weights_of_every_dtype_are_the_same():
    """Only ratios of weights matter, also where their sum leaves the dtype."""
    shape = np.arange(1.0, 31.0)
    exact = shape / shape.sum()
    forms = [
        shape, 5e306 * shape, 1e-320 * np.round(shape * 1e3), (shape * 2**50).astype(int),
        (shape * 2048).astype(np.float16), shape.astype(np.uint8), shape.astype(object), pd.Series(shape),
    ]  # fmt: skip
    for weight in forms:
        found = conversion.normalised(weight, 30, np.float32)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, exact, rtol=1e-12)
    traced = jax.jit(lambda w: conversion.normalised(w, 30, jnp.float32))
    np.testing.assert_allclose(traced((shape * 2048).astype(np.float16)), exact, rtol=1e-6)
    np.testing.assert_allclose(traced((shape * 5e7).astype(np.int32)), exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jr.Problem(jr.losses.Logistic, X, y), r"write Logistic\(\)"),
        (lambda: jr.Problem("logistic", X, y), "must be a loss, got 'logistic'"),
        (lambda: jr.Problem(X, y, SQUARED), "must be a loss, got ndarray"),
        (lambda: jr.solve(X, y), r"write jaxreg.solve\(jaxreg.Problem"),
        (lambda: jr.path(jr.L1, jr.Problem(SQUARED, X, y)), r"write jaxreg.path\(jaxreg.Problem"),
        (lambda: jr.lambda_max(jr.L1, X), "write jaxreg.lambda_max"),
        (lambda: jr.certify(X, jr.L1(1.0), y, 0.0), "write jaxreg.certify"),
    ],
)
def test_arguments_that_are_something_else(call, message):
    with pytest.raises(TypeError, match=message):
        call()


SINGLE = """
import warnings
import jax
import numpy as np, pandas as pd, scipy.sparse as sp
import jaxreg as jr
from jaxreg.linear import conversion

rng = np.random.default_rng(0)
whole = np.c_[rng.integers(0, 10**12, 30), rng.integers(0, 100, 30)]
y = rng.normal(size=30)

def design(X, **options):
    return np.asarray(jr.Problem(jr.losses.SquaredError(), X, y, standardize=True, **options).design.dense())

def warned(X):
    conversion._warned = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        conversion.features(X)
        conversion.features(X)
    assert all(w.filename == __file__ for w in caught), [w.filename for w in caught]
    return len(caught)

exact = (whole - whole.mean(0)) / whole.std(0)
for X in (whole, whole.astype("uint64"), pd.DataFrame(whole), sp.csr_matrix(whole), whole.tolist()):
    assert np.abs(design(X) - exact).max() < 1e-5, type(X)
model = jr.Problem(jr.losses.SquaredError(), whole, y, standardize=True)
fit = jr.solve(model, jr.L1(0.1))
np.testing.assert_allclose(fit.predict(whole), fit.predict(whole.astype(float)), rtol=1e-6)
many = 3_000_000_000 * rng.integers(0, 3, 30)
np.testing.assert_allclose(
    jr.Problem(jr.losses.SquaredError(), whole, many, intercept=False).y, many.astype(float)
)
tenths, few = 0.1 * whole[:, 1:], whole[:, 1:]
for form in (np.asarray, np.ndarray.tolist, pd.DataFrame, sp.csr_matrix):
    assert (warned(form(tenths)), warned(form(few)), warned(form(few / 2))) == (1, 0, 0), form
assert (warned(whole), warned(tenths.astype("float32")), warned(whole.astype(float))) == (1, 0, 1)
with warnings.catch_warnings():
    warnings.simplefilter("error")  # data on the host are in double precision, also within a trace
    for options in ({}, {"scale_target": True}, {"intercept": False}):
        build = jax.jit(lambda X: jr.Problem(jr.losses.SquaredError(), X, y, standardize=True, **options).y)
        build(few.astype("float32"))
    jax.jit(lambda X: jr.Problem(jr.losses.Logistic(), X, (y > 0).astype(float)).y)(few.astype("float32"))
for column, message in ((1e300, "beyond the range of float32"), (1e-300, "float32 does not tell apart")):
    try:
        jr.Problem(jr.losses.SquaredError(), few * column, y)
    except ValueError as fault:
        assert message in str(fault), fault
    else:
        raise AssertionError(message)
try:
    constant = np.ones((len(few), 1))  # not at fault
    jr.Problem(jr.losses.SquaredError(), np.concatenate([constant, 1.7e9 + few], axis=1), y)
except ValueError as fault:
    assert "column 1 of X varies from 1.7000000" in str(fault), fault
else:
    raise AssertionError("a column that float32 makes constant")
"""


def test_without_double_precision(tmp_path):
    """In a process of its own, as the setting is one of the process."""
    script = tmp_path / "single.py"
    script.write_text(SINGLE)
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


def test_polars():
    pl = pytest.importorskip("polars")
    form = pl.DataFrame({"a": X[:, 0], "b": X[:, 1].astype(int), "c": X[:, 2] == 1})
    np.testing.assert_array_equal(conversion.features(form), X)
    np.testing.assert_array_equal(conversion.targets(pl.Series(y)), y)
    with pytest.raises(ValueError, match="missing values in the columns 'd'"):
        conversion.features(form.with_columns(pl.Series("d", [None, *range(19)])))
