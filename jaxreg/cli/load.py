"""Turn a bundled data set or a file into arrays with names.

Nothing is dropped, filled or guessed in silence: `Table.notes` says in a sentence each what was done to the
data, and what should not be done unasked is a `ValueError` of one line that says how to put it right.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxreg._extras import import_extra
from jaxreg.cli._coding import code_target, to_numbers
from jaxreg.cli._features import choose_columns, code_features, fill_gaps, starts_with_day
from jaxreg.cli._files import BUNDLED, drop_row_numbers, read_bundled, read_file
from jaxreg.cli._losses import parse_loss
from jaxreg.cli._messages import did_you_mean, one_line, quoted, refusal, wanted_one_of
from jaxreg.cli._numbers import decoration, plain, refuse_decorated
from jaxreg.cli._settings import Reading
from jaxreg.cli._text import ReadFile, looks_like_data, on_one_line
from jaxreg.models.columns import Column

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["Table", "fill_missing", "load", "read", "with_plain_numbers"]

#: Columns with missing cells that an error names.
_COLUMNS_SHOWN = 8
#: Note on the means under cross-validation.
_MEANS_OF_FOLDS = "In cross-validation a fold is predicted with the means of the rows outside of it."
#: A day, a day with a time, or a time.
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d\d)"
    r"|\d{1,2}[- ][A-Za-z]{3,9}[- ]\d{2,4})"
    r"([T ]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(:\d\d.*)?"
)
_TIME = re.compile(r"\d{1,2}:\d\d(:\d\d.*)?")


@dataclass(frozen=True, eq=False)
class Table:
    """Features, target and their names; after `fill_missing` no value is missing or infinite."""

    name: str
    """Name of the bundled data set, or of the file."""
    X: np.ndarray
    """Features, (n, p) float64; NaN where `missing` is mean and the cell is missing."""
    y: np.ndarray
    """Target, (n,): float64, which is 0.0 or 1.0 for logistic; int64 labels 0 to K−1 for multinomial."""
    features: tuple[str, ...]
    """Names of the p columns of X, all different."""
    target: str
    """Name of the target."""
    loss: str
    """squared, huber, logistic, multinomial or poisson."""
    classes: tuple[str, ...]
    """Names of the classes in the order of their labels; () for a target that is a number."""
    unit: str
    """Unit or meaning of the target where it is known, otherwise ''."""
    notes: tuple[str, ...]
    """Changes made to the data, a sentence each."""
    columns: tuple[Column, ...] = ()
    """Codings that made the features of the file's columns."""
    groups: np.ndarray | None = None
    """A label per feature, the same for the columns of one factor; None where there is no such factor."""
    reading: Reading = dataclasses.field(default_factory=Reading)
    """How the file was read."""
    delta: float | None = None
    """Residual above which Huber's loss is linear, in the unit of the target; None where none was chosen."""
    unfilled: np.ndarray | None = None
    """The features before `fill_missing`; None where nothing was missing."""

    def filled_by(self, train: np.ndarray) -> np.ndarray:
        """Return the features (n, p) with their gaps filled by the means of some rows."""
        return self.X if self.unfilled is None else fill_gaps(self.unfilled, self.columns, train)[0]


def load(
    source: str, *, target: str | None = None, loss: str | None = None, reading: Reading | None = None
) -> Table:
    """Read a bundled data set (diabetes, breast_cancer, digits, wine, iris) or a .csv, .tsv or .parquet file.

    Args:
        source: A name or a path.
        target: The column to predict; a bundled data set has its own.
        loss: squared, huber (huber:D for a delta of D), logistic, multinomial or poisson. By default chosen
            by the target: two classes (text, truth values, or 0 and 1) mean logistic, more classes of text
            multinomial, other numbers squared. Classes are sorted, so that the last of two is class 1.
        reading: How to read the file, by default as `Reading` says.

    Raises:
        ValueError: The source, the target or the values do not allow a fit.
        ImportError: pandas, pyarrow or scikit-learn is needed and not installed.

    >>> table = load("diabetes")
    >>> table.X.shape, table.target, table.loss
    ((442, 10), 'progression', 'squared')
    """
    wanted_loss = parse_loss(loss) if loss is not None else None
    reading = reading or Reading()
    name = source.strip().lower().replace("-", "_")
    bundled = BUNDLED.get(name)
    frame, notes, decimal = ReadFile(read_bundled(name), []) if bundled else read(source, reading)
    name = name if bundled else Path(source).name
    target = _check_target(target or (bundled and bundled.target), frame, name)
    notes += _question_header(frame, reading, bool(bundled))
    frame = with_plain_numbers(_without(frame, reading.drop, target, name), reading, decimal, target)
    empty = [column for column in frame if column != target and bool(frame[column].isna().all())]
    frame, dropped = _without_gaps(frame, target, name, reading, empty)
    kinds = _check_values(frame, name)
    coded = code_target(frame[target], kinds[target], wanted_loss and wanted_loss.name)
    chosen = choose_columns(frame.drop(columns=target), kinds, reading)
    features = code_features(chosen.frame, kinds, reading)
    factors = reading.categorical == "group" and len(set(features.groups.tolist())) < len(features.groups)
    return Table(
        name=name,
        X=features.X,
        y=coded.y,
        features=features.names,
        target=target,
        loss=coded.loss,
        classes=coded.classes,
        unit=bundled.meaning if bundled and target == bundled.target else "",
        notes=(*notes, *dropped, *coded.notes, *chosen.notes, *features.notes),
        columns=features.columns,
        groups=features.groups if factors else None,
        reading=reading,
        delta=wanted_loss and wanted_loss.delta,
    )


