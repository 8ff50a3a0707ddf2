"""What comes in from outside becomes arrays with names.

`load` turns a bundled data set or a file into a `Table`; `split` chooses its held-out rows. Nothing is
dropped, filled or guessed in silence: what was done to the data is a sentence in `Table.notes`, and what
should not be done unasked is a `ValueError` of one line that says how to put it right.

The steps of `load`, in order: find the source and read it as a data frame, check its values, turn the
target into numbers or labels that suit the loss, turn text into columns of 0 and 1. A new bundled data set
is a line of `_BUNDLED`; a new separator is a line of `_ENDINGS`.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import importlib
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["Table", "load", "split"]

_LOSSES = ("squared", "huber", "logistic", "multinomial", "poisson")
_LABELLED = ("logistic", "multinomial")
_ENDINGS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t", ".parquet": ""}
_BUNDLED = {  # the target's name and its meaning
    "diabetes": ("progression", "disease progression after one year"),
    "breast_cancer": ("diagnosis", "diagnosis of a breast mass"),
    "digits": ("digit", "handwritten digit"),
    "wine": ("cultivar", "cultivar of the grapes"),
    "iris": ("species", "species of the flower"),
}
_SHOWN = 8  # names in a message
_LEVELS = 50, 1000  # levels of a text column: suspect in a small table, too many in any
_DAY = r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d\d)|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4}"
_DATE = re.compile(rf"({_DAY})([T ]\d{{1,2}}:\d\d.*)?|\d{{1,2}}:\d\d(:\d\d.*)?")


@dataclass(frozen=True, eq=False)
class Table:
    """Features, target and their names, ready for a fit: no value is missing or infinite."""

    name: str
    """The bundled data set's name, or the file's."""
    X: np.ndarray
    """Features, (n, p) float64."""
    y: np.ndarray
    """Target, (n,): float64, which is 0.0 or 1.0 for logistic; int64 labels 0 to K−1 for multinomial."""
    features: tuple[str, ...]
    """The p names of the columns of X, all different."""
    target: str
    """The target's name."""
    loss: str
    """squared, huber, logistic, multinomial or poisson."""
    classes: tuple[str, ...]
    """Names of the classes in the order of their labels; () for a target that is a number."""
    unit: str
    """Unit or meaning of the target where it is known, otherwise ''."""
    notes: tuple[str, ...]
    """What was done to the data, a sentence each."""


def load(source: str, *, target: str | None = None, loss: str | None = None) -> Table:
    """Read a bundled data set (diabetes, breast_cancer, digits, wine, iris) or a .csv, .tsv or .parquet file.

    Without `loss`, two classes (text, truth values, or 0 and 1) mean logistic, more classes of text mean
    multinomial and other numbers squared. Classes are sorted, so that the last of two is class 1.
    Raises ValueError, in one line, where the source, the target or the values do not allow a fit.

    >>> table = load("diabetes")
    >>> table.X.shape, table.target, table.loss
    ((442, 10), 'progression', 'squared')
    """
    if loss is not None and loss not in _LOSSES:
        raise _wrong(f"no loss {loss!r}", f"one of {_names(_LOSSES)}", "correct it", _near(loss, _LOSSES))
    bundled = source.strip().lower().replace("-", "_")
    own, unit = _BUNDLED.get(bundled, (None, ""))
    try:
        name, frame = (bundled, _bundled(bundled)) if own else (Path(source).name, _file(source))
    except OSError as error:
        reason = error.strerror or _line(error)
        raise _wrong(
            f"cannot read {source!r} ({reason})", "a file you may read", "check its permissions"
        ) from error
    frame, dropped = _drop_row_numbers(frame)
    target = _check_target(target or own, frame, name)
    kinds = _check(frame, name)
    y, loss, classes, labelled = _target(frame[target], kinds[target], loss)
    X, features, coded = _features(frame.drop(columns=target), kinds)
    unit = unit if target == own else ""
    return Table(name, X, y, features, target, loss, classes, unit, (*dropped, *labelled, *coded))


