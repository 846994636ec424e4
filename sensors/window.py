"""Sliding windows over what is watched: counters of now minus counters of then, over the time that really passed.

Vectorised over all targets that are watched; only those that could be above some limit come out. Rates never depend on
how regular the ticks are. Opens nothing and reads no clock: `now` is an argument, in monotonic nanoseconds.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from sensors import window_kernel as kernel
from sensors.headers import BYTE_COLUMNS, COLUMNS
from sensors.limits import FLOATS, Measures
from sensors.tables import LENGTHS, LINE, LINES, MOST_ZONES, REBORN, SCREEN_AT, SCREEN_WORDS, WATCH, ZONE, Tables
from sensors.watch import COUNTS, ROWS, Watch

__all__ = ["LONG", "MIDDLE", "SHORT", "Measures", "Readings", "Windows"]

SHORT, MIDDLE, LONG = 0, 1, 2
"""The windows of a reading, shortest first."""
PLAIN = 3
"""Beside the windows, a bit of `Readings.crossed`: above the limit in the long window, be it by chance."""
DEVIATIONS = 3.0
"""By so many standard deviations of a Poisson count must a window exceed its limit: at 80 packets by a third, at 8,000
by a thirtieth."""
LARGEST_BITS = 12_000
"""Of a packet: so few packets may a window hold that holds so many bits."""
COOL_WINDOWS = 1.5
"""How many long windows a target must stay cool to be watched no more."""
DIVIDED_AT = 0.6
"""The share of the least limit of a part at which a prefix is divided, so that its parts are known in time."""
_COOL = np.where(np.isin(LENGTHS, (24, 48, 52, 56, 60, 0)), DIVIDED_AT, 1.0) * 0.999
"""For each line the share of the least limits below which nothing needs to be read: what has parts is read sooner."""


BITS = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What rates are to limits, as in `Readings`."""

    severity: FLOATS
    fast: FLOATS
    crossed: BITS
    loud: BITS


