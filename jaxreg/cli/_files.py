"""Bundled data sets and files become data frames, or a `ValueError` of one line.

A new bundled data set is a line of `_BUNDLED`; a new separator is a line of `_ENDINGS`.
"""

from __future__ import annotations

import csv
import gzip
import re
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jaxreg.cli._messages import _empty, _guess, _line, _names, _need, _wrong

if TYPE_CHECKING:
    import pandas as pd


_ENDINGS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t", ".parquet": ""}
_BUNDLED = {  # the target's name and its meaning
    "diabetes": ("progression", "disease progression after one year"),
    "breast_cancer": ("diagnosis", "diagnosis of a breast mass"),
    "digits": ("digit", "handwritten digit"),
    "wine": ("cultivar", "cultivar of the grapes"),
    "iris": ("species", "species of the flower"),
}


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
        todo = _guess(source, [*_BUNDLED, *_neighbours(path)])
        raise _wrong(f"no data set or file {source!r}", f"one of {_names(_BUNDLED)} or {wanted}", todo)
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
            _check_names(table.schema_arrow.names, repr(source))
            frame = table.read().to_pandas()
        except (arrow.ArrowException, OSError) as error:
            got = f"{source!r} cannot be read as Parquet ({_line(error)})"
            raise _wrong(got, "a whole Parquet file", "save it again or correct its ending") from error
    frame = frame.reset_index(drop=set(frame.index.names) == {None})
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _text(path: Path, source: str, separator: str) -> pd.DataFrame:
    opened = gzip.open if source.lower().endswith(".gz") else open
    again = "save it again or correct its ending"
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            return _rows(file, source, separator)
    except (UnicodeError, csv.Error) as error:
        got = f"{source!r} is binary, or text in another encoding than UTF-8"
        raise _wrong(got, "UTF-8 text", again) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        got = f"{source!r} cannot be unpacked ({_line(error)})"
        raise _wrong(got, "a whole gzip file", again) from error


def _rows(file: TextIO, source: str, separator: str) -> pd.DataFrame:
    """The header is read apart from the rows: pandas would rename columns of the same name."""
    pd = _need("pandas")
    if "\0" in file.read(4096):
        raise UnicodeError("a zero byte")
    file.seek(0)
    lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
    cells = next((cells for cells in lines if any(map(str.strip, cells))), None)
    if cells is None:
        raise _empty(source)
    names = [cell.strip() or f"column_{at}" for at, cell in enumerate(cells, 1)]
    _check_names(names, repr(source))
    other = next((mark for mark in ";\t|," if len(names) == 1 and mark in names[0]), None)
    if other:
        got = f"{source!r} has the single column {names[0][:40]!r}"
        raise _wrong(got, f"columns separated by {separator!r}", f"replace {other!r} by {separator!r}")
    shape: dict[str, Any] = {"sep": separator, "header": None, "names": names, "index_col": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(file, skipinitialspace=True, low_memory=False, **shape)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        at = re.search(r"in line (\d+), saw (\d+)", str(error))  # counted from below the header
        where = (
            f"line {int(at[1]) + lines.line_num} has {at[2]} values"
            if at
            else "too many values, or an open quote"
        )
        got = f"{source!r} has {len(names)} columns and rows that do not fit them ({where})"
        raise _wrong(got, "a value for each column", "correct its separators and quotes") from error


def _drop_row_numbers(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Leave out a first column without a name that counts the rows: an index that was saved along."""
    n = len(frame)
    if "column_1" not in frame.columns[:1] or frame["column_1"].tolist() not in (
        [*range(n)],
        [*range(1, n + 1)],
    ):
        return frame, []
    return frame.iloc[:, 1:], ["The first column has no name and counts the rows, so it was left out."]


# Checking: what came in, before anything is computed from it.


def _check_names(names: list[str], where: str) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise _wrong(f"{where} has columns of the same name, {_names(twice)}", "one each", "rename them")
