"""Pairwise coverage of a product of parameters; the rest of the product is marked ``slow``."""

import itertools
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import pytest


def pairwise(*factors: Sequence[Hashable], apart: Collection[tuple[int, int]] = ()) -> list[tuple[Any, ...]]:
    """Return few rows of the product in which every two values of different factors meet.

    Greedy: the next row is the one that covers the most pairs not yet covered, the earliest among equals.
    Factors whose positions are a pair in ``apart`` need not meet.

    >>> len(pairwise("ab", "cd", "ef")), len(pairwise(range(8), range(5), range(2), range(2)))
    (4, 40)
    >>> len(pairwise(range(8), range(5), range(2), range(2), apart=[(0, 1)]))
    16
    """
    meet = [pair for pair in itertools.combinations(range(len(factors)), 2) if pair not in apart]

    def pairs(row: tuple[Any, ...]) -> set[tuple[int, Hashable, int, Hashable]]:
        return {(i, row[i], j, row[j]) for i, j in meet}

    rows = list(itertools.product(*factors))
    missing = set().union(*map(pairs, rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def product_params(*factors: Sequence[Hashable], apart: Collection[tuple[int, int]] = ()) -> list[Any]:
    """Return the whole product as pytest parameters; rows outside of `pairwise` carry the mark ``slow``."""
    fast = set(pairwise(*factors, apart=apart))
    return [
        pytest.param(*row, marks=() if row in fast else pytest.mark.slow, id="-".join(map(str, row)))
        for row in itertools.product(*factors)
    ]
