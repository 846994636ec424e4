"""What a rule would do to a target's normal traffic: the worst of packets, bytes, connections, services and sources.

A rule that takes one percent of the packets may take every new connection, or a whole small service. Pure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rules.match import TCP, TCP_FLAG_BITS
from sensors.headers import HAS_FLAGS, HAS_PAYLOAD, HAS_PORTS, IS_HTTP, IS_IPV6, IS_TLS, Kind
from sensors.origins import flows, folded
from sensors.tables import ANY

FEWEST = 20
"""Fewer normal packets than this say nothing."""
ENOUGH = 100
"""Of fewer, none hit does not say that one in a hundred isn't."""
_CONNECTIONS = 10
"""Fewer new connections than this aren't measured."""
_SYN_LENGTHS = (52, 60, 64)
"""Of the SYNs of today's systems (Windows, Linux, Apple's) in IPv4, with their options; IPv6: 20 more."""
_SERVICE_PACKETS, _SERVICE_SHARE = 5, 0.01
"""What a service must have in the sample to be one: fewer packets are stray."""

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Normal:
    """A target's normal traffic, prepared for asking often."""

    entries: ANY
    """What came, and behind it SYNs as those who came would send them: a sample of minutes holds few."""
    count: int
    """How many came."""
    packets: Floats
    bytes: Floats
    begins: Mask
    """Which entries open a TCP connection."""
    services: NDArray[np.int64]
    """The service of each entry, as a small number; -1: none that counts."""
    service_packets: Floats
    sources: NDArray[np.int64]
    source_packets: Floats

    @classmethod
    def of(cls, entries: ANY) -> "Normal":
        """Of remembered packets from before the attack."""
        count = len(entries)
        entries = np.concatenate([entries, _openings(entries)])
        packets = entries["weight"].astype(np.float64)
        services = _services(entries)
        known = services >= 0
        sources = np.unique(folded(entries, "source"), return_inverse=True)[1].astype(np.int64)
        return cls(
            entries=entries,
            count=count,
            packets=packets,
            bytes=packets * entries["length"],
            begins=entries["kind"] == Kind.SYN,
            services=services,
            service_packets=np.bincount(services[known], packets[known]).astype(np.float64),
            sources=sources,
            source_packets=np.bincount(sources, packets).astype(np.float64),
        )

    @property
    def tells(self) -> bool:
        """Whether there is enough of it."""
        return self.count >= FEWEST

    def told(self, harm: float) -> float | None:
        """The harm as a rule may claim it; None where so few packets would flatter it."""
        return harm if self.count >= ENOUGH or harm * ENOUGH >= 1 else None

    def harm(self, hit: Mask) -> float:
        """The worst share that a rule takes, 0 to 1; `hit`: the entries that it selects."""
        if not hit.any():
            return 0.0
        measures = [_share(self.packets, hit), _share(self.bytes, hit), self._hurt_sources(hit)]
        if self.begins.sum() >= _CONNECTIONS:
            measures.append(float(hit[self.begins].mean()))
        if len(self.service_packets):
            served = hit & (self.services >= 0)
            taken = np.bincount(self.services[served], self.packets[served], minlength=len(self.service_packets))
            measures.append(float((taken / np.maximum(self.service_packets, 1e-9)).max()))
        return min(1.0, max(measures))

    def _hurt_sources(self, hit: Mask) -> float:
        """Sources that lose more than half of what they send."""
        taken = np.bincount(self.sources[hit], self.packets[hit], minlength=len(self.source_packets))
        return float((taken > 0.5 * self.source_packets).sum()) / max(int((self.source_packets > 0).sum()), 1)


def _share(amounts: Floats, hit: Mask) -> float:
    return float(amounts[hit].sum()) / max(float(amounts.sum()), 1e-9)


def _openings(entries: ANY) -> ANY:
    """SYNs, of no weight, with which the clients seen would come again: from their addresses and ports."""
    clients = (
        (entries["protocol"] == TCP)
        & (entries["marks"] & (HAS_PORTS | HAS_FLAGS) == HAS_PORTS | HAS_FLAGS)
        & (entries["destination_port"] < entries["source_port"])
        & (entries["kind"] != Kind.SYN)
    )
    talking = entries[clients]
    _, places = np.unique(flows(talking), return_index=True)
    out = np.repeat(talking[places], len(_SYN_LENGTHS))
    out["weight"], out["kind"], out["tcp_flags"] = 0, Kind.SYN, TCP_FLAG_BITS["syn"]
    out["marks"] &= ~np.uint8(HAS_PAYLOAD | IS_HTTP | IS_TLS)
    longer = np.where(out["marks"] & IS_IPV6 != 0, 20, 0)
    out["length"] = np.tile(_SYN_LENGTHS, len(places)) + longer
    return out


def _services(entries: ANY) -> NDArray[np.int64]:
    """Protocol and the lower of the two ports: what clients ask for, and what the target itself asks others for."""
    ported = (entries["marks"] & HAS_PORTS != 0) & (entries["fragment"] & 2 == 0) & (entries["weight"] > 0)
    lower = np.minimum(entries["source_port"], entries["destination_port"]).astype(np.int64)
    keys = entries["protocol"].astype(np.int64) << 16 | lower
    out = np.full(len(entries), -1, np.int64)
    found, places, counts = np.unique(keys[ported], return_inverse=True, return_counts=True)
    # Of what came: the SYNs added to it would hide a small service behind a large one's clients.
    counts_enough = counts >= max(_SERVICE_PACKETS, _SERVICE_SHARE * np.count_nonzero(entries["weight"]))
    numbers = np.where(counts_enough, np.cumsum(counts_enough) - 1, -1)
    out[ported] = numbers[places] if len(found) else -1
    return out
