"""Labels of groups for group penalties: which coefficients enter and leave a model together."""

import re
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

__all__ = ["from_columns"]


def from_columns(
    columns: Iterable[object],
    *,
    separator: str = "=",
    pattern: str | None = None,
    factors: Iterable[str] | None = None,
) -> Int[np.ndarray, " p"]:
    r"""Return a group label per column: all dummies of a factor, or all terms of a spline, enter together.

    Columns are of one group where their names have the same stem: the part before the last `separator`, what
    the first parenthesis of `pattern` matches, or the factor with which the name starts. A column without a
    stem is a group of its own.

    Args:
        columns: Names of the columns, such as `frame.columns`.
        separator: Text between a factor and its level.
        pattern: Regular expression for a whole name, in place of the separator: `r"(.+)\[\d+\]"` puts age[0],
            age[1] and age[2] into one group.
        factors: Names of factors, in place of the separator, for names that `pandas.get_dummies` made: with
            ["income_class"], income_class_low and income_class_high are one group. A factor's own name
            belongs to its group. Of two factors that fit, the longer is taken.

    Returns:
        Labels 0 … G − 1 in the order of first appearance, for `GroupL2`, `SparseGroup` and `GroupMCP`.

    Raises:
        ValueError: There are no columns, two ways are asked for at once, the pattern is no regular expression
            with a parenthesis, or a factor fits no column.

    >>> from_columns(["age", "colour=red", "colour=blue", "size=S", "size=M"]).tolist()
    [0, 1, 1, 2, 2]
    >>> from_columns(["bs(age)[0]", "bs(age)[1]", "bmi"], pattern=r"(.+)\[\d+\]").tolist()
    [0, 0, 1]
    >>> from_columns(["income_class_low", "income", "income_class_high"], factors=["income_class"]).tolist()
    [0, 1, 0]
    """
    names = [str(name) for name in columns]
    if not names:
        raise ValueError("columns is empty: wanted the names of the columns, such as frame.columns")
    if pattern is not None and factors is not None:
        raise ValueError("both pattern and factors were given: wanted one of them; leave one out")
    if factors is not None:
        stems = _by_factors(names, sorted(set(factors), key=len, reverse=True))
    elif pattern is not None:
        stems = _by_pattern(names, pattern)
    else:
        if not separator:
            raise ValueError("separator is empty: wanted text such as '=', or give factors=[...]")
        stems = [stem if found else None for stem, found, _ in (name.rpartition(separator) for name in names)]
    # A column without a stem is keyed by its position: a stem of the same text is another group.
    keys = [(stem is not None, k if stem is None else stem) for k, stem in enumerate(stems)]
    first = {key: label for label, key in enumerate(dict.fromkeys(keys))}
    return np.array([first[key] for key in keys], int)


def _by_pattern(names: list[str], pattern: str) -> list[str | None]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression ({error}): correct it") from error
    if not compiled.groups:
        raise ValueError(f"pattern {pattern!r} has no parenthesis: wanted one around the name of the group")
    matches = [compiled.fullmatch(name) for name in names]
    return [match[1] if match else None for match in matches]


def _by_factors(names: list[str], factors: list[str]) -> list[str | None]:
    stems = [next((f for f in factors if name.startswith(f)), None) for name in names]
    unused = [factor for factor in factors if factor not in stems]
    if unused:
        raise ValueError(f"no column starts with {', '.join(map(repr, unused))}: correct factors")
    return stems
