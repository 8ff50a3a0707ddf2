"""Model files: what is saved comes back; what is no model is refused in one sentence and never executed."""

import io
import json
import math
import pickle
import struct
import zipfile

import numpy as np
import pytest

import jaxreg as jr
from jaxreg.models import DateColumn, FittedModel, LevelColumn, NumberColumn
from jaxreg.models import archive as archive_module

COLUMNS = (
    NumberColumn("a", mean=0.1, indicator=True),
    LevelColumn("c", levels=("r", "s"), pooled=True),
    LevelColumn("s", levels=("yes",), baseline="no"),
    DateColumn("d", origin="2020-01-01", day_first=True),
)
NAMES = tuple(name for column in COLUMNS for name in column.features)


def model(loss=None, dtype=np.float64, **given):
    loss = jr.losses.SquaredError() if loss is None else loss
    coef = np.linspace(-1, 1, 7).astype(dtype) / 3
    given = {
        "features": NAMES,
        "columns": COLUMNS,
        "target": "y\n",
        "penalty": "L1",
        "lam": 0.1,
        "gap": 1e-9,
    } | given
    return FittedModel(loss, coef, np.asarray(0.3, dtype), settings={"error": 2.5}, **given)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.jaxreg"


def rewritten(path, name=None, data=b"", compression=zipfile.ZIP_STORED, drop=()):
    """Write the members of a model again, one of them changed."""
    with zipfile.ZipFile(path) as old:
        members = {info.filename: old.read(info) for info in old.infolist() if info.filename not in drop}
    members |= {name: data} if name else {}
    with zipfile.ZipFile(path, "w", compression) as new:
        for member, content in members.items():
            new.writestr(member, content)


def with_header(path, **changes):
    with zipfile.ZipFile(path) as old:
        header = json.loads(old.read("header.json"))
    rewritten(path, "header.json", json.dumps(header | changes).encode())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back(path, dtype):
    first = model(jr.losses.Huber(1.35), dtype)
    jr.save(first, path)
    back = jr.load(path)
    assert back.coef.dtype == dtype and back.coef.tolist() == first.coef.tolist()
    assert back.intercept.tolist() == first.intercept.tolist() and back.columns == COLUMNS
    for name in ("features", "target", "classes", "penalty", "lam", "gap", "kkt", "settings", "versions"):
        assert getattr(back, name) == getattr(first, name), name
    assert type(back.loss) is jr.losses.Huber and float(back.loss.delta) == pytest.approx(1.35)
    assert math.isinf(back.kkt) and list(path.parent.iterdir()) == [path]


def test_every_loss_of_the_package(path):
    for name in set(jr.losses.__all__) - {"Loss", "Multinomial"}:
        jr.save(model(getattr(jr.losses, name)()), path)
        assert type(jr.load(path).loss).__name__ == name
    coef = np.ones((2, 3))
    jr.save(FittedModel(jr.losses.Multinomial(3), coef, np.zeros(3), classes=("a", "b", "c")), path)
    back = jr.load(path)
    assert back.loss.num_classes == 3 and back.coef.shape == (2, 3) and back.features == ("x0", "x1")


def test_a_solution_is_saved_as_it_is(path):
    fit = jr.solve(jr.Problem(jr.losses.SquaredError(), np.eye(4)[:, :2], np.arange(4.0)), jr.L1(0.1))
    jr.save(fit, path)
    assert np.allclose(jr.load(path).predict(np.eye(2)), fit.predict(np.eye(2)))


def test_equal_models_have_equal_files(path, tmp_path):
    jr.save(model(), path)
    jr.save(model(), tmp_path / "again")
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


def test_a_loss_of_ones_own_is_refused(path):
    class Own(jr.losses.SquaredError):
        pass

    with pytest.raises(TypeError, match="Own is none of the losses"):
        jr.save(model(Own()), path)
    for entry in ({1, 2}, float("nan")):  # NaN is no JSON, though Python would write and read it
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            jr.save(FittedModel(jr.losses.SquaredError(), [1.0], 0.0, settings={"x": entry}), path)
    assert not list(path.parent.iterdir())


