"""The targets worth a look, and what each had counted at recent ticks.

A few thousand slots for the warm ones of a hundred thousand hosts: a tick copies the counters of these only. A slot is
given away when its target stayed cool for longer than the longest window. Opens nothing and reads no clock.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from sensors import watch_kernel as kernel
from sensors.headers import COLUMNS
from sensors.tables import (
    BASES_AT,
    BORN,
    EPOCH,
    MOST_WARM,
    REBORN,
    UNWATCHED_AT,
    WARM,
    WARM_AT,
    WATCH,
    Tables,
)

ROWS = NDArray[np.int64]
COUNTS = NDArray[np.int64]
NOBODY: ROWS = np.zeros(0, np.int64)


class Watch:
    """Slots and their snapshots; two histories, one of every tick and one further back."""

    def __init__(self, tables: Tables, most: int) -> None:
        """`most`: how many slots there are."""
        self._tables, self._most = tables, most
        self._rows = np.zeros(most, np.int64)
        self._warm_at = np.zeros(most, np.int64)
        self.wanted = np.zeros(most, bool)
        """By slot: tracked at the last tick."""
        self.count = 0
        """Slots in use: the first ones."""
        self.fine: deque[tuple[int, COUNTS]] = deque()
        self.coarse: deque[tuple[int, COUNTS]] = deque()
        self._spare: list[COUNTS] = []

    @property
    def rows(self) -> ROWS:
        """Whose slots they are."""
        return self._rows[: self.count]

    def counts(self) -> COUNTS:
        """What each has counted by now."""
        out: COUNTS = self._tables.rows[self.rows, :COLUMNS]
        return out

    def clear(self) -> None:
        """Forgets every snapshot."""
        for history in (self.fine, self.coarse):
            self._spare.extend(snapshot for _, snapshot in history)
            history.clear()

    def push(self, history: deque[tuple[int, COUNTS]], now: int, counts: COUNTS) -> None:
        """One more snapshot."""
        snapshot = self.blank()
        snapshot[: len(counts)] = counts
        history.append((now, snapshot))

    def blank(self) -> COUNTS:
        """Room for a snapshot of all slots there can be, whatever stands in it."""
        return self._spare.pop() if self._spare else np.zeros((self._most, COLUMNS), np.int64)

    def drop_oldest(self, history: deque[tuple[int, COUNTS]]) -> None:
        """One less."""
        self._spare.append(history.popleft()[1])

    def begin(self, tracked: ROWS, always: ROWS, now: int) -> ROWS:
        """A tick begins: who is warm gets a slot, and so do these whether they are warm or not; those of `tracked` are
        `wanted`. Gives the rows among them that were reborn: these get none."""
        rows, state = self._tables.rows, self._tables.state
        if kernel.touch(rows, state, self.rows, self._warm_at, self.wanted, tracked, always, now):
            return NOBODY
        self.take_warm(now)
        is_reborn = (rows[tracked, REBORN] != 0) & (rows[tracked, WATCH] == 0)
        known = tracked[~is_reborn]
        self.keep(np.concatenate((known, always)), now)
        slots = rows[known, WATCH] - 1
        self.wanted[: self.count] = False
        self.wanted[slots[slots >= 0]] = True
        reborn: ROWS = tracked[is_reborn]
        return reborn

    def warm_up(self) -> None:
        """Compiles, or loads, what the beginning of a tick needs."""
        state, none = np.zeros(WARM + 1, np.int64), NOBODY.copy()
        kernel.touch(self._tables.rows, state, none, none, self.wanted, none, none, 0)

    def take_warm(self, now: int) -> None:
        """Gives slots to the rows that the kernel noted since the last tick, and begins the next epoch."""
        state = self._tables.state
        self._release(self._stale())
        found = int(state[WARM])
        if found:
            warm = state[WARM_AT : WARM_AT + found]
            slots = self._tables.rows[warm, WATCH] - 1
            self._warm_at[slots[slots >= 0]] = now
            if (slots < 0).any():
                self._add_warm(warm, now)
        state[WARM] = 0
        state[EPOCH] = (state[EPOCH] + 1) & kernel.LAST_EPOCH

    def _add_warm(self, warm: ROWS, now: int) -> None:
        state = self._tables.state
        rows, places = np.unique(warm, return_index=True)
        new = self._tables.rows[rows, WATCH] == 0
        bases = state[BASES_AT : BASES_AT + MOST_WARM * COLUMNS].reshape(MOST_WARM, COLUMNS)
        rows, counted = rows[new], bases[places[new]]
        # What began since the last tick is known whole.
        counted[self._tables.rows[rows, BORN] == state[EPOCH] + 1] = 0
        self.add(rows, counted, now)

    def add(self, rows: ROWS, counted: COUNTS, now: int) -> None:
        """Slots for rows that have none; `counted` is taken for what they had at all earlier times."""
        if not len(rows):
            return
        room = self._most - self.count
        if len(rows) > room:
            self._tables.state[UNWATCHED_AT] += len(rows) - room
            rows, counted = rows[:room], counted[:room]
        slots = np.arange(self.count, self.count + len(rows))
        self._rows[slots], self._warm_at[slots] = rows, now
        self._tables.rows[rows, WATCH] = slots + 1
        for _, snapshot in (*self.fine, *self.coarse):
            snapshot[slots] = counted
        self.count += len(rows)

    def keep(self, rows: ROWS, now: int) -> None:
        """These are worth a look whether they are warm or not."""
        slots = self._tables.rows[rows, WATCH] - 1
        self._warm_at[slots[slots >= 0]] = now
        if (slots < 0).any():
            new = np.unique(rows[slots < 0])
            self.add(new, self._tables.rows[new, :COLUMNS], now)

    def cool(self, before: int) -> None:
        """Takes the slots of targets that were last warm before then."""
        # Those whose row was given away go as well: moved, they would be taken for what the row is now.
        stale = self._stale()
        cold = (self._warm_at[: self.count] < before) & ~stale
        self._tables.rows[self.rows[cold], WATCH] = 0
        self._release(cold | stale)

    def _stale(self) -> NDArray[np.bool_]:
        """By slot: whether its row belongs to another target by now."""
        out: NDArray[np.bool_] = self._tables.rows[self.rows, WATCH] != np.arange(1, self.count + 1)
        return out

    def _release(self, gone: NDArray[np.bool_]) -> None:
        """Fills the places of those that went with the last ones."""
        if not gone.any():
            return
        left = self.count - int(gone.sum())
        holes, movers = np.flatnonzero(gone[:left]), left + np.flatnonzero(~gone[left:])
        for array in (self._rows, self._warm_at):
            array[holes] = array[movers]
        for _, snapshot in (*self.fine, *self.coarse):
            snapshot[holes] = snapshot[movers]
        self.count = left
        self._tables.rows[self._rows[holes], WATCH] = holes + 1
