"""Requests over time, held against a limit in bounded memory: what a web server's log says, live or afterwards.

Sources of requests are real (their handshakes were completed), so rules name them, where few send nearly all; otherwise
there is no rule: dropping the service is what the attacker wants. Pure.
"""

import secrets
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_network

from rules.components import Numeric
from rules.errors import Refused
from rules.match import TCP, Match, Network
from rules.traffic import Rate, Signature, State
from sensors.accesslog_lines import Request

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
class RequestLimits:
    """What counts as a flood of requests."""

    requests_per_second: float = 500.0
    """More than that is an attack."""
    window_seconds: float = 3.0
    """Over which requests are averaged; half of it must pass before anything is said."""
    quiet_seconds: float = 30.0
    """Below 0.7 times the limit for so long, and the attack is over."""
    update_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not self.requests_per_second > 0:
            raise Refused("requests_per_second", self.requests_per_second, "must be above 0")


@dataclass(slots=True)
class Look:
    """What some time brought, a second or so."""

    seconds: float
    requests: int = 0
    bytes: int = 0
    sources: Counter[Address] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    """Hundreds of them."""
    others: int = 0
    """Requests of sources beyond those told apart."""

    def add(self, request: Request) -> None:
        """Counts one."""
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
class Flood:
    """One that goes on."""

    id: str
    first_seen: datetime
    peak: Rate
    above_ns: int
    told_ns: int
    sequence: int = 0


class Requests:
    """The looks within the window."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._looks: deque[Look] = deque()
        self._usual: Counter[Address] = Counter()
        self._flood: Flood | None = None
        self.rate = Rate(0.0, 0.0)
        """Within the window; packets are requests."""

    @property
    def looks(self) -> tuple[Look, ...]:
        """Those within the window, oldest first."""
        return tuple(self._looks)

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

    @property
    def total(self) -> int:
        """Requests within the window."""
        return sum(look.requests for look in self._looks)

    @property
    def others(self) -> int:
        """Of them, those of sources that aren't told apart."""
        return sum(look.others for look in self._looks)

    def take(self, look: Look, now: int, seen: datetime) -> Iterator[tuple[Flood, State]]:
        """What a look leads to; `now` in ns never runs backwards."""
        self._looks.append(look)
        while len(self._looks) > 1 and sum(one.seconds for one in self._looks) > self._limits.window_seconds:
            self._looks.popleft()
        seconds = sum(one.seconds for one in self._looks)
        requests = self.total / max(seconds, 1e-9)
        self.rate = rate = Rate(requests, sum(one.bytes for one in self._looks) * 8 / max(seconds, 1e-9))
        limit, flood = self._limits.requests_per_second, self._flood
        if flood is None:
            if requests > limit and seconds >= self._limits.window_seconds / 2:
                began = seen - timedelta(seconds=seconds)
                self._flood = flood = Flood(f"log-{secrets.token_hex(8)}", began, rate, now, now)
                yield flood, State.STARTED
            elif requests <= limit:
                self._remember(look)
            return
        flood.peak = Rate(*map(max, _pair(flood.peak), _pair(rate)))
        if requests > 0.7 * limit:
            flood.above_ns = now
        if now - flood.above_ns >= self._limits.quiet_seconds * 1e9:
            self._flood = None
            yield flood, State.OVER
        elif now - flood.told_ns >= self._limits.update_seconds * 1e9:
            flood.told_ns = now
            yield flood, State.ONGOING

    def _remember(self, look: Look) -> None:
        """Who comes in calm times. Halved when full, so that the memory keeps to its size and forgets."""
        self._usual.update(look.sources)
        if len(self._usual) > MOST_USUAL:
            self._usual = Counter({source: count // 2 for source, count in self._usual.items() if count > 1})
        if len(self._usual) > MOST_USUAL:
            self._usual = Counter(dict(self._usual.most_common(MOST_USUAL // 2)))

    def rules(self, server: Network, ports: tuple[int, ...]) -> tuple[Signature, ...]:
        """A rule for each source, where few of them send nearly all. `server`: what clients come to, one host."""
        total, calm = self.total, self._usual.total()
        best = [(source, count) for source, count in self.sources.most_common(FEW) if count >= 0.05 * total]
        best = [(source, count) for source, count in best if source.version == server.version]
        if not total or sum(count for _, count in best) < NEARLY_ALL * total:
            return ()
        plain = Match(destination=server, protocol=Numeric.only(TCP), destination_port=Numeric.only(*ports))
        return tuple(
            Signature(
                replace(plain, source=ip_network(source)),
                count / total,
                self._usual[source] / calm if calm >= _KNOWN else None,
            )
            for source, count in best
        )


def _pair(rate: Rate) -> tuple[float, float]:
    return rate.packets_per_second, rate.bits_per_second