def test_a_failure_leaves_the_old_file(path, monkeypatch):
    path.write_text("mine")

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        jr.save(model(), path)
    assert path.read_text() == "mine" and list(path.parent.iterdir()) == [path]


def assert_refused(path, part):
    with pytest.raises(ValueError) as error:
        jr.load(path)
    text = str(error.value)
    assert part in text and "model.jaxreg" in text and "\n" not in text and len(text) < 500, text


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", pickle.dumps([1]), b"PK\x03\x04" + bytes(50)])
def test_files_of_another_kind(path, content):
    path.write_bytes(content)
    assert_refused(path, "is no jaxreg model")


def test_archives_of_another_kind(path):
    np.savez(path.with_suffix(".npz"), coef=np.ones(2))
    path.with_suffix(".npz").rename(path)
    assert_refused(path, "is no jaxreg model")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("header.json", b'{"format": "other"}')
    assert_refused(path, "has other members")


def test_every_cut_and_every_changed_byte_is_seen_or_harmless(path):
    jr.save(model(), path)
    whole, first = path.read_bytes(), model()
    for length in range(0, len(whole) - 1, 41):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.jaxreg"):
            jr.load(path)
    for at in range(0, len(whole), 13):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            back = jr.load(path)
        except ValueError as error:
            assert "model.jaxreg" in str(error)
        else:  # a byte of the archive that carries nothing, such as a date
            assert back.coef.tolist() == first.coef.tolist() and back.features == first.features


def test_newer_and_absurd_headers(path):
    jr.save(model(), path)
    for version, part in (
        (2, "newer jaxreg (format 2"),
        ("one", "format version 'one'"),
        (0, "format version"),
    ):
        with_header(path, format_version=version)
        assert_refused(path, part)
    for changes in (
        {"features": ["a"]},
        {"features": 3},
        {"columns": [{"kind": "code"}]},
        {"columns": [{"kind": "number", "name": "a", "mean": "x", "indicator": False}]},
        {"loss": {"name": "Loss"}},
        {"loss": {"name": "__class__"}},
        {"loss": {"name": "Huber", "delta": "1"}},
        {"loss": {"name": "Huber", "delta": -1}},
        {"loss": {"name": "SquaredError", "extra": 1}},
        {"lam": "much"},
        {"settings": []},
    ):
        jr.save(model(), path)
        with_header(path, **changes)
        assert_refused(path, "is damaged")
    for data in (b"[" * 100_000, b"{}", b"\xff", b"null"):
        jr.save(model(), path)
        rewritten(path, "header.json", data)
        assert_refused(path, "")


def npy(shape, dtype="<f8", data=b""):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n" + data


@pytest.mark.parametrize(
    "data",
    [
        npy("(7,)"),
        npy("(10**18,)"),
        npy("(1000000000000000000,)"),
        npy("(-7,)", data=bytes(56)),
        npy("(7,)", "|O", bytes(56)),
        npy("(7,)", "<i8", bytes(56)),
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        b"",
    ],
)
def test_arrays_that_lie(path, data):
    jr.save(model(), path)
    rewritten(path, "coef.npy", data)
    assert_refused(path, "array 'coef'")


def test_objects_are_never_unpickled(path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()], object), allow_pickle=True)
    jr.save(model(), path)
    rewritten(path, "coef.npy", buffer.getvalue())
    assert_refused(path, "array 'coef'")


def test_a_bomb_is_not_unpacked(path):
    jr.save(model(), path)
    rewritten(path, "coef.npy", bytes(10**7), zipfile.ZIP_DEFLATED)
    assert_refused(path, "compressed members")
    jr.save(model(), path)
    rewritten(path, "more.npy", b"1")
    assert_refused(path, "other members")
