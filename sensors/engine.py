"""The engine: tables, windows, detector and classification, put together. The same for interfaces and for capture
files.

Who feeds the tables calls `tick`; detections go to a callback at once. Reads no clock: `now` is an argument.
"""

import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from rules.match import Network
from rules.traffic import Detection, State, Vantage
from rules.zone import Metric, Zone
from sensors import sources, tables, walk
from sensors.attack import Attack
from sensors.baseline_limits import Learning
from sensors.covering import Covering
from sensors.describe import Describer
from sensors.detect import Change, Detector
from sensors.headers import Kind
from sensors.judge import inside
from sensors.learned import LearnedLimits, frozen
from sensors.limits import zone_measures
from sensors.nested import Nested
from sensors.settings import Detecting, Memory
from sensors.sources import Sources
from sensors.tables import ATTACKED, COVERING, LINE, PINNED, WHOLE_ZONE
from sensors.usual import Usual
from sensors.window import LONG, MIDDLE, SHORT, Measures, Readings, Windows

__all__ = ["Emit", "Engine", "zone_measures"]

Emit = Callable[[Detection, Attack], None]
"""Takes each message, and the attack as the engine keeps it; must not block."""

SPOKEN_PER_TICK, SEARCHED_PER_TICK, DESCRIBED_PER_TICK = 16, 2, 65_536
"""Messages, searches for new rules and packets classified in one tick, so that a thousand targets at once never hold up
the capture. A new attack beyond the searches is told with a glance's vectors and rules, and looked at again later."""
LOOK_AGAIN_NS = 250_000_000
"""How long a closer look that found no attack is good for."""
NO_ZONE = "-"
LIVE_SLOTS, OFFLINE_SLOTS = 8_192, 65_536
"""How many busy targets are watched at a time; a capture file can wait for more."""


