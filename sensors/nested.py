"""Which prefixes are under attack, once what is told of hosts and narrower prefixes inside them is taken away.

A prefix is stepped with what is left; when it is found under attack, the narrowest part that explains it becomes the
target, and nothing else in or around it is reported for the same traffic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rules.zone import Zone
from sensors.covering import Covering
from sensors.crowds import Crowd
from sensors.detect import Change, Detector
from sensors.limits import FLOATS
from sensors.readings import BITS, SHORT, Readings
from sensors.tables import LINE, WHOLE_ZONE, Tables
from sensors.window import Windows

Follow = Callable[[Change, int, int, Readings, int], None]
"""Takes what happened to a row, and the number of its reading (`sensors.following`)."""
PATIENCE_NS = 1_000_000_000
"""How long an attack on a prefix waits for its parts to be known."""


@dataclass(frozen=True, slots=True)
class _Left:
    """Readings of prefixes with what is reported inside taken away."""

    severity: FLOATS
    crossed: BITS


class Nested:
    """Steps the prefixes after the hosts, at each tick."""

    def __init__(self, tables: Tables, covering: Covering, detector: Detector) -> None:
        self._tables, self._covering, self._detector = tables, covering, detector

    def step(
        self,
        readings: Readings,
        crowd: Crowd,
        windows: Windows,
        zones: Sequence[Zone],
        now: int,
        follow: Follow,
    ) -> None:
        """Takes the readings of one tick; what a crowd's hosts get stays with the prefix."""
        is_wide = readings.lines > 0
        # What is taken away makes nothing louder.
        if not (is_wide & ((readings.loud != 0) | readings.tracked)).any():
            return
        order = np.flatnonzero(is_wide)
        # Narrow before wide: lines of one family ascend with width, and zones are last.
        order = order[np.argsort(readings.lines[order], kind="stable")]
        rows = readings.rows[order].tolist()
        places = {row: place for place, row in enumerate(rows)}
        left = self._left(readings, crowd.waiting, order, places, windows)
        interesting = set(np.flatnonzero((left.severity >= 1).any(axis=1) | left.crossed.any(axis=1)).tolist())
        begun: set[int] = set()
        for place in range(len(rows) - 1, -1, -1):
            row = rows[place]
            track = self._detector.tracks.get(row)
            if track is None and place not in interesting:
                continue
            number = int(order[place])
            around = set(self._covering.above(row))
            if (track is None or track.opened is None) and (around & begun or self._any_open(around)):
                self._detector.forget(row)
                continue
            severity = left.severity[place].tolist()
            crossed = left.crossed[place].tolist()
            change = self._detector.step(row, self._name(row), severity, [0.0] * len(severity), crossed, now)
            if change is Change.STARTED:
                begun.add(row)
                zone = zones[int(readings.zones[number])]
                members = next((crowd.members[one] for one in (row, *around) if one in crowd.members), [])
                found = self._explained(row, members, zone, windows, now)
                if found is None:
                    continue
                begun.add(found)
                number = int(order[places[found]]) if found in places else number
                row = found
            follow(change, row, number, readings, now)

    def _name(self, row: int) -> object:
        """What recurrence is told by."""
        return -row if row >= self._covering.first_zone else self._tables.host(row)

    def _any_open(self, rows: set[int]) -> bool:
        tracks = self._detector.tracks
        return any(row in tracks and tracks[row].opened is not None for row in rows)

    def _left(
        self,
        readings: Readings,
        waiting: NDArray[np.bool_],
        order: NDArray[np.int64],
        places: dict[int, int],
        windows: Windows,
    ) -> _Left:
        """What prefixes get besides what is above its own limit or reported inside them. `places`: of their rows in
        `order`."""
        rates = tuple(window[order] for window in readings.rates)
        tracks = self._detector.tracks
        # Hosts that are only above their limit count as well: a prefix is no sooner reported than they are.
        hot = np.flatnonzero((readings.lines == 0) & (readings.severity.max(axis=1) >= 1))
        lines = readings.lines.tolist()
        known = [at for at, row in enumerate(readings.rows.tolist()) if lines[at] == 0 and row in tracks]
        for at in {*hot.tolist(), *known} - self._acquitted(readings) - {*np.flatnonzero(waiting).tolist()}:
            for above in self._covering.above(int(readings.rows[at])):
                if (place := places.get(above)) is not None:
                    for window, given in zip(rates, readings.rates, strict=True):
                        window[place] -= given[at]
        for row, place in places.items():
            if row in tracks and tracks[row].opened is not None:
                for above in self._covering.above(row):
                    if (wider := places.get(above)) is not None:
                        # A part is counted since its prefix is divided: longer windows may know too little of it.
                        now = rates[SHORT][place].copy()
                        for window in rates:
                            window[wider] -= np.maximum(window[place], now)
        for window in rates:
            np.maximum(window, 0, out=window)
        three = (rates[0], rates[1], rates[2])
        judged = windows.yardstick.judge(three, readings.limits[order], readings.learned[order], readings.short_seconds)
        return _Left(judged.severity, judged.crossed)

    def _acquitted(self, readings: Readings) -> set[int]:
        """Readings of hosts that were looked at closer and aren't attacked by themselves: many such may be a carpet."""
        tracks = self._detector.tracks
        return {
            at
            for at, row in enumerate(readings.rows.tolist())
            if (track := tracks.get(row)) is not None and track.is_acquitted
        }

    def _explained(self, row: int, members: list[int], zone: Zone, windows: Windows, now: int) -> int | None:
        """The row of the narrowest target that explains an attack and holds all `members` of its crowd; its track is
        moved there. None: there is none that the zone holds, or it isn't known yet."""
        if self._tables.rows[row, LINE] == WHOLE_ZONE:
            return row
        track = self._detector.tracks[row]
        found, known = self._covering.narrowest(row, self._rates(row, windows, track.worst), zone)
        early = not known and now - track.first_over < PATIENCE_NS
        if early and self._covering.begin_parts(row if found is None else found, now):
            self._detector.reject(row, now)
            return None
        if found is None:
            self._detector.forget(row)
            return None
        around = self._covering.around([found, *members])
        found = next((one for one in around if zone.holds(self._tables.host(one))), found)
        # What is told of already goes on as it is.
        if found != row and not self._any_open({found}):
            self._detector.tracks[found] = self._detector.tracks.pop(row)
            return found
        return row

    def _rates(self, row: int, windows: Windows, measure: int) -> dict[int, float]:
        """What each part of a prefix gets, by row, without what is told of by itself: hosts, and narrower prefixes."""
        parts = self._covering.watched.tolist()
        rates = dict(zip(parts, windows.rates_of(parts, measure), strict=True))
        tracks, lines = self._detector.tracks.items(), self._tables.rows[:, LINE]
        told = [one for one, track in tracks if track.opened is not None and row in self._covering.above(one)]
        # Narrow before wide, so that nothing is taken away twice.
        told.sort(key=lambda one: int(lines[one]))
        for one, raw in zip(told, windows.rates_of(told, measure), strict=True):
            rate = max(rates.get(one, raw), 0.0)
            for inside in (one, *self._covering.above(one)):
                if inside in rates:
                    rates[inside] = max(rates[inside] - rate, 0.0)
        return rates
