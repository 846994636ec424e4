"""The sensor's one thread: packets in, ticks at their time, detections out. Waits for nothing but packets."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from rules.messages_values import Statistics
from rules.traffic import Detection, State
from rules.zone import Zone
from sensors import evidence_ring, walk
from sensors.accesslog import LogWatch
from sensors.aside import Aside
from sensors.attack import Attack
from sensors.baseline_keeper import Keeper, LearnedStatus
from sensors.connections import SlowWatch
from sensors.engine import Engine, protected_by
from sensors.evidence import EvidenceRecorder, EvidenceStatus
from sensors.evidence_shards import RecentShards
from sensors.headers import Total
from sensors.live import warm_up
from sensors.pcaplive import LibpcapInterface
from sensors.rings import Rings
from sensors.sampling import Sampling
from sensors.settings import Capturing, SensorSettings
from sensors.source import InterfaceNumbers, LiveSource
from sensors.tables import Tables, prefix_table

log = structlog.get_logger("sensor")

_SHOWN = (Total.PACKETS, Total.RECORDS, Total.BYTES, Total.NOT_IP, Total.TRUNCATED, Total.MALFORMED, Total.UNPROTECTED,
          Total.OVERFLOW, Total.RECLAIMED, Total.UNWATCHED)  # fmt: skip


def open_interfaces(settings: Capturing, recent: RecentShards | None = None) -> LiveSource:
    """The source that the settings ask for; raises `Refused` when packets can't be had."""
    if settings.with_libpcap:
        return LibpcapInterface(settings.interfaces[0], settings, recent.parts[0] if recent else None)
    return Rings(settings, recent)


