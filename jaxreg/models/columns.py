"""Codings: how a column of a table becomes columns of numbers, the same in training and in prediction.

A coding is immutable and holds only names and numbers, so that a model file can keep it. To add one, write a
frozen dataclass with `kind`, `features`, `fill` and `encode`, and name it in `KINDS`.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxreg._extras import import_extra
from jaxreg._module import with_public_names

__all__ = [
    "KINDS",
    "MISSING_LEVEL",
    "Column",
    "DateColumn",
    "Encoded",
    "LevelColumn",
    "NumberColumn",
    "label",
]

#: Level of the missing cells of a column of levels, where training had some.
MISSING_LEVEL = "(missing)"
#: Name of the column of all levels that are pooled.
OTHER_LEVEL = "other"
#: Unknown levels that a note names.
_LEVELS_SHOWN = 3
#: Seconds of a day, the unit of dates.
_DAY = 86_400.0


@with_public_names
class Encoded(NamedTuple):
    """Columns of numbers made of one column.

    Attributes:
        values: One column for each of the coding's features.
        missing: Rows whose cell is missing and has no code.
        notes: Sentences that say what was done to cells that training did not know.
    """

    values: Float[np.ndarray, "n k"]
    missing: Bool[np.ndarray, " n"]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Column(ABC):
    """Base of all codings.

    Attributes:
        name: Name of the column in the table.
    """

    name: str
    kind: ClassVar[str] = ""

    @property
    @abstractmethod
    def features(self) -> tuple[str, ...]:
        """Names of the columns of numbers."""

    @property
    @abstractmethod
    def fill(self) -> tuple[float, ...]:
        """Numbers that replace a missing cell, one for each feature."""

    @abstractmethod
    def encode(self, values: Sequence[object] | np.ndarray) -> Encoded:
        """Return the columns of numbers of new cells (n,).

        Raises:
            ValueError: A cell is of another kind than in training.
        """


@dataclasses.dataclass(frozen=True)
class _ColumnWithMean(Column):
    """A column whose missing cells become its mean, marked in a second column where training had some."""

    mean: float = 0.0
    indicator: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """The name, followed by the name of the indicator."""
        return (self.name, f"{self.name} is missing") if self.indicator else (self.name,)

    @property
    def fill(self) -> tuple[float, ...]:
        """The mean, and 1 for the indicator."""
        return (self.mean, 1.0) if self.indicator else (self.mean,)


@dataclasses.dataclass(frozen=True)
class NumberColumn(_ColumnWithMean):
    """A number as it is; a missing cell becomes the mean, marked in a second column where training had some.

    Attributes:
        mean: Mean of the training rows.
        indicator: Whether a second column marks missing cells by 1.

    >>> NumberColumn("age", mean=40.0, indicator=True).encode([30, None]).values.tolist()
    [[30.0, 0.0], [40.0, 1.0]]
    """

    kind: ClassVar[str] = "number"

    def encode(self, values: Sequence[object] | np.ndarray) -> Encoded:
        """Return the numbers; ValueError for text."""
        return _with_indicator(_numbers(self.name, values), self.mean, self.indicator)


@dataclasses.dataclass(frozen=True)
class LevelColumn(Column):
    """A category as columns of 0 and 1, one for each level.

    A level that training did not know counts as pooled where levels are pooled, else as none of the levels.

    Attributes:
        levels: Levels that have a column.
        baseline: Level that has none, where there are two levels; None otherwise.
        pooled: Whether a last column stands for all other levels.

    >>> LevelColumn("colour", levels=("blue", "red"), pooled=True).encode(["red", "mauve"]).values.tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    levels: tuple[str, ...] = ()
    baseline: str | None = None
    pooled: bool = False
    kind: ClassVar[str] = "levels"

    @property
    def features(self) -> tuple[str, ...]:
        """`name=level` for each level."""
        others = (OTHER_LEVEL,) if self.pooled else ()
        return tuple(f"{self.name}={level}" for level in (*self.levels, *others))

    @property
    def fill(self) -> tuple[float, ...]:
        """Zeros: a missing cell is none of the levels."""
        return (0.0,) * len(self.features)

    def encode(self, values: Sequence[object] | np.ndarray) -> Encoded:
        """Return a 1 in the column of each cell's level."""
        labels = [label(value) for value in values]
        at = {level: k for k, level in enumerate(self.levels)}
        if MISSING_LEVEL in at:
            labels = [MISSING_LEVEL if text is None else text for text in labels]
        missing = np.array([text is None for text in labels], bool)
        code = np.array([at.get(text, -1) for text in labels], int)
        out = np.zeros((len(labels), len(self.features)))
        rows = np.flatnonzero(code >= 0)
        out[rows, code[rows]] = 1.0
        unknown = [k for k in np.flatnonzero((code < 0) & ~missing) if labels[k] != self.baseline]
        if self.pooled:
            out[unknown, -1] = 1.0
        return Encoded(out, missing, self._note([labels[k] for k in unknown]))

    def _note(self, unknown: Sequence[str | None]) -> tuple[str, ...]:
        """Return a sentence about levels that training did not know, or pooled."""
        if not unknown:
            return ()
        names = sorted({str(text) for text in unknown})
        shown = ", ".join(map(repr, names[:_LEVELS_SHOWN])) + (" …" if len(names) > _LEVELS_SHOWN else "")
        rows = "1 row" if len(unknown) == 1 else f"{len(unknown)} rows"
        if self.pooled:
            those = f"levels without a column of their own in {rows}"
            return (f"Column {self.name!r} has {those}, coded as {OTHER_LEVEL!r}: {shown}.",)
        means = f"as {self.baseline!r}" if self.baseline is not None else "as none of the known levels"
        those = f"levels that training did not know in {rows}"
        return (f"Column {self.name!r} has {those}, coded {means}: {shown}.",)


