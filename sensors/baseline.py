"""The learned normal of many targets at once (hosts, prefixes or zones): what each usually gets, for each class, and
from what rate on it gets too much.

A level is a high quantile of a target's ten-second means, followed by small steps up and down, so that no sample need
be kept and no single one says much. It is taken as in busy hours: the zone's week (`sensors.baseline_rhythm`) says what
share of it is usual now. It must never learn from what is above a limit or frozen, and never grow faster than told.
Opens nothing and reads no clock. Two bytes for each target and class, and 18 for each target.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from rules.zone import Metric
from sensors import baseline_kernel as kernel
from sensors.baseline_adopt import Waiting
from sensors.baseline_kept import KEYS, Kept, Targets
from sensors.baseline_levels import LEVELS, STEPS, VALUES, level_of
from sensors.baseline_limits import ADOPTABLE, BITS, Learning
from sensors.baseline_rhythm import LEAST, Rhythm

FLOATS = NDArray[np.float64]
LIMITS = NDArray[np.float32]
ROWS = NDArray[np.int64]
FLAGS = NDArray[np.bool_]

ZONES_SECONDS = 60.0
"""How often zones are learned from; the targets of one may come in parts, each within that time."""
_FIRST_OCTAVES = 24.0
"""A target seen for the n-th time may move by this over n, but by one at most, until it is grown; less would not find a
heavy tail's quantile in a day."""
_EARLY_SHARE = 1 / 4
"""Of the time until a target is grown."""
_TYPICAL_SHARE = 0.05
"""The part of a zone's targets that lies above what is typical."""
_TYPICAL_STEP = STEPS // 16
_GOLDEN = 0.6180339887498949
"""Its multiples modulo 1 spread evenly: steps smaller than a level are taken each so many times, without chance."""


