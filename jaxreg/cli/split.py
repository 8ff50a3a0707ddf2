"""Choose the rows that are held out of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jaxreg.cli._coding import CLASS_LOSSES
from jaxreg.cli._messages import refusal
from jaxreg.cli.load import Table

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Split", "split"]


class Split(NamedTuple):
    """Sorted row indices (int64) of the training rows and of the held-out rows."""

    train: np.ndarray
    held: np.ndarray


def split(table: Table, holdout: float, seed: int) -> Split:
    """Choose the held-out rows at random, the same for the same seed.

    Args:
        table: The data.
        holdout: Fraction of the rows to hold out; at least one row unless it is 0. With a logistic or
            multinomial loss each class gives its share and keeps at least one training row, so that fewer
            rows are held out where classes are very small.
        seed: Whole number from 0 up.

    Raises:
        ValueError: `holdout` is outside [0, 1), leaves fewer than two training rows or finds no row to take,
            or `seed` is negative.

    >>> from jaxreg.cli.load import load
    >>> train, held = split(load("iris"), 0.2, seed=0)
    >>> len(train), len(held)
    (120, 30)
    """
    import numpy as np

    if not 0 <= holdout < 1:
        raise refusal(f"--holdout is {holdout}", "a fraction from 0 to below 1", "try 0.2")
    if seed < 0:
        raise refusal(f"--seed is {seed}", "a whole number from 0 up", "try 0")
    n = len(table.y)
    count = max(1, round(holdout * n)) if holdout > 0 else 0
    if n - count < 2:
        got = f"--holdout {holdout} leaves {n - count} of {n} rows to train on"
        raise refusal(got, "at least 2", "give a smaller --holdout, 0 for none, or add rows")
    groups, sizes = np.zeros(n, int), np.array([n])
    if table.loss in CLASS_LOSSES:
        _, groups, sizes = np.unique(table.y, return_inverse=True, return_counts=True)
    if count and sizes.max() == 1:
        raise refusal(f"each of the {n} classes has one row", "more to hold one out", "add --holdout 0")
    rng = np.random.default_rng(seed)
    held = np.zeros(n, bool)
    for group, take in enumerate(_shares(sizes, count)):
        held[rng.permutation(np.flatnonzero(groups == group))[:take]] = True
    return Split(np.flatnonzero(~held), np.flatnonzero(held))


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Divide `count` rows among groups by their size, largest remainder first, never a whole group."""
    import numpy as np

    share = count * sizes / sizes.sum()
    taken = np.minimum(np.floor(share).astype(int), sizes - 1)
    for _ in range(min(count, int((sizes - 1).sum())) - int(taken.sum())):
        taken[np.argmax(np.where(taken < sizes - 1, share - taken, -np.inf))] += 1
    return taken
