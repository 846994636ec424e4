"""HTTP floods seen in a web server's access log: what no capture shows of encrypted services.

Counts requests in bounded memory, by arrival, and tells of an `http_flood` on the declared address when they exceed a
limit for long enough. Sources of requests are real (their handshakes were completed), so rules name them, where few
send nearly all; otherwise there is no rule: dropping the service is what the attacker wants. Opens nothing but the log
and reads no clock.
"""

import secrets
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

from rules.components import Numeric
from rules.errors import Refused
from rules.match import TCP, Match, Network
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import Metric
from sensors.accesslog_follow import Follower
from sensors.accesslog_lines import Format, Request, parse

Address = IPv4Address | IPv6Address

MOST_SOURCES = 20_000
"""Told apart in one look; more are counted together."""
MOST_HOSTS = 256
MOST_USUAL = 50_000
FEW = 4
NEARLY_ALL = 0.9
_KNOWN = 200
"""Requests of calm times that collateral is measured on, at least."""


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
    """More than that is an attack."""
    ports: tuple[int, ...] = (80, 443)
    window_seconds: float = 3.0
    """Over which requests are averaged; half of it must pass before anything is said."""
    quiet_seconds: float = 30.0
    """Below 0.7 times the limit for so long, and the attack is over."""
    update_seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.server.prefixlen != self.server.max_prefixlen:
            raise Refused("server", self.server, f"must be one host, written with /{self.server.max_prefixlen}")
        if not self.requests_per_second > 0:
            raise Refused("requests_per_second", self.requests_per_second, "must be above 0")
        if not 1 <= len(self.ports) <= 5 or not all(1 <= port <= 65_535 for port in self.ports):
            raise Refused("ports", self.ports, "must be one to five ports from 1 to 65535")


@dataclass(slots=True)
class _Look:
    """What one look at the log brought."""

    seconds: float
    requests: int = 0
    bytes: int = 0
    sources: Counter[Address] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    others: int = 0
    """Requests of sources beyond those told apart."""

    def add(self, request: Request) -> None:
        self.requests += 1
        self.bytes += request.size
        self.statuses[request.status // 100] += 1
        if request.host in self.hosts or len(self.hosts) < MOST_HOSTS:
            self.hosts[request.host] += 1
        if request.source in self.sources or len(self.sources) < MOST_SOURCES:
            self.sources[request.source] += 1
        else:
            self.others += 1


@dataclass(slots=True)
class _Attack:
    id: str
    first_seen: datetime
    peak: Rate
    above_ns: int
    told_ns: int
    sequence: int = 0


class LogWatch:
    """One access log, looked at again and again."""

    def __init__(self, log: AccessLog, sensor: str, *, from_start: bool = False) -> None:
        """`from_start`: what the log holds already counts too."""
        self.log, self.zone, self._sensor = log, log.zone, sensor
        self._follower = Follower(log.path, from_start=from_start)
        self._looks: deque[_Look] = deque()
        self._usual: Counter[Address] = Counter()
        self._last: int | None = None
        self._attack: _Attack | None = None
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

    @property
    def sources(self) -> Counter[Address]:
        """Requests by source within the window."""
        return sum((look.sources for look in self._looks), Counter())

    @property
    def hosts(self) -> Counter[str]:
        """Requests by site within the window."""
        return sum((look.hosts for look in self._looks), Counter())

    @property
    def statuses(self) -> Counter[int]:
        """Requests by hundreds of the status within the window."""
        return sum((look.statuses for look in self._looks), Counter())

    def look(self, now: int, seen: datetime) -> tuple[Detection, ...]:
        """Reads what is new. `now` is monotonic, in ns; `seen` goes into the messages. Call it about once a second."""
        look = _Look(0.0 if self._last is None else (now - self._last) / 1e9)
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
        self._looks.append(look)
        while len(self._looks) > 1 and sum(one.seconds for one in self._looks) > self.log.window_seconds:
            self._looks.popleft()
        return tuple(self._judge(look, now, seen))

    def _judge(self, look: _Look, now: int, seen: datetime) -> Iterator[Detection]:
        seconds = sum(one.seconds for one in self._looks)
        requests = sum(one.requests for one in self._looks) / max(seconds, 1e-9)
        rate = Rate(requests, sum(one.bytes for one in self._looks) * 8 / max(seconds, 1e-9))
        limit, attack = self.log.requests_per_second, self._attack
        if attack is None:
            if requests > limit and seconds >= self.log.window_seconds / 2:
                began = seen - timedelta(seconds=seconds)
                self._attack = attack = _Attack(f"log-{secrets.token_hex(8)}", began, rate, now, now)
                yield self._detection(attack, State.STARTED, rate, seen)
            elif requests <= limit:
                self._remember(look)
            return
        attack.peak = Rate(*map(max, _pair(attack.peak), _pair(rate)))
        if requests > 0.7 * limit:
            attack.above_ns = now
        if now - attack.above_ns >= self.log.quiet_seconds * 1e9:
            self._attack = None
            yield self._detection(attack, State.OVER, rate, seen)
        elif now - attack.told_ns >= self.log.update_seconds * 1e9:
            attack.told_ns = now
            yield self._detection(attack, State.ONGOING, rate, seen)

    def _remember(self, look: _Look) -> None:
        """Who comes in calm times. Halved when full, so that the memory keeps to its size and forgets."""
        self._usual.update(look.sources)
        if len(self._usual) > MOST_USUAL:
            self._usual = Counter({source: count // 2 for source, count in self._usual.items() if count > 1})
        if len(self._usual) > MOST_USUAL:
            self._usual = Counter(dict(self._usual.most_common(MOST_USUAL // 2)))

    def _detection(self, attack: _Attack, state: State, rate: Rate, seen: datetime) -> Detection:
        sources = self.sources
        told = Detection(
            sensor=self._sensor,
            attack=attack.id,
            sequence=attack.sequence,
            zone=self.zone,
            target=self.log.server,
            state=state,
            vantage=Vantage.DOWNSTREAM,
            confirmed=True,
            severity=round(rate.packets_per_second / self.log.requests_per_second, 3),
            metric=Metric.HTTP_REQUESTS.value,
            rate=rate,
            peak=attack.peak,
            vectors=(VectorShare(Vector("http_flood"), 1.0, 1.0),),
            signatures=self._signatures(sources),
            sources=len(sources) + sum(one.others for one in self._looks),
            spoofed=False,
            first_seen=min(attack.first_seen, seen),
            seen=seen,
        )
        attack.sequence += 1
        return told

    def _signatures(self, sources: Counter[Address]) -> tuple[Signature, ...]:
        """A rule for each source, where few of them send nearly all."""
        total = sum(one.requests for one in self._looks)
        best = [(source, count) for source, count in sources.most_common(FEW) if count >= 0.05 * total]
        best = [(source, count) for source, count in best if source.version == self.log.server.version]
        if not total or sum(count for _, count in best) < NEARLY_ALL * total:
            return ()
        calm = self._usual.total()
        return tuple(
            Signature(self._match(source), count / total, self._usual[source] / calm if calm >= _KNOWN else None)
            for source, count in best
        )

    def _match(self, source: Address) -> Match:
        ports = Numeric.only(*self.log.ports)
        own = ip_network(source)
        return Match(destination=self.log.server, source=own, protocol=Numeric.only(TCP), destination_port=ports)


def _pair(rate: Rate) -> tuple[float, float]:
    return rate.packets_per_second, rate.bits_per_second
