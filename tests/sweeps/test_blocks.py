"""The boxes of a grid: every lane once, none too large, all alike, neighbours together."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxreg.sweeps._blocks import cut
from jaxreg.sweeps._plan import Plan

unhurried = settings(deadline=None)


@st.composite
def cuts(draw):
    """Sizes of a grid, its axes from slow to fast, and how many lanes a box may have."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    order = draw(st.permutations(range(len(sizes))))
    return tuple(sizes), tuple(order), draw(st.integers(1, max(40, 2 * int(np.prod(sizes)))))


@unhurried
@given(cuts())
def test_every_lane_is_in_one_box(case):
    sizes, order, limit = case
    blocks, seen = cut(sizes, order, limit), np.zeros(sizes, int)
    for k in range(len(blocks)):
        seen[blocks.region(k)] += 1
    assert (seen == 1).all()


@unhurried
@given(cuts())
def test_no_box_is_larger_than_allowed(case):
    sizes, order, limit = case
    blocks = cut(sizes, order, limit)
    assert 1 <= blocks.lanes == np.prod(blocks.block) <= limit
    assert all(width <= size for width, size in zip(blocks.block, sizes, strict=True))
    if limit >= np.prod(sizes):
        assert len(blocks) == 1


@unhurried
@given(cuts())
def test_all_boxes_have_the_same_shape(case):
    """Also those at the edge: their lanes outside the grid are its last ones again."""
    sizes, order, limit = case
    blocks = cut(sizes, order, limit)
    for k in range(len(blocks)):
        places = np.stack(blocks.index(k))
        assert places.shape == (len(sizes), blocks.lanes)
        assert (places >= 0).all() and (places < np.array(sizes)[:, None]).all()
        inside = itertools.product(*(range(part.start, part.stop) for part in blocks.region(k)))
        assert set(map(tuple, places.T.tolist())) == set(inside)


@unhurried
@given(cuts())
def test_fast_axes_are_filled_first(case):
    """An axis is divided only where the faster ones take all the room, in as few parts as that allows."""
    sizes, order, limit = case
    block, room = cut(sizes, order, limit).block, limit
    for axis in reversed(order):
        parts = -(-sizes[axis] // block[axis])
        assert (parts - 1) * room < sizes[axis] <= parts * room
        # The parts are nearly even.
        assert block[axis] * parts - sizes[axis] < parts
        room = room // block[axis] or 1


@unhurried
@given(cuts())
def test_a_box_spans_neighbours(case):
    sizes, order, limit = case
    blocks = cut(sizes, order, limit)
    for k in range(len(blocks)):
        for places in blocks.index(k):
            found = np.unique(places)
            assert found.tolist() == list(range(found[0], found[-1] + 1))


@unhurried
@given(cuts())
def test_boxes_run_along_the_fast_axes(case):
    """All boxes at one place of the slowest axis come before the next place: λ is walked once."""
    sizes, order, limit = case
    corners = [[corner[axis] for axis in order] for corner in cut(sizes, order, limit).corners]
    assert corners == sorted(corners)


@unhurried
@given(cuts(), st.lists(st.integers(0, 3), max_size=2))
def test_inside_undoes_index(case, shape):
    """Values read lane by lane land where the lanes are."""
    sizes, order, limit = case
    grid = np.arange(np.prod([*sizes, *shape])).reshape(*sizes, *shape)
    blocks, back = cut(sizes, order, limit), np.full_like(grid, -1)
    for k in range(len(blocks)):
        back[blocks.region(k)] = blocks.inside(k, grid[tuple(blocks.index(k))])
    np.testing.assert_array_equal(back, grid)


@given(st.integers(2, 30), st.integers(2, 10), st.integers(1, 60))
def test_seeds_fill_a_box_before_neighbouring_lambdas_do(lams, seeds, limit):
    box = cut((lams, seeds), (0, 1), limit).block
    assert box[0] == 1 or box[1] == seeds


@pytest.mark.parametrize("names", [("lam", "seed", "fold"), ("seed", "lam", "fold"), ("seed", "fold", "lam")])
def test_seeds_share_a_box_before_lambdas_do(names):
    axes = {"lam": np.linspace(0, 1, 50), "seed": np.arange(4), "fold": np.array([False, True])}
    plan = Plan({name: axes[name] for name in names}, {}, {})
    assert dict(zip(names, plan.blocks(16).block, strict=True)) == {"lam": 2, "seed": 4, "fold": 2}
    assert dict(zip(names, plan.blocks(8).block, strict=True)) == {"lam": 1, "seed": 4, "fold": 2}
    assert plan.blocks(3).block[names.index("lam")] == 1


def test_two_lambdas_fill_up_like_one_grid():
    """Of two float axes the last is the faster."""
    plan = Plan({"lam": np.ones(5), "rate": np.ones(6), "seed": np.arange(2)}, {}, {})
    assert plan.blocks(12).block == (1, 6, 2) and plan.blocks(24).block == (2, 6, 2)
