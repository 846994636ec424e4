"""What a rule would do to a target's normal traffic: the worst of packets, bytes, connections, services and sources.

A rule that takes one percent of the packets may take every new connection, or a whole small service. Pure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensors.headers import HAS_PORTS, Kind
from sensors.origins import folded
from sensors.tables import ANY

FEWEST = 20
"""Fewer normal packets than this say nothing."""
_CONNECTIONS = 10
"""Fewer new connections in the sample than this aren't measured."""
_SERVICE_PACKETS, _SERVICE_SHARE = 5, 0.01
"""What a service must have in the sample to be one: fewer packets are stray."""

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Normal:
    """A target's normal traffic, prepared for asking often."""

    entries: ANY
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
        packets = entries["weight"].astype(np.float64)
        services = _services(entries)
        known = services >= 0
        sources = np.unique(folded(entries, "source"), return_inverse=True)[1].astype(np.int64)
        return cls(
            entries=entries,
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
        return len(self.entries) >= FEWEST

    def harm(self, hit: Mask) -> float:
        """The worst share that a rule takes, 0 to 1; `hit`: the entries that it selects."""
        if not hit.any():
            return 0.0
        measures = [_share(self.packets, hit), _share(self.bytes, hit), self._hurt_sources(hit)]
        if self.begins.sum() >= _CONNECTIONS:
            measures.append(_share(self.packets[self.begins], hit[self.begins]))
        if len(self.service_packets):
            served = hit & (self.services >= 0)
            taken = np.bincount(self.services[served], self.packets[served], minlength=len(self.service_packets))
            measures.append(float((taken / np.maximum(self.service_packets, 1e-9)).max()))
        return min(1.0, max(measures))

    def _hurt_sources(self, hit: Mask) -> float:
        """Sources that lose more than half of what they send."""
        taken = np.bincount(self.sources[hit], self.packets[hit], minlength=len(self.source_packets))
        return float((taken > 0.5 * self.source_packets).mean())


def _share(amounts: Floats, hit: Mask) -> float:
    return float(amounts[hit].sum()) / max(float(amounts.sum()), 1e-9)


def _services(entries: ANY) -> NDArray[np.int64]:
    """Protocol and the lower of the two ports: what clients ask for, and what the target itself asks others for."""
    ported = (entries["marks"] & HAS_PORTS != 0) & (entries["fragment"] & 2 == 0)
    lower = np.minimum(entries["source_port"], entries["destination_port"]).astype(np.int64)
    keys = entries["protocol"].astype(np.int64) << 16 | lower
    out = np.full(len(entries), -1, np.int64)
    found, places, counts = np.unique(keys[ported], return_inverse=True, return_counts=True)
    counts_enough = counts >= max(_SERVICE_PACKETS, _SERVICE_SHARE * len(entries))
    numbers = np.where(counts_enough, np.cumsum(counts_enough) - 1, -1)
    out[ported] = numbers[places] if len(found) else -1
    return out
