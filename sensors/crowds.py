"""Hosts of one prefix that are above their limits together: a carpet, told once and of the prefix.

A hundred victims side by side would be a hundred incidents and a hundred rules for one attack. Such hosts wait for
their prefix, for a moment at most, and once it is under attack they are a part of that. Who gets far more than the
others doesn't wait, nor who is hit in another way.
"""

from dataclasses import dataclass

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
NEW = 4
"""And so many of them since a moment ago: one more victim among many that were told is one more victim."""
STANDS_OUT = 8.0
"""Who gets more than so many times what those in the middle get has an attack of its own."""
PART = 0.25
"""The share of an attack on a prefix up to which a host's is a part of it."""
PATIENCE_NS = 2_000_000_000
"""How long a host waits for its prefix."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What one tick says of hosts that are attacked together."""

    waiting: BOOLS
    """By reading: the hosts that aren't followed by themselves."""
    members: dict[int, list[int]]
    """All who make a crowd, those who were told before among them, by the row of their /24 or /48."""


@dataclass(frozen=True, slots=True)
class _Hot:
    """Hosts above a limit."""

    rows: ROWS
    measures: ROWS
    """What each crosses most, or was found under attack by."""
    windows: ROWS
    rates: FLOATS
    """In that measure and window."""
    opened: BOOLS
    """Which are under attack by themselves."""


class Crowds:
    """Tells at each tick who waits."""

    def __init__(self, tables: Tables, covering: Covering, detector: Detector) -> None:
        self._tables, self._covering, self._detector = tables, covering, detector

    def look(self, readings: Readings, sums: FLOATS, now: int) -> Crowd:
        """Takes the readings of one tick. `sums`: what measures are made of, as in `limits.Measures`."""
        out = Crowd(np.zeros(len(readings.rows), bool), {})
        is_hot = (readings.severity.max(axis=1) >= 1) | readings.crossed.any(axis=1) | readings.tracked
        at = np.flatnonzero((readings.lines == 0) & is_hot)
        attacked = self._attacked_prefixes()
        if len(at) < (1 if attacked else LEAST):
            return out
        spans = np.stack(readings.rates)
        hot = self._hot(readings, at, spans, sums)
        wholes = {row: spans[:, at] @ sums for at, row in enumerate(readings.rows.tolist()) if row in attacked}
        is_part = self._are_parts(hot, wholes)
        is_new = ~hot.opened & ~is_part
        out.waiting[at[is_part & ~hot.opened]] = True
        for place in np.flatnonzero(self._crowded(readings, hot, is_new, out.members)).tolist():
            out.waiting[at[place]] = self._may_wait(int(hot.rows[place]), now)
        return out

    def _hot(self, readings: Readings, at: ROWS, spans: FLOATS, sums: FLOATS) -> _Hot:
        severity, rows = readings.severity[at], readings.rows[at]
        is_loud = severity.max(axis=1) >= 1
        # The longest window tells of what was, too.
        windows = np.where(is_loud, MIDDLE, LONG)
        measures = np.where(is_loud, severity.argmax(axis=1), (readings.crossed[at] != 0).argmax(axis=1))
        opened = np.zeros(len(at), bool)
        for number, row in enumerate(rows.tolist()):
            track = self._detector.tracks.get(row)
            if track is not None and track.opened is not None:
                opened[number], measures[number] = True, track.worst
        rates = (spans[windows, at] * sums.T[measures]).sum(axis=1)
        return _Hot(rows, measures, windows, rates, opened)

    def released(self, readings: Readings, crowd: Crowd, pausing: bool) -> ROWS:
        """Readings of those who need wait no longer, after the prefixes were looked at: theirs is no attack. `pausing`:
        nothing comes that could make it one."""
        attacked, rows = self._attacked_prefixes(), readings.rows
        found = [
            at
            for at in np.flatnonzero(crowd.waiting).tolist()
            if (pausing or self._is_acquitted(int(rows[at])))
            and attacked.isdisjoint(self._covering.above(int(rows[at])))
        ]
        return np.array(found, np.int64)

    def _attacked_prefixes(self) -> set[int]:
        zones = self._covering.first_zone
        lines = self._tables.rows[:, LINE]
        tracks = self._detector.tracks.items()
        return {row for row, track in tracks if track.opened is not None and lines[row] and row < zones}

    def _crowded(self, readings: Readings, hot: _Hot, is_new: BOOLS, members: dict[int, list[int]]) -> BOOLS:
        """Which of the new hosts are above the same limit as many others of a prefix that is above its own; all these
        go to `members`."""
        out = np.zeros(len(hot.rows), bool)
        parents = self._tables.rows[hot.rows, PARENT]
        names = parents * readings.limits.shape[1] + hot.measures
        _, which, counts = np.unique(names, return_inverse=True, return_counts=True)
        for group in np.flatnonzero(counts >= LEAST).tolist():
            places = np.flatnonzero(which == group)
            parent, measure = int(parents[places[0]]), int(hot.measures[places[0]])
            if parent < 0 or not is_new[places].any():
                continue
            even = places[hot.rates[places] <= STANDS_OUT * np.median(hot.rates[places[is_new[places]]])]
            new = even[is_new[even]]
            is_above = bool((readings.severity[readings.rows == parent, measure] >= 1).any())
            if len(new) >= NEW and len(even) >= LEAST and is_above:
                out[new] = True
                members[parent] = hot.rows[even].tolist()
        return out

    def _are_parts(self, hot: _Hot, wholes: dict[int, FLOATS]) -> BOOLS:
        """Which hosts' are small parts of an attack on a prefix around them. `wholes`: what these get, by window and
        measure."""
        out = np.zeros(len(hot.rows), bool)
        for place, (row, measure) in enumerate(zip(hot.rows.tolist(), hot.measures.tolist(), strict=True)):
            for above in self._covering.above(row):
                if above in wholes and measure in self._detector.tracks[above].crossed:
                    out[place] = hot.rates[place] <= PART * wholes[above][hot.windows[place], measure]
                    break
        return out

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
