"""Read bundled data sets and files as data frames; what cannot be read is a `ValueError` of one line.

A new bundled data set is a line of `BUNDLED`; a new ending is a line of `SEPARATORS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jaxreg._extras import import_extra
from jaxreg.cli._messages import did_you_mean, one_line, quoted, refusal
from jaxreg.cli._settings import Reading
from jaxreg.cli._text import ReadFile, check_names, empty, read_text, save_again

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUNDLED", "drop_row_numbers", "read_bundled", "read_file", "without_ending"]


class _Bundled(NamedTuple):
    """The target of a bundled data set."""

    target: str
    meaning: str


BUNDLED = {
    "diabetes": _Bundled("progression", "disease progression after one year"),
    "breast_cancer": _Bundled("diagnosis", "diagnosis of a breast mass"),
    "digits": _Bundled("digit", "handwritten digit"),
    "wine": _Bundled("cultivar", "cultivar of the grapes"),
    "iris": _Bundled("species", "species of the flower"),
}
#: The diabetes data of Efron, Hastie, Johnstone and Tibshirani (2004), Least angle regression, in their own
#: units. They are the command's default, and to import scikit-learn for them takes 0.7 s.
_DIABETES = Path(__file__).with_name("diabetes.csv")
#: Endings of files that can be read, and the separator of their columns.
SEPARATORS = {
    ".csv": ",",
    ".csv.gz": ",",
    ".tsv": "\t",
    ".tsv.gz": "\t",
    ".txt": "\t",
    ".txt.gz": "\t",
    ".parquet": "",
}


def read_bundled(name: str) -> pd.DataFrame:
    """Read a bundled data set, the target as its last column: diabetes, or a data set of scikit-learn."""
    pd = import_extra("pandas")
    if name == "diabetes":
        return pd.read_csv(_DIABETES, dtype="float64")
    data = getattr(import_extra("sklearn.datasets"), f"load_{name}")()
    frame = pd.DataFrame(data.data, columns=[str(feature) for feature in data.feature_names])
    classes = data.get("target_names")
    frame[BUNDLED[name].target] = data.target if classes is None else classes.astype(str)[data.target]
    return frame


def read_file(source: str, reading: Reading) -> ReadFile:
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
        raise empty(source)
    if ending == ".parquet":
        return ReadFile(_read_parquet(path, source), [])
    return read_text(path, source, SEPARATORS[ending], reading)


def without_ending(name: str) -> str:
    """Remove the ending from a file's name; the name of a bundled data set has none."""
    return name[: len(name) - len(_ending(name))]


def drop_row_numbers(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Leave out a nameless first column that counts the rows (an index saved along); notes say so."""
    n = len(frame)
    counts = ([*range(n)], [*range(1, n + 1)])
    nameless = {"column_1", "Unnamed: 0", "__index_level_0__"} & set(frame.columns[:1])
    if not nameless or n == 0 or frame.iloc[:, 0].tolist() not in counts:
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
    arrow, parquet = (import_extra(name, "parquet") for name in ("pyarrow", "pyarrow.parquet"))
    import_extra("pandas")
    with path.open("rb") as file:
        try:
            table = parquet.ParquetFile(file)
            check_names(table.schema_arrow.names, repr(source))
            frame = table.read().to_pandas()
        except (arrow.ArrowException, OSError) as error:
            got = f"{source!r} cannot be read as Parquet ({one_line(error)})"
            raise refusal(got, "a whole Parquet file", save_again) from error
    frame = frame.reset_index(drop=set(frame.index.names) == {None})
    frame.columns = [str(name) for name in frame.columns]
    return frame