class Baseline:
    """What is learned of the targets in a table of `keys`."""

    def __init__(
        self,
        keys: KEYS,
        names: Sequence[str],
        sums: FLOATS,
        limits: FLOATS,
        *,
        learned: Sequence[bool] = (),
        settings: Learning | None = None,
        scale: float = 1.0,
        kept: int = 65_536,
        quietest: float = LEAST,
    ) -> None:
        """`keys`: row by two words, a live view of who has which row; `names`, `sums`, `limits`: as in
        `sensors.window.Measures`, the last line of limits for targets outside every zone; `learned`: which zones
        want learned limits (default: all); `scale`: how many hosts' floors a target gets; `kept`: how many targets
        without a row are remembered, a power of two; `quietest`: the share of busy hours that every hour has."""
        self.settings = settings or Learning()
        self._quietest = quietest
        self._per_host = {metric.value: floor for metric, floor in self.settings.floors}
        self._measures = np.array([at for at, name in enumerate(names) if name in self._per_host], np.int64)
        self.classes = tuple(names[at] for at in self._measures)
        self._sums = np.ascontiguousarray(sums[:, self._measures])
        # The kernel adds up what isn't zero: class, column and weight.
        self._terms = np.ascontiguousarray(np.argwhere(self._sums.T))
        self._weights = self._sums.T[tuple(self._terms.T)]
        self._scale(scale)
        self._adoptable = np.array([Metric(name) in ADOPTABLE for name in self.classes])
        self._all, self._keys = len(names), keys
        self._told = _told(self.settings)
        self._owners = np.zeros((len(keys), 2), np.int64)
        self._levels: LEVELS = np.zeros((len(keys), len(self.classes)), np.uint16)
        self._ages = np.zeros(len(keys), np.uint16)
        self._met = np.zeros(len(keys), bool)
        self.kept = Kept(kept, len(self.classes))
        self.waiting = Waiting(len(self.classes), self.settings.adopt_seconds)
        self.protect(limits, learned)

    def _scale(self, scale: float) -> None:
        self._floors = np.array([self._per_host[name] * scale for name in self.classes], np.float32)
        self._lowest = level_of(self._floors / self.settings.factor)

    def protect(self, limits: FLOATS, learned: Sequence[bool] = (), scale: float | None = None) -> None:
        """Other zones from now on; what was learned of their weeks is begun anew, what was learned of targets stays.
        `scale`: another one, where given."""
        zones = len(limits)
        if scale is not None:
            self._scale(scale)
        self._static = np.ascontiguousarray(limits[:, self._measures], np.float32)
        self._wanted = np.array([*(learned or [True] * (zones - 1)), False])
        self.rhythm = Rhythm(zones, len(self.classes), self._quietest)
        self.typical: LEVELS = np.tile(self._lowest, (zones, 1))
        """Zone by class: what few of its targets exceed."""
        self.typical_count: FLOATS = np.zeros(zones)
        """How many known targets say so."""
        self._begin(0.0)

    @property
    def known(self) -> int:
        """Targets of which something was learned, with a row or without."""
        return int(np.count_nonzero(self._met & (self._ages > 0))) + len(self.kept)

    @property
    def nbytes(self) -> int:
        """The memory for targets with a row; `kept` has its own."""
        return sum(array.nbytes for array in (self._levels, self._ages, self._met, self._owners))

    def least(self) -> FLOATS:
        """For each measure, the rate per second below which no learned limit lies; infinite where nothing is learned.
        Good for screening: treat it as one more limit."""
        out = np.full(self._all, np.inf)
        out[self._measures] = self._floors
        return out

    def floors(self) -> tuple[float, float]:
        """The same in two numbers, which screen far worse: packets (or flows, or requests) and bits per second."""
        bits = np.array([Metric(name) in BITS for name in self.classes], bool)
        return float(self._floors[~bits].min(initial=np.inf)), float(self._floors[bits].min(initial=np.inf))

    def limits(self, rows: ROWS, zones: ROWS, when: datetime) -> FLOATS:
        """Row by measure, per second; infinite where nothing is learned."""
        out = np.full((len(rows), self._all), np.inf)
        kernel.limits_of(
            rows, zones, self._measures, out, self._levels, self._ages, self._met, self._wanted, VALUES, self._floors,
            self.typical, self._has_typical(), self.rhythm.shape(when), self._told,
        )  # fmt: skip
        return out

    def observe(
        self,
        rows: ROWS,
        rates: FLOATS,
        zones: ROWS,
        frozen: FLAGS,
        seconds: float | FLOATS,
        when: datetime,
        which: ROWS | None = None,
    ) -> None:
        """Learns from the mean rates (row by column, per second) of the last `seconds`, one number or one for each
        row. Rows are different from each other, and may be a part of all; `frozen`: an incident is open; `which`: the
        numbers of the rows that are meant, where not all are."""
        self._zones_turn(when)
        which = np.arange(len(rows)) if which is None else which
        if not len(which):
            return
        mine = rows[which]
        self._meet(mine[~self._met[mine]])
        rows, zones = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(zones, np.int64)
        rates, frozen = np.ascontiguousarray(rates, np.float64), np.ascontiguousarray(frozen, bool)
        # A copy: what is broadcast is read-only, which to the compiler is another type than what was warmed up.
        spans = np.array(np.broadcast_to(np.asarray(seconds, np.float64), len(rows)))
        outcome, shape = np.zeros(len(rows), np.uint8), self.rhythm.shape(when)
        # Visits ten seconds apart get numbers that spread evenly.
        self._told[kernel.DITHER] = when.timestamp() / kernel.UNIT_SECONDS * _GOLDEN % 1
        self._kernel(which, rows, rates, zones, frozen, spans, outcome, shape)
        self._adopt(rows, rates, zones, shape, outcome, spans)

    def _kernel(
        self,
        which: ROWS,
        rows: ROWS,
        rates: FLOATS,
        zones: ROWS,
        frozen: FLAGS,
        seconds: FLOATS,
        outcome: NDArray[np.uint8],
        shape: LIMITS,
    ) -> None:
        kernel.learn(
            which, rows, rates, zones, frozen, seconds,
            self._terms, self._weights, np.zeros(len(self.classes)), outcome,
            self._levels, self._ages, self._lowest, self._adoptable, self._static, self._wanted, VALUES, self._floors,
            self.typical, self._has_typical(), shape, self._told, self._sums_since, self._known_since,
            self._exceeding_since,
        )  # fmt: skip

    def _has_typical(self) -> FLAGS:
        has: FLAGS = self.typical_count >= self.settings.typical_targets
        return has

    def _adopt(
        self, rows: ROWS, rates: FLOATS, zones: ROWS, shape: LIMITS, outcome: NDArray[np.uint8], seconds: FLOATS
    ) -> None:
        if len(self.waiting):
            self.waiting.forget(rows[outcome & kernel.WRONG != 0])
            calm = outcome == kernel.CALM
            self.waiting.below(rows[calm], seconds[calm])
        # Frozen in the pause of an attack, a target is neither above its limits nor at peace.
        above = np.flatnonzero(outcome == kernel.ABOVE)
        if not len(above):
            return
        usual = (rates[above] @ self._sums) / shape[zones[above]]
        ready, normal = self.waiting.over(rows[above], usual, seconds[above])
        adopted = np.where(self._adoptable, level_of(normal), 0)
        self._levels[ready] = np.maximum(self._levels[ready], adopted).astype(np.uint16)
        # Its own level counts from now on, however young it is.
        enough = int(self.settings.grown_after_seconds / kernel.UNIT_SECONDS) + 1
        self._ages[ready] = np.maximum(self._ages[ready], min(enough, kernel.OLDEST))

    def _zones_turn(self, when: datetime) -> None:
        """Each minute, what all targets of the zones got since the last one."""
        now = when.timestamp()
        elapsed = now - self._since
        if 0 <= elapsed < ZONES_SECONDS:
            return
        # A clock that was set, or a sensor that slept, says nothing of rates.
        if 0 < elapsed < 10 * ZONES_SECONDS:
            self.rhythm.learn(self._sums_since / elapsed, when)
            self.typical_count = self._known_since / elapsed
            more = self._exceeding_since > _TYPICAL_SHARE * self._known_since[:, None]
            moved = self.typical + np.where(more, _TYPICAL_STEP, -_TYPICAL_STEP)
            self.typical = np.clip(moved, self._lowest, kernel.OLDEST).astype(np.uint16)
        self._begin(now)

    def _begin(self, now: float) -> None:
        zones, classes = len(self._static), len(self.classes)
        self._since, self._known_since = now, np.zeros(zones)
        self._sums_since, self._exceeding_since = np.zeros((zones, classes)), np.zeros((zones, classes))

    def warm_up(self) -> None:
        """Compiles the kernel, or loads it, so that no observation waits for it."""
        nobody, moment = np.zeros(0, np.int64), datetime.fromtimestamp(0, UTC)
        self.limits(nobody, nobody, moment)
        rates, shape = np.zeros((0, len(self._sums))), self.rhythm.shape(moment)
        self._kernel(nobody, nobody, rates, nobody, np.zeros(0, bool), np.zeros(0), np.zeros(0, np.uint8), shape)

    def forget(self, rows: ROWS) -> None:
        """These rows belong to other targets now; what was learned of the old ones is kept for their return."""
        known = rows[self._met[rows]]
        self.kept.put(self._targets(known))
        self.waiting.forget(rows)
        self._met[rows] = False

    def _meet(self, rows: ROWS) -> None:
        """Rows seen for the first time: what was learned of their targets earlier, or the least."""
        if not len(rows):
            return
        self._owners[rows] = self._keys[rows]
        found = self.kept.take(self._owners[rows])
        self._levels[rows] = np.maximum(found.levels * (found.ages > 0)[:, None], self._lowest)
        self._ages[rows] = found.ages
        self._met[rows] = True

    def _targets(self, rows: ROWS) -> Targets:
        return Targets(self._owners[rows], self._levels[rows], self._ages[rows])

    def all(self) -> Targets:
        """Everything learned of targets, with a row or without: what a file keeps."""
        mine, kept = self._targets(np.flatnonzero(self._met & (self._ages > 0))), self.kept.all()
        return Targets(
            np.concatenate((kept.keys, mine.keys)),
            np.concatenate((kept.levels, mine.levels)),
            np.concatenate((kept.ages, mine.ages)),
        )

    def restore(self, targets: Targets) -> None:
        """Takes what an earlier run learned; targets are recognised by their keys when they are observed next."""
        self.kept.put(targets)
        self.forget(np.flatnonzero(self._met & (self._ages == 0)))


def _told(settings: Learning) -> FLOATS:
    """What the kernel must know; the dither is set with each observation."""
    told = np.zeros(kernel.TOLD)
    told[kernel.FACTOR], told[kernel.YOUNG], told[kernel.QUANTILE] = (
        settings.factor, settings.young_factor, settings.quantile,
    )  # fmt: skip
    # So that a target which is always above its level grows by one octave in that time, and no faster.
    told[kernel.STEP] = STEPS * kernel.UNIT_SECONDS / settings.doubling_seconds / settings.quantile
    told[kernel.FIRST] = STEPS * _FIRST_OCTAVES
    told[kernel.JUDGED] = settings.judged_after_seconds / kernel.UNIT_SECONDS
    told[kernel.GROWN] = settings.grown_after_seconds / kernel.UNIT_SECONDS
    told[kernel.EARLY] = told[kernel.GROWN] * _EARLY_SHARE
    return told
