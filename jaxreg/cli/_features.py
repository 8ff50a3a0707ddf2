"""Code the features of a table: numbers as they are, text as columns of 0 and 1, dates as days.

The codings are those of `jaxreg.models.columns`, so that a saved model codes new rows in the same way.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from jaxreg._extras import import_extra
from jaxreg.cli._coding import to_numbers
from jaxreg.cli._messages import quoted, refusal
from jaxreg.cli._settings import Reading
from jaxreg.cli._text import check_names
from jaxreg.models.columns import MISSING_LEVEL, Column, DateColumn, LevelColumn, NumberColumn, label

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["Choice", "CodedFeatures", "choose_columns", "code_features", "fill_gaps"]

#: Levels of a text column that have a column of their own: the rarest are pooled.
_LEVELS_AT_MOST = 50
#: Rows from which a column with as many different values as rows may be an identifier.
_ID_ROWS = 20
#: Fraction of different values among the cells of a text column from which they are no categories.
_ID_FRACTION = 0.9
#: Names of columns that identify the rows.
_ID_NAME = re.compile(r"(.*[_\W])?(id|ids|uuid|guid|index|idx|key|nr|no|number|row|rownum|rownames)", re.I)
_CAMEL_ID = re.compile(r".*[a-z](Id|ID|Nr|Key)")


class Choice(NamedTuple):
    """The columns that stay features, and notes on the others."""

    frame: pd.DataFrame
    notes: list[str]


class CodedFeatures(NamedTuple):
    """Features (n, p) as float64, NaN for gaps; `groups` (p,) are the same for the columns of one factor."""

    X: np.ndarray
    columns: tuple[Column, ...]
    groups: np.ndarray
    notes: list[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the p columns of X."""
        return tuple(name for column in self.columns for name in column.features)


def choose_columns(frame: pd.DataFrame, kinds: dict[str, str], reading: Reading) -> Choice:
    """Leave out columns of no use: empty ones, identifiers, dates that are no days, text where asked for.

    Raises:
        ValueError: No column is left, or a text column holds numbers with a few bad cells.
    """
    left_out: dict[str, list[str]] = {}
    for name in frame:
        if why := _no_use(frame[name], kinds[name], reading):
            left_out.setdefault(why, []).append(name)
    gone = [name for names in left_out.values() for name in names]
    if len(gone) == frame.shape[1]:
        why = "; ".join(f"{quoted(names)} ({reason})" for reason, names in left_out.items())
        why = why or "--drop names all of them"
        raise refusal(f"no feature is left: {why}", "at least one column of numbers or text", "add columns")
    notes = [f"Left out, {why}: {quoted(names)}." for why, names in left_out.items()]
    return Choice(frame.drop(columns=gone), notes)


def code_features(frame: pd.DataFrame, kinds: dict[str, str], reading: Reading) -> CodedFeatures:
    """Code all columns as numbers: two levels of text become one column of 0 and 1, k > 2 levels k columns.

    Raises:
        ValueError: Two columns would have the same name.
    """
    import numpy as np

    columns, parts, groups, notes = [], [], [], []
    for name in frame:
        column, values = _coded(frame[name], kinds[name], notes)
        columns.append(column)
        parts.append(values)
        factor = isinstance(column, LevelColumn)
        start = groups[-1] + 1 if groups else 0
        groups += [start + (0 if factor else k) for k in range(values.shape[1])]
    X = np.hstack(parts)
    coded = CodedFeatures(X, tuple(columns), np.array(groups, int), notes)
    check_names(list(coded.names), "the table with its text as columns of 0 and 1")
    if factors := [column for column in columns if isinstance(column, LevelColumn)]:
        made = sum(len(column.features) for column in factors)
        names = quoted(column.name for column in factors)
        columns_made = "1 column" if made == 1 else f"{made} columns"
        note = f"Text or truth values in {names} became {columns_made} of 0 and 1"
        whole = reading.categorical == "group" and any(len(column.features) > 1 for column in factors)
        notes.append(note + ("; those of a factor enter together (--categorical)." if whole else "."))
    constant = [name for name, same in zip(coded.names, (X[0] == X).all(axis=0), strict=True) if same]
    if len(constant) == X.shape[1]:
        got = f"every feature has the same value in all rows: {quoted(constant)}"
        raise refusal(got, "at least one column that varies", "add columns")
    if constant:
        notes.append(f"The same value in every row, of no use to a fit: {quoted(constant)}.")
    return coded


def fill_gaps(
    X: np.ndarray, columns: tuple[Column, ...], train: np.ndarray
) -> tuple[np.ndarray, tuple[Column, ...]]:
    """Replace gaps by the means of the training rows; returns X and the codings that hold these means."""
    import numpy as np

    X, filled, start = X.copy(), [], 0
    for column in columns:
        if not isinstance(column, LevelColumn):
            known = X[train, start][~np.isnan(X[train, start])]
            mean = float(known.mean()) if known.size else 0.0
            X[np.isnan(X[:, start]), start] = mean
            column = dataclasses.replace(column, mean=mean)
        filled.append(column)
        start += len(column.features)
    return X, tuple(filled)


