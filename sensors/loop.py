"""The sensor's one thread: packets in, ticks at their time, detections out. Waits for nothing but packets."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from rules.messages_values import Statistics
from rules.traffic import Detection, State
from rules.zone import Zone
from sensors import walk
from sensors.attack import Attack
from sensors.engine import Engine
from sensors.headers import Total
from sensors.metrics import SensorCollector
from sensors.pcaplive import LibpcapInterface
from sensors.ring import Rings
from sensors.settings import Capturing, SensorSettings
from sensors.source import Source

log = structlog.get_logger("sensor")

_SHOWN = (Total.PACKETS, Total.RECORDS, Total.BYTES, Total.NOT_IP, Total.TRUNCATED, Total.MALFORMED, Total.UNPROTECTED,
          Total.OVERFLOW, Total.RECLAIMED)  # fmt: skip


def open_interfaces(settings: Capturing) -> Source:
    """The source that the settings ask for; raises `Refused` when packets can't be had."""
    if settings.with_libpcap:
        return LibpcapInterface(settings.interfaces[0], settings)
    return Rings(settings)


class Sensor:
    """Capture and engine, for as long as `run` runs."""

    def __init__(
        self, settings: SensorSettings, send: Callable[[Detection], bool], source: Source | None = None
    ) -> None:
        """Compiles the kernel and opens the interfaces. `send` takes each detection at once and says whether it
        could."""
        self._settings, self._send = settings, send
        self._engine = Engine(
            settings.zones,
            self._emit,
            sensor=settings.name,
            vantage=settings.vantage,
            detecting=settings.detecting,
            memory=settings.memory,
        )
        self._engine.warm_up()
        self._source = source or open_interfaces(settings.capture)
        self._new_zones: tuple[Zone, ...] | None = None
        self._zones = settings.zones
        self._detections = self._messages_dropped = 0
        self._late = 0.0
        self._numbers: dict[str, int | float] = {}
        self._before = (0.0, 0)
        self.collector: SensorCollector | None = None
        """Told the numbers at each heartbeat."""

    def protect(self, zones: tuple[Zone, ...]) -> None:
        """Other zones, from the next tick on; any thread may call it."""
        self._new_zones = zones

    def statistics(self) -> Statistics:
        """The numbers of the last heartbeat; any thread may call it."""
        return Statistics.of(self._numbers)

    def _emit(self, detection: Detection, attack: Attack) -> None:
        if not self._send(detection):
            self._messages_dropped += 1
        if detection.state is State.ONGOING:
            return
        self._detections += detection.state is State.STARTED
        log.info(
            f"attack {detection.state.value}",
            target=str(detection.target),
            vector=str(detection.vector),
            packets_per_second=round(detection.peak.packets_per_second),
            attack=detection.attack,
        )

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; then lets go of the interfaces."""
        tick, heartbeat = self._settings.detecting.tick_seconds, self._settings.heartbeat_seconds
        now = time.monotonic()
        self._engine.start(int(now * 1e9))
        next_tick, next_heartbeat = now + tick, now
        try:
            while not stop.is_set():
                self._source.wait(next_tick - time.monotonic())
                self._source.feed(self._engine.tables, walk.NEVER)
                now = time.monotonic()
                if now < next_tick:
                    continue
                self._tick(now, now - next_tick)
                # A tick that is missed stays missed: windows know how long they are.
                next_tick = max(next_tick + tick, now + tick / 2)
                if now >= next_heartbeat:
                    next_heartbeat = now + heartbeat
                    self._heartbeat()
        finally:
            self._source.close()

    def _tick(self, now: float, late: float) -> None:
        self._late = max(self._late, late)
        zones, self._new_zones = self._new_zones, None
        if zones is not None and zones != self._zones:
            self._zones = zones
            self._engine.protect(zones)
            log.info("zones changed", zones=len(zones))
        self._engine.tick(int(now * 1e9), datetime.now(UTC))

    def _heartbeat(self) -> None:
        totals, losses = self._engine.tables.totals, self._source.losses()
        numbers: dict[str, int | float] = {f"{total.name.lower()}_total": int(totals[total]) for total in _SHOWN}
        cpu, records = time.thread_time(), int(totals[Total.RECORDS])
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
        self._numbers = numbers
        if self.collector:
            self.collector.numbers = numbers
