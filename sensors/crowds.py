"""Hosts of one prefix that are above their limits together: a carpet, told once and of the prefix.

A hundred victims side by side would be a hundred incidents and a hundred rules for one attack. Such hosts wait for
their prefix, for a moment at most, and once it is under attack they are a part of that. Who gets far more than the
others doesn't wait, nor who is hit in another way.
"""

import numpy as np
from numpy.typing import NDArray

from sensors.covering import Covering
from sensors.detect import Detector
from sensors.limits import FLOATS
from sensors.readings import LONG, MIDDLE, Readings
from sensors.tables import LINE, PARENT, ZONE, Tables
from sensors.watch import ROWS

BOOLS = NDArray[np.bool_]

LEAST = 16
"""So many hosts of a /24 or /48 that are above the same limit at once are a carpet."""
STANDS_OUT = 8.0
"""Who gets more than so many times what those in the middle get has an attack of its own."""
PART = 0.25
"""The share of an attack on a prefix up to which a host's is a part of it."""
PATIENCE_NS = 2_000_000_000
"""How long a host waits for its prefix."""


class Crowds:
    """Tells at each tick who waits."""

    def __init__(self, tables: Tables, covering: Covering, detector: Detector) -> None:
        self._tables, self._covering, self._detector = tables, covering, detector

    def waiting(self, readings: Readings, sums: FLOATS, now: int) -> BOOLS:
        """By reading: the hosts that aren't followed by themselves. `sums`: what measures are made of, as in
        `limits.Measures`."""
        out = np.zeros(len(readings.rows), bool)
        is_loud, is_crossed = readings.severity.max(axis=1) >= 1, readings.crossed.any(axis=1)
        hot = np.flatnonzero((readings.lines == 0) & (is_loud | is_crossed | readings.tracked))
        attacked = self._attacked_prefixes()
        if len(hot) < (1 if attacked else LEAST):
            return out
        # The longest window tells of what was, too.
        windows = np.where(is_loud[hot], MIDDLE, LONG)
        worst = np.where(
            is_loud[hot], readings.severity[hot].argmax(axis=1), (readings.crossed[hot] != 0).argmax(axis=1)
        )
        spans = np.stack(readings.rates)
        rates = (spans[windows, hot] * sums.T[worst]).sum(axis=1)
        wholes = {row: spans[:, at] @ sums for at, row in enumerate(readings.rows.tolist()) if row in attacked}
        free = np.zeros(len(hot), bool)
        for number, row in enumerate(readings.rows[hot].tolist()):
            track = self._detector.tracks.get(row)
            measure, window, rate = int(worst[number]), int(windows[number]), float(rates[number])
            is_part = self._is_part(row, measure, window, rate, wholes)
            out[hot[number]] = is_part and (track is None or track.opened is None)
            free[number] = not is_part
        left = hot[free]
        for at in left[self._crowded(readings, left, worst[free], rates[free])].tolist():
            out[at] = self._may_wait(int(readings.rows[at]), now)
        return out

    def released(self, readings: Readings, waiting: BOOLS, pausing: bool) -> ROWS:
        """Readings of those who need wait no longer, after the prefixes were looked at: theirs is no attack. `pausing`:
        nothing comes that could make it one."""
        attacked, rows = self._attacked_prefixes(), readings.rows
        found = [
            at
            for at in np.flatnonzero(waiting).tolist()
            if attacked.isdisjoint(self._covering.above(int(rows[at])))
            and (pausing or self._is_acquitted(int(rows[at])))
        ]
        return np.array(found, np.int64)

    def _attacked_prefixes(self) -> set[int]:
        zones = self._covering.first_zone
        lines = self._tables.rows[:, LINE]
        tracks = self._detector.tracks.items()
        return {row for row, track in tracks if track.opened is not None and lines[row] and row < zones}

    def _crowded(self, readings: Readings, hot: ROWS, worst: ROWS, rates: FLOATS) -> BOOLS:
        """Which of the hosts are above the same limit as many others of a prefix that is above its own."""
        out = np.zeros(len(hot), bool)
        parents = self._tables.rows[readings.rows[hot], PARENT]
        names = parents * readings.limits.shape[1] + worst
        _, which, counts = np.unique(names, return_inverse=True, return_counts=True)
        for group in np.flatnonzero(counts >= LEAST).tolist():
            members = np.flatnonzero(which == group)
            parent, measure = int(parents[members[0]]), int(worst[members[0]])
            even = members[rates[members] <= STANDS_OUT * np.median(rates[members])]
            is_above = bool((readings.severity[readings.rows == parent, measure] >= 1).any())
            if parent >= 0 and len(even) >= LEAST and is_above:
                out[even] = True
        return out

    def _is_part(self, row: int, measure: int, window: int, rate: float, wholes: dict[int, FLOATS]) -> bool:
        """Whether what a host gets is a small part of an attack on a prefix around it. `wholes`: what these get, by
        window and measure."""
        for above in self._covering.above(row):
            if above in wholes and measure in self._detector.tracks[above].crossed:
                return rate <= PART * float(wholes[above][window, measure])
        return False

    def _may_wait(self, row: int, now: int) -> bool:
        """Not for ever, nor for a prefix that was acquitted, nor where a zone's attack keeps it from being told."""
        track = self._detector.tracks.get(row)
        if track is not None and (track.opened is not None or now - track.first_over > PATIENCE_NS):
            return False
        zone = self._covering.first_zone + int(self._tables.rows[row, ZONE])
        whole = self._detector.tracks.get(zone)
        return not self._is_acquitted(row) and (whole is None or whole.opened is None)

    def _is_acquitted(self, row: int) -> bool:
        track = self._detector.tracks.get(int(self._tables.rows[row, PARENT]))
        return track is not None and track.is_acquitted
