"""Whose turn it is to be looked at for what it usually gets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors import tables
from sensors.tables import USED
from sensors.usual import ROUND_NS, Usual

ZONES = range(60, 62)


@pytest.mark.parametrize("batch_ns", [0, 200_000_000])
@given(ticks=st.lists(st.integers(1, 900), min_size=50, max_size=300), used=st.integers(1, 60))
def test_each_target_comes_once_in_a_round_however_the_ticks_fall(batch_ns: int, ticks: list[int], used: int) -> None:
    made = tables.make(rows=64, ring=64, normal=64)
    made.state[USED] = used
    usual = Usual(made, batch_ns)
    usual.start(0)
    now, came, given_at = 0, list[int](), list[int]()
    for tick in ticks:
        now += tick * 1_000_000
        rows = usual.due(now, ZONES).tolist()
        came += rows
        if rows:
            given_at.append(now)
        if ZONES[-1] in rows:
            assert came == [*range(used), *ZONES], "in their order, the zones last"
            came = []
    assert came == [*range(len(came))], "the round that goes on is as good"
    # What a round's end hands out is due whenever that is.
    early = [1 for before, after in pairwise(given_at) if after - before < batch_ns]
    assert len(early) <= now // ROUND_NS + 1
