"""What is looked for beside rates: slow HTTP and access logs, once a second, in a thread of its own.

The capture thread never waits for it: it hands over gathered headers when the last ones were taken, and takes what was
found. A log that can't be read is tried again and shown.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from rules.traffic import Detection, State
from rules.zone import Zone
from sensors.accesslog import LogWatch
from sensors.connections import SlowWatch
from sensors.gathered import Gathering, Handed
from sensors.tables import Tables

log = structlog.get_logger("aside")

PERIOD_SECONDS = 1.0
BROKEN = -1
"""The number under which the thread's own end stands among the logs' troubles."""
_WAITING = 4096
"""Detections that the capture thread has not taken; more are counted and let go."""


class Aside:
    """Starts with `start`. `hand` and `take` are the capture thread's."""

    def __init__(self, slow: SlowWatch | None, logs: Sequence[LogWatch], zones: tuple[Zone, ...]) -> None:
        self._slow, self._logs = slow, tuple(logs)
        self._zones = zones
        self._handed: deque[tuple[Handed, int]] = deque(maxlen=1)
        self._gathering: Gathering | None = None
        self._found: deque[Detection] = deque()
        self._clock = self._moved = self._due = 0
        self._troubles: dict[int, str] = {}
        self._dropped = 0
        self.open: dict[str, Detection] = {}
        """Attacks under way, by name, as the capture thread took them; to be read only."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aside", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 5) -> None:
        """End it and let go of the logs."""
        self._ended.set()
        self._thread.join(timeout_seconds)

    def protect(self, zones: tuple[Zone, ...]) -> None:
        """Other zones from now on."""
        self._zones = zones

    def hand(self, tables: Tables, now: int) -> None:
        """At each tick: gathers what was remembered, and hands it over once a second. `now`: monotonic, in ns."""
        if self._slow is None:
            return
        if self._gathering is None:
            self._gathering = Gathering(tables, self._slow.settings.ports)
        self._gathering.feed(tables)
        if now < self._due or self._handed:
            return
        self._due = now + int(PERIOD_SECONDS * 1e9)
        if tables.clock_ns != self._clock:
            self._clock, self._moved = tables.clock_ns, now
        # Where nothing comes any more, analysis time stands still and quiet would never end.
        self._handed.append((self._gathering.take(), self._clock + now - self._moved))

    def take(self) -> list[Detection]:
        """What was found since the last call."""
        found = []
        while self._found:
            found.append(one := self._found.popleft())
            if one.state is State.OVER:
                self.open.pop(one.attack, None)
            else:
                self.open[one.attack] = one
        return found

    @property
    def numbers(self) -> dict[str, int]:
        """What moved; any thread may ask."""
        counts: Counter[str] = Counter(
            {"accesslog_lines_total": 0, "accesslog_bad_lines_total": 0} if self._logs else {}
        )
        for watch in self._logs:
            counts.update(watch.counters)
        counts["aside_dropped_total"] = self._dropped
        counts["slow_followed"] = self._slow.followed if self._slow else 0
        return dict(counts)

    @property
    def troubles(self) -> tuple[str, ...]:
        """A line for each log that can't be read, or has no zone, and for the thread's end; any thread may ask."""
        return tuple(dict(self._troubles).values())

    # ----------------------------------------------------------------------------------------------- the thread's own

    def _run(self) -> None:
        try:
            while not self._ended.wait(PERIOD_SECONDS / 4 if self._slow else PERIOD_SECONDS):
                self._look_at_headers()
                self._look_at_logs()
        finally:
            if not self._ended.is_set():
                # The error itself goes to stderr, as of any thread.
                self._troubles[BROKEN] = "an error ended the watch on slow HTTP and access logs: restart the sensor"
            for watch in self._logs:
                watch.close()

    def _look_at_headers(self) -> None:
        if self._slow and self._handed:
            handed, now = self._handed[0]
            self._slow.protect(self._zones)
            self._tell(self._slow.look(handed, now, datetime.now(UTC)))
            self._handed.clear()

    def _look_at_logs(self) -> None:
        for number, watch in enumerate(self._logs):
            if trouble := self._look_at(watch, time.monotonic_ns()):
                if trouble != self._troubles.get(number):
                    log.error("access log not followed", path=str(watch.log.path), why=trouble)
                self._troubles[number] = f"access log {watch.log.path}: {trouble}"
            else:
                self._troubles.pop(number, None)

    def _look_at(self, watch: LogWatch, now: int) -> str:
        """What is wrong with a log; empty when nothing is."""
        zone = next((zone.name for zone in self._zones if zone.holds(watch.log.server)), None)
        if zone is None:
            return f"its server {watch.log.server.network_address} lies in no zone of this sensor"
        watch.zone = zone
        if not watch.is_due(now):
            return watch.trouble
        try:
            self._tell(watch.look(now, datetime.now(UTC)))
        except OSError as error:
            return str(error.strerror)
        return watch.trouble

    def _tell(self, found: tuple[Detection, ...]) -> None:
        for one in found:
            if len(self._found) >= _WAITING:
                self._dropped += 1
            else:
                self._found.append(one)
