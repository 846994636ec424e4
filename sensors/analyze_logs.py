"""Analysis of web servers' access logs: floods of requests, by the live sensor's limits and at the log's own times.

Nothing is sent anywhere and nothing is announced.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rules.match import Network
from rules.traffic import Signature, State
from sensors.accesslog_file import LATE_SECONDS, LogFile, Timed, merged
from sensors.findings import rules_to_json
from sensors.origins import TOP
from sensors.requests import MOST_HOSTS, MOST_SOURCES, Address, Flood, Look, RequestLimits, Requests

PORTS = (80, 443)
"""Of the server, where rules are proposed."""
_EVERY_LINES = 20_000
Progress = Callable[[int, int], None]
"""Is told how many of the files' bytes are read, and how many there are."""


@dataclass(slots=True)
class LogIncident:
    """One flood."""

    flood: Flood
    requests: int = 0
    sources: Counter[Address] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    rules: tuple[Signature, ...] = ()
    peak: float = 0.0
    last: int = 0
    """The second in which it was last above the limit."""

    def add(self, part: Look) -> None:
        """Takes a second of it."""
        self.requests += part.requests
        self.statuses.update(part.statuses)
        for host, count in part.hosts.items():
            if host in self.hosts or len(self.hosts) < MOST_HOSTS:
                self.hosts[host] += count
        for source, count in part.sources.items():
            if source in self.sources or len(self.sources) < MOST_SOURCES:
                self.sources[source] += count


@dataclass(frozen=True, slots=True)
class LogReport:
    """What an analysis of logs found."""

    logs: tuple[str, ...]
    formats: tuple[str, ...]
    server: Network | None
    requests: int
    duration_seconds: float
    incidents: tuple[LogIncident, ...]
    """Heaviest first."""
    counters: dict[str, int]
    notes: tuple[str, ...]
    seconds: float
    """How long the analysis took."""

    def to_json(self) -> dict[str, object]:
        """The documented form of `stopbank analyze --access-log --json`."""
        return {
            "access_logs": [*self.logs],
            "formats": [*self.formats],
            "requests": self.requests,
            "duration_s": self.duration_seconds,
            "incidents": [_incident(one, self.server) for one in self.incidents],
            "counters": self.counters,
            "notes": [*self.notes],
        }


class Analysis:
    """Takes requests nearly in the order of time, and tells of floods."""

    def __init__(self, limits: RequestLimits, server: Network | None) -> None:
        """`server`: the address that clients come to, one host; without it there are no rules."""
        self._limits, self._server = limits, server
        self._requests = Requests(limits)
        self._open: dict[int, Look] = {}
        self._newest: int | None = None
        self._under: LogIncident | None = None
        self.incidents: list[LogIncident] = []
        self.counted, self.seconds = 0, 0
        """Requests, and how many seconds lie between the first and the last."""
        self._began = self._next = 0

    def take(self, timed: Timed) -> None:
        """One request."""
        second = timed.second
        if self._newest is None or second < self._newest - LATE_SECONDS:
            # Another time, be it the first: nothing of before goes on.
            self.finish()
            self._newest = self._began = self._next = second
        if second > self._newest:
            self._newest = second
            self._close(second - LATE_SECONDS)
        if (look := self._open.get(second)) is None:
            look = self._open[second] = Look(1.0)
            # Servers write at the end of a request: the first line need not be the first request.
            if self._next == self._began > second:
                self._next = self._began = second
        look.add(timed.request)
        self.counted += 1

    def finish(self) -> None:
        """The end, or the end of what belongs together."""
        if self._newest is None:
            return
        end = self._newest + 1
        self._close(end)
        # A log of one second is no window yet.
        self._step(end, Look(1.0))
        self.seconds += end - self._began
        self._requests, self._under, self._newest = Requests(self._limits), None, None

    def _close(self, before: int) -> None:
        """Takes the seconds that nothing more can come for, those without requests, too."""
        enough = int(self._limits.window_seconds + self._limits.quiet_seconds) + 2
        for second in sorted(one for one in self._open if one < before):
            for empty in range(max(self._next, second - enough), second):
                self._step(empty, Look(1.0))
            self._step(second, self._open.pop(second))
            self._next = second + 1

    def _step(self, second: int, look: Look) -> None:
        for flood, state in self._requests.take(look, second * 1_000_000_000, datetime.fromtimestamp(second + 1, UTC)):
            if state is State.STARTED:
                self._under = LogIncident(flood)
                self.incidents.append(self._under)
                for earlier in self._requests.looks[:-1]:
                    self._under.add(earlier)
            elif state is State.OVER:
                self._under = None
        incident = self._under
        if incident is None or incident.flood.above_ns != second * 1_000_000_000:
            return
        incident.add(look)
        incident.last = second
        if (rate := self._requests.rate.packets_per_second) > incident.peak:
            incident.peak = rate
            incident.rules = self._requests.rules(self._server, PORTS) if self._server else ()


