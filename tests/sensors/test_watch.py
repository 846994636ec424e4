"""Who is watched: a tick in which nobody comes or goes is short, and does the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors import tables, watch_kernel
from sensors.tables import EPOCH, REBORN, WARM, WARM_AT, WATCH
from sensors.watch import Watch

ROWS, SLOTS = 24, 16
some = st.lists(st.integers(0, ROWS - 1), max_size=6)
ticks = st.lists(st.tuples(some, st.lists(st.integers(0, ROWS - 1), max_size=3, unique=True), some, some), max_size=12)


class Side:
    """A watch over a table of its own; the plain one always goes the long way."""

    def __init__(self, *, plain: bool) -> None:
        self.tables = tables.make(rows=64, ring=64, normal=64)
        self.watch, self.plain = Watch(self.tables, SLOTS), plain
        self.watch.push(self.watch.fine, 0, self.watch.counts())

    def tick(self, now: int, warm: list[int], tracked: list[int], always: list[int], gone: list[int]) -> list[int]:
        state, rows = self.tables.state, self.tables.rows
        for row in gone:
            rows[row] = 0
            rows[row, REBORN] = 1
        state[WARM_AT : WARM_AT + len(warm)], state[WARM] = warm, len(warm)
        with pytest.MonkeyPatch.context() as patch:
            if self.plain:
                patch.setattr(watch_kernel, "touch", lambda *_: False)
            reborn = self.watch.begin(np.array(tracked, np.int64), np.array(always, np.int64), now)
        return sorted(reborn.tolist())

    def seen(self) -> tuple[list[int], ...]:
        count = self.watch.count
        return (
            self.watch.rows.tolist(), self.watch._warm_at[:count].tolist(), self.watch.wanted[:count].tolist(),
            self.tables.rows[:, WATCH].tolist(), [int(self.tables.state[at]) for at in (WARM, EPOCH)],
        )  # fmt: skip


@given(ticks)
def test_the_short_way_is_the_long_way(moves: list[tuple[list[int], list[int], list[int], list[int]]]) -> None:
    ours, plain = Side(plain=False), Side(plain=True)
    for number, move in enumerate(moves * 2):
        now = (number + 1) * 40_000_000
        mine = ours.tick(now, *move)
        assert plain.tick(now, *move) == mine
        assert ours.seen() == plain.seen()


def test_a_tick_of_known_rows_is_short() -> None:
    side = Side(plain=False)
    side.tick(1, [3, 4], [5], [6], [])
    before = side.tables.state[EPOCH]
    assert watch_kernel.touch(
        side.tables.rows, side.tables.state, side.watch.rows, side.watch._warm_at, side.watch.wanted,
        np.array([5]), np.array([6]), 2,
    )  # fmt: skip
    assert side.tables.state[EPOCH] == before + 1
    assert side.watch.wanted[: side.watch.count].tolist() == [row == 5 for row in side.watch.rows.tolist()]


@given(
    st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=SLOTS, unique=True),
    st.sets(st.integers(0, ROWS - 1)),
    st.sets(st.integers(0, ROWS - 1)),
)
def test_a_row_that_was_given_away_is_reborn_even_where_others_cool_first(
    watched: list[int], warm: set[int], gone: set[int]
) -> None:
    side = Side(plain=False)
    side.tick(1, watched, [], [], [])
    side.tick(1_000, [row for row in watched if row in warm], [], [], [])
    for row in gone:
        side.tables.rows[row] = 0
        side.tables.rows[row, REBORN] = 1
    side.watch.cool(500)
    left = {row for row in watched if row in warm and row not in gone}
    assert set(side.watch.rows.tolist()) == left
    assert side.tick(2_000, [], watched, [], []) == sorted(row for row in watched if row in gone)
