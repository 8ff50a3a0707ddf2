"""Folds: sizes, shares of classes, whole groups, splitters, and folds that cannot be made."""

import warnings

import jax
import numpy as np
import pytest
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

from jaxreg.linear.selection.folds import make_folds

N = 47
CLASSES = np.repeat([0, 1, 2], [30, 12, 5])
GROUPS = np.repeat(np.arange(16), [1, 7, 2, 2, 3, 3, 1, 5, 4, 1, 2, 6, 1, 2, 3, 4])


def label(folds):
    """Return the fold of each row; each row must be in one."""
    assert np.all(folds.test.sum(axis=0) == 1) and np.all(folds.train != folds.test)
    return np.argmax(folds.test, axis=0)


def test_random_folds_are_of_equal_size_and_seeded():
    folds = make_folds(N, 5)
    assert sorted(folds.test.sum(axis=1)) == [9, 9, 9, 10, 10]
    assert np.array_equal(label(folds), label(make_folds(N, 5, key=0)))
    other, typed, raw = (
        label(make_folds(N, 5, key=key)) for key in (1, jax.random.key(1), jax.random.PRNGKey(1))
    )
    assert not np.array_equal(label(folds), other)
    assert np.array_equal(typed, raw) and not np.array_equal(typed, label(folds))


def test_repeats_are_different_partitions():
    folds = make_folds(N, 4, repeats=3)
    assert folds.repeat.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert np.all(folds.test.sum(axis=0) == 3)
    assert not np.array_equal(folds.test[:4], folds.test[4:8])


@pytest.mark.parametrize("key", range(5))
def test_stratified_folds_share_each_class(key):
    labels = label(make_folds(N, 5, stratify=np.array(["a", "b", "c"])[CLASSES], key=key))
    counts = np.array([np.bincount(labels[k == CLASSES], minlength=5) for k in range(3)])
    assert np.all(np.ptp(counts, axis=1) <= 1) and np.ptp(counts.sum(axis=0)) <= 1


@pytest.mark.parametrize("key", range(5))
def test_groups_stay_whole(key):
    labels = label(make_folds(N, 5, groups=GROUPS, key=key))
    assert all(np.ptp(labels[g == GROUPS]) == 0 for g in range(16))
    assert np.ptp(np.bincount(labels)) <= 2, "the largest group has 7 rows, the smallest 1"


@pytest.mark.parametrize("key", range(5))
def test_stratified_groups(key):
    classes = GROUPS % 2
    labels = label(make_folds(N, 4, groups=GROUPS, stratify=classes, key=key))
    assert all(np.ptp(labels[g == GROUPS]) == 0 for g in range(16))
    counts = np.array([np.bincount(labels[k == classes], minlength=4) for k in range(2)])
    assert counts.min() > 0 and np.ptp(counts, axis=1).max() <= 5


def test_as_many_folds_as_groups():
    labels = label(make_folds(N, 16, groups=GROUPS))
    assert len(np.unique(labels)) == 16


def test_labels_may_be_of_any_kind():
    names = np.array(["x", "y", "z"])[np.arange(N) % 3]
    assert np.array_equal(label(make_folds(N, names)), np.arange(N) % 3)
    assert np.array_equal(label(make_folds(N, list(np.arange(N) % 3 * 10))), np.arange(N) % 3)


@pytest.mark.parametrize(
    "splitter",
    [KFold(4), StratifiedKFold(4), GroupKFold(4), LeaveOneOut(), RepeatedKFold(n_splits=3, n_repeats=2)],
    ids=lambda splitter: type(splitter).__name__,
)
def test_splitters_of_sklearn(splitter):
    groups = GROUPS if isinstance(splitter, GroupKFold) else None
    folds = make_folds(N, splitter, y=CLASSES, groups=groups)
    made = list(splitter.split(np.zeros((N, 1)), CLASSES, groups)) if groups is not None else None
    if made is not None:
        for k, (train, test) in enumerate(made):
            assert np.array_equal(np.flatnonzero(folds.train[k]), train)
            assert np.array_equal(np.flatnonzero(folds.test[k]), test)
    repeated = isinstance(splitter, RepeatedKFold)
    assert folds.repeat.tolist() == ([0, 0, 0, 1, 1, 1] if repeated else [0] * len(folds.test))
    assert np.all(folds.test.sum(axis=0) == 1 + repeated)


def test_pairs_and_a_generator_of_them():
    pairs = list(KFold(3).split(np.zeros(N)))
    for given in (pairs, iter(pairs)):
        assert np.array_equal(label(make_folds(N, given)), np.arange(N) // 16)


@pytest.mark.parametrize("splitter", [TimeSeriesSplit(3), PredefinedSplit(np.arange(N) % 3 - 1)])
def test_rows_that_are_never_tested_are_named(splitter):
    with pytest.warns(UserWarning, match=r"of 47 rows are in no test fold: 0, "):
        make_folds(N, splitter)


def test_shuffled_splits_are_one_partition():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = make_folds(N, ShuffleSplit(4, random_state=0))
    assert folds.repeat.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("folds", "options", "error", "message"),
    [
        (1, {}, ValueError, "at least 2 folds, got 1"),
        (48, {}, ValueError, "48 folds need at least as many rows, got 47: take fewer folds"),
        (17, {"groups": GROUPS}, ValueError, "17 folds need at least as many groups, got 16"),
        (5, {"key": 0.5}, TypeError, "key must be an integer or a key such as"),
        (5, {"repeats": 0}, ValueError, "repeats must be at least 1, got 0"),
        (5, {"groups": [1, 2]}, ValueError, r"groups has shape \(2,\), wanted one label per row, \(47,\)"),
        ([0, 1], {}, ValueError, "folds has 2 labels for 47 rows"),
        (np.zeros(N, int), {}, ValueError, "one label only"),
        (np.arange(N) % 3, {"repeats": 2}, ValueError, "these folds are given"),
        (np.arange(N) % 3, {"groups": GROUPS}, ValueError, "groups straddle fold 0, the first with rows"),
        (np.full(N, 0.5), {}, TypeError, "folds must be a number, an array of labels"),
        ("5", {}, TypeError, "folds must be a number"),
        ([(np.arange(40), np.arange(39, N))] * 2, {}, ValueError, "predicts 1 rows that its fit uses: 39"),
        ([([0, 1], []), ([0], [1])], {}, ValueError, "fold 0 has no rows to predict"),
    ],
)
def test_folds_that_cannot_be_made(folds, options, error, message):
    with pytest.raises(error, match=message):
        make_folds(N, folds, **options)
