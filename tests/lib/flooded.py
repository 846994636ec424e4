"""An engine with prefixes to protect, and floods on many hosts that are steady to the packet."""

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, NamedTuple

import numpy as np

from rules.match import Network
from rules.traffic import Detection, State
from rules.zone import Metric, Zone
from sensors import walk
from sensors.attack import Attack
from sensors.engine import Engine
from sensors.headers import HEADER
from sensors.settings import Detecting, Memory
from sensors.tables import ANY, key

MILLISECOND = 1_000_000
V4, V6 = ip_network("198.51.100.0/22"), ip_network("2001:db8::/32")
LIMITS = ((Metric.PACKETS, 10_000), (Metric.UDP_PACKETS, 5_000), (Metric.ICMP_PACKETS, 1_000))
UDP, ICMP = 17, 1


class Flood(NamedTuple):
    """On each of a prefix's first so many hosts."""

    prefix: Network
    hosts: int
    rate: float
    """Packets per second and host."""
    protocol: int = UDP


class Stage:
    """An engine, and floods that are steady to the packet."""

    def __init__(self, *zones: Zone, quiet: float = 1.0) -> None:
        self.said: list[Detection] = []
        self.engine = Engine(zones, self._emit, detecting=Detecting(quiet_seconds=quiet), memory=Memory(4096, 8192, 64))
        self.now, self._draw = 0, np.random.default_rng(7)
        self.engine.start(0)

    def _emit(self, detection: Detection, attack: Attack) -> None:
        self.said.append(detection)

    def run(
        self, seconds: float, *floods: tuple[Network, int, float] | tuple[Network, int, float, int], sent: bool = False
    ) -> None:
        """Floods, as `Flood` has them, all at once."""
        for _ in range(round(seconds / 0.04)):
            entries = [self._entries(Flood(*flood), sent) for flood in floods if flood[1]]
            if entries:
                walk.tallies(*self.engine.tables.arrays, walk.words(np.concatenate(entries)), 0, walk.NEVER)
            self.now += 40 * MILLISECOND
            self.engine.tick(self.now, datetime.now(UTC))

    def _entries(self, flood: Flood, sent: bool) -> ANY:
        """Two records to each host, of half of its packets."""
        prefix, hosts, rate, protocol = flood
        ours, theirs = ("source", "destination") if sent else ("destination", "source")
        out = np.zeros(2 * hosts, HEADER)
        high, low = key(prefix)
        step = 1 if prefix.version == 4 else 0x10000
        out["time"] = self.now + np.sort(self._draw.integers(0, 40 * MILLISECOND, 2 * hosts))
        out[f"{ours}_high"], out[f"{ours}_low"] = high, low + np.repeat(np.arange(hosts), 2) * step
        out[f"{theirs}_low"] = key(ip_network("192.0.2.0"))[1] + self._draw.integers(0, 99, 2 * hosts)
        out["protocol"] = protocol
        if protocol == UDP:
            out["source_port"], out["destination_port"] = 4_000, 9
        out["length"], out["weight"] = 500, max(1, round(rate * 0.02))
        return out

    def told(self, state: State = State.STARTED) -> list[str]:
        """Targets of messages, in order."""
        return [str(detection.target) for detection in self.said if detection.state is state]


def zone(*prefixes: Network, **more: Any) -> Zone:
    return Zone("z", prefixes, limits=LIMITS, **more)
