"""What each target usually gets: a slow average over all of its columns, a few hundred targets at each tick in turn.

The average stands still while a target is under attack. Each visit also gives the mean rates since the one before, from
which limits are learned. Counters are kept modulo 2^32 (bytes in units of 1,024: a zone may get 3.5 Tbit/s), averages
as the upper half of a float.
"""

import numpy as np
from numpy.typing import NDArray

from sensors import usual_kernel
from sensors.headers import BYTE_COLUMNS, COLUMNS
from sensors.limits import FLOATS
from sensors.tables import Tables
from sensors.watch import ROWS

ROUND_NS = 10_000_000_000
"""How long a round through all targets takes."""
BATCH_NS = 400_000_000
"""How long targets wait for others whose turn it is: a visit of many at once costs little more than one of a few."""
MEMORY_SECONDS = 10.0
"""Of the average."""
_SHIFT = np.zeros(COLUMNS, np.int64)
_SHIFT[list(BYTE_COLUMNS)] = 10


class Usual:
    """Averages by row."""

    def __init__(self, tables: Tables, batch_ns: int = BATCH_NS) -> None:
        self._tables, self._batch_ns = tables, batch_ns
        self._counted = np.zeros((len(tables.rows), COLUMNS), np.uint32)
        self._average = np.zeros((len(tables.rows), COLUMNS), np.uint16)
        self._visited = np.zeros(len(tables.rows), np.int64)
        self._bits = np.zeros(1, np.uint32)
        self._begun, self._done, self._given = 0, 0, 0

    def start(self, now: int) -> None:
        """A round begins here."""
        self._begun, self._done, self._given = now, 0, now

    def rates(self, row: int) -> NDArray[np.float32]:
        """Of one target, per second."""
        return _wide(self._average[row])

    def due(self, now: int, last: range) -> ROWS:
        """The rows whose turn it is; each comes once in a round, those of `last` at its end."""
        is_over = now - self._begun >= ROUND_NS
        if now - self._given < self._batch_ns and not is_over:
            return np.zeros(0, np.int64)
        self._given = now
        used = self._tables.used
        until = min(used, int(used * (now - self._begun) / ROUND_NS) + 1)
        rows = self._tables.in_use(self._done, max(until, self._done))
        self._done = max(until, self._done)
        if self._done >= used and now - self._begun >= ROUND_NS:
            self.start(now)
            return np.concatenate((rows, np.array(last, np.int64)))
        return rows

    def visit(self, rows: ROWS, now: int) -> tuple[ROWS, FLOATS, FLOATS]:
        """Moves the averages of these rows. Gives those that had the same target at the visit before, their mean rates
        since, and the seconds that passed."""
        rates, seconds = np.zeros((len(rows), COLUMNS)), np.zeros(len(rows))
        same = np.zeros(len(rows), bool)
        usual_kernel.visit(
            rows, self._tables.rows, self._counted, self._average, self._visited, now, _SHIFT, MEMORY_SECONDS,
            self._bits, self._bits.view(np.float32), rates, same, seconds,
        )  # fmt: skip
        return (rows, rates, seconds) if same.all() else (rows[same], rates[same], seconds[same])

    def warm_up(self) -> None:
        """Compiles, or loads, what a visit needs."""
        self.visit(np.zeros(0, np.int64), 0)


def _wide(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
