"""Folds of cross-validation: the rows that each fit leaves out, and those that it predicts.

`make_folds` turns a number of folds, an array of labels, pairs of row indices or a splitter of scikit-learn
into masks. All work is done on the host by NumPy.
"""

import warnings
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxreg._typing import ArrayLike
from jaxreg._validation import prng_key, require

__all__ = ["Folds", "make_folds", "random_folds"]

#: Rows named in a message.
_NAMED = 3


class Splitter(Protocol):
    """An object that divides rows, such as the splitters of scikit-learn."""

    def split(
        self, X: np.ndarray, y: np.ndarray | None, groups: np.ndarray | None
    ) -> Iterable[tuple[ArrayLike, ArrayLike]]:
        """Return pairs (rows to train on, rows to test on)."""
        ...


#: A number of random folds, one label per row, pairs (rows to train on, rows to test on), or a splitter.
FoldsLike: TypeAlias = ArrayLike | Iterable[tuple[ArrayLike, ArrayLike]] | Splitter


class Folds(NamedTuple):
    """Masks of the rows that each of S fits is trained on, and of those that it predicts.

    Attributes:
        train: rows of each fit.
        test: rows that each fit predicts, none of them among its own.
        repeat: number of the partition of the rows that each fit belongs to.
    """

    train: Bool[np.ndarray, "S n"]
    test: Bool[np.ndarray, "S n"]
    repeat: Int[np.ndarray, " S"]

    @classmethod
    def of_labels(cls, labels: Int[np.ndarray, "R n"]) -> "Folds":
        """Return the folds of R partitions, whose labels are 0 … K−1."""
        counts = labels.max(axis=1) + 1
        test = np.concatenate([row == np.arange(k)[:, None] for row, k in zip(labels, counts, strict=True)])
        return cls(~test, test, np.repeat(np.arange(len(labels)), counts))

    def with_rows_of_no_weight(self, n: int) -> "Folds":
        """Return the folds with rows added up to n, which are among those of every fit."""
        added = ((0, 0), (0, n - self.train.shape[1]))
        return Folds(np.pad(self.train, added, constant_values=True), np.pad(self.test, added), self.repeat)


def make_folds(  # noqa: PLR0913, the options of `cross_validate`
    n: int,
    folds: FoldsLike = 10,
    *,
    y: np.ndarray | None = None,
    repeats: int = 1,
    key: Array | int | None = None,
    groups: ArrayLike | None = None,
    stratify: ArrayLike | None = None,
) -> Folds:
    """Return the folds of n rows.

    Args:
        n: number of rows.
        folds: a number of random folds, one label per row (n,), pairs (rows to train on, rows to test on), or
            an object with `split(X, y, groups)` such as the splitters of scikit-learn.
        y: targets, which a splitter may ask for.
        repeats: number of random partitions.
        key: JAX key or integer that seeds the random partitions; None is 0.
        groups: one label per row; rows of a group stay in one fold.
        stratify: one class per row; each random fold gets its share of every class.

    Raises:
        TypeError: for folds of another kind.
        ValueError: for fewer than 2 folds, more folds than rows or groups, labels of another length, groups
            in several folds, and fits that predict their own rows.

    >>> make_folds(4, [0, 0, 1, 1]).test.tolist()
    [[True, True, False, False], [False, False, True, True]]
    """
    groups, stratify = _labels("groups", groups, n), _labels("stratify", stratify, n)
    if isinstance(folds, int | np.integer) and not isinstance(folds, bool):
        require(repeats >= 1, f"repeats must be at least 1, got {repeats}")
        rng = _generator(key)
        drawn = [random_folds(rng, n, int(folds), groups, stratify) for _ in range(repeats)]
        return Folds.of_labels(np.stack(drawn))
    is_splitter = hasattr(folds, "split") and not isinstance(folds, str)
    if repeats != 1 or (stratify is not None and not is_splitter):
        raise ValueError("repeats and stratify are for a number of random folds: these folds are given")
    if is_splitter:
        target = np.zeros(n) if y is None else y
        target = target if stratify is None else stratify
        made = _of_pairs(n, folds.split(np.zeros((n, 1)), target, groups))
    elif _is_pairs(folds):
        made = _of_pairs(n, folds)
    else:
        made = Folds.of_labels(_codes(_given_labels(folds, n))[None])
        require(len(made.test) >= 2, "folds holds one label only: cross-validation needs at least 2 folds")
    _require_whole_groups(made, groups)
    return made


