"""Read bundled data sets and files as data frames; what cannot be read is a `ValueError` of one line.

A new bundled data set is a line of `BUNDLED`; a new separator is a line of `SEPARATORS`.
"""

from __future__ import annotations

import csv
import gzip
import re
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from jaxreg.cli._messages import did_you_mean, import_extra, one_line, quoted, refusal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUNDLED", "check_names", "drop_row_numbers", "read_bundled", "read_file", "without_ending"]


class _Bundled(NamedTuple):
    """The target of a data set that scikit-learn bundles."""

    target: str
    meaning: str


BUNDLED = {
    "diabetes": _Bundled("progression", "disease progression after one year"),
    "breast_cancer": _Bundled("diagnosis", "diagnosis of a breast mass"),
    "digits": _Bundled("digit", "handwritten digit"),
    "wine": _Bundled("cultivar", "cultivar of the grapes"),
    "iris": _Bundled("species", "species of the flower"),
}
#: Endings of files that can be read, and the separator of their columns.
SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t", ".parquet": ""}
#: Separators that a file may use in place of the one its ending stands for.
_OTHER_SEPARATORS = ";\t|,"
#: Characters at the start of a file among which a zero byte means that the file is binary.
_SNIFFED = 4096
_SAVE_AGAIN = "save it again or correct its ending"


def read_bundled(name: str) -> pd.DataFrame:
    """Read a data set of scikit-learn, the target as its last column."""
    datasets, pd = import_extra("sklearn.datasets"), import_extra("pandas")
    # The diabetes data come scaled to norm 1 unless asked for in their own units.
    options = {"scaled": False} if name == "diabetes" else {}
    data = getattr(datasets, f"load_{name}")(**options)
    frame = pd.DataFrame(data.data, columns=[str(feature) for feature in data.feature_names])
    classes = data.get("target_names")
    frame[BUNDLED[name].target] = data.target if classes is None else classes.astype(str)[data.target]
    return frame


def read_file(source: str) -> pd.DataFrame:
    """Read a file by its ending."""
    path, ending = Path(source), _ending(source)
    wanted = f"a path that ends in {', '.join(SEPARATORS)}"
    if not source.strip() or not path.exists():
        todo = did_you_mean([*BUNDLED, *_readable_neighbours(path)], source)
        raise refusal(f"no data set or file {source!r}", f"one of {quoted(BUNDLED)} or {wanted}", todo)
    if path.is_dir():
        raise refusal(f"{source!r} is a directory", wanted, "name a file in it")
    if not ending or not path.is_file():
        raise refusal(f"cannot tell what {source!r} holds", wanted, "convert or rename it")
    if path.stat().st_size == 0:
        raise _empty(source)
    return _read_parquet(path, source) if ending == ".parquet" else _read_text(path, source)


def without_ending(name: str) -> str:
    """Remove the ending from a file's name; the name of a bundled data set has none."""
    return name[: len(name) - len(_ending(name))]


def check_names(names: list[str], where: str) -> None:
    """Raise `ValueError` where two columns have the same name."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise refusal(f"{where} has columns of the same name, {quoted(repeated)}", "one each", "rename them")


def drop_row_numbers(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Leave out a nameless first column that counts the rows (an index saved along); notes say so."""
    n = len(frame)
    counts = ([*range(n)], [*range(1, n + 1)])
    if "column_1" not in frame.columns[:1] or frame["column_1"].tolist() not in counts:
        return frame, []
    return frame.iloc[:, 1:], ["The first column has no name and counts the rows, so it was left out."]


def _ending(name: str) -> str:
    """Return the longest known ending of a name, in lower case; '' where there is none."""
    return max((end for end in SEPARATORS if name.lower().endswith(end)), key=len, default="")


def _readable_neighbours(path: Path) -> list[str]:
    """List the files of a path's folder that could be read."""
    neighbours = path.parent.iterdir() if path.parent.is_dir() else ()
    return [str(file) for file in neighbours if _ending(file.name)]


def _read_parquet(path: Path, source: str) -> pd.DataFrame:
    arrow, parquet = import_extra("pyarrow"), import_extra("pyarrow.parquet")
    with path.open("rb") as file:
        try:
            table = parquet.ParquetFile(file)
            check_names(table.schema_arrow.names, repr(source))
            frame = table.read().to_pandas()
        except (arrow.ArrowException, OSError) as error:
            got = f"{source!r} cannot be read as Parquet ({one_line(error)})"
            raise refusal(got, "a whole Parquet file", _SAVE_AGAIN) from error
    frame = frame.reset_index(drop=set(frame.index.names) == {None})
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _read_text(path: Path, source: str) -> pd.DataFrame:
    open_text = gzip.open if source.lower().endswith(".gz") else open
    try:
        with open_text(path, "rt", encoding="utf-8-sig", newline="") as file:
            return _read_rows(file, source, SEPARATORS[_ending(source)])
    except (UnicodeError, csv.Error) as error:
        got = f"{source!r} is binary, or text in another encoding than UTF-8"
        raise refusal(got, "UTF-8 text", _SAVE_AGAIN) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        got = f"{source!r} cannot be unpacked ({one_line(error)})"
        raise refusal(got, "a whole gzip file", _SAVE_AGAIN) from error


def _read_rows(file: TextIO, source: str, separator: str) -> pd.DataFrame:
    """Read the header, then the rows: pandas would rename columns of the same name."""
    pd = import_extra("pandas")
    if "\0" in file.read(_SNIFFED):
        raise UnicodeError("a zero byte")
    file.seek(0)
    names, header_end = _read_header(file, source, separator)
    shape: dict[str, Any] = {"sep": separator, "header": None, "names": names, "index_col": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(file, skipinitialspace=True, low_memory=False, **shape)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        # pandas counts lines from below the header.
        if at := re.search(r"in line (\d+), saw (\d+)", str(error)):
            where = f"line {int(at[1]) + header_end} has {at[2]} values"
        else:
            where = "too many values, or an open quote"
        got = f"{source!r} has {len(names)} columns and rows that do not fit them ({where})"
        raise refusal(got, "a value for each column", "correct its separators and quotes") from error


def _read_header(file: TextIO, source: str, separator: str) -> tuple[list[str], int]:
    """Read the names of the columns; returns them and the number of the line on which they end."""
    lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
    cells = next((cells for cells in lines if any(map(str.strip, cells))), None)
    if cells is None:
        raise _empty(source)
    names = [cell.strip() or f"column_{at}" for at, cell in enumerate(cells, 1)]
    check_names(names, repr(source))
    other = next((mark for mark in _OTHER_SEPARATORS if len(names) == 1 and mark in names[0]), None)
    if other:
        got = f"{source!r} has the single column {names[0][:40]!r}"
        raise refusal(got, f"columns separated by {separator!r}", f"replace {other!r} by {separator!r}")
    return names, lines.line_num


def _empty(source: str) -> ValueError:
    return refusal(f"{source!r} is empty", "a header and at least two rows", "save it again")
