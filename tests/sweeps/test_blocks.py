"""The grid of a sweep cut into boxes: every lane once, boxes alike, neighbouring λ together."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxreg.sweeps._blocks import cut

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@given(sizes, st.integers(1, 40), st.randoms())
def test_boxes_cover_every_lane_once(sizes, limit, random):
    order = list(range(len(sizes)))
    random.shuffle(order)
    blocks = cut(sizes, order, limit)
    seen = np.zeros(sizes, int)
    for k in range(len(blocks)):
        seen[blocks.region(k)] += 1
    assert (seen == 1).all()
    assert blocks.lanes == math.prod(blocks.block) <= limit


@given(sizes, st.integers(1, 40))
def test_lanes_go_out_and_come_back(sizes, limit):
    blocks = cut(sizes, range(len(sizes)), limit)
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    back = np.full(sizes, -1)
    for k in range(len(blocks)):
        index = blocks.index(k)
        assert all(len(place) == blocks.lanes for place in index)
        back[blocks.region(k)] = blocks.inside(k, numbers[tuple(index)])
    assert (back == numbers).all()


@given(st.integers(2, 30), st.integers(2, 10), st.integers(1, 60))
def test_seeds_fill_a_box_before_neighbouring_lambdas_do(lams, seeds, limit):
    box = cut((lams, seeds), (0, 1), limit).block
    assert box[0] == 1 or box[1] == seeds
