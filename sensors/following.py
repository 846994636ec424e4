"""From readings to attacks: each target that is busy is stepped, an attack is opened where that says so, and measured
as long as it goes on. Detections are told elsewhere (`sensors.telling`). Reads no clock.
"""

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from rules.traffic import State
from rules.zone import Metric, Zone
from sensors.attack import Attack
from sensors.describe import Describer
from sensors.detect import Change, Detector
from sensors.readings import LONG, MIDDLE, SHORT, Readings
from sensors.settings import Detecting
from sensors.tables import ATTACKED, KEY_HIGH, KEY_LOW, LINE, PINNED, WHOLE_ZONE, ZONE, Tables
from sensors.telling import Telling
from sensors.window import Windows
from sensors.window_kernel import CROSSED, FAR_ABOVE
from sensors.within import inside

LOOK_AGAIN_NS = 250_000_000
"""How long a closer look that found no attack is good for."""
NO_ZONE = "-"


class Following:
    """The attacks of one sensor."""

    def __init__(
        self,
        detector: Detector,
        describer: Describer,
        windows: Windows,
        telling: Telling,
        settings: Detecting,
        *,
        sensor: str,
        judging: bool,
    ) -> None:
        """The engine's parts; `judging`: look closer before calling something an attack (`sensors.judge`)."""
        self._detector, self._describer, self._windows, self._telling = detector, describer, windows, telling
        self._settings, self._sensor, self._judging = settings, sensor, judging
        self._tables: Tables
        self._zones: tuple[Zone, ...] = ()
        self._names: tuple[str, ...] = ()
        self._started, self._ending = 0, False
        self.suspicions = 0
        """Limits crossed in one window only."""

    def protect(self, tables: Tables, zones: Sequence[Zone], names: tuple[str, ...]) -> None:
        """What is followed from now on; `names`: of the measures."""
        self._tables, self._zones, self._names = tables, tuple(zones), names

    def start(self, now: int) -> None:
        """Traffic counts from `now` on (ns)."""
        self._started = now

    def pause(self, pausing: bool) -> None:
        """Whether what the next tick tells is the last of a capture, for a while or at all."""
        self._ending = pausing

    def step(self, readings: Readings, waiting: NDArray[np.bool_], now: int) -> None:
        """Follows the hosts among the readings, those who are `waiting` without calling them attacked."""
        loud = readings.loud & (CROSSED | FAR_ABOVE) != 0
        for number in np.flatnonzero((loud | readings.tracked) & (readings.lines == 0)).tolist():
            self.step_one(readings, number, now, waits=bool(waiting[number]))

    def step_one(self, readings: Readings, number: int, now: int, *, waits: bool = False) -> None:
        """Follows one host."""
        row = int(readings.rows[number])
        host = (int(self._tables.rows[row, KEY_HIGH]), int(self._tables.rows[row, KEY_LOW]))
        severity, fast = readings.severity[number].tolist(), readings.fast[number].tolist()
        crossed = readings.crossed[number].tolist()
        change = self._detector.step(row, host, severity, fast, crossed, now, waits=waits)
        self.follow(change, row, number, readings, now)

    def follow(self, change: Change, row: int, number: int, readings: Readings, now: int) -> None:
        """Takes what happened to a row; `number`: of its reading."""
        attack = self._telling.attacks.get(row)
        if change is Change.CLEARED:
            self.suspicions += 1
        elif change is Change.STARTED:
            attack = self._open(row, number, readings, now)
        if attack is None:
            return
        track = self._detector.tracks.get(row)
        window = SHORT if change is Change.STARTED else MIDDLE
        severity = track.severity if track else 0.0
        now_rates = readings.rates[window][number]
        peak = readings.rates[LONG][number] * self._whole(readings, now) if self._judging else now_rates
        attack.measured(now_rates, peak, severity)
        attack.packets = int((self._tables.rows[row, :PINNED] - attack.before)[attack.column])
        if track and track.last_hot == now:
            attack.last_ns = self._tables.clock_ns
        if state := {Change.STARTED: State.STARTED, Change.ONGOING: State.ONGOING, Change.OVER: State.OVER}.get(change):
            self._telling.note(row, state)

    def _whole(self, readings: Readings, now: int) -> float:
        """The share of a long window that there was. A capture's first second is no second yet: what a burst would have
        been, had it lasted, is no peak."""
        long = self._settings.long_seconds
        is_short = self._ending and now - self._started < long * 1e9
        return 1.0 if is_short else min(1.0, readings.long_seconds / long)

    def _open(self, row: int, number: int, readings: Readings, now: int) -> Attack | None:
        """The attack that a track became; None when a closer look finds none."""
        track = self._detector.tracks[row]
        clock = self._tables.clock_ns
        first = clock - (now - track.first_over) - int(self._settings.short_seconds * 1e9)
        verdict = None
        if self._judging:
            span = min(self._settings.long_seconds, (now - self._started) / 1e9)
            verdict, incoming = self._describer.judge(self._tables, self._tables.host(row), span, now, self._ending)
            if not verdict.guilty:
                self._detector.reject(row, now + LOOK_AGAIN_NS, acquitted=len(incoming) > 0)
                return None
            first = int(incoming["time"][verdict.attack][0])
        zone = int(self._tables.rows[row, ZONE])
        self._tables.rows[row, PINNED] |= ATTACKED
        attack = self._telling.attacks[row] = Attack(
            id=f"{self._sensor[:40]}-{secrets.token_hex(8)}",
            target=self._target(row, first),
            zone=self._zones[zone].name if zone < len(self._zones) else NO_ZONE,
            metric=Metric(self._names[track.worst]),
            before=self._windows.before(row),
            first_ns=first,
            last_ns=clock,
        )
        if verdict:
            attack.convict(incoming["kind"], verdict)
        return attack

    def _target(self, row: int, first_ns: int) -> Network:
        """What a row's attack is on; of a zone's, its prefix that gets most."""
        if self._tables.rows[row, LINE] != WHOLE_ZONE:
            return self._tables.host(row)
        zone = self._zones[int(self._tables.rows[row, ZONE])]
        recent = self._tables.since(first_ns)
        return max(zone.prefixes, key=lambda prefix: int(inside(prefix, recent, "destination").sum()))
