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
from sensors.baseline_rhythm import Rhythm

FLOATS = NDArray[np.float64]
LIMITS = NDArray[np.float32]
ROWS = NDArray[np.int64]
FLAGS = NDArray[np.bool_]

OBSERVED_SECONDS = 10.0
"""The unit of age, and how often `observe` is meant to be called."""
_FIRST_OCTAVES = 4.0
"""A target seen for the n-th time may move by this over n, but by one at most, until the usual step is greater, after
four days; less would not find a heavy tail's quantile in a day."""
_TYPICAL_SHARE = 0.05
"""The part of a zone's targets that lies above what is typical."""
_TYPICAL_STEP = STEPS // 8
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
    ) -> None:
        """`keys`: row by two words, a live view of who has which row; `names`, `sums`, `limits`: as in
        `sensors.window.Measures`, the last line of limits for targets outside every zone; `learned`: which zones
        want learned limits (default: all); `scale`: how many hosts' floors a target gets; `kept`: how many targets
        without a row are remembered, a power of two."""
        self.settings = settings or Learning()
        floors = {metric.value: floor * scale for metric, floor in self.settings.floors}
        self._measures = np.array([at for at, name in enumerate(names) if name in floors], np.int64)
        self.classes = tuple(names[at] for at in self._measures)
        self._sums = np.ascontiguousarray(sums[:, self._measures])
        # The kernel adds up what isn't zero: class, column and weight.
        self._terms = np.ascontiguousarray(np.argwhere(self._sums.T))
        self._weights = self._sums.T[tuple(self._terms.T)]
        self._floors = np.array([floors[name] for name in self.classes], np.float32)
        self._lowest = level_of(self._floors / self.settings.factor)
        self._adoptable = np.array([Metric(name) in ADOPTABLE for name in self.classes])
        self._all, self._keys, self._turn = len(names), keys, 0
        self._told = _told(self.settings)
        self._owners = np.zeros((len(keys), 2), np.int64)
        self._levels: LEVELS = np.zeros((len(keys), len(self.classes)), np.uint16)
        self._ages = np.zeros(len(keys), np.uint16)
        self._met = np.zeros(len(keys), bool)
        self.kept = Kept(kept, len(self.classes))
        self.waiting = Waiting(len(self.classes), self.settings.adopt_seconds)
        self.protect(limits, learned)

    def protect(self, limits: FLOATS, learned: Sequence[bool] = ()) -> None:
        """Other zones from now on; what was learned of their weeks is begun anew, what was learned of targets stays."""
        zones = len(limits)
        self._static = np.ascontiguousarray(limits[:, self._measures], np.float32)
        self._wanted = np.array([*(learned or [True] * (zones - 1)), False])
        self.rhythm = Rhythm(zones, len(self.classes))
        self.typical: LEVELS = np.tile(self._lowest, (zones, 1))
        """Zone by class: what few of its targets exceed."""
        self.typical_count: NDArray[np.int64] = np.zeros(zones, np.int64)
        """How many known targets say so."""

    @property
    def nbytes(self) -> int:
        """The memory for targets with a row; `kept` has its own."""
        return sum(array.nbytes for array in (self._levels, self._ages, self._met, self._owners))

    def floors(self) -> tuple[float, float]:
        """Packets (or flows, or requests) and bits per second below which nothing is ever judged; infinite where no
        such class is learned."""
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

    def observe(self, rows: ROWS, rates: FLOATS, zones: ROWS, frozen: FLAGS, seconds: float, when: datetime) -> None:
        """Learns from the mean rates (row by column, per second) of the last `seconds`. Rows are different from each
        other; `frozen`: an incident is open on the target."""
        if not len(rows) or seconds <= 0:
            return
        self._meet(rows[~self._met[rows]])
        rows, zones = np.ascontiguousarray(rows, np.int64), np.ascontiguousarray(zones, np.int64)
        rates, frozen = np.ascontiguousarray(rates, np.float64), np.ascontiguousarray(frozen, bool)
        self._next_step(seconds)
        zone_count = len(self._static)
        sums, known, exceeding = np.zeros(zone_count), np.zeros(zone_count, np.int64), np.zeros(zone_count, np.int64)
        outcome, shape = np.zeros(len(rows), np.uint8), self.rhythm.shape(when)
        kernel.learn(
            rows, rates, zones, frozen, self._terms, self._weights, np.zeros(len(self.classes)), outcome,
            self._levels, self._ages, self._lowest, self._adoptable, self._static, self._wanted, VALUES, self._floors,
            self.typical, self._has_typical(), shape, self._told, self._turn, sums, known, exceeding,
        )  # fmt: skip
        self._adopt(rows, rates, shape[zones], outcome, seconds)
        self._learn_zones(sums, known, exceeding, when)

    def _has_typical(self) -> FLAGS:
        has: FLAGS = self.typical_count >= self.settings.typical_targets
        return has

    def _next_step(self, seconds: float) -> None:
        told, units = self.settings, seconds / OBSERVED_SECONDS
        self._told[kernel.DITHER] = (self._told[kernel.DITHER] + _GOLDEN) % 1
        # So that a target which is always above its level grows by one octave in that time, and no faster.
        self._told[kernel.STEP] = STEPS * seconds / told.doubling_seconds / told.quantile
        self._told[kernel.FIRST] = STEPS * _FIRST_OCTAVES * units
        self._told[kernel.UNITS] = units
        # One class of the zones each time, since zones change slowly.
        self._turn = (self._turn + 1) % len(self.classes)

    def _adopt(self, rows: ROWS, rates: FLOATS, shape: LIMITS, outcome: NDArray[np.uint8], seconds: float) -> None:
        self.waiting.forget(rows[outcome & kernel.WRONG != 0])
        self.waiting.below(rows[outcome == kernel.CALM], seconds)
        # Frozen in the pause of an attack, a target is neither above its limits nor at peace.
        above = np.flatnonzero(outcome == kernel.ABOVE)
        if not len(above):
            return
        usual = (rates[above] @ self._sums) / shape[above]
        ready, normal = self.waiting.over(rows[above], usual, seconds)
        adopted = np.where(self._adoptable, level_of(normal), 0)
        self._levels[ready] = np.maximum(self._levels[ready], adopted).astype(np.uint16)
        # Its own level counts from now on, however young it is.
        enough = int(self.settings.grown_after_seconds / OBSERVED_SECONDS) + 1
        self._ages[ready] = np.maximum(self._ages[ready], min(enough, kernel.OLDEST))

    def _learn_zones(
        self, sums: FLOATS, known: NDArray[np.int64], exceeding: NDArray[np.int64], when: datetime
    ) -> None:
        kind, self.typical_count = self._turn, known
        self.rhythm.learn(kind, sums, when)
        more = exceeding > _TYPICAL_SHARE * known
        moved = self.typical[:, kind] + np.where(more, _TYPICAL_STEP, -_TYPICAL_STEP)
        self.typical[:, kind] = np.clip(moved, self._lowest[kind], kernel.OLDEST).astype(np.uint16)

    def warm_up(self) -> None:
        """Compiles the kernel, or loads it, so that no observation waits for it."""
        nobody, moment = np.zeros(0, np.int64), datetime.fromtimestamp(0, UTC)
        self.limits(nobody, nobody, moment)
        kernel.learn(
            nobody, np.zeros((0, len(self._sums))), nobody, np.zeros(0, bool), self._terms, self._weights,
            np.zeros(len(self.classes)), np.zeros(0, np.uint8), self._levels, self._ages, self._lowest,
            self._adoptable, self._static, self._wanted, VALUES, self._floors, self.typical, self._has_typical(),
            self.rhythm.shape(moment), self._told, 0, np.zeros(1), nobody, nobody,
        )  # fmt: skip

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
    """What the kernel must know; steps are set with each observation."""
    told = np.zeros(kernel.TOLD)
    told[kernel.FACTOR], told[kernel.YOUNG], told[kernel.QUANTILE] = (
        settings.factor, settings.young_factor, settings.quantile,
    )  # fmt: skip
    told[kernel.JUDGED] = settings.judged_after_seconds / OBSERVED_SECONDS
    told[kernel.GROWN] = settings.grown_after_seconds / OBSERVED_SECONDS
    return told
