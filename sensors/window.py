"""Sliding windows over the host table: counters of now minus counters of then, over the time that really passed.

Vectorised over all hosts; only those that could be above some limit come out. Rates never depend on how regular the
ticks are. Opens nothing and reads no clock: `now` is an argument, in monotonic nanoseconds.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensors.headers import COLUMNS, Column
from sensors.tables import PINNED, REBORN, ZONE, Tables

FLOATS = NDArray[np.float64]

SHORT, MIDDLE, LONG = 0, 1, 2
"""The windows of a reading, shortest first."""
BASELINE_SECONDS = 10.0
"""The memory of the baseline."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured and from what rate on it matters, for each zone."""

    names: tuple[str, ...]
    """`rules.zone.Metric` values, one for each measure."""
    sums: FLOATS
    """Column by measure: what each column adds to each measure; bytes count eightfold where bits are meant."""
    limits: FLOATS
    """Zone by measure, per second; infinite where there is no limit."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Rates of the hosts worth a look, one line for each."""

    rows: NDArray[np.int64]
    zones: NDArray[np.int64]
    rates: tuple[FLOATS, FLOATS, FLOATS]
    """Per window: host by column, per second."""
    long_seconds: float
    """How long the long window really is."""
    severity: FLOATS
    """Host by measure: rate over limit, each in the shortest window that is long enough for the limit."""
    fast: FLOATS
    """The same in the short window, and 0 where too few packets say so."""
    reborn: NDArray[np.int64]
    """Rows that belong to another host than last time."""


