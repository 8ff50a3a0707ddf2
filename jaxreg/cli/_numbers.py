"""Numbers that are written with percent, currency or thousands marks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jaxreg._extras import import_extra
from jaxreg.cli._messages import quoted, refusal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["decoration", "plain", "refuse_decorated"]

_CURRENCY = r"(?:[$€£¥₹]|USD|EUR|GBP|CHF|JPY|INR)"
_DECORATED = re.compile(
    rf"\(?[-+−]?\s*{_CURRENCY}?\s*[-+−]?(?:\d[\d,._'’ \u00a0\u202f]*|\.\d+)\s*(?:%|{_CURRENCY})?\)?"
)
_NOT_DIGITS = re.compile(rf"{_CURRENCY}|[%_\s'’\u00a0\u202f()]")
_CURRENCY_MARK = re.compile(_CURRENCY)


def decoration(column: pd.Series) -> str:
    """Return the marks of a text column whose cells are all numbers, "" where they are not.

    >>> import pandas as pd
    >>> [decoration(pd.Series(cells)) for cells in (["$1,200", "$3"], ["5%", "7"], ["a"])]
    ['currency and thousands marks', 'percent marks', '']
    """
    texts = [str(value).strip() for value in column.dropna().unique()]
    if not texts or not all(_DECORATED.fullmatch(text) for text in texts):
        return ""
    kinds = {
        "percent": any("%" in text for text in texts),
        "currency": any(_CURRENCY_MARK.search(text) for text in texts),
        "thousands": any(re.search(r"\d[,._'’ \u00a0\u202f]\d{3}(?!\d)", text) for text in texts),
    }
    named = [kind for kind, there in kinds.items() if there]
    return f"{' and '.join(named)} marks" if named else ""


def plain(column: pd.Series, decimal: str) -> pd.Series:
    """Return decorated numbers as float64; (5) is −5, and 5 % is 5.

    >>> import pandas as pd
    >>> plain(pd.Series(["$1,200.50", "(3)", "7%"]), ".").tolist()
    [1200.5, -3.0, 7.0]

    Raises:
        ValueError: A cell has two decimal marks.
    """
    thousands = "." if decimal == "," else ","

    def number(cell: object) -> float:
        text = str(cell).strip()
        digits = _NOT_DIGITS.sub("", text).replace("−", "-").replace(thousands, "").replace(decimal, ".")
        try:
            return -float(digits) if text.startswith("(") and text.endswith(")") else float(digits)
        except ValueError:
            got = f"column {column.name!r} has the cell {text!r}"
            raise refusal(got, f"a number with at most one {decimal!r}", "correct it") from None

    pd = import_extra("pandas")
    return column.map(number, na_action="ignore").astype("float64") if len(column) else pd.Series(dtype=float)


def refuse_decorated(columns: dict[str, str], frame: pd.DataFrame, target: str | None) -> None:
    """Raise `ValueError` for columns that are text for their marks alone; `columns` has the marks by name."""
    if not columns:
        return
    name, marks = next(iter(columns.items())) if target not in columns else (target, columns[target])
    what = "target" if name == target else "column"
    others = [other for other in columns if other != name]
    also = f" (so do {quoted(others)})" if others else ""
    got = f"{what} {name!r} is text: numbers with {marks}, such as {quoted(frame[name].dropna()[:1])}{also}"
    todo = "add --numbers to read them as numbers, or drop the column"
    if marks == "thousands marks" and frame[name].dropna().astype(str).str.contains(",").any():
        todo += ", or give --decimal , where the comma is the decimal mark"
    raise refusal(got, "plain numbers", todo)