def _no_use(column: pd.Series, kind: str, reading: Reading) -> str:
    """Return the reason to leave a column out, "" for none."""
    if column.isna().all():
        return "without a value in any row"
    if kind == "time":
        return "times of day or dates whose order of day and month is not clear (turn them into numbers)"
    if kind == "text":
        _refuse_bad_numbers(column)
    if _is_identifier(column, kind):
        return "identifiers, with as many different values as rows"
    if _nearly_all_differ(column, kind):
        return f"text that differs in more than {100 * _ID_FRACTION:.0f} % of the rows"
    return "text (--categorical drop)" if kind in ("text", "truth") and reading.categorical == "drop" else ""


def _is_identifier(column: pd.Series, kind: str) -> bool:
    """Return whether a column with as many values as rows is text, a count of rows, or named as a key."""
    n = len(column)
    if n < _ID_ROWS or column.nunique() < n or kind not in ("text", "number"):
        return False
    if kind == "text":
        return True
    values = to_numbers(column)
    if (values % 1 != 0).any():
        return False
    # Years count up too, but not from 0 or 1, and in order.
    consecutive = values.max() - values.min() == n - 1
    counts = consecutive and (values.min() in (0, 1) or bool((values[1:] < values[:-1]).any()))
    named = _ID_NAME.fullmatch(str(column.name)) or _CAMEL_ID.fullmatch(str(column.name))
    return counts or named is not None


def _nearly_all_differ(column: pd.Series, kind: str) -> bool:
    """Return whether a text column has nearly as many different values as cells, as names of persons."""
    cells = int(column.notna().sum())
    return kind == "text" and cells >= _ID_ROWS and column.nunique() > _ID_FRACTION * cells


def _refuse_bad_numbers(column: pd.Series) -> None:
    """Raise `ValueError` for text of many values that are numbers but for a few bad cells."""
    levels = column.dropna().astype(str).unique()
    if len(levels) <= _LEVELS_AT_MOST:
        return
    pd = import_extra("pandas")
    bad = levels[pd.isna(pd.to_numeric(levels, errors="coerce"))]
    if len(bad) < len(levels) / 2:
        got = f"text column {column.name!r} has {len(levels)} different values in {len(column)} rows"
        raise refusal(got, "numbers", f"correct the cells that are not numbers, such as {quoted(bad[:1])}")


def _coded(column: pd.Series, kind: str, notes: list[str]) -> tuple[Column, np.ndarray]:
    """Return the coding of a column and its values (n, k), NaN for gaps."""
    import numpy as np

    name, gaps = str(column.name), column.isna().to_numpy()
    if kind == "number":
        coding: Column = NumberColumn(name, indicator=bool(gaps.any()))
        values = to_numbers(column)
    elif kind == "date":
        coding = _date_coding(column, notes)
        values = coding.encode(column.to_numpy(object)).values[:, 0]
    else:
        coding = _level_coding(column, notes)
        return coding, coding.encode(column.to_numpy(object)).values
    values = np.where(gaps, np.nan, values)
    return coding, np.column_stack([values, gaps.astype(float)]) if gaps.any() else values[:, None]


def _level_coding(column: pd.Series, notes: list[str]) -> LevelColumn:
    """Return the coding of a text column: levels in order, the rarest of too many pooled, gaps a level."""
    name = str(column.name)
    labels = [label(value) for value in column.to_numpy(object)]
    counts = Counter(MISSING_LEVEL if text is None else text for text in labels)
    levels = sorted(counts)
    if len(levels) == 2:
        return LevelColumn(name, levels=(levels[1],), baseline=levels[0])
    if len(levels) <= _LEVELS_AT_MOST:
        return LevelColumn(name, levels=tuple(levels))
    common = sorted(text for text, _ in counts.most_common(_LEVELS_AT_MOST))
    pooled, rows = len(levels) - len(common), sum(counts[text] for text in set(levels) - set(common))
    notes.append(f"The {pooled} rarest of {len(levels)} levels of {name!r} ({rows} rows) count as 'other'.")
    return LevelColumn(name, levels=tuple(common), pooled=True)


def _date_coding(column: pd.Series, notes: list[str]) -> DateColumn:
    """Return the coding of dates as days since the first."""
    name, values = str(column.name), column.to_numpy(object)
    day_first = starts_with_day([str(value) for value in column.dropna().unique()]) is True
    coding = DateColumn(name, indicator=bool(column.isna().any()), day_first=day_first)
    days = coding.encode(values).values[~column.isna().to_numpy(), 0]
    origin = import_extra("numpy").datetime64(int(min(days) // 1), "D")
    order = ", read with the day first," if day_first else ""
    notes.append(f"The dates in {name!r}{order} became days since {origin}.")
    return dataclasses.replace(coding, origin=str(origin))


def starts_with_day(texts: list[str]) -> bool | None:
    """Return whether dates such as 31/1/2020 start with the day; None where the dates do not tell.

    >>> [starts_with_day([text]) for text in ("31/1/2020", "1/31/2020", "1/2/2020", "2020-01-02")]
    [True, False, None, False]
    """
    pairs = [match for text in texts if (match := re.match(r"(\d{1,2})[-/.](\d{1,2})[-/.]\d", text.strip()))]
    if not pairs:
        return False
    first, second = (max(int(match[k]) for match in pairs) for k in (1, 2))
    # 31.1.2020 is written where days come first.
    if first > 12 or any("." in text for text in texts):
        return True
    return False if second > 12 else None