class Windows:
    """The snapshots that windows are differences to."""

    def __init__(
        self,
        tables: Tables,
        measures: Measures,
        seconds: tuple[float, float, float],
        minimum: int,
        long_only: bool = False,
    ) -> None:
        """`seconds`: nominal lengths, shortest first; `minimum`: packets that a window must hold at the limit;
        `long_only`: judge every limit in the long window."""
        self._tables, self._minimum = tables, minimum
        self._lengths = tuple(int(length * 1e9) for length in seconds)
        self._coarse_ns = max(1, self._lengths[MIDDLE] // 2)
        self._fine: deque[tuple[int, NDArray[np.int64]]] = deque()
        self._coarse: deque[tuple[int, NDArray[np.int64]]] = deque()
        self._spare: list[NDArray[np.int64]] = []
        self._seconds, self._long_only = seconds, long_only
        self.baseline = np.zeros((len(tables.rows), COLUMNS), np.float32)
        """What each host usually gets, per second: a slow average that stands still during an attack."""
        self.measure(measures)

    def measure(self, measures: Measures) -> None:
        """Takes other limits, from the next tick on."""
        self._measures = measures
        self._choice = np.full(measures.limits.shape, LONG) if self._long_only else self._choose(self._seconds)
        counted_in_packets = measures.sums[Column.BYTES] + measures.sums[Column.UDP_BYTES] == 0
        limits = measures.limits.min(axis=0)
        self._least_packets = float(limits[counted_in_packets].min(initial=np.inf))
        self._least_bits = float(limits[~counted_in_packets].min(initial=np.inf))

    def _choose(self, seconds: tuple[float, float, float]) -> NDArray[np.int64]:
        """Zone by measure: which window judges the limit."""
        limits = np.where(np.isfinite(self._measures.limits), self._measures.limits, np.inf)
        short, middle = (limits * seconds[SHORT] >= self._minimum), (limits * seconds[MIDDLE] >= self._minimum)
        return np.where(short, SHORT, np.where(middle, MIDDLE, LONG))

    def start(self, now: int) -> None:
        """Traffic counts from here on."""
        for _, snapshot in (*self._fine, *self._coarse):
            self._spare.append(snapshot)
        self._fine.clear()
        self._coarse.clear()
        self._push(self._fine, now)
        self._push(self._coarse, now)

    def _push(self, where: deque[tuple[int, NDArray[np.int64]]], now: int) -> None:
        snapshot = self._spare.pop() if self._spare else np.zeros((len(self._tables.rows), COLUMNS), np.int64)
        used = self._tables.used
        snapshot[:used] = self._tables.rows[:used, :COLUMNS]
        where.append((now, snapshot))

    def _reborn(self) -> NDArray[np.int64]:
        used = self._tables.used
        reborn = np.flatnonzero(self._tables.rows[:used, REBORN])
        if len(reborn):
            for _, snapshot in (*self._fine, *self._coarse):
                snapshot[reborn] = 0
            self._tables.rows[reborn, REBORN] = 0
            self.baseline[reborn] = 0
        return reborn

    def _back(self, now: int, window: int) -> tuple[int, NDArray[np.int64]]:
        """The youngest snapshot that is at least a window old, else the oldest there is."""
        history = self._fine if window == SHORT else self._coarse
        best = history[0]
        for moment, snapshot in history:
            # Ticks come a little early or late; a tenth of the window is neither here nor there.
            if now - moment < self._lengths[window] * 0.9:
                break
            best = (moment, snapshot)
        return best

    def before(self, row: int) -> NDArray[np.int64]:
        """A host's counters at the beginning of the long window."""
        counts: NDArray[np.int64] = self._coarse[0][1][row].copy()
        return counts

    def tick(self, now: int, watched: Iterable[int] = ()) -> Readings:
        """What happened up to now; hosts in `watched` rows come out however quiet they are."""
        reborn = self._reborn()
        back = [self._back(now, window) for window in (SHORT, MIDDLE, LONG)]
        # Less than a short window is too little to divide by: a burst at the very start is no rate yet.
        elapsed = [max(now - moment, self._lengths[SHORT]) / 1e9 for moment, _ in back]
        rows = self._worth_a_look(back, elapsed, watched)
        counts = self._tables.rows[rows, :COLUMNS]
        deltas = [counts - snapshot[rows] for _, snapshot in back]
        readings = self._read(rows, deltas, elapsed, reborn)
        self._keep(now)
        return readings

    def _worth_a_look(
        self, back: list[tuple[int, NDArray[np.int64]]], elapsed: list[float], watched: Iterable[int]
    ) -> NDArray[np.int64]:
        used = self._tables.used
        packets, size = self._tables.rows[:used, Column.PACKETS], self._tables.rows[:used, Column.BYTES]
        hot = np.zeros(used, bool)
        for (_, snapshot), seconds in zip(back, elapsed, strict=True):
            hot |= packets - snapshot[:used, Column.PACKETS] >= self._least_packets * seconds
            if np.isfinite(self._least_bits):
                hot |= size - snapshot[:used, Column.BYTES] >= self._least_bits * seconds / 8
        for row in watched:
            hot[row] = True
        return np.flatnonzero(hot)

    def _read(
        self, rows: NDArray[np.int64], deltas: list[NDArray[np.int64]], elapsed: list[float], reborn: NDArray[np.int64]
    ) -> Readings:
        zones = self._tables.rows[rows, ZONE]
        rates = tuple(delta / seconds for delta, seconds in zip(deltas, elapsed, strict=True))
        limits = self._measures.limits[zones]
        severities = [rate @ self._measures.sums / limits for rate in rates]
        packets = deltas[SHORT][:, Column.PACKETS]
        enough = (packets >= self._minimum)[:, None]
        return Readings(
            rows=rows,
            zones=zones,
            rates=(rates[SHORT], rates[MIDDLE], rates[LONG]),
            long_seconds=elapsed[LONG],
            severity=np.choose(self._choice[zones], severities),
            fast=np.where(enough, severities[SHORT], 0.0),
            reborn=reborn,
        )

    def _keep(self, now: int) -> None:
        self._push(self._fine, now)
        while len(self._fine) > 2 and now - self._fine[1][0] >= self._lengths[SHORT]:
            self._spare.append(self._fine.popleft()[1])
        if now - self._coarse[-1][0] >= self._coarse_ns:
            self._learn(now)
            self._push(self._coarse, now)
        while len(self._coarse) > 2 and now - self._coarse[1][0] >= self._lengths[LONG]:
            self._spare.append(self._coarse.popleft()[1])

    def _learn(self, now: int) -> None:
        """Moves the baseline of every host not under attack a little towards its rate since the last snapshot."""
        used = self._tables.used
        moment, snapshot = self._coarse[-1]
        seconds = (now - moment) / 1e9
        pull = np.where(self._tables.rows[:used, PINNED] != 0, 0.0, 1 - np.exp(-seconds / BASELINE_SECONDS))[:, None]
        rate = (self._tables.rows[:used, :COLUMNS] - snapshot[:used]) / seconds
        self.baseline[:used] += ((rate - self.baseline[:used]) * pull).astype(np.float32)
