"""HTTP floods seen in a web server's access log: what no capture shows of encrypted services.

Counts requests by arrival (`sensors.requests`) and tells of an `http_flood` on the declared address when they exceed a
limit for long enough. Opens nothing but the log and reads no clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rules.errors import Refused
from rules.match import Network
from rules.traffic import Detection, State, Vantage, Vector, VectorShare
from rules.zone import Metric
from sensors.accesslog_follow import Follower
from sensors.accesslog_lines import Format, parse
from sensors.requests import Flood, Look, RequestLimits, Requests


@dataclass(frozen=True, slots=True)
class AccessLog:
    """A log to follow."""

    path: Path
    format: Format
    server: Network
    """The address that clients come to, one host."""
    zone: str = ""
    """Whose the address is; the sensor fills it in."""
    requests_per_second: float = 500.0
    """This and what follows: as `requests.RequestLimits`."""
    ports: tuple[int, ...] = (80, 443)
    window_seconds: float = 3.0
    quiet_seconds: float = 30.0
    update_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.server.prefixlen != self.server.max_prefixlen:
            raise Refused("server", self.server, f"must be one host, written with /{self.server.max_prefixlen}")
        if not 1 <= len(self.ports) <= 5 or not all(1 <= port <= 65_535 for port in self.ports):
            raise Refused("ports", self.ports, "must be one to five ports from 1 to 65535")
        _ = self.limits

    @property
    def limits(self) -> RequestLimits:
        """What counts as a flood."""
        return RequestLimits(self.requests_per_second, self.window_seconds, self.quiet_seconds, self.update_seconds)


class LogWatch:
    """One access log, looked at again and again."""

    def __init__(self, log: AccessLog, sensor: str, *, from_start: bool = False) -> None:
        """`from_start`: what the log holds already counts too."""
        self.log, self.zone, self._sensor = log, log.zone, sensor
        self._follower = Follower(log.path, from_start=from_start)
        self._last: int | None = None
        self.requests = Requests(log.limits)
        self.lines_read = 0
        self.lines_bad = 0
        self.last_bad = ""
        """Why the last bad line was none, for people."""

    def close(self) -> None:
        """Lets go of the log."""
        self._follower.close()

    @property
    def trouble(self) -> str:
        """Why the log can't be read, or lines of it can't; empty when they can."""
        if self._follower.trouble:
            return self._follower.trouble
        told = f"no line of it is {self.log.format.value}: {self.last_bad}"
        return told if self.lines_bad and self.lines_bad == self.lines_read else ""

    def is_due(self, now: int) -> bool:
        """Whether a second has passed since the last look."""
        return self._last is None or now - self._last >= 1_000_000_000

    @property
    def counters(self) -> dict[str, int]:
        """What moved, for statistics."""
        return {
            "accesslog_lines_total": self.lines_read,
            "accesslog_bad_lines_total": self.lines_bad,
            "accesslog_rotations_total": self._follower.rotations,
            "accesslog_truncations_total": self._follower.truncations,
            "accesslog_copies_missed_total": self._follower.copies_missed,
        }

    def look(self, now: int, seen: datetime) -> tuple[Detection, ...]:
        """Reads what is new. `now` is monotonic, in ns; `seen` goes into the messages. Call it about once a second."""
        look = Look(0.0 if self._last is None else (now - self._last) / 1e9)
        for line in self._follower.lines(now):
            self.lines_read += 1
            try:
                look.add(parse(self.log.format, line))
            except Refused as refused:
                self.lines_bad += 1
                self.last_bad = str(refused)
        is_first, self._last = self._last is None, now
        if is_first or look.seconds <= 0:
            return ()
        return tuple(self._told(look, now, seen))

    def _told(self, look: Look, now: int, seen: datetime) -> Iterator[Detection]:
        for flood, state in self.requests.take(look, now, seen):
            yield self._detection(flood, state, seen)
            flood.sequence += 1

    def _detection(self, flood: Flood, state: State, seen: datetime) -> Detection:
        requests = self.requests
        return Detection(
            sensor=self._sensor,
            attack=flood.id,
            sequence=flood.sequence,
            zone=self.zone,
            target=self.log.server,
            state=state,
            vantage=Vantage.DOWNSTREAM,
            confirmed=True,
            severity=round(requests.rate.packets_per_second / self.log.requests_per_second, 3),
            metric=Metric.HTTP_REQUESTS.value,
            rate=requests.rate,
            peak=flood.peak,
            vectors=(VectorShare(Vector("http_flood"), 1.0, 1.0),),
            signatures=requests.rules(self.log.server, self.log.ports),
            sources=len(requests.sources) + requests.others,
            spoofed=False,
            first_seen=min(flood.first_seen, seen),
            seen=seen,
        )
