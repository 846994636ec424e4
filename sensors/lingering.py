"""Slow HTTP in a capture file: the live sensor's watch on connections, at capture time.

A capture shows both directions, often, and can begin in the middle of an attack; `sensors.crumbs` takes account of it.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rules.match import Network
from rules.traffic import Detection, State
from rules.zone import Metric, Zone
from sensors.attack import Attack, moment
from sensors.classify import Picture
from sensors.connections import SlowWatch
from sensors.findings import Incident
from sensors.gathered import Gathering
from sensors.headers import COLUMNS
from sensors.origins import TOP
from sensors.tables import ANY, Tables, address

_PERIOD_NS = 1_000_000_000
"""Between two looks, as live."""


class Lingering:
    """Called at every tick of an analysis."""

    def __init__(self, tables: Tables, zones: Sequence[Zone]) -> None:
        self._watch = SlowWatch(zones, "analyze", answers=True)
        self._gathering = Gathering(tables, self._watch.settings.ports, answers=True)
        self._looked: int | None = None
        self._under: dict[Network, Incident] = {}
        self.incidents: list[Incident] = []
        """Servers that were attacked, each time."""

    def feed(self, tables: Tables, now: int) -> None:
        """Takes what was remembered since the last time, and looks at it once a second. `now`: analysis time in ns."""
        self._gathering.feed(tables)
        if self._looked is None:
            self._looked = now
        if now - self._looked >= _PERIOD_NS:
            self._look(now)

    def finish(self, tables: Tables, now: int) -> None:
        """The end of the capture."""
        self._gathering.feed(tables)
        self._look(now)

    def _look(self, now: int) -> None:
        self._looked = now
        if not len(self._gathering) and not self._watch.followed and not self._under:
            return
        for told in self._watch.look(self._gathering.take(), now, moment(now)):
            self._hear(told)
        for target, incident in self._under.items():
            slow = self._watch.slow.get(target)
            if slow is not None:
                _observe(incident, slow)

    def _hear(self, told: Detection) -> None:
        if told.state is State.OVER:
            self._under.pop(told.target, None)
            return
        if told.target not in self._under:
            none = np.zeros(COLUMNS, np.int64)
            attack = Attack(told.attack, told.target, told.zone, Metric.FLOWS, none, 0, 0, confidence=told.confidence)
            self._under[told.target] = incident = Incident(attack)
            self.incidents.append(incident)
        incident = self._under[told.target]
        if told.severity >= incident.attack.severity:
            attack = incident.attack
            attack.severity, attack.signatures, attack.sources = told.severity, told.signatures, told.sources
            attack.picture = Picture(told.vectors, (), told.sources, told.spoofed)
        incident.peak = told.peak


def _observe(incident: Incident, slow: ANY) -> None:
    """Takes an attack's connections as they are now: those of its worst moment describe it."""
    attack, packets = incident.attack, int((slow["packets"] * slow["stands"]).sum())
    attack.first_ns = min(attack.first_ns or _first(slow), _first(slow))
    incident.last_ns = attack.last_ns = max(attack.last_ns, int(slow["last"].max()))
    if packets < incident.packets:
        return
    incident.packets = attack.packets = packets
    attack.details = _observations(slow)


def _first(slow: ANY) -> int:
    return int(slow["first"].min())


def _observations(slow: ANY) -> dict[str, object]:
    """What a person would note of such connections: who holds most of them, and where."""
    sources: Counter[tuple[int, int]] = Counter()
    places, packets = np.unique(slow[["source_high", "source_low"]], return_inverse=True)
    amounts = np.bincount(packets, slow["packets"] * slow["stands"])
    for place, amount in zip(places, amounts, strict=True):
        sources[int(place["source_high"]), int(place["source_low"])] = int(amount)
    total = sum(sources.values())
    ports, connections = np.unique(slow["port"], return_counts=True)
    return {
        "connections": int(slow["stands"].sum()),
        "sources": [
            {"address": str(address(*host).network_address), "packets": count, "share": round(count / total, 4)}
            for host, count in sources.most_common(TOP)
        ],
        "destination_ports": {str(int(port)): int(count) for port, count in zip(ports, connections, strict=True)},
    }
