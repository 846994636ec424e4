"""What each target usually gets: a slow average over all of its columns, a few hundred targets at each tick in turn.

The average stands still while a target is under attack. Each visit also gives the mean rates since the one before, from
which limits are learned. Counters are kept modulo 2^32 (bytes in units of 64), averages as the upper half of a float.
"""

import numpy as np
from numpy.typing import NDArray

from sensors.headers import BYTE_COLUMNS, COLUMNS
from sensors.limits import FLOATS
from sensors.tables import ATTACKED, PINNED, REBORN, Tables
from sensors.watch import ROWS

ROUND_NS = 10_000_000_000
"""How long a round through all targets takes."""
MEMORY_SECONDS = 10.0
"""Of the average."""
_SHIFT = np.zeros(COLUMNS, np.int64)
_SHIFT[list(BYTE_COLUMNS)] = 6


class Usual:
    """Averages by row."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._counted = np.zeros((len(tables.rows), COLUMNS), np.uint32)
        self._average = np.zeros((len(tables.rows), COLUMNS), np.uint16)
        self._visited = np.zeros(len(tables.rows), np.int64)
        self._begun, self._done = 0, 0

    def start(self, now: int) -> None:
        """A round begins here."""
        self._begun, self._done = now, 0

    def rates(self, row: int) -> NDArray[np.float32]:
        """Of one target, per second."""
        return _wide(self._average[row])

    def due(self, now: int, last: range) -> ROWS:
        """The rows whose turn it is; each comes once in a round, those of `last` at its end."""
        used = self._tables.used
        until = min(used, int(used * (now - self._begun) / ROUND_NS) + 1)
        rows = np.arange(self._done, max(until, self._done))
        self._done = max(until, self._done)
        if self._done >= used and now - self._begun >= ROUND_NS:
            self.start(now)
            return np.concatenate((rows, np.array(last, np.int64)))
        return rows

    def visit(self, rows: ROWS, now: int) -> tuple[ROWS, FLOATS, FLOATS]:
        """Moves the averages of these rows. Gives those that had the same target at the visit before, their mean rates
        since, and the seconds that passed."""
        lines = self._tables.rows[rows]
        counted = (lines[:, :COLUMNS] >> _SHIFT).astype(np.uint32)
        seconds = (now - self._visited[rows]) / 1e9
        same = (lines[:, REBORN] == 0) & (self._visited[rows] > 0) & (seconds > 0)
        fresh = (counted - self._counted[rows]).astype(np.float64)
        rates = fresh * (1 << _SHIFT) / np.maximum(seconds, 1e-9)[:, None]
        pull = np.where(lines[:, PINNED] & ATTACKED != 0, 0.0, 1 - np.exp(-seconds / MEMORY_SECONDS))[:, None]
        average = np.where(same[:, None], _wide(self._average[rows]), 0)
        moved = np.where(same[:, None], average + (rates - average) * pull, 0)
        self._average[rows] = _narrow(moved.astype(np.float32))
        self._counted[rows], self._visited[rows] = counted, now
        self._tables.rows[rows, REBORN] = 0
        return rows[same], rates[same], seconds[same]


def _wide(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _narrow(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