def run(
    paths: Sequence[str | Path],
    server: Network | None = None,
    requests_per_second: float | None = None,
    progress: Progress | None = None,
) -> LogReport:
    """Analyses access logs, `-` for standard input, those of one server after the other or of several at a time.
    `server`: the address that clients come to, one host, for rules; `requests_per_second`: a threshold instead of the
    default. Raises `Refused` when a file can't be read or has no known format."""
    began = time.perf_counter()
    limits = RequestLimits() if requests_per_second is None else RequestLimits(requests_per_second)
    with ExitStack() as opened:
        files: list[LogFile] = []
        for path in paths:
            files.append(file := LogFile(path))
            opened.callback(file.close)
        analysis = Analysis(limits, server)
        for timed in _watched(files, progress):
            analysis.take(timed)
        analysis.finish()
        return LogReport(
            logs=tuple(file.stream.path for file in files),
            formats=tuple(file.format.value for file in files),
            server=server,
            requests=analysis.counted,
            duration_seconds=analysis.seconds,
            incidents=tuple(sorted(analysis.incidents, key=lambda one: -one.requests)),
            counters={
                "lines": sum(file.lines for file in files),
                "bad_lines": sum(file.bad for file in files),
                "undated": sum(file.undated for file in files),
                "astray": sum(file.astray for file in files),
            },
            notes=tuple(note for file in files for note in file.notes),
            seconds=time.perf_counter() - began,
        )


def _watched(files: Sequence[LogFile], progress: Progress | None) -> Iterator[Timed]:
    sizes = [file.stream.size() for file in files]
    size = sum(size or 0 for size in sizes)
    for number, timed in enumerate(merged(files)):
        if progress and size and number % _EVERY_LINES == 0:
            progress(sum(file.stream.position() for file in files if file.stream.size()), size)
        yield timed


def _incident(incident: LogIncident, server: Network | None) -> dict[str, object]:
    total = max(incident.requests, 1)
    return {
        "target": None if server is None else str(server.network_address),
        "vector": "http_flood",
        "requests": incident.requests,
        "peak_rps": round(incident.flood.peak.packets_per_second, 1),
        "peak_bps": round(incident.flood.peak.bits_per_second, 1),
        "sources": len(incident.sources),
        "spoofed": False,
        "confidence": 0.5,
        "first_seen": incident.flood.first_seen.isoformat(),
        "last_seen": datetime.fromtimestamp(incident.last + 1, UTC).isoformat(),
        "rules": rules_to_json(incident.rules),
        "ioc": {
            "sources": [
                {"address": str(source), "requests": count, "share": round(count / total, 4)}
                for source, count in incident.sources.most_common(TOP)
            ],
            "hosts": {host: count for host, count in incident.hosts.most_common(TOP) if host},
            "statuses": {f"{hundreds}xx": count for hundreds, count in sorted(incident.statuses.items())},
        },
    }