@dataclass(frozen=True, slots=True)
class Readings:
    """Rates of the targets worth a look, one line for each."""

    rows: ROWS
    zones: ROWS
    lines: ROWS
    """What kind of target each is, as in `tables.LENGTHS`."""
    rates: tuple[FLOATS, FLOATS, FLOATS]
    """Per window: target by column, per second."""
    short_seconds: float
    long_seconds: float
    """How long the long window really is."""
    limits: FLOATS
    """Target by measure: of the zones."""
    learned: FLOATS
    """Target by measure: learned limits, judged in the long window only, so that a burst is none of their business."""
    severity: FLOATS
    """Target by measure: rate over limit, each in the shortest window that is long enough for the limit."""
    fast: FLOATS
    """The same in the short window, and 0 where too few packets say so."""
    crossed: BITS
    """Target by measure: a bit for each window in which a limit is crossed by more than chance, and `PLAIN`."""
    loud: BITS
    """For each target, what there is in the above at a glance: `window_kernel.CROSSED` and its like."""
    tracked: NDArray[np.bool_]
    """Which targets came out because they are tracked."""
    reborn: ROWS
    """Rows that belong to another target than last time."""


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
        self._tables, self._minimum = tables, minimum
        self._lengths = tuple(int(length * 1e9) for length in seconds)
        self._coarse_ns = max(1, self._lengths[MIDDLE] // 2)
        self.watch = Watch(tables, most)
        self._seconds, self._long_only, self._floors, self._sampled = seconds, long_only, floors, sampled
        self.measure(measures)

    def measure(self, measures: Measures) -> None:
        """Takes other limits, from the next tick on."""
        self._measures = measures
        screen = measures.screen(self._seconds[SHORT] / 2, self._floors).reshape(-1)
        self._tables.state[SCREEN_AT : SCREEN_AT + (MOST_ZONES + 1) * LINES * SCREEN_WORDS] = screen
        in_bits = measures.sums[list(BYTE_COLUMNS)].any(axis=0)
        self._units = np.where(in_bits, LARGEST_BITS, 1.0) * self._sampled
        limits = measures.lines.min(axis=(0, 1))
        if self._floors is not None:
            limits = np.minimum(limits, self._floors)
        self._least_packets = float(limits[~in_bits].min(initial=np.inf))
        self._least_bits = float(limits[in_bits].min(initial=np.inf))
        # A sum reaches its limit only where one of its terms reaches its share.
        terms = np.maximum((measures.sums > 0).sum(axis=0), 1)
        shares = np.where(measures.sums > 0, limits / terms / np.maximum(measures.sums, 1e-9), np.inf)
        self._least = shares.min(axis=1)
        self._terms = np.ascontiguousarray(np.argwhere(measures.sums.T))
        self._weights = np.ascontiguousarray(measures.sums.T[tuple(self._terms.T)], np.float64)

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

    @overload
    def tick(
        self,
        now: int,
        tracked: Iterable[int] = (),
        always: Iterable[int] = (),
        learned: Callable[[ROWS], FLOATS] | None = None,
    ) -> Readings: ...

    @overload
    def tick(
        self,
        now: int,
        tracked: Iterable[int],
        always: Iterable[int],
        learned: Callable[[ROWS], FLOATS] | None,
        settled: frozenset[int] | None,
    ) -> Readings | None: ...

    def tick(
        self,
        now: int,
        tracked: Iterable[int] = (),
        always: Iterable[int] = (),
        learned: Callable[[ROWS], FLOATS] | None = None,
        settled: frozenset[int] | None = None,
    ) -> Readings | None:
        """What happened up to now; rows in `tracked` come out however quiet they are, unless they were reborn, and
        those in `always` are watched even when they are cool. `learned` gives further limits, target by measure.
        None: of `settled` rows only, where any are given."""
        self.watch.take_warm(now)
        known = np.array([*tracked], np.int64)
        is_reborn = self._tables.rows[known, REBORN] & (self._tables.rows[known, WATCH] == 0) != 0
        reborn, known = known[is_reborn], known[~is_reborn]
        self.watch.keep(np.concatenate((known, np.array([*always], np.int64))), now)
        back = [self._back(now, window) for window in (SHORT, MIDDLE, LONG)]
        # Less than a short window is too little to divide by: a burst at the very start is no rate yet.
        elapsed = [max(now - moment, self._lengths[SHORT]) / 1e9 for moment, _ in back]
        counts = self.watch.blank()
        slots, is_tracked = self._worth_a_look(counts, back, elapsed, known)
        if settled is not None and not len(reborn) and settled.issuperset(self.watch.rows[slots].tolist()):
            self._keep(now, counts)
            return None
        rates = [self._rates(slots, counts, then, seconds) for (_, then), seconds in zip(back, elapsed, strict=True)]
        readings = self._read(slots, is_tracked, rates, elapsed, reborn, learned)
        self._keep(now, counts)
        return readings

    def rates_of(self, rows: Sequence[int], measure: int) -> list[float]:
        """What watched rows got of a measure in the short window, unscaled; 0 for those that aren't watched."""
        slots = self._tables.rows[np.array(rows, np.int64), WATCH] - 1
        gained = (self.watch.counts() - self.watch.fine[0][1][: self.watch.count]) @ self._measures.sums[:, measure]
        found: list[float] = np.where(slots >= 0, np.append(gained, 0.0)[slots], 0.0).tolist()
        return found

    def _worth_a_look(
        self, counts: COUNTS, back: list[tuple[int, COUNTS]], elapsed: list[float], known: ROWS
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Fills `counts`, and gives the slots that may be above some limit, seen class by class: few in a busy network;
        and which of them are of `known` rows. What can be divided is looked at below its limits too."""
        wanted = np.zeros(self.watch.count, bool)
        slots = self._tables.rows[known, WATCH] - 1
        wanted[slots[slots >= 0]] = True
        worth = np.empty(self.watch.count, np.int64)
        short, middle, long = (snapshot for _, snapshot in back)
        found = kernel.look(
            self._tables.rows, self.watch.rows, LINE, wanted, counts, short, middle, long, np.array(elapsed),
            self._least_packets, self._least_bits, self._least, _COOL, worth,
        )  # fmt: skip
        return worth[:found], wanted[worth[:found]]

    def _rates(self, slots: NDArray[np.int64], counts: COUNTS, then: COUNTS, seconds: float) -> FLOATS:
        out = np.empty((len(slots), COLUMNS))
        kernel.rates(slots, counts, then, seconds, out)
        return out

    def _read(
        self,
        slots: NDArray[np.int64],
        is_tracked: NDArray[np.bool_],
        rates: list[FLOATS],
        elapsed: list[float],
        reborn: ROWS,
        learned: Callable[[ROWS], FLOATS] | None,
    ) -> Readings:
        rows = self.watch.rows[slots]
        zones, lines = self._tables.rows[rows, ZONE], self._tables.rows[rows, LINE]
        limits = self._measures.lines[zones, lines]
        further = learned(rows) if learned is not None and len(rows) else np.full(limits.shape, np.inf)
        # Until there was a long window, what is learned is judged as if nothing had come before.
        further *= max(1.0, self._seconds[LONG] / elapsed[LONG])
        judged = self.judge((rates[SHORT], rates[MIDDLE], rates[LONG]), limits, further, elapsed[SHORT])
        return Readings(
            short_seconds=elapsed[SHORT],
            rows=rows,
            zones=zones,
            lines=lines,
            rates=(rates[SHORT], rates[MIDDLE], rates[LONG]),
            long_seconds=elapsed[LONG],
            limits=limits,
            learned=further,
            severity=judged.severity,
            fast=judged.fast,
            crossed=judged.crossed,
            loud=judged.loud,
            tracked=is_tracked,
            reborn=reborn,
        )

    def judge(
        self, rates: tuple[FLOATS, FLOATS, FLOATS], limits: FLOATS, learned: FLOATS, short_seconds: float
    ) -> Judgement:
        """What rates are to the zones' limits and to learned ones."""
        severity, fast = np.empty(limits.shape), np.empty(limits.shape)
        crossed, loud = np.empty(limits.shape, np.uint8), np.empty(len(limits), np.uint8)
        kernel.judge(
            *rates, self._terms, self._weights, limits, learned, self._units,
            np.array((*self._seconds, short_seconds)), self._minimum, self._minimum - 0.5, self._long_only, DEVIATIONS,
            severity, fast, crossed, loud,
        )  # fmt: skip
        return Judgement(severity, fast, crossed, loud)

    def warm_up(self) -> None:
        """Compiles, or loads, what a tick needs."""
        nobody, nothing = np.zeros((0, COLUMNS)), np.zeros((0, len(self._units)))
        self.judge((nobody, nobody, nobody), nothing, nothing, 1.0)
        counts, none = np.zeros((0, COLUMNS), np.int64), np.zeros(0, np.int64)
        self._rates(none, counts, counts, 1.0)
        kernel.look(
            self._tables.rows, none, LINE, np.zeros(0, bool), counts, counts, counts, counts, np.ones(3), 1.0, 1.0,
            self._least, _COOL, none,
        )  # fmt: skip

    def _keep(self, now: int, counts: COUNTS) -> None:
        watch = self.watch
        watch.fine.append((now, counts))
        while len(watch.fine) > 2 and now - watch.fine[1][0] >= self._lengths[SHORT]:
            watch.drop_oldest(watch.fine)
        if now - watch.coarse[-1][0] >= self._coarse_ns:
            watch.push(watch.coarse, now, counts[: watch.count])
            watch.cool(now - int(self._lengths[LONG] * COOL_WINDOWS))
        while len(watch.coarse) > 2 and now - watch.coarse[1][0] >= self._lengths[LONG]:
            watch.drop_oldest(watch.coarse)