def random_folds(
    rng: np.random.Generator, n: int, count: int,
    groups: Int[np.ndarray, " n"] | None = None, stratify: Int[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " n"]:  # fmt: skip
    """Return the label 0 … count−1 of the fold of each row, drawn at random.

    Without groups, fold sizes differ by at most 1, and so do the numbers of rows of each class. Groups are
    dealt from the largest to the smallest, each to the fold that has the smallest share of its classes.
    """
    require(count >= 2, f"cross-validation needs at least 2 folds, got {count}")
    n_units, name = (n, "rows") if groups is None else (groups.max() + 1, "groups")
    require(count <= n_units, f"{count} folds need at least as many {name}, got {n_units}: take fewer folds")
    if groups is None:
        order = rng.permutation(n)
        if stratify is not None:
            order = order[np.argsort(stratify[order], kind="stable")]
        # The rows of a class are dealt in turn, and the next class goes on where the last one ended.
        labels = np.empty(n, int)
        labels[order] = np.arange(n) % count
        return rng.permutation(count)[labels]
    return _dealt_groups(rng, count, groups, np.zeros(n, int) if stratify is None else stratify)[groups]


def _dealt_groups(
    rng: np.random.Generator, count: int, groups: Int[np.ndarray, " n"], classes: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " G"]:
    """Return the fold of each group, so that each fold gets its share of every class."""
    shares = np.zeros((groups.max() + 1, classes.max() + 1))
    np.add.at(shares, (groups, classes), 1.0)
    shares /= shares.sum(axis=0)
    order = rng.permutation(len(shares))
    order = order[np.argsort(-shares[order].sum(axis=1), kind="stable")]
    filled, n_groups, fold_of = np.zeros((count, shares.shape[1])), np.zeros(count), np.empty(len(order), int)
    for k, group in enumerate(order):
        # The increase of Σ (share of a class in a fold)²; among equals the fold with the fewest groups.
        cost = filled @ shares[group]
        # As many folds as there are groups left must not stay empty.
        allowed = n_groups == 0 if len(order) - k <= np.sum(n_groups == 0) else np.ones(count, bool)
        best = np.lexsort((rng.permutation(count), n_groups, np.where(allowed, cost, np.inf)))[0]
        filled[best] += shares[group]
        n_groups[best] += 1
        fold_of[group] = best
    return fold_of


def _generator(key: Array | int | None) -> np.random.Generator:
    """Return a generator of NumPy that is seeded by a key of JAX, an integer or, for None, 0."""
    if key is None or isinstance(key, int | np.integer):
        return np.random.default_rng(int(key or 0))
    key = prng_key(key)
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.random.default_rng(np.asarray(jax.random.key_data(key) if typed else key).ravel().tolist())


def _codes(labels: np.ndarray) -> Int[np.ndarray, " n"]:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def _labels(name: str, labels: ArrayLike | None, n: int) -> Int[np.ndarray, " n"] | None:
    """Return labels as 0, 1, …; ValueError for another length."""
    if labels is None:
        return None
    labels = np.asarray(labels)
    require(labels.shape == (n,), f"{name} has shape {labels.shape}, wanted one label per row, ({n},)")
    return _codes(labels)


def _given_labels(folds: FoldsLike, n: int) -> np.ndarray:
    labels = np.asarray(folds)
    if labels.ndim != 1 or labels.dtype.kind not in "iubUS":
        raise TypeError(
            "folds must be a number, an array of labels (n,), pairs (train rows, test rows) or a splitter"
            f" with a method split, got {type(folds).__name__}: {str(folds)[:60]}"
        )
    require(labels.size == n, f"folds has {labels.size} labels for {n} rows")
    return labels


def _is_pairs(folds: FoldsLike) -> bool:
    """Return whether folds are pairs of row indices, given by a list or a generator."""
    if isinstance(folds, list | tuple):
        return bool(folds) and isinstance(folds[0], list | tuple) and len(folds[0]) == 2
    return isinstance(folds, Iterable) and not hasattr(folds, "__array__") and hasattr(folds, "__next__")


def _of_pairs(n: int, pairs: Iterable[tuple[ArrayLike, ArrayLike]]) -> Folds:
    """Return the folds of pairs of row indices; ValueError where a fit predicts its own rows."""
    train, test = [], []
    for train_rows, test_rows in pairs:
        train.append(_mask(np.asarray(train_rows), n))
        test.append(_mask(np.asarray(test_rows), n))
    require(len(test) >= 2, f"cross-validation needs at least 2 folds, got {len(test)}")
    train, test = np.stack(train), np.stack(test)
    for k in range(len(test)):
        both = np.flatnonzero(train[k] & test[k])
        require(both.size == 0, f"fold {k} predicts {both.size} rows that its fit uses: {_named(both)}")
        require(test[k].any(), f"fold {k} has no rows to predict")
        require(train[k].any(), f"fold {k} has no rows to fit")
    n_tests = test.sum(axis=0)
    if np.any(n_tests == 0):
        never = np.flatnonzero(n_tests == 0)
        warnings.warn(f"{never.size} of {n} rows are in no test fold: {_named(never)}", stacklevel=4)
    return Folds(train, test, _repeats(test))


def _mask(index: np.ndarray, n: int) -> Bool[np.ndarray, " n"]:
    """Return the mask of the rows with some indices."""
    mask = np.zeros(n, bool)
    if index.size:
        integers = index.dtype.kind in "iu" and index.min() >= 0 and index.max() < n
        require(integers, f"pairs of folds must hold row indices 0 … {n - 1}, got {index[:_NAMED].tolist()}")
        mask[index] = True
    return mask


def _repeats(test: Bool[np.ndarray, "S n"]) -> Int[np.ndarray, " S"]:
    """Return the number of the partition of each fold, where folds are partitions one after the other."""
    n_before = np.cumsum(test, axis=0) - test
    low = np.where(test, n_before, len(test)).min(axis=1)
    high = np.where(test, n_before, 0).max(axis=1)
    counts = test.sum(axis=0)
    is_partition = np.all(low == high) and np.all(counts == counts[0]) and np.all(np.diff(low) >= 0)
    return low if is_partition else np.zeros(len(test), int)


def _require_whole_groups(folds: Folds, groups: Int[np.ndarray, " n"] | None) -> None:
    """Raise ValueError where a group is on both sides of a fold."""
    if groups is None:
        return
    for k, (train, test) in enumerate(zip(folds.train, folds.test, strict=True)):
        both = np.intersect1d(groups[train], groups[test])
        if both.size:
            rows = np.flatnonzero(groups == both[0])
            raise ValueError(
                f"{both.size} groups straddle fold {k}, the first with rows {_named(rows)}: give folds=K for"
                " folds that keep groups whole"
            )


def _named(rows: np.ndarray) -> str:
    return ", ".join(map(str, rows[:_NAMED])) + (", …" if rows.size > _NAMED else "")
