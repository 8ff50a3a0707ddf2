"""Buffers take few sizes, and each has room for what is required."""

import numpy as np
import pytest

import jaxreg as jr
from jaxreg.linear.path.buffer_sizes import (
    CHUNK,
    MatrixSizes,
    grow_matrix_free,
    max_matrix_free_columns,
    round_up,
    uses_all_columns,
)


def problem(n, p):
    return jr.Problem(jr.losses.SquaredError(), np.ones((n, p)) * np.arange(1, n + 1)[:, None], np.arange(n))


def test_few_columns_are_all_in_use_where_there_are_as_many_samples():
    assert uses_all_columns(problem(6, 6))
    assert not uses_all_columns(problem(5, 6))
    assert not uses_all_columns(problem(600, 513))


@pytest.mark.parametrize("with_inverse", [False, True])
def test_capacities(with_inverse):
    sizes = MatrixSizes.of(problem(1000, 5000), with_inverse=with_inverse)
    capacities = [sizes.grow(sizes.first, n) for n in range(0, sizes.max_columns + 1, 16)]
    assert capacities == sorted(capacities)
    assert len(set(capacities)) <= 5
    for n, capacity in zip(range(0, sizes.max_columns + 1, 16), capacities, strict=True):
        assert capacity % CHUNK == 0
        assert n <= sizes.n_columns(capacity, n) <= capacity - CHUNK


def test_round_up():
    assert [round_up(n) for n in (0, 1, CHUNK, CHUNK + 1)] == [0, CHUNK, CHUNK, 2 * CHUNK]


def test_matrix_free_capacities():
    assert grow_matrix_free(0, 10, 10**6) == 8192
    assert grow_matrix_free(8192, 8000, 10**6) == 16384
    assert grow_matrix_free(8192, 8000, 8100) == 8192
    assert max_matrix_free_columns(problem(4, 8)) == 2**26