class Sensor:
    """Capture and engine, for as long as `run` runs."""

    def __init__(
        self, settings: SensorSettings, send: Callable[[Detection], bool], source: LiveSource | None = None
    ) -> None:
        """Compiles the kernel and opens the interfaces. `send` takes each detection at once and says whether it
        could."""
        self._settings, self._send = settings, send
        self._sampling = Sampling(settings.capture.weight, settings.capture.least_sampled)
        self._detecting = self._sampling.detecting(settings.detecting, self._sampling.zones(settings.zones))
        self._muted_until = 0.0
        # Nothing is learned from sampled traffic, nor are single connections followed there.
        self._keeper: Keeper | None = None
        if settings.learning and self._sampling.one_of == 1:
            self._keeper = Keeper(settings.learning.directory, settings.learning.save_seconds)
        self._engine = self._make_engine(self._sampling.zones(settings.zones))
        warm_up(self._engine)
        self._aside = self._make_aside()
        self._recent: RecentShards | None = None
        self._recorder: EvidenceRecorder | None = None
        if settings.evidence:
            evidence_ring.warm_up()
            kept = settings.evidence
            self._recent = RecentShards.within(kept.memory_megabytes, kept.before_seconds, settings.capture.fanout)
        self._source = source or open_interfaces(settings.capture, self._recent)
        if settings.evidence and self._recent:
            self._recorder = EvidenceRecorder(settings.evidence, self._recent, self._source.link)
        self._new_zones: tuple[Zone, ...] | None = None
        self._zones = settings.zones
        self._detections = self._messages_dropped = 0
        self._late = 0.0
        self._numbers: dict[str, int | float] = {}
        self._before = (0.0, 0)
        self._interfaces = self._source.interfaces()
        self._beaten = 0.0

    def _make_engine(self, zones: tuple[Zone, ...]) -> Engine:
        settings = self._settings
        return Engine(
            self._sampling.muted(zones) if self._sampling.one_of > 1 else zones,
            self._emit,
            sensor=settings.name,
            vantage=settings.vantage,
            detecting=self._detecting,
            memory=settings.memory,
            learning=settings.learning.learning if settings.learning and self._keeper else None,
            shards=settings.capture.fanout,
        )

    def _make_aside(self) -> Aside | None:
        settings = self._settings
        is_whole = self._sampling.one_of == 1
        slow = settings.slow and is_whole and SlowWatch(settings.zones, settings.name, settings.slow, settings.vantage)
        logs = [LogWatch(one, settings.name) for one in settings.access_logs]
        return Aside(slow or None, logs, settings.zones) if slow or logs else None

    def protect(self, zones: tuple[Zone, ...]) -> None:
        """Other zones, from the next tick on; any thread may call it."""
        self._source.expect(prefix_table(protected_by(zones)))
        self._new_zones = zones

    def statistics(self) -> Statistics:
        """The numbers of the last heartbeat; any thread may call it."""
        return Statistics.of(self._numbers)

    @property
    def numbers(self) -> dict[str, int | float]:
        """The numbers of the last heartbeat; any thread may ask for this and what follows."""
        return self._numbers

    @property
    def beaten(self) -> float:
        """When the last heartbeat was, in monotonic seconds; 0 before the first."""
        return self._beaten

    @property
    def interfaces(self) -> tuple[InterfaceNumbers, ...]:
        """The interfaces at the last heartbeat."""
        return self._interfaces

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """Under way."""
        return tuple(self._engine.attacks.values())

    @property
    def zones(self) -> tuple[Zone, ...]:
        """What is protected."""
        return self._zones

    @property
    def tables(self) -> Tables:
        """The counters; to be read only."""
        return self._engine.tables

    @property
    def evidence(self) -> EvidenceStatus | None:
        """How the recorder does; None where nothing is recorded."""
        return self._recorder.status if self._recorder else None

    @property
    def learned(self) -> LearnedStatus | None:
        """How learning does; None where nothing is learned."""
        return self._keeper.status if self._keeper else None

    @property
    def beside(self) -> tuple[Detection, ...]:
        """Attacks under way that were found in access logs and connections."""
        return tuple(self._aside.open.values()) if self._aside else ()

    @property
    def troubles(self) -> tuple[str, ...]:
        """A line for each access log that can't be followed, and for what should never happen."""
        unproposed = (self._engine.unproposed,) if self._engine.unproposed else ()
        return (*unproposed, *(self._aside.troubles if self._aside else ()))

    def _emit(self, detection: Detection, attack: Attack) -> None:
        self._tell(detection)

    def _tell(self, detection: Detection) -> None:
        if not self._send(detection):
            self._messages_dropped += 1
        if self._recorder:
            self._recorder.note(detection)
        if detection.state is State.ONGOING:
            return
        self._detections += detection.state is State.STARTED
        log.info(
            f"attack {detection.state.value}",
            target=str(detection.target),
            vector=str(detection.vector),
            confidence=detection.confidence,
            packets_per_second=round(detection.peak.packets_per_second),
            interval_percent=self._interval(detection),
            attack=detection.attack,
        )

    def _interval(self, detection: Detection) -> float:
        """Of the rate now: the packets of the window that the engine tells rates from."""
        seen = detection.rate.packets_per_second * self._detecting.middle_seconds
        return round(min(1e6, self._sampling.interval_percent(seen)), 1)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; then lets go of the interfaces."""
        heartbeat = self._settings.heartbeat_seconds
        now = time.monotonic()
        self._start_engine(now)
        next_tick, next_heartbeat = now + self._detecting.tick_seconds, now
        if self._recorder:
            self._recorder.start()
        if self._aside:
            self._aside.start()
        try:
            while not stop.is_set():
                self._source.wait(next_tick - time.monotonic())
                self._source.feed(self._engine.tables, walk.NEVER)
                now = time.monotonic()
                if now < next_tick:
                    continue
                self._tick(now, now - next_tick)
                # A tick that is missed stays missed: windows know how long they are.
                tick = self._detecting.tick_seconds
                next_tick = max(next_tick + tick, now + tick / 2)
                if now >= next_heartbeat:
                    next_heartbeat = now + heartbeat
                    self._heartbeat()
        finally:
            if self._aside:
                self._aside.stop()
            if self._recorder:
                self._recorder.stop()
            if self._keeper and self._engine.learned:
                self._keeper.stop(self._engine.learned)
            self._source.close()

    def _tick(self, now: float, late: float) -> None:
        self._late = max(self._late, late)
        if self._recent:
            self._recent.pace(now)
        zones, self._new_zones = self._new_zones, None
        if zones is not None and zones != self._zones:
            self._take_zones(zones, now)
        elif self._muted_until and now >= self._muted_until:
            self._muted_until = 0.0
            self._engine.protect(self._sampling.zones(self._zones))
        self._engine.tick(int(now * 1e9), datetime.now(UTC))
        if self._aside:
            self._aside.hand(self._engine.tables, int(now * 1e9))
            for detection in self._aside.take():
                self._tell(detection)

    def _start_engine(self, now: float) -> None:
        self._engine.start(int(now * 1e9))
        # Sampled, a rate means nothing before the widest window is full.
        self._muted_until = now + self._detecting.long_seconds if self._sampling.one_of > 1 else 0.0

    def _take_zones(self, zones: tuple[Zone, ...], now: float) -> None:
        self._zones = zones
        if self._aside:
            self._aside.protect(zones)
        judged = self._sampling.zones(zones)
        detecting = self._sampling.detecting(self._settings.detecting, judged)
        if detecting != self._detecting and not self._engine.attacks:
            # Other limits of a sampled stream need other windows.
            self._detecting = detecting
            self._engine = self._make_engine(judged)
            self._start_engine(now)
        elif not self._muted_until:
            self._engine.protect(judged)
        for line in self._sampling.raised(zones):
            log.warning("limit raised", why=line)
        log.info("zones changed", zones=len(zones))

    @property
    def raised(self) -> tuple[str, ...]:
        """A line for each limit that is too low for the sampling rate."""
        return self._sampling.raised(self._zones)

    def _heartbeat(self) -> None:
        totals, losses = self._engine.tables.totals, self._source.losses()
        numbers: dict[str, int | float] = {f"{total.name.lower()}_total": int(totals[total]) for total in _SHOWN}
        cpu, records = time.thread_time() + self._source.helpers_seconds, int(totals[Total.RECORDS])
        before_cpu, before_records = self._before
        fresh = records - before_records
        numbers |= {
            "packets_dropped_total": losses.dropped,
            "ring_frozen_total": losses.frozen,
            "suspicions_total": self._engine.suspicions,
            "detections_total": self._detections,
            "messages_dropped_total": self._messages_dropped,
            "attacks": len(self._engine.attacks),
            "hosts": self._engine.tables.used,
            "cpu_seconds_total": round(cpu, 3),
            "cpu_nanoseconds_per_packet": round((cpu - before_cpu) * 1e9 / fresh, 1) if fresh else 0.0,
            "tick_late_seconds_max": round(self._late, 4),
        }
        self._before, self._late = (cpu, records), 0.0
        if self._keeper and self._engine.learned:
            self._keeper.turn(self._engine.learned, time.monotonic())
            numbers |= _learned_numbers(self._keeper.status)
        if self._aside:
            numbers |= self._aside.numbers
        if self._recent and self._recorder:
            numbers |= self._evidence_numbers(self._recent, self._recorder.status)
        self._numbers, self._interfaces, self._beaten = numbers, self._source.interfaces(), time.monotonic()

    def _evidence_numbers(self, recent: RecentShards, status: EvidenceStatus) -> dict[str, int | float]:
        counts: dict[str, int | float] = {
            f"evidence_{name}_total": status.counts.get(name, 0) for name in ("written", "lost", "skipped", "removed")
        }
        return counts | {
            "evidence_recording": status.recording,
            "evidence_memory_bytes": recent.used_bytes,
            "evidence_one_of": recent.one_of,
        }


def _learned_numbers(status: LearnedStatus) -> dict[str, int | float]:
    return {
        "learned_targets": status.targets,
        "learned_loaded": status.loaded,
        "learned_bytes": status.bytes,
        "learned_saves_total": status.saves,
        "learned_save_failures_total": status.failures,
        "learned_saved_age_seconds": -1.0 if status.saved is None else round(time.monotonic() - status.saved, 1),
    }