def split(table: Table, holdout: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the training rows and of the held-out rows, the same for the same seed.

    A fraction `holdout` of the rows, at least one unless it is 0, is held out. With a logistic or
    multinomial loss each class gives its share and keeps at least one training row, so that fewer rows are
    held out where classes are very small. Raises ValueError where `holdout` is not in [0, 1), leaves fewer
    than two training rows or finds none to take, and where `seed` is negative.

    >>> train, held = split(load("iris"), 0.2, seed=0)
    >>> len(train), len(held)
    (120, 30)
    """
    import numpy as np

    if not 0 <= holdout < 1:
        raise _wrong(f"holdout is {holdout}", "a fraction from 0 to below 1", "try 0.2")
    if seed < 0:
        raise _wrong(f"seed is {seed}", "a whole number from 0 up", "try 0")
    n = len(table.y)
    count = max(1, round(holdout * n)) if holdout > 0 else 0
    if n - count < 2:
        raise _wrong(
            f"holdout {holdout} leaves {n - count} of {n} rows to train on", "at least 2", "hold out fewer"
        )
    groups, sizes = np.zeros(n, int), np.array([n])
    if table.loss in _LABELLED:
        _, groups, sizes = np.unique(table.y, return_inverse=True, return_counts=True)
    if count and sizes.max() == 1:
        raise _wrong(f"each of the {n} classes has one row", "one with more to hold out from", "set holdout 0")
    rng = np.random.default_rng(seed)
    held = np.zeros(n, bool)
    for group, take in enumerate(_shares(sizes, count)):
        held[rng.permutation(np.flatnonzero(groups == group))[:take]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` each group gives: by size, largest remainder first, never a whole group."""
    import numpy as np

    share = count * sizes / sizes.sum()
    taken = np.minimum(np.floor(share).astype(int), sizes - 1)
    for _ in range(min(count, int((sizes - 1).sum())) - int(taken.sum())):
        taken[np.argmax(np.where(taken < sizes - 1, share - taken, -np.inf))] += 1
    return taken


# Reading: each function returns a data frame whose column names are different strings.


def _bundled(name: str) -> pd.DataFrame:
    datasets, pd = _need("sklearn.datasets"), _need("pandas")
    data = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    frame = pd.DataFrame(data.data, columns=[str(feature) for feature in data.feature_names])
    classes = data.get("target_names")
    frame[_BUNDLED[name][0]] = data.target if classes is None else classes.astype(str)[data.target]
    return frame


def _file(source: str) -> pd.DataFrame:
    path, lower = Path(source), source.lower()
    ending = max((end for end in _ENDINGS if lower.endswith(end)), key=len, default=None)
    wanted = f"a path that ends in {', '.join(_ENDINGS)}"
    if not source.strip() or not path.exists():
        options = [*_BUNDLED, *_neighbours(path)]
        wanted = f"one of {_names(_BUNDLED)} or {wanted}"
        raise _wrong(f"no data set or file {source!r}", wanted, "correct it", _near(source, options))
    if path.is_dir():
        raise _wrong(f"{source!r} is a directory", wanted, "name a file in it")
    if ending is None or not path.is_file():
        raise _wrong(f"cannot tell what {source!r} holds", wanted, "convert or rename it")
    if path.stat().st_size == 0:
        raise _empty(source)
    return _parquet(path, source) if ending == ".parquet" else _text(path, source, _ENDINGS[ending])


def _neighbours(path: Path) -> list[str]:
    """Files that could be read, beside a path that does not exist."""
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    return [str(near) for near in beside if near.name.lower().endswith(tuple(_ENDINGS))]


def _parquet(path: Path, source: str) -> pd.DataFrame:
    arrow, parquet = _need("pyarrow"), _need("pyarrow.parquet")
    with path.open("rb") as file:
        try:
            table = parquet.ParquetFile(file)
            _check_names(table.schema_arrow.names, source)
            frame = table.read().to_pandas()
        except (arrow.ArrowException, OSError) as error:
            got = f"{source!r} cannot be read as Parquet ({_line(error)})"
            raise _wrong(got, "a whole Parquet file", "save it again or correct its ending") from error
    frame = frame.reset_index(drop=set(frame.index.names) == {None})
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _text(path: Path, source: str, separator: str) -> pd.DataFrame:
    pd = _need("pandas")
    opened = gzip.open if source.lower().endswith(".gz") else open
    again = "save it again or correct its ending"
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return _rows(file, source, separator)
    except UnicodeError as error:
        got = f"{source!r} is binary, or text in another encoding than UTF-8"
        raise _wrong(got, "UTF-8 text", again) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        got = f"{source!r} cannot be unpacked ({_line(error)})"
        raise _wrong(got, "a whole gzip file", again) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        got = f"the rows of {source!r} do not fit its header ({_line(error)})"
        raise _wrong(got, "as many values as columns", "correct separators and quotes") from error


def _rows(file: TextIO, source: str, separator: str) -> pd.DataFrame:
    """The header is read apart from the rows: pandas would rename columns of the same name."""
    if "\0" in file.read(4096):
        raise UnicodeError("a zero byte")
    file.seek(0)
    lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
    cells = next((cells for cells in lines if any(map(str.strip, cells))), None)
    if cells is None:
        raise _empty(source)
    names = [cell.strip() or f"column_{at}" for at, cell in enumerate(cells, 1)]
    _check_names(names, source)
    other = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
    if other:
        got = f"{source!r} has the single column {names[0][:40]!r}"
        raise _wrong(got, f"columns separated by {separator!r}", f"replace {other!r} by {separator!r}")
    options: dict[str, Any] = {"skipinitialspace": True, "low_memory": False}
    return _need("pandas").read_csv(
        file, sep=separator, header=None, names=names, index_col=False, **options
    )


def _drop_row_numbers(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Leave out a first column without a name that counts the rows: an index that was saved along."""
    if len(frame) < 2 or frame.columns[0] != "column_1":
        return frame, []
    first = frame.iloc[:, 0].tolist()
    if first[0] not in (0, 1) or first != list(range(first[0], first[0] + len(first))):
        return frame, []
    return frame.iloc[:, 1:], ["The first column has no name and counts the rows, so it was left out."]


# Checking: what came in, before anything is computed from it.


def _check_names(names: list[str], source: str) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise _wrong(f"{source!r} has several columns named {_names(twice)}", "different names", "rename them")


def _check_target(target: str | None, frame: pd.DataFrame, name: str) -> str:
    columns = f"its columns are {_names(frame.columns)}"
    if target is None:
        raise _wrong(f"no target was named for {name!r}", "the column to predict", f"{columns}: give --target")
    if target not in frame.columns:
        near = _near(target, frame.columns)
        raise _wrong(f"{name!r} has no column {target!r}", "a target it has", columns, near)
    return target


def _check(frame: pd.DataFrame, name: str) -> dict[str, str]:
    """Each column's kind: number, truth or text."""
    import numpy as np

    rows, columns = frame.shape
    if rows < 2:
        got = f"{name!r} has {'a header but no rows' if rows == 0 else 'one row'}"
        raise _wrong(got, "at least two rows", "add rows")
    if columns < 2:
        raise _wrong(f"{name!r} has no column but the target", "at least one feature", "add columns")
    missing = frame.isna()
    if missing.any(axis=None):
        got = f"{int(missing.any(axis=1).sum())} of {rows} rows of {name!r} miss values"
        where = f"in {_names(frame.columns[missing.any()])}"
        raise _wrong(f"{got} {where}", "a value in every cell", "drop these rows or columns, or fill them")
    kinds = {column: _kind(frame[column]) for column in frame}
    dates = [column for column, kind in kinds.items() if kind == "date"]
    if dates:
        todo = "drop them or turn them into numbers, such as days since the first"
        raise _wrong(f"{name!r} has dates or times in {_names(dates)}", "numbers or text", todo)
    strange = [column for column, kind in kinds.items() if kind == "other"]
    if strange:
        got = f"{name!r} has neither numbers, text nor truth values in {_names(strange)}"
        raise _wrong(got, "one value of these in each cell", "drop or convert these columns")
    numbers = [column for column, kind in kinds.items() if kind == "number"]
    infinite = np.array([~np.isfinite(_numbers(frame[column])) for column in numbers]).reshape(-1, rows)
    if infinite.any():
        where = [column for column, bad in zip(numbers, infinite, strict=True) if bad.any()]
        got = f"{int(infinite.any(axis=0).sum())} of {rows} rows of {name!r} are infinite in {_names(where)}"
        raise _wrong(got, "finite numbers", "correct or drop these rows")
    return kinds


def _kind(column: pd.Series) -> str:
    """number, truth, text, date or other; text in which every value looks like a date is a date."""
    kind = _need("pandas.api.types").infer_dtype(column)
    if kind in ("string", "categorical"):
        return "date" if all(_DATE.fullmatch(str(value).strip()) for value in column.unique()) else "text"
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return "number"
    return {"boolean": "truth", "bytes": "other"}.get(kind) or (
        "date" if kind.startswith(("date", "time", "period")) else "other"
    )


# Coding: columns become numbers.


def _target(column: pd.Series, kind: str, loss: str | None) -> tuple[np.ndarray, str, tuple[str, ...], list[str]]:
    """The target as the loss wants it, the loss, the names of the classes, and notes."""
    codes, levels = _levels(column)
    name = f"target {column.name!r}"
    if len(levels) < 2:
        raise _wrong(f"{name} is {levels[0]!s} in every row", "at least two values", "choose another target")
    notes = []
    if loss is None:
        loss = _guess(kind, levels)
        notes.append(f"No loss was asked for: {name} has {len(levels)} different values and loss {loss!r} was taken.")