def fill_missing(table: Table, train: np.ndarray, folds: int = 0) -> Table:
    """Fill the gaps of a table by the means of its training rows, which the codings then hold too.

    Args:
        table: The data.
        train: Indices of the training rows.
        folds: Number of folds of a cross-validation on the training rows, 0 for none. Its fits fill gaps by
            `Table.filled_by`, and a note says so.
    """
    if not table.columns:
        return table
    X, columns = fill_gaps(table.X, table.columns, train)
    if not any(getattr(column, "indicator", False) for column in columns):
        return dataclasses.replace(table, X=X, columns=columns)
    notes = (*table.notes, _MEANS_OF_FOLDS) if folds else table.notes
    return dataclasses.replace(table, X=X, columns=columns, notes=notes, unfilled=table.X)


def read(source: str, reading: Reading) -> ReadFile:
    """Read a file as a data frame, without a nameless column that counts its rows."""
    try:
        frame, notes, decimal = read_file(source, reading)
    except OSError as error:
        got = f"cannot read {source!r} ({error.strerror or one_line(error)})"
        raise refusal(got, "a file you may read", "check its name and permissions") from error
    frame, dropped = drop_row_numbers(frame) if reading.header else (frame, [])
    return ReadFile(frame, [*notes, *dropped], decimal)


def with_plain_numbers(
    frame: pd.DataFrame, reading: Reading, decimal: str, target: str | None = None
) -> pd.DataFrame:
    """Read numbers with percent, currency or thousands marks, or refuse them where that is not asked for."""
    is_text = import_extra("pandas").api.types.infer_dtype
    marks = {name: decoration(frame[name]) for name in frame if is_text(frame[name], skipna=True) == "string"}
    marks = {name: found for name, found in marks.items() if found}
    if not reading.numbers:
        refuse_decorated(marks, frame, target)
    return frame.assign(**{name: plain(frame[name], decimal) for name in marks})


def _check_target(target: str | None, frame: pd.DataFrame, name: str) -> str:
    """Return the name of the target; ValueError where the table lacks it, or has no rows or no features."""
    rows, columns = frame.shape
    if rows < 2:
        got = f"{name!r} has {'a header but no rows' if rows == 0 else 'one row'}"
        raise refusal(got, "at least two rows", "add rows")
    if columns < 2:
        got = f"{name!r} has {'one column' if columns else 'no columns'}"
        raise refusal(
            got, "a target and at least one feature", "add columns, or name their separator by --sep"
        )
    if target is None:
        wanted = f"one of its columns {quoted(frame.columns)}"
        raise refusal(f"no target was named for {name!r}", wanted, "give --target NAME")
    if target not in frame.columns and on_one_line(target) in frame.columns:
        return on_one_line(target)
    if target not in frame.columns:
        if looks_like_data([str(column) for column in frame.columns]):
            numbers = f"its first line is all numbers ({quoted(frame.columns)})"
            got = f"{name!r} has no column {target!r}, and {numbers}"
            raise refusal(got, "the names of the columns there", "add --no-header --target column_1")
        raise ValueError(f"{name!r} has no column {target!r}: {wanted_one_of(frame.columns, target)}")
    return target


def _question_header(frame: pd.DataFrame, reading: Reading, bundled: bool) -> list[str]:
    """Note a header that may be the first row of the data."""
    names = [str(name) for name in frame.columns]
    if bundled or not reading.header or not looks_like_data(names):
        return []
    return [f"The names of all columns are numbers ({quoted(names[:3])}): if they are data, add --no-header."]


