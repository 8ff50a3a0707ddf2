"""Model files: a zip archive, not compressed, of `header.json`, `coef.npy` and `intercept.npy`.

`header.json` is an object of JSON (UTF-8) with

| key | value |
|---|---|
| `format` | `"jaxreg model"` |
| `format_version` | 1; a reader refuses larger numbers |
| `loss` | `name`, that of a class of `jaxreg.losses`, and its parameters |
| `features`, `classes` | lists of names |
| `target`, `penalty` | text |
| `lam`, `gap`, `kkt` | numbers; null for none or infinity |
| `columns` | codings of a table's columns: `kind` (number, levels, date) and the fields of its class |
| `settings`, `versions` | objects |

The arrays are NumPy's `.npy`, float32 or float64. Nothing in a file is executed, and reading takes no more
memory than the file has bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np

from jaxreg import losses
from jaxreg.linear.prediction import LinearPredictor
from jaxreg.losses import Loss
from jaxreg.models.columns import KINDS, Column
from jaxreg.models.model import FittedModel

__all__ = ["load", "save"]

_FORMAT = "jaxreg model"
#: Version of the format that this module writes, and the newest that it reads.
_VERSION = 1
_HEADER = "header.json"
_ARRAYS = ("coef", "intercept")
_DTYPES = ("float32", "float64")
#: Types that JSON gives for the types of a coding's fields.
_TYPES = {str: str, float: (int, float), bool: bool, str | None: (str, type(None))}
#: Characters of another library's message that are quoted.
_QUOTE_LENGTH = 120
#: Fixed date of all members: equal models have equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


class _Header(TypedDict):
    """The header of a file that `save` wrote."""

    format: str
    format_version: int
    loss: Mapping[str, object]
    features: Sequence[str]
    target: str
    classes: Sequence[str]
    columns: Sequence[Mapping[str, object]]
    penalty: str
    lam: float | None
    gap: float | None
    kkt: float | None
    settings: Mapping[str, object]
    versions: Mapping[str, str]


@runtime_checkable
class HasModel(Protocol):
    """An object that returns itself as a `FittedModel`, such as an estimator."""

    def to_model(self) -> FittedModel:
        """Return the fitted model."""
        ...


def save(model: FittedModel | LinearPredictor | HasModel, path: str | os.PathLike[str]) -> None:
    """Write a model to a file, whole or not at all: a complete file replaces an existing one.

    Args:
        model: A `FittedModel`, an estimator of `jaxreg.estimators`, or a `Solution`, whose features are then
            named x0, x1, ….
        path: The file, by custom `NAME.jaxreg`.

    Raises:
        TypeError: The model is of another type, or its loss is none of `jaxreg.losses`.
        ValueError: `settings` hold something that JSON cannot.
        OSError: The file cannot be written.

    >>> import tempfile, jaxreg as jr
    >>> model = jr.FittedModel(jr.losses.SquaredError(), np.array([2.0]), 1.0, features=("age",))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jr.save(model, f"{folder}/model.jaxreg")
    ...     jr.load(f"{folder}/model.jaxreg").predict({"age": [3.0]}).tolist()
    [7.0]
    """
    if isinstance(model, HasModel):
        model = model.to_model()
    model = model if isinstance(model, FittedModel) else FittedModel.of(model)
    path = pathlib.Path(path)
    members = {_HEADER: _header(model)}
    for name in _ARRAYS:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.asarray(getattr(model, name), order="C"), allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    temporary = path.with_name(f".{path.name[:80]}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, data in members.items():
                    archive.writestr(zipfile.ZipInfo(name, _DATE), data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def load(path: str | os.PathLike[str]) -> FittedModel:
    """Read a model that `save` wrote.

    Args:
        path: The file.

    Returns:
        A `FittedModel`, whose method `predict` takes an array or the columns of a table by name.

    Raises:
        ValueError: The file is no model file, is damaged, or comes from a newer version of jaxreg.
        OSError: The file cannot be read.
    """
    path = pathlib.Path(path)
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise _refusal(path, "is no jaxreg model, or was cut short")
        try:
            with zipfile.ZipFile(file) as archive:
                members = _members(archive, path)
        except (
            zipfile.BadZipFile,
            EOFError,
            NotImplementedError,
            RuntimeError,
            OSError,
            ValueError,
        ) as error:
            if isinstance(error, _ModelError):
                raise
            raise _refusal(path, f"is damaged ({_one_line(error)})") from error
    header = _parsed(members[_HEADER], path)
    arrays = {name: _array(members[f"{name}.npy"], name, path) for name in _ARRAYS}
    try:
        return _model(header, arrays)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _refusal(path, f"is damaged ({type(error).__name__}: {_one_line(error)})") from error


class _ModelError(ValueError):
    """A file that holds no model."""


def _refusal(path: pathlib.Path, why: str) -> _ModelError:
    return _ModelError(f"{str(path)!r} {why}: wanted a file that jaxreg.save wrote; make it again")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:_QUOTE_LENGTH].rstrip(".")


def _header(model: FittedModel) -> bytes:
    """Return the header as JSON."""
    header: _Header = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "loss": _described(model.loss),
        "features": model.features,
        "target": model.target,
        "classes": model.classes,
        "columns": [{"kind": column.kind, **dataclasses.asdict(column)} for column in model.columns],
        "penalty": model.penalty,
        **{name: _finite(getattr(model, name)) for name in ("lam", "gap", "kkt")},
        "settings": dict(model.settings),
        "versions": dict(model.versions),
    }
    try:
        # Surrogates of undecodable names have no UTF-8: JSON escapes keep them.
        return json.dumps(header, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"the model's settings or columns cannot be written as JSON: {_one_line(error)}"
        ) from error


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _described(loss: Loss) -> dict[str, object]:
    """Return the name and the parameters of a loss."""
    name = type(loss).__name__
    if name not in losses.__all__ or getattr(losses, name) is not type(loss):
        raise TypeError(f"{name} is none of the losses {', '.join(losses.__all__)}: only these can be saved")
    return {"name": name} | {
        field.name: np.asarray(value).tolist() if (value := getattr(loss, field.name)) is not None else None
        for field in dataclasses.fields(loss)
    }


def _members(archive: zipfile.ZipFile, path: pathlib.Path) -> dict[str, bytes]:
    """Read the members of an archive, which must be exactly those that `save` writes, not compressed."""
    wanted = {_HEADER, *(f"{name}.npy" for name in _ARRAYS)}
    infos = archive.infolist()
    if _HEADER not in archive.namelist():
        raise _refusal(path, "is no jaxreg model")
    if len(infos) != len(wanted) or {info.filename for info in infos} != wanted:
        raise _refusal(path, "has other members than a jaxreg model")
    # Stored members take no more memory than the file: a compressed one could be a million times larger.
    size = path.stat().st_size
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise _refusal(path, "has compressed members, which a jaxreg model has not")
    if sum(info.file_size for info in infos) > size:
        raise _refusal(path, f"has members larger than the file of {size} bytes")
    return {info.filename: archive.read(info) for info in infos}


def _parsed(data: bytes, path: pathlib.Path) -> _Header:
    """Return the header; raise `ValueError` for another format or a newer version."""
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refusal(path, f"has a damaged header ({_one_line(error)})") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise _refusal(path, "is no jaxreg model")
    version = header.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise _refusal(path, f"has the format version {str(version)[:20]!r}")
    if version > _VERSION:
        newer = f"was written by a newer jaxreg (format {version}, this one reads up to {_VERSION})"
        raise _ModelError(f"{str(path)!r} {newer}: update jaxreg, or save the model again with this version")
    return header


def _array(data: bytes, name: str, path: pathlib.Path) -> np.ndarray:
    """Return an array of a `.npy` file whose header says exactly as many bytes as follow it."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"version {version} of .npy")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # NumPy's parser raises errors of several types
        raise _refusal(path, f"has a damaged array {name!r} ({_one_line(error)})") from error
    rest = data[stream.tell() :]
    fits = dtype.name in _DTYPES and not fortran and math.prod(shape) * dtype.itemsize == len(rest)
    if not fits:
        raise _refusal(
            path, f"has an array {name!r} of {str(dtype)[:20]} {str(shape)[:40]} in {len(rest)} bytes"
        )
    return np.frombuffer(rest, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _model(header: _Header, arrays: dict[str, np.ndarray]) -> FittedModel:
    """Return the model of a header and its arrays."""
    columns = tuple(_column(given) for given in header["columns"])
    texts = {name: _text(header[name]) for name in ("target", "penalty")}
    names = {name: tuple(map(_text, header[name])) for name in ("features", "classes")}
    lam, gap, kkt = (
        header[name] if header[name] is None else float(header[name]) for name in ("lam", "gap", "kkt")
    )
    if not all(isinstance(header[name], dict) for name in ("settings", "versions", "loss")):
        raise TypeError("settings, versions and loss must be objects")
    given = {"settings": header["settings"], "versions": header["versions"], "columns": columns, "lam": lam}
    given |= {"gap": math.inf if gap is None else gap, "kkt": math.inf if kkt is None else kkt}
    return FittedModel(_loss(header["loss"]), arrays["coef"], arrays["intercept"], **texts, **names, **given)


def _loss(given: Mapping[str, object]) -> Loss:
    """Return the loss that `_described` described."""
    parameters = dict(given)
    name = parameters.pop("name")
    if name not in losses.__all__ or name == "Loss":
        raise ValueError(f"no loss {str(name)[:40]!r}")
    if not all(value is None or isinstance(value, int | float) for value in parameters.values()):
        raise TypeError("parameters of a loss must be numbers")
    return getattr(losses, name)(**parameters)


def _column(given: Mapping[str, object]) -> Column:
    """Return the coding that a header describes, each field of the type that its class declares."""
    parameters = dict(given)
    cls = KINDS[parameters.pop("kind")]
    for field in dataclasses.fields(cls):
        value = parameters[field.name]
        if field.type == tuple[str, ...]:
            parameters[field.name] = tuple(map(_text, value))
        elif not isinstance(value, _TYPES[field.type]):
            raise TypeError(f"{field.name} of a column is {type(value).__name__}")
    return cls(**parameters)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"wanted text, got {type(value).__name__}")
    return value
