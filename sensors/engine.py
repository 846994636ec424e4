"""The engine: tables, windows, detector and classification, put together. The same for interfaces and for capture
files.

Who feeds the tables calls `tick`; detections go to a callback at once. Reads no clock: `now` is an argument.
"""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from rules.match import Network
from rules.traffic import State, Vantage
from rules.zone import Metric, Zone
from sensors import fanout, newest, sources, tables, walk
from sensors.attack import Attack
from sensors.baseline_limits import Learning
from sensors.covering import Covering
from sensors.describe import Describer
from sensors.detect import Change, Detector
from sensors.headers import Column
from sensors.judge import inside
from sensors.learned import LearnedLimits, frozen
from sensors.limits import zone_measures
from sensors.nested import Nested
from sensors.newest import Fresh
from sensors.reservoir import Reservoir, doubtful, keys_of
from sensors.settings import Detecting, Memory
from sensors.settled import settled
from sensors.sources import Sources
from sensors.tables import ATTACKED, COVERING, LINE, PINNED, WHOLE_ZONE
from sensors.telling import Emit, Telling
from sensors.usual import BATCH_NS, Usual
from sensors.window import LONG, MIDDLE, SHORT, Measures, Readings, Windows
from sensors.window_kernel import CROSSED, FAR_ABOVE

__all__ = ["Emit", "Engine", "protected_by", "zone_measures"]