def _without(frame: pd.DataFrame, drop: tuple[str, ...], target: str, name: str) -> pd.DataFrame:
    """Leave out the columns that --drop names."""
    for column in drop:
        if column == target:
            raise refusal(f"--drop names the target {target!r}", "a feature", "drop another column")
        if column not in frame.columns:
            raise ValueError(
                f"{name!r} has no column {column!r} to drop: {did_you_mean(frame.columns, column)}"
            )
    return frame.drop(columns=list(drop))


def _without_gaps(
    frame: pd.DataFrame, target: str, name: str, reading: Reading, empty: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Treat missing cells as --missing says; notes say what was done. Columns without values do not count."""
    missing = frame.drop(columns=empty).isna()
    counts = missing.sum()
    counts = counts[counts > 0].sort_values(ascending=False, kind="stable")
    if counts.empty:
        return frame, []
    n, rows = len(frame), missing.any(axis=1)
    if bool(missing[target].all()):
        raise refusal(
            f"target {target!r} has no value in any row", "at least two values", "choose another target"
        )
    shown = [f"{quoted([column])} ({count})" for column, count in counts.head(_COLUMNS_SHOWN).items()]
    where = ", ".join(shown) + (f" … and {len(counts) - len(shown)} more" if len(counts) > len(shown) else "")
    if reading.missing == "error":
        miss = "misses" if int(rows.sum()) == 1 else "miss"
        got = f"{rows.sum()} of {n} rows of {name!r} {miss} values in columns {where}"
        todo = "add --missing drop (these rows) or --missing mean (and an indicator), or fill them"
        raise refusal(got, "a value in every cell", todo)
    lost = rows if reading.missing == "drop" else missing[target]
    if reading.missing == "mean":
        where = f"the target {target!r}"
    frame, notes = frame[~lost], []
    if len(frame) < 2:
        got = f"{lost.sum()} of {n} rows of {name!r} miss values in columns {where}"
        raise refusal(got, "at least two whole rows", "try --missing mean, or drop the columns")
    if bool(lost.any()):
        were = "was" if int(lost.sum()) == 1 else "were"
        notes.append(f"{lost.sum()} of {n} rows {were} left out for missing values in {where}.")
    filled = [column for column in frame if column not in empty and bool(frame[column].isna().any())]
    if filled:
        notes.append(
            f"Missing values in {quoted(filled)} became the mean of the training rows, or a level of their"
            " own in text; a column for each marks them."
        )
    return frame.reset_index(drop=True), notes


def _check_values(frame: pd.DataFrame, name: str) -> dict[str, str]:
    """Return each column's kind (number, truth, text, date, time); ValueError for infinities and the like."""
    kinds = {column: _kind(frame[column]) for column in frame}
    if where := [column for column, kind in kinds.items() if kind == "other"]:
        got = f"{name!r} has values of no use in columns {quoted(where)}"
        raise refusal(got, "numbers, text or truth values", "drop (--drop) or convert these columns")
    _check_finite(frame[[column for column, kind in kinds.items() if kind == "number"]], name)
    return kinds


def _check_finite(numbers: pd.DataFrame, name: str) -> None:
    import numpy as np

    infinite = {column: np.isinf(to_numbers(numbers[column])) for column in numbers}
    where = [column for column, rows in infinite.items() if rows.any()]
    if where:
        count = sum(infinite[column] for column in where).astype(bool).sum()
        got = f"{count} of {len(numbers)} rows of {name!r} are infinite in columns {quoted(where)}"
        raise refusal(got, "finite numbers", "correct or drop these rows")


def _kind(column: pd.Series) -> str:
    """Return number, truth, text, date, time or other; text whose values all look like dates is a date.

    time: times of day, spans, and dates that do not tell whether they start with the day.
    """
    kind = import_extra("pandas").api.types.infer_dtype(column, skipna=True)
    if kind in ("string", "categorical"):
        texts = [str(value).strip() for value in column.dropna().unique()]
        if not texts or not all(map(_DATE.fullmatch, texts)):
            return "text"
        return "time" if any(map(_TIME.fullmatch, texts)) or starts_with_day(texts) is None else "date"
    if kind in ("integer", "floating", "mixed-integer-float", "decimal", "empty"):
        return "number"
    if kind == "boolean":
        return "truth"
    if kind in ("date", "datetime", "datetime64"):
        return "date"
    return "time" if kind.startswith(("time", "period")) else "other"
