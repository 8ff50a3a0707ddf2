"""Pairwise coverage of a product of test parameters; the other rows are marked ``slow``."""

import itertools
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import pytest


def pairwise(*factors: Sequence[Hashable], apart: Collection[tuple[int, int]] = ()) -> list[tuple[Any, ...]]:
    """Return few rows of a product that contain every pair of values of two factors.

    Greedy: each next row covers the most pairs not yet covered; ties go to the earliest row. Pairs of factor
    positions in ``apart`` need not be covered.

    >>> len(pairwise("ab", "cd", "ef")), len(pairwise(range(8), range(5), range(2), range(2)))
    (4, 40)
    >>> len(pairwise(range(8), range(5), range(2), range(2), apart=[(0, 1)]))
    16
    """
    covered = [pair for pair in itertools.combinations(range(len(factors)), 2) if pair not in apart]

    def pairs(row: tuple[Any, ...]) -> set[tuple[int, Hashable, int, Hashable]]:
        return {(i, row[i], j, row[j]) for i, j in covered}

    rows = list(itertools.product(*factors))
    missing = set().union(*map(pairs, rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(pairs(row) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def product_params(*factors: Sequence[Hashable], apart: Collection[tuple[int, int]] = ()) -> list[Any]:
    """Return the whole product as pytest parameters; rows not in `pairwise` are marked ``slow``."""
    fast = set(pairwise(*factors, apart=apart))
    return [
        pytest.param(*row, marks=() if row in fast else pytest.mark.slow, id="-".join(map(str, row)))
        for row in itertools.product(*factors)
    ]
