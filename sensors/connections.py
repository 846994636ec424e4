"""Slow HTTP attacks: many open connections to a web port that never get on with their request.

A limit on packets never sees them: a thousand connections with a byte now and then keep a server busy at a hundred
packets a second. A small table (`sensors.crumbs`) follows connections and tells those whose data comes in crumbs. Looks
at gathered headers about once a second; reads no clock. Where only some connections are gathered, each counts for as
many as it stands for, and an attack must be told from chance.
"""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_network

import numpy as np

from rules.components import Numeric
from rules.match import TCP, Match, Network
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import Metric, Zone
from sensors.crumbs import OPEN, Connections
from sensors.gathered import Handed
from sensors.settings import SlowSettings
from sensors.tables import ANY, address

FEW, NEARLY_ALL = 4, 0.9
DEVIATIONS = 2.0
"""By so many standard deviations must a count estimated from some connections exceed what counts as an attack."""


@dataclass(slots=True)
class _Under:
    id: str
    first_seen: datetime
    above_ns: int
    told_ns: int
    peak: Rate
    sequence: int = 0


class SlowWatch:
    """Follows the connections of all protected servers."""

    def __init__(self, zones: Sequence[Zone], sensor: str, settings: SlowSettings | None = None,
                 vantage: Vantage = Vantage.UPSTREAM, answers: bool = False) -> None:  # fmt: skip
        """`answers`: what servers send is handed over, too, as `gathered` does it."""
        self.settings, self._sensor, self._vantage, self._zones = settings or SlowSettings(), sensor, vantage, zones
        self._connections = Connections(self.settings, answers)
        self.slow: dict[Network, ANY] = {}
        """The slow connections (`crumbs.OPEN`) of each server that had many at the last look; to be read only."""
        self._under: dict[Network, _Under] = {}

    @property
    def followed(self) -> int:
        """Connections in the table."""
        return len(self._connections)

    def protect(self, zones: Sequence[Zone]) -> None:
        """Other zones from now on."""
        self._zones = zones

    def look(self, handed: Handed | ANY, now: int, seen: datetime) -> tuple[Detection, ...]:
        """Takes what was remembered since the last look, as gathered or all of it. `now`: analysis time in ns; `seen`
        goes into the messages."""
        self._connections.follow(handed if isinstance(handed, Handed) else Handed.all(handed), now)
        slow = self._connections.slow()
        servers, places = np.unique(slow[["server_high", "server_low"]], return_inverse=True)
        counts = np.bincount(places, slow["stands"], minlength=len(servers))
        self.slow = found = {
            address(int(server["server_high"]), int(server["server_low"])): slow[places == number]
            for number, (server, count) in enumerate(zip(servers, counts, strict=True))
            if count >= 0.7 * self.settings.connections
        }
        told = (self._judge(target, found.get(target), now, seen) for target in {*found, *self._under})
        return tuple(one for one in told if one is not None)

    def _judge(
        self, target: Network, slow: ANY | None, now: int, seen: datetime
    ) -> Detection | None:  # fmt: skip
        count, surely = (0, 0.0) if slow is None else _estimated(slow)
        under = self._under.get(target)
        zone = next((zone.name for zone in self._zones if zone.holds(target)), None)
        if zone is None:
            # Not ours any more; should it be again, what comes then is another attack.
            self._under.pop(target, None)
            return None
        if under is None and surely < self.settings.connections:
            return None
        slow = np.zeros(0, OPEN) if slow is None else slow
        state = State.STARTED if under is None else State.ONGOING
        rate = _rate(slow, now)
        if under is None:
            under = self._under[target] = _Under(f"slow-{secrets.token_hex(8)}", seen, now, now, rate)
        under.peak = Rate(
            max(under.peak.packets_per_second, rate.packets_per_second),
            max(under.peak.bits_per_second, rate.bits_per_second),
        )
        if count >= 0.7 * self.settings.connections:
            under.above_ns = now
        if now - under.above_ns >= self.settings.quiet_seconds * 1e9:
            state = State.OVER
            del self._under[target]
        elif state is State.ONGOING and now - under.told_ns < self.settings.update_seconds * 1e9:
            return None
        under.told_ns = now
        return self._detection(target, zone, slow, under, state, rate, seen)

    def _detection(
        self, target: Network, zone: str, slow: ANY, under: _Under, state: State, rate: Rate, seen: datetime
    ) -> Detection:  # fmt: skip
        under.sequence += 1
        return Detection(
            sensor=self._sensor,
            attack=under.id,
            sequence=under.sequence - 1,
            zone=zone,
            target=target,
            state=state,
            vantage=self._vantage,
            confirmed=True,
            severity=round(_estimated(slow)[0] / self.settings.connections, 3),
            metric=Metric.FLOWS.value,
            rate=rate,
            peak=under.peak,
            vectors=(VectorShare(Vector("http_slow"), 1.0, 1.0),),
            signatures=_rules(target, slow),
            sources=len(np.unique(slow[["source_high", "source_low"]])),
            spoofed=False,
            first_seen=min(under.first_seen, seen),
            seen=seen,
        )


def _estimated(slow: ANY) -> tuple[int, float]:
    """How many connections these stand for, and how many there are nearly for certain."""
    stands = slow["stands"].astype(np.int64)
    count = int(stands.sum())
    return count, count - DEVIATIONS * float(np.sqrt((stands * (stands - 1)).sum()))


def _rate(slow: ANY, now: int) -> Rate:
    """Of these connections together, each over its own life."""
    lives = np.maximum(now - slow["first"], 1_000_000_000) / 1e9 / slow["stands"]
    return Rate(float((slow["packets"] / lives).sum()), float((slow["bytes"] * 8 / lives).sum()))


def _rules(target: Network, slow: ANY) -> tuple[Signature, ...]:
    """A rule for each source where few hold nearly all connections: their handshakes prove them real. Else none, nor
    for an IPv4 address in an IPv6 header, which no host has."""
    sources = Counter(
        {
            address(int(one["source_high"]), int(one["source_low"])): int(count)
            for one, count in zip(*np.unique(slow[["source_high", "source_low"]], return_counts=True), strict=True)
        }
    )
    best = [(source, count) for source, count in sources.most_common(FEW) if source.version == target.version]
    if not best or sum(count for _, count in best) < NEARLY_ALL * len(slow):
        return ()
    ports = np.unique(slow["port"])[:5]
    plain = Match(
        destination=target,
        protocol=Numeric.only(TCP),
        destination_port=Numeric.only(*map(int, ports)),
    )
    return tuple(
        Signature(replace(plain, source=ip_network(source)), count / len(slow), None)
        for source, count in best
        if count >= 0.05 * len(slow)
    )
