"""What the sensor shows of itself, once a second: for `stopbank sensor top`, Prometheus and `stopbank doctor`.

A thread of its own reads what the capture thread left behind and answers on a socket of this machine. It needs no
speaker, no intake and no disk, and the capture thread never waits for it. Targets are looked through only for who asks.
"""

import json
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from rules.messages_values import Statistics
from sensors import status_document, targets
from sensors.link import LinkStatus
from sensors.loop import Sensor
from sensors.sampling import Sampling
from sensors.settings import SensorSettings
from sensors.source import InterfaceNumbers
from sensors.status_document import Document
from sensors.troubles import troubles

log = structlog.get_logger("status")
_PERIOD_SECONDS = 1.0
_PATIENCE_SECONDS = 0.5
"""For a reader that doesn't read."""
_SHOWN_ATTACKS = 200
_COMPARED_SECONDS, _STALE_SECONDS = 0.25, 5.0
"""Rates of targets lie between two looks: at least so far apart, and at most."""


@dataclass(frozen=True, slots=True)
class _Beat:
    at: float
    cpu: float
    """Of the process, seconds."""
    records: int
    unwatched: int
    interfaces: dict[str, InterfaceNumbers]


class StatusBoard:
    """Starts with `start`; `document` is the newest."""

    def __init__(self, settings: SensorSettings, sensor: Sensor, link: Callable[[], LinkStatus | None]) -> None:
        self._settings, self._sensor, self._link = settings, sensor, link
        self._sampling = Sampling(settings.capture.weight, settings.capture.least_sampled)
        self._rates = targets.TargetRates(self._sampling)
        self._targets: list[dict[str, object]] = []
        self._looked = -math.inf
        self._began = time.monotonic()
        self._before = _Beat(0.0, time.process_time(), 0, 0, {})
        self._lines: list[Document] = []
        self._costs: dict[str, int | float] = {"process_cpu_share": 0.0, "process_cpu_nanoseconds_per_packet": 0.0}
        self._unwatched_per_second = 0
        self.document: Document = {}
        """Without targets."""
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        os.write(self._end, b"x")
        self._thread.join(5)
        os.close(self._end)
        os.close(self._ended)

    def _run(self) -> None:
        path = self._settings.status_socket
        listening = _listen(path) if path else None
        due = time.monotonic()
        try:
            while True:
                now = time.monotonic()
                if now >= due:
                    self.document = self.look(now)
                    due = max(due + _PERIOD_SECONDS, now)
                waiting = [self._ended, *([listening.fileno()] if listening else [])]
                ready, _, _ = select.select(waiting, [], [], max(0.0, due - now))
                if self._ended in ready:
                    return
                if listening and listening.fileno() in ready:
                    self._answer(listening)
        finally:
            if listening and path:
                listening.close()
                path.unlink(missing_ok=True)

    def _answer(self, listening: socket.socket) -> None:
        try:
            asking, _ = listening.accept()
            with asking:
                asking.settimeout(_PATIENCE_SECONDS)
                told = self.document and self.document | {"targets": self._busiest()}
                asking.sendall(json.dumps(told).encode() + b"\n")
        except OSError as error:
            log.warning("status not told", why=str(error))

    def _busiest(self) -> list[dict[str, object]]:
        """The targets that get most; who is the first to ask for long waits a moment for what to compare with."""
        if time.monotonic() - self._looked > _STALE_SECONDS:
            self._look_at_targets()
            select.select([self._ended], [], [], _COMPARED_SECONDS)
        if time.monotonic() - self._looked >= _COMPARED_SECONDS:
            self._look_at_targets()
        return self._targets

    def _look_at_targets(self) -> None:
        self._looked = time.monotonic()
        self._targets = self._rates.look(self._sensor.tables, self._sensor.zones, self._looked)

    @property
    def statistics(self) -> Statistics:
        """What the heartbeat says: the numbers, and how many troubles there are."""
        document = self.document
        return Statistics.of(document["numbers"]) if document else self._sensor.statistics()

    def look(self, now: float) -> Document:
        """The document as of now."""
        sensor, link = self._sensor, self._link()
        numbers: dict[str, int | float] = dict(sensor.numbers)
        self._take_beat(numbers)
        numbers |= self._costs | {
            "process_cpu_seconds_total": round(time.process_time(), 3),
            "resident_bytes": resident_bytes(),
            "sampling_one_of": self._sampling.one_of,
        }
        if link:
            numbers |= status_document.link_numbers(link)
        evidence = sensor.evidence
        wrong = troubles(sensor, self._lines, self._unwatched_per_second, self._settings.capture.filter, link)
        numbers |= {
            "dropped_per_second": sum(one["dropped_per_second"] for one in self._lines),
            "unwatched_per_second": self._unwatched_per_second,
            "troubles": len(wrong),
        }
        return {
            "at": datetime.now(UTC).isoformat(),
            "sensor": self._settings.name,
            "pid": os.getpid(),
            "uptime_seconds": round(now - self._began, 1),
            "zones": [zone.name for zone in sensor.zones],
            "interfaces": self._lines,
            "attacks": self._attacks(),
            "link": status_document.link(link),
            "evidence": {"recording": evidence.recording, "trouble": evidence.trouble} if evidence else None,
            "learned": status_document.learned(sensor.learned, now),
            "troubles": wrong,
            "numbers": numbers,
        }

    def _take_beat(self, numbers: dict[str, int | float]) -> None:
        """Rates lie between two heartbeats of the sensor, however these fall among the looks."""
        interfaces = {one.name: one for one in self._sensor.interfaces}
        records, then = int(numbers.get("records_total", 0)), self._before
        unwatched = int(numbers.get("unwatched_total", 0))
        now = _Beat(self._sensor.beaten, time.process_time(), records, unwatched, interfaces)
        if now.at <= then.at and self._lines:
            return
        seconds = max(now.at - then.at, 1e-3)
        self._before = now
        self._lines = [
            status_document.interface(one, then.interfaces.get(name, one), seconds) for name, one in interfaces.items()
        ]
        self._unwatched_per_second = math.ceil((unwatched - then.unwatched) / seconds)
        if then.at and now.at > then.at:
            cpu, fresh = now.cpu - then.cpu, records - then.records
            self._costs = {
                "process_cpu_share": round(cpu / seconds, 4),
                "process_cpu_nanoseconds_per_packet": round(cpu * 1e9 / fresh, 1) if fresh > 0 else 0.0,
            }

    def _attacks(self) -> list[Document]:
        shown = [status_document.attack(one, self._sampling) for one in self._sensor.attacks[:_SHOWN_ATTACKS]]
        return shown + [status_document.beside(one) for one in self._sensor.beside[: _SHOWN_ATTACKS - len(shown)]]


def _listen(path: Path) -> socket.socket | None:
    """A socket that people of this machine may ask; None, and a line, where there can't be one."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o660)
        listening.listen(8)
    except OSError as error:
        listening.close()
        log.error("no status socket", path=str(path), why=str(error))
        return None
    return listening


def resident_bytes() -> int:
    """This process's memory, proc(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