@dataclasses.dataclass(frozen=True)
class DateColumn(_ColumnWithMean):
    """A date as days since the origin; missing cells as in `NumberColumn`.

    Attributes:
        origin: The day 0, in ISO 8601.
        mean: Mean of the training rows, in days.
        indicator: Whether a second column marks missing cells by 1.
        day_first: Whether 3/4/2020 is the third of April.

    >>> DateColumn("sold", origin="2020-01-01").encode(["2020-01-03 12:00"]).values.tolist()
    [[2.5]]
    """

    origin: str = "1970-01-01"
    day_first: bool = False
    kind: ClassVar[str] = "date"

    def encode(self, values: Sequence[object] | np.ndarray) -> Encoded:
        """Return the days; ValueError for cells that are no dates."""
        stamps = _seconds(self.name, values, self.day_first)
        origin = _seconds(self.name, [self.origin], False)[0]
        return _with_indicator((stamps - origin) / _DAY, self.mean, self.indicator)


#: Codings by the word that a model file uses.
KINDS: dict[str, type[Column]] = {cls.kind: cls for cls in (NumberColumn, LevelColumn, DateColumn)}


def label(value: object) -> str | None:
    """Return a cell as the name of its level; None where it is missing.

    >>> label(3.0), label(" red"), label(float("nan"))
    ('3', 'red', None)
    """
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return None if text in ("<NA>", "NaT") else text


def _with_indicator(numbers: np.ndarray, mean: float, indicator: bool) -> Encoded:
    """Return numbers, with missing ones replaced and marked where there is an indicator."""
    gaps = np.isnan(numbers)
    if not indicator:
        return Encoded(numbers[:, None], gaps)
    filled = np.where(gaps, mean, numbers)
    return Encoded(np.column_stack([filled, gaps.astype(float)]), np.zeros_like(gaps))


def _numbers(name: str, values: Sequence[object] | np.ndarray) -> np.ndarray:
    """Return cells as float64 with NaN for gaps."""
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        return np.asarray(values, float)
    cells = list(values)
    out = np.empty(len(cells))
    for k, cell in enumerate(cells):
        text = label(cell) or ""
        try:
            out[k] = np.nan if not text else float(cell)
        except (TypeError, ValueError):
            raise ValueError(
                f"column {name!r} has {text[:40]!r} in row {k + 1}: wanted a number, as in training;"
                " correct the cell or empty it"
            ) from None
    return out


def _seconds(name: str, values: Iterable[object], day_first: bool) -> np.ndarray:
    """Return dates as seconds since 1970, NaN for gaps."""
    pd = import_extra("pandas", user="reading dates")
    cells = pd.Series([None if label(value) in (None, "") else value for value in values], dtype=object)
    try:
        stamps = pd.to_datetime(cells, format="mixed", dayfirst=day_first, utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        known = pd.to_datetime(cells, format="mixed", dayfirst=day_first, utc=True, errors="coerce")
        wrong = np.flatnonzero(known.isna() & cells.notna())
        at = int(wrong[0]) if wrong.size else 0
        cell = f"{str(cells[at])[:40]!r} in row {at + 1}"
        wanted = "wanted a date, as in training; correct the cell or empty it"
        raise ValueError(f"column {name!r} has {cell}: {wanted}") from error
    whole = stamps.to_numpy(dtype="datetime64[ns]")
    return np.where(np.isnat(whole), np.nan, whole.astype("int64") / 1e9)