class Engine:
    """One sensor's detection, from counters to messages."""

    def __init__(
        self,
        zones: Sequence[Zone],
        emit: Emit,
        *,
        sensor: str = "sensor",
        vantage: Vantage = Vantage.UPSTREAM,
        detecting: Detecting | None = None,
        memory: Memory | None = None,
        measures: Measures | None = None,
        judging: bool = False,
        floor: float | None = None,
        learning: Learning | None = None,
    ) -> None:
        """`judging`: look closer before calling something an attack (`sensors.judge`); `floor`: its explicit
        threshold, packets per second; `measures`: instead of the zones' limits; `learning`: learn further limits for
        the zones that want them (`sensors.learned`)."""
        self._settings = settings = detecting or Detecting()
        sizes = memory or Memory()
        self._emit, self._sensor, self._vantage = emit, sensor, vantage
        self._judging, self._zones = judging, tuple(zones)
        self.tables = tables.make(
            _protected(zones),
            rows=sizes.hosts,
            ring=sizes.recent_packets,
            normal=sizes.normal_packets,
            keep_outgoing=judging,
            conversations=judging,
        )
        self._measures = measures or zone_measures(zones)
        self.tables.state[COVERING] = bool(zones) and self._measures.factors is not None
        self.learned = LearnedLimits(self.tables, self._measures, zones, learning) if learning else None
        self._windows = Windows(
            self.tables,
            self._measures,
            (settings.short_seconds, settings.middle_seconds, settings.long_seconds),
            settings.minimum_packets,
            long_only=judging,
            most=OFFLINE_SLOTS if judging else LIVE_SLOTS,
            floors=self.learned.floors() if self.learned else None,
            sampled=settings.sampled,
        )
        self._detector = Detector(settings)
        self._covering = Covering(self.tables)
        self._covering.reset()
        self._nested = Nested(self.tables, self._covering, self._detector)
        self._usual = Usual(self.tables)
        self._sources = Sources(self.tables)
        self._describer = Describer(settings, judging, floor)
        self._started, self._short, self._ending = 0, False, False
        self._seen: datetime | None = None
        self._now = 0
        self._waiting: deque[tuple[int, State]] = deque()
        self.attacks: dict[int, Attack] = {}
        """Under way, by row."""
        self.suspicions = 0
        """Limits crossed in one window only."""
        self.least_packets = float(self._measures.limits.min())

    def protect(self, zones: Sequence[Zone]) -> None:
        """Other zones from now on. Attacks under way go on; those on hosts that no zone has any more end by
        themselves. Attacks on prefixes and zones end at once: what is left of them is found anew."""
        self._end([row for row in self.attacks if self.tables.rows[row, LINE]])
        prefixes = tables.prefix_table(_protected(zones))
        # The same arrays: only the prefixes are others.
        self.tables = replace(self.tables, prefixes=prefixes)
        self._zones, self._measures = tuple(zones), zone_measures(zones)
        self.tables.state[COVERING] = bool(zones)
        walk.rezone(self.tables.rows, self.tables.used, prefixes, len(zones))
        self._covering.reset()
        self._windows.measure(self._measures)
        if self.learned:
            self.learned.protect(self._measures, zones)

    def _end(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._detector.forget(row)
            self._waiting = deque(item for item in self._waiting if item[0] != row)
            self._waiting.appendleft((row, State.OVER))
        while rows and self._seen and self._waiting and self._waiting[0][1] is State.OVER:
            self._speak(self._seen)

    @property
    def busy(self) -> bool:
        """Whether any target is suspected or under attack."""
        return bool(self._detector.tracks)

    def warm_up(self) -> None:
        """Compiles the kernel; call before the first packet."""
        walk.warm_up(self.tables)
        sources.warm_up(self.tables)

    def start(self, now: int) -> None:
        """Traffic counts from `now` on (ns)."""
        self._started = now
        self._short = False
        self._windows.start(now)
        self._usual.start(now)

    def tick(self, now: int, seen: datetime) -> None:
        """Looks at the counters. `now` never runs backwards, in ns; `seen` goes into the messages."""
        self._seen, self._now = seen, now
        self._covering.add_up()
        self._sources.feed(self.tables)
        learned = self.learned
        readings = self._windows.tick(
            now,
            tuple(self._detector.tracks),
            (*self._covering.watched(), *self._zone_rows()),
            (lambda rows: learned.limits(rows, seen)) if learned else None,
        )
        for row in readings.reborn.tolist():
            self._detector.forget(row)
        self._learn(now, seen)
        self._step_hosts(readings, now)
        if self.tables.state[COVERING]:
            self._nested.step(readings, self._windows, self._zones, now, self._following(readings, now))
            self._covering.divide(readings, self._measures.lines, self._measures.sums, now)
        self._speak(seen)

    def _zone_rows(self) -> range:
        return self._covering.zone_rows(len(self._zones)) if self.tables.state[COVERING] else range(0)

    def _learn(self, now: int, seen: datetime) -> None:
        due = self._usual.due(now, self._zone_rows())
        if self.learned and len(due):
            self.learned.forget(due[self.tables.rows[due, tables.REBORN] != 0])
        rows, rates, seconds = self._usual.visit(due, now)
        if self.learned and len(rows):
            still = frozen(self.tables, self._covering, rows, self.attacks)
            self.learned.observe(rows, rates, still, seconds, seen)

    def _step_hosts(self, readings: Readings, now: int) -> None:
        follow = self._following(readings, now)
        loud = readings.crossed.any(axis=1) | (readings.fast >= 1).any(axis=1)
        known = np.isin(readings.rows, tuple(self._detector.tracks))
        for number in np.flatnonzero((loud | known) & (readings.lines == 0)).tolist():
            row = int(readings.rows[number])
            host = (int(self.tables.rows[row, tables.KEY_HIGH]), int(self.tables.rows[row, tables.KEY_LOW]))
            severity, fast = readings.severity[number].tolist(), readings.fast[number].tolist()
            crossed = readings.crossed[number].tolist()
            follow(self._detector.step(row, host, severity, fast, crossed, now), row, number)

    def _following(self, readings: Readings, now: int) -> Callable[[Change, int, int], None]:
        return lambda change, row, number: self._follow(change, row, number, readings, now)

    def _follow(self, change: Change, row: int, number: int, readings: Readings, now: int) -> None:
        attack = self.attacks.get(row)
        if change is Change.CLEARED:
            self.suspicions += 1
        elif change is Change.STARTED:
            attack = self._open(row, number, readings, now)
        if attack is None:
            return
        track = self._detector.tracks.get(row)
        window = SHORT if change is Change.STARTED else MIDDLE
        severity = track.severity if track else 0.0
        # A capture's first second is no second yet: what a burst would have been, had it lasted, is no peak.
        partial = self._judging and not self._short
        whole = min(1.0, readings.long_seconds / self._settings.long_seconds) if partial else 1.0
        now_rates = readings.rates[window][number]
        attack.measured(now_rates, readings.rates[LONG][number] * whole if self._judging else now_rates, severity)
        attack.packets = int((self.tables.rows[row, : tables.PINNED] - attack.before)[attack.column])
        if track and track.last_hot == now:
            attack.last_ns = self.tables.clock_ns
        if state := {Change.STARTED: State.STARTED, Change.ONGOING: State.ONGOING, Change.OVER: State.OVER}.get(change):
            # A new attack waits for nobody: the rest is news of what is known.
            (self._waiting.appendleft if state is State.STARTED else self._waiting.append)((row, state))

    def _open(self, row: int, number: int, readings: Readings, now: int) -> Attack | None:
        """The attack that a track became; None when a closer look finds none."""
        track = self._detector.tracks[row]
        clock = self.tables.clock_ns
        first = clock - (now - track.first_over) - int(self._settings.short_seconds * 1e9)
        kinds: frozenset[Kind] = frozenset()
        if self._judging:
            span = min(self._settings.long_seconds, (now - self._started) / 1e9)
            verdict, incoming = self._describer.judge(self.tables, self.tables.host(row), span, now, self._ending)
            if not verdict.guilty:
                self._detector.reject(row, now + LOOK_AGAIN_NS)
                return None
            first = int(incoming["time"][verdict.attack][0])
            kinds = frozenset(map(Kind, np.unique(incoming["kind"][verdict.attack]).tolist()))
        zone = int(self.tables.rows[row, tables.ZONE])
        self.tables.rows[row, PINNED] |= ATTACKED
        attack = self.attacks[row] = Attack(
            id=f"{self._sensor[:40]}-{secrets.token_hex(8)}",
            target=self._target(row, first),
            zone=self._zones[zone].name if zone < len(self._zones) else NO_ZONE,
            metric=Metric(self._measures.names[track.worst]),
            before=self._windows.before(row),
            first_ns=first,
            last_ns=clock,
            kinds=kinds,
        )
        return attack

    def _target(self, row: int, first_ns: int) -> Network:
        """What a row's attack is on; of a zone's, its prefix that gets most."""
        if self.tables.rows[row, LINE] != WHOLE_ZONE:
            return self.tables.host(row)
        zone = self._zones[int(self.tables.rows[row, tables.ZONE])]
        recent = self.tables.since(first_ns)
        return max(zone.prefixes, key=lambda prefix: int(inside(prefix, recent, "destination").sum()))

    def _speak(self, seen: datetime) -> None:
        describer = self._describer
        searches, packets = describer.searches + SEARCHED_PER_TICK, describer.packets + DESCRIBED_PER_TICK
        for _ in range(min(len(self._waiting), SPOKEN_PER_TICK)):
            is_much = describer.searches >= searches or describer.packets >= packets
            if is_much and self._waiting[0][1] is not State.STARTED and not self._judging:
                return
            row, state = self._waiting.popleft()
            attack = self.attacks.get(row)
            if attack is None:
                continue
            self._describe(row, attack, is_much and not self._judging)
            if attack.is_rough and state is State.STARTED:
                self._waiting.append((row, State.ONGOING))
            self._emit(attack.detection(self._sensor, self._vantage, state, seen), attack)
            if state is State.OVER:
                self.tables.rows[row, PINNED] &= ~ATTACKED
                self._sources.close(row)
                del self.attacks[row]

    def _describe(self, row: int, attack: Attack, glance: bool) -> None:
        silent = self.tables.clock_ns - attack.last_ns > self._settings.long_seconds * 1e9
        if silent and attack.picture.vectors and not self._judging:
            # Between pulses what is remembered fades, and other traffic must not be taken for the attack.
            return
        track = self._detector.tracks.get(row)
        crossed = {Metric(self._measures.names[measure]) for measure in track.crossed} if track else {attack.metric}
        # A pulse is described without the pause before it.
        crossing = min(track.over_since.values(), default=self._now) if track else self._now
        since = self.tables.clock_ns - (self._now - crossing) - int(self._settings.short_seconds * 1e9)
        within = [
            other.target
            for other_row, other in self.attacks.items()
            if attack.target.prefixlen < attack.target.max_prefixlen
            and other_row != row
            and row in self._covering.above(other_row)
        ]
        usual = self._usual.rates(row)
        self._describer.describe(self.tables, attack, frozenset(crossed), usual, within, since, glance=glance)
        if attack.counted and not self._judging:
            self._sources.open(self.tables, row, attack.target, attack.counted, attack.first_ns)
            attack.sources = self._sources.count(row) or attack.sources

    def finish(self, now: int, seen: datetime) -> None:
        """The end of a capture: every attack is over."""
        self._short = now - self._started < self._settings.long_seconds * 1e9
        self._ending = True
        for track in self._detector.tracks.values():
            track.not_before = now
        self.tick(now, seen)
        while self._waiting:
            self._speak(seen)
        self._waiting.extend((row, State.OVER) for row in self.attacks)
        while self._waiting:
            self._speak(seen)


def _protected(zones: Sequence[Zone]) -> list[tuple[Network, int]]:
    return [(prefix, number) for number, zone in enumerate(zones) for prefix in zone.prefixes]
