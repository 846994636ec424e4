"""The engine: tables, windows, detector and classification, put together. The same for interfaces and for capture
files.

Who feeds the tables calls `tick`; detections go to a callback at once. Reads no clock: `now` is an argument.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from rules.match import Network
from rules.traffic import Vantage
from rules.zone import Zone
from sensors import fanout, newest, sources, tables, walk
from sensors.baseline_limits import Learning
from sensors.covering import Covering
from sensors.crowds import Crowd, Crowds
from sensors.describe import Describer
from sensors.detect import Detector
from sensors.following import Following
from sensors.habits import Habits
from sensors.limits import Measures, zone_measures
from sensors.nested import Nested
from sensors.readings import Readings
from sensors.settings import Detecting, Memory
from sensors.settled import settled
from sensors.sources import Sources
from sensors.tables import COVERING, LINE
from sensors.telling import Emit, Telling
from sensors.window import Windows

__all__ = ["Emit", "Engine", "protected_by", "zone_measures"]

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
        self._detector = Detector(settings)
        self._covering = Covering(self.tables)
        self._covering.reset()
        self._habits = Habits(self.tables, self._covering, self._measures, zones, learning, judging=judging)
        self.learned, self.reservoir = self._habits.learned, self._habits.reservoir
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
        self._nested = Nested(self.tables, self._covering, self._detector)
        self._crowds = Crowds(self.tables, self._covering, self._detector)
        self._sources = Sources(self.tables, repeatable=judging)
        self._describer = Describer(settings, judging, floor, self.reservoir)
        self._settled: frozenset[int] | None = None
        self._seen: datetime | None = None
        self._now = 0
        self._telling = Telling(
            emit, self._describer, self._detector, self._covering, self._habits.usual, self._sources, settings,
            sensor=sensor, vantage=vantage, judging=judging,
        )  # fmt: skip
        self._following = Following(
            self._detector, self._describer, self._windows, self._telling, settings, sensor=sensor, judging=judging
        )
        self._following.protect(self.tables, self._zones, self._measures.names)
        self.attacks = self._telling.attacks
        """Under way, by row."""
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
        self._habits.protect(self._measures, zones)
        self._following.protect(self.tables, self._zones, self._measures.names)

    @property
    def suspicions(self) -> int:
        """Limits crossed in one window only."""
        return self._following.suspicions

    @property
    def unproposed(self) -> str:
        """Why an attack has no rules that should have some; empty while that never happened."""
        return self._describer.unproposed

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
        self._habits.warm_up()
        self._windows.warm_up()
        self._covering.warm_up()

    def start(self, now: int) -> None:
        """Traffic counts from `now` on (ns)."""
        self._following.start(now)
        self.tables.gather()
        self._windows.start(now)
        self._habits.usual.start(now)
        self.tables.spread(limits=True)

    def tick(self, now: int, seen: datetime, *, pausing: bool = False) -> None:
        """Looks at the counters. `now` never runs backwards, in ns; `seen` goes into the messages; `pausing`: a capture
        shows nothing for a while, so that what is suspected is judged by what there is."""
        self._seen, self._now = seen, now
        self._following.pause(pausing)
        for track in self._detector.tracks.values() if pausing else ():
            track.not_before = now
        self.tables.gather()
        self._covering.add_up()
        self._sources.feed(self.tables)
        readings = self._read(now, seen)
        self._habits.learn(self.tables, self._zone_rows(), self.attacks, now, seen)
        self._settled = self._step(readings, now, pausing) if readings else None
        self._telling.speak(self.tables, self._measures.names, now, seen)
        self._habits.keep(self.tables, self._zones, {*self._detector.tracks, *self.attacks})
        self.tables.spread()

    def _read(self, now: int, seen: datetime) -> Readings | None:
        """What there is to follow; None: a tick that needs no closer look."""
        tracks, learned = self._detector.tracks, self.learned
        tracked, zones = np.fromiter(tracks, np.int64, len(tracks)), self._zone_rows()
        always = np.concatenate((self._covering.watched, np.arange(zones.start, zones.stop)))
        busy = self._windows.look(now, tracked, always)
        for row in busy.reborn.tolist():
            self._detector.forget(row)
        if self._settled is not None and not len(busy.reborn) and self._settled.issuperset(busy.rows.tolist()):
            return None

        return self._windows.read(busy, (lambda rows: learned.limits(rows, seen)) if learned else None)

    def _step(self, readings: Readings, now: int, pausing: bool) -> frozenset[int] | None:
        """Follows what is busy; gives what `settled` gives for the next tick."""
        sums, following = self._measures.sums, self._following
        is_covering = bool(self.tables.state[COVERING])
        crowd = self._crowds.look(readings, sums, now) if is_covering else Crowd(np.zeros(len(readings.rows), bool), {})
        following.step(readings, crowd.waiting, now)
        if is_covering:
            self._nested.step(readings, crowd, self._windows, self._zones, now, following.follow)
            for number in self._crowds.released(readings, crowd, pausing).tolist():
                following.step_one(readings, number, now)
            self._covering.divide(readings, self._measures.lines, sums, now)
        return None if self._judging else settled(readings, self._detector.tracks, self._covering, now)

    def _zone_rows(self) -> range:
        return self._covering.zone_rows(len(self._zones)) if self.tables.state[COVERING] else range(0)

    def finish(self, now: int, seen: datetime) -> None:
        """The end of a capture: every attack is over."""
        self.tick(now, seen, pausing=True)
        self._telling.finish(self.tables, self._measures.names, now, seen)


def protected_by(zones: Sequence[Zone]) -> list[tuple[Network, int]]:
    """Every prefix and the number of its zone."""
    return [(prefix, number) for number, zone in enumerate(zones) for prefix in zone.prefixes]