LOOK_AGAIN_NS = 250_000_000
"""How long a closer look that found no attack is good for."""
NO_ZONE = "-"
FRESH, FRESH_TICKS = 512, 2
"""New packets looked at for what targets usually get, and once in how many ticks."""
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
        shards: int = 1,
    ) -> None:
        """`judging`: look closer before calling something an attack (`sensors.judge`); `floor`: its explicit
        threshold, packets per second; `measures`: instead of the zones' limits; `learning`: learn further limits for
        the zones that want them (`sensors.learned`); `shards`: processors that count (`sensors.fanout`)."""
        self._settings = settings = detecting or Detecting()
        sizes = memory or Memory()
        self._sensor = sensor
        self._judging, self._zones = judging, tuple(zones)
        self.tables = fanout.make(
            protected_by(zones),
            shards=shards,
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
        self._usual = Usual(self.tables, 0 if judging else BATCH_NS)
        self._sources = Sources(self.tables, repeatable=judging)
        # A capture file tells what came before its attacks.
        self.reservoir = Reservoir(places=1) if judging else Reservoir()
        self._fresh = [Fresh(FRESH // shards) for _ in range(shards)]
        self._describer = Describer(settings, judging, floor, self.reservoir)
        self._started, self._short, self._ending = 0, False, False
        self._ticks = 0
        self._settled: frozenset[int] | None = None
        self._seen: datetime | None = None
        self._now = 0
        self._telling = Telling(
            emit, self._describer, self._detector, self._covering, self._usual, self._sources, settings,
            sensor=sensor, vantage=vantage, judging=judging,
        )  # fmt: skip
        self.attacks = self._telling.attacks
        """Under way, by row."""
        self.suspicions = 0
        """Limits crossed in one window only."""
        self.least_packets = float(self._measures.limits.min())

    def protect(self, zones: Sequence[Zone]) -> None:
        """Other zones from now on. Attacks under way go on; those on hosts that no zone has any more end by
        themselves. Attacks on prefixes and zones end at once: what is left of them is found anew."""
        prefixed = [row for row in self.attacks if self.tables.rows[row, LINE]]
        self._telling.end(prefixed, self.tables, self._measures.names, self._now, self._seen)
        self._settled = None
        prefixes = tables.prefix_table(protected_by(zones))
        # The same arrays: only the prefixes are others.
        self.tables = self.tables.protecting(prefixes)
        self._zones, self._measures = tuple(zones), zone_measures(zones)
        self.tables.state[COVERING] = bool(zones)
        for shard in self.tables.shards:
            first = int(shard.state[tables.FIRST_ROW])
            walk.rezone(shard.rows[first:], shard.used, prefixes, len(zones))
        self._covering.reset()
        self._windows.measure(self._measures)
        self.tables.spread(limits=True)
        if self.learned:
            self.learned.protect(self._measures, zones)

    @property
    def busy(self) -> bool:
        """Whether any target is suspected or under attack."""
        return bool(self._detector.tracks)

    def warm_up(self) -> None:
        """Compiles the kernel; call before the first packet."""
        for shard in self.tables.shards:
            # The first flood fills it within a second, and should not wait for memory.
            shard.ring[:] = 0
        one = self.tables.shards[0]
        walk.warm_up(one)
        sources.warm_up(one)
        newest.warm_up(one)
        self.reservoir.warm_up()
        self._usual.warm_up()
        self._windows.warm_up()
        self._covering.warm_up()

    def start(self, now: int) -> None:
        """Traffic counts from `now` on (ns)."""
        self._started = now
        self._short = False
        self.tables.gather()
        self._windows.start(now)
        self._usual.start(now)
        self.tables.spread(limits=True)

    def tick(self, now: int, seen: datetime) -> None:
        """Looks at the counters. `now` never runs backwards, in ns; `seen` goes into the messages."""
        self._seen, self._now = seen, now
        self.tables.gather()
        self._covering.add_up()
        self._sources.feed(self.tables)
        learned = self.learned
        readings = self._windows.tick(
            now,
            tuple(self._detector.tracks),
            (*self._covering.watched(), *self._zone_rows()),
            (lambda rows: learned.limits(rows, seen)) if learned else None,
            self._settled,
        )
        for row in readings.reborn.tolist() if readings else ():
            self._detector.forget(row)
        self._learn(now, seen)
        self._settled = self._step(readings, now) if readings else None
        self._telling.speak(self.tables, self._measures.names, now, seen)
        self._keep()
        self.tables.spread()

    def _step(self, readings: Readings, now: int) -> frozenset[int] | None:
        """Follows what is busy; gives what `settled` gives for the next tick."""
        self._step_hosts(readings, now)
        if self.tables.state[COVERING]:
            self._nested.step(readings, self._windows, self._zones, now, self._following(readings, now))
            self._covering.divide(readings, self._measures.lines, self._measures.sums, now)
        return None if self._judging else settled(readings, self._detector.tracks, self._covering, now)

    def _keep(self) -> None:
        """Some of what came since the last time is normal: where nothing is suspected."""
        self._ticks += 1
        if not self._judging and self._ticks % FRESH_TICKS == 0:
            self.reservoir.block(*doubtful(self.tables, {*self._detector.tracks, *self.attacks}, self._zones))
            for fresh, shard in zip(self._fresh, self.tables.shards, strict=True):
                self.reservoir.fill(fresh.take(shard))

    def _zone_rows(self) -> range:
        return self._covering.zone_rows(len(self._zones)) if self.tables.state[COVERING] else range(0)

    def _learn(self, now: int, seen: datetime) -> None:
        due = self._usual.due(now, self._zone_rows())
        if not len(due):
            return
        if self.learned and len(due):
            self.learned.forget(due[self.tables.rows[due, tables.REBORN] != 0])
        rows, rates, seconds = self._usual.visit(due, now)
        if not len(rows):
            return
        still = frozen(self.tables, self._covering, rows, self.attacks)
        if self.learned:
            self.learned.observe(rows, rates, still, seconds, seen)
        if not self._judging:
            hosts = ~still & (self.tables.rows[rows, LINE] == 0)
            self.reservoir.consider(keys_of(self.tables, rows[hosts]), rates[hosts, Column.PACKETS], now)

    def _step_hosts(self, readings: Readings, now: int) -> None:
        follow = self._following(readings, now)
        loud = readings.loud & (CROSSED | FAR_ABOVE) != 0
        for number in np.flatnonzero((loud | readings.tracked) & (readings.lines == 0)).tolist():
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
            self._telling.note(row, state)

    def _open(self, row: int, number: int, readings: Readings, now: int) -> Attack | None:
        """The attack that a track became; None when a closer look finds none."""
        track = self._detector.tracks[row]
        clock = self.tables.clock_ns
        first = clock - (now - track.first_over) - int(self._settings.short_seconds * 1e9)
        verdict = None
        if self._judging:
            span = min(self._settings.long_seconds, (now - self._started) / 1e9)
            verdict, incoming = self._describer.judge(self.tables, self.tables.host(row), span, now, self._ending)
            if not verdict.guilty:
                self._detector.reject(row, now + LOOK_AGAIN_NS)
                return None
            first = int(incoming["time"][verdict.attack][0])
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
        )
        if verdict:
            attack.convict(incoming["kind"], verdict)
        return attack

    def _target(self, row: int, first_ns: int) -> Network:
        """What a row's attack is on; of a zone's, its prefix that gets most."""
        if self.tables.rows[row, LINE] != WHOLE_ZONE:
            return self.tables.host(row)
        zone = self._zones[int(self.tables.rows[row, tables.ZONE])]
        recent = self.tables.since(first_ns)
        return max(zone.prefixes, key=lambda prefix: int(inside(prefix, recent, "destination").sum()))

    def finish(self, now: int, seen: datetime) -> None:
        """The end of a capture: every attack is over."""
        self._short = now - self._started < self._settings.long_seconds * 1e9
        self._ending = True
        for track in self._detector.tracks.values():
            track.not_before = now
        self.tick(now, seen)
        self._telling.finish(self.tables, self._measures.names, now, seen)


def protected_by(zones: Sequence[Zone]) -> list[tuple[Network, int]]:
    """Every prefix and the number of its zone."""
    return [(prefix, number) for number, zone in enumerate(zones) for prefix in zone.prefixes]
