"""Sliding windows over what is watched: counters of now minus counters of then, over the time that really passed.

Vectorised over all targets that are watched; only those that could be above some limit come out. Rates never depend on
how regular the ticks are. Opens nothing and reads no clock: `now` is an argument, in monotonic nanoseconds.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sensors import window_kernel as kernel
from sensors.headers import COLUMNS
from sensors.limits import FLOATS, Measures
from sensors.readings import LONG, MIDDLE, SHORT, Readings
from sensors.tables import LINE, LINES, MOST_ZONES, SCREEN_AT, SCREEN_WORDS, WATCH, ZONE, Tables
from sensors.watch import COUNTS, NOBODY, ROWS, Watch
from sensors.yardstick import Yardstick

COOL_WINDOWS = 1.5
"""How many long windows a target must stay cool to be watched no more."""

Snapshots = tuple[COUNTS, COUNTS, COUNTS]


@dataclass(frozen=True, slots=True)
class Busy:
    """The targets worth a look at a tick, as long as there was no other."""

    rows: ROWS
    slots: ROWS
    reborn: ROWS
    """Of those that were tracked, the rows that belong to another target now."""
    counts: COUNTS
    then: Snapshots
    """What all slots have counted now, and at the beginning of each window."""
    seconds: NDArray[np.float64]
    """How long the windows really are."""


class Windows:
    """The snapshots that windows are differences to."""

    def __init__(
        self,
        tables: Tables,
        measures: Measures,
        seconds: tuple[float, float, float],
        minimum: int,
        long_only: bool = False,
        floors: FLOATS | None = None,
        most: int = 8_192,
        sampled: int = 1,
    ) -> None:
        """`seconds`: nominal lengths, shortest first; `minimum`: packets that a window must hold at the limit;
        `long_only`: judge every limit in the long window; `floors`: for each measure a rate from which on
        targets must come out whatever their limits are; `most`: how many targets are watched at a time; `sampled`:
        how many packets each one seen stands for."""
        self._tables, self._seconds = tables, seconds
        self._lengths = tuple(int(length * 1e9) for length in seconds)
        self._coarse_ns = max(1, self._lengths[MIDDLE] // 2)
        self._cold: int | None = None
        self.watch = Watch(tables, most)
        self._slots = np.zeros(most, np.int64)
        self._yardstick = partial(
            Yardstick, seconds=seconds, minimum=minimum, long_only=long_only, floors=floors, sampled=sampled
        )
        self.measure(measures)

    def measure(self, measures: Measures) -> None:
        """Takes other limits, from the next tick on."""
        self._sums = measures.sums
        self.yardstick = self._yardstick(measures)
        place = slice(SCREEN_AT, SCREEN_AT + (MOST_ZONES + 1) * LINES * SCREEN_WORDS)
        self._tables.state[place] = self.yardstick.screen.reshape(-1)

    def start(self, now: int) -> None:
        """Traffic counts from here on."""
        self.watch.clear()
        self.watch.take_warm(now)
        counts = self.watch.counts()
        self.watch.push(self.watch.fine, now, counts)
        self.watch.push(self.watch.coarse, now, counts)

    def _back(self, now: int, window: int) -> tuple[int, COUNTS]:
        """The youngest snapshot that is at least a window old, else the oldest there is."""
        history: deque[tuple[int, COUNTS]] = self.watch.fine if window == SHORT else self.watch.coarse
        best = history[0]
        for moment, snapshot in history:
            # Ticks come a little early or late; a tenth of the window is neither here nor there.
            if now - moment < self._lengths[window] * 0.9:
                break
            best = (moment, snapshot)
        return best

    def before(self, row: int) -> COUNTS:
        """A watched target's counters at the beginning of the long window."""
        counts: COUNTS = self.watch.coarse[0][1][self._tables.rows[row, WATCH] - 1].copy()
        return counts

    def tick(
        self,
        now: int,
        tracked: ROWS = NOBODY,
        always: ROWS = NOBODY,
        learned: Callable[[ROWS], FLOATS] | None = None,
    ) -> Readings:
        """What happened up to now, as `look` and `read` tell it."""
        return self.read(self.look(now, tracked, always), learned)

    def look(self, now: int, tracked: ROWS = NOBODY, always: ROWS = NOBODY) -> Busy:
        """Counts, and says who may be above some limit, seen class by class: few in a busy network. Rows in `tracked`
        come out however quiet they are, unless they were reborn; those in `always` are watched even when they are
        cool. What can be divided is looked at below its limits too."""
        watch = self.watch
        if self._cold is not None:
            watch.cool(self._cold)
            self._cold = None
        reborn = watch.begin(tracked, always, now)
        (short, one), (middle, two), (long, three) = (self._back(now, window) for window in (SHORT, MIDDLE, LONG))
        # Less than a short window is too little to divide by: a burst at the very start is no rate yet.
        seconds = np.array([max(now - moment, self._lengths[SHORT]) / 1e9 for moment in (short, middle, long)])
        counts = watch.blank()
        found = kernel.look(
            self._tables.rows, watch.rows, LINE, watch.wanted, counts, one, two, three, seconds, *self.yardstick.least,
            self._slots,
        )  # fmt: skip
        slots = self._slots[:found]
        busy = Busy(watch.rows[slots], slots, reborn, counts, (one, two, three), seconds)
        self._keep(now, counts)
        return busy

    def read(self, busy: Busy, learned: Callable[[ROWS], FLOATS] | None = None) -> Readings:
        """Rates of who is busy, and what they are to limits. `learned` gives further limits, target by measure."""
        size = len(busy.rows)
        zones, lines, tracked = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, bool)
        rates, limits = np.empty((3, size, COLUMNS)), np.empty((size, self._sums.shape[1]))
        kernel.read(
            self._tables.rows, busy.rows, busy.slots, ZONE, LINE, self.watch.wanted, self.yardstick.limits, busy.counts,
            *busy.then, busy.seconds, zones, lines, tracked, limits, rates,
        )  # fmt: skip
        further = learned(busy.rows) if learned is not None and size else np.full(limits.shape, np.inf)
        short, long = float(busy.seconds[SHORT]), float(busy.seconds[LONG])
        if long < self._seconds[LONG]:
            # Until there was a long window, what is learned is judged as if nothing had come before.
            further *= self._seconds[LONG] / long
        three = (rates[SHORT], rates[MIDDLE], rates[LONG])
        judged = self.yardstick.judge(three, limits, further, short)
        return Readings(
            rows=busy.rows, zones=zones, lines=lines, rates=three, short_seconds=short, long_seconds=long,
            limits=limits, learned=further, severity=judged.severity, fast=judged.fast, crossed=judged.crossed,
            loud=judged.loud, tracked=tracked, reborn=busy.reborn,
        )  # fmt: skip

    def rates_of(self, rows: Sequence[int], measure: int) -> list[float]:
        """What watched rows got of a measure in the short window, unscaled; 0 for those that aren't watched."""
        slots = self._tables.rows[np.array(rows, np.int64), WATCH] - 1
        gained = (self.watch.counts() - self.watch.fine[0][1][: self.watch.count]) @ self._sums[:, measure]
        found: list[float] = np.where(slots >= 0, np.append(gained, 0.0)[slots], 0.0).tolist()
        return found

    def warm_up(self) -> None:
        """Compiles, or loads, what a tick needs."""
        self.yardstick.warm_up()
        self.watch.warm_up()
        counts, none, table = np.zeros((0, COLUMNS), np.int64), NOBODY.copy(), self._tables.rows
        then, wanted, seconds = (counts, counts, counts), np.zeros(0, bool), np.ones(3)
        kernel.look(table, none, LINE, wanted, counts, *then, seconds, *self.yardstick.least, none)
        self.read(Busy(none, none, none, counts, then, seconds))

    def _keep(self, now: int, counts: COUNTS) -> None:
        """What is dropped stays as it is until the next look."""
        watch = self.watch
        if now - watch.coarse[-1][0] >= self._coarse_ns:
            watch.push(watch.coarse, now, counts[: watch.count])
            self._cold = now - int(self._lengths[LONG] * COOL_WINDOWS)
        watch.fine.append((now, counts))
        for history, length in ((watch.fine, self._lengths[SHORT]), (watch.coarse, self._lengths[LONG])):
            while len(history) > 2 and now - history[1][0] >= length:
                watch.drop_oldest(history)
