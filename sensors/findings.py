"""What an analysis found, as values and as the documented JSON: incidents, heaviest first, and what was not counted."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rules.action import Discard, RateLimit
from rules.rule import FlowSpec
from rules.traffic import Rate, Signature
from sensors.attack import Attack, moment
from sensors.within import is_prefix


@dataclass(slots=True)
class Incident:
    """Everything the capture shows about one target."""

    attack: Attack
    packets: int = 0
    peak: Rate = field(default_factory=lambda: Rate(0.0, 0.0))
    last_ns: int = 0

    def add(self, attack: Attack) -> None:
        """Takes an attack on the same target that ended; the heaviest one describes the incident."""
        if attack.packets > self.packets or attack is self.attack:
            attack.first_ns = min(attack.first_ns, self.attack.first_ns)
            self.attack = attack
        self.packets += attack.packets
        self.last_ns = max(self.last_ns, attack.last_ns)
        self.peak = Rate(
            max(self.peak.packets_per_second, attack.peak.packets_per_second),
            max(self.peak.bits_per_second, attack.peak.bits_per_second),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What an analysis found."""

    capture: str
    packets: int
    duration_seconds: float
    incidents: tuple[Incident, ...]
    """Heaviest first."""
    counters: dict[str, int]
    seconds: float
    """How long the analysis took."""
    uncounted: dict[str, int] = field(default_factory=dict)
    """Records that did not count, or not as they stand, by reason; its first word says what, for one."""

    def to_json(self) -> dict[str, object]:
        """The documented form of `stopbank analyze --json`."""
        return {
            "capture": self.capture,
            "packets": self.packets,
            "duration_s": round(self.duration_seconds, 6),
            "incidents": [_incident(incident) for incident in self.incidents],
            "counters": self.counters,
            "notes": [_counted(count, reason) for reason, count in self.uncounted.items()],
        }


def _counted(count: int, reason: str) -> str:
    thing, rest = reason.split(maxsplit=1)
    return f"{count:,} {thing}{'s' * (count != 1)} {rest}"


def _incident(incident: Incident) -> dict[str, object]:
    attack = incident.attack
    return {
        "target": str(attack.target if is_prefix(attack.target) else attack.target.network_address),
        "vector": str(attack.vectors[0].vector),
        "vectors": [
            {"id": str(share.vector), "share_packets": round(share.packets, 4), "share_bytes": round(share.bytes, 4)}
            for share in attack.vectors
        ],
        "packets": incident.packets,
        "peak_pps": round(incident.peak.packets_per_second, 1),
        "peak_bps": round(incident.peak.bits_per_second, 1),
        "sources": attack.sources,
        "spoofed": attack.picture.spoofed,
        "confidence": attack.confidence,
        "first_seen": moment(attack.first_ns).isoformat(),
        "last_seen": moment(incident.last_ns).isoformat(),
        "rules": rules_to_json(attack.signatures),
        "ioc": attack.details,
    }


def rules_to_json(signatures: Iterable[Signature]) -> list[dict[str, object]]:
    """The rules that would help, as text that can be announced."""
    return [
        {
            "flowspec": str(FlowSpec(signature.match, _action(signature))),
            "coverage": round(signature.coverage, 4),
            "collateral": None if signature.collateral is None else round(signature.collateral, 4),
        }
        for signature in signatures
    ]


def _action(signature: Signature) -> Discard | RateLimit:
    """What nothing separates from normal traffic is limited, never dropped."""
    return Discard() if signature.rate_limit is None else RateLimit(signature.rate_limit)
