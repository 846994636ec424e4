"""Detections, zones and statistics as JSON objects, both ways.

`detection_from_json(detection_to_json(d)) == d`, likewise for the others; anything but such an object raises `Refused`
with all problems. The JSON is what is stored and what crosses between processes, so a field never changes its meaning.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from rules.action import Action, Discard, RateLimit
from rules.errors import Problem, Refused
from rules.match import Family, Match, Network, parse_prefix
from rules.messages_json import Fields, read
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import NAME, Metric, Mode, Zone

JsonObject = dict[str, object]

SEQUENCE_LIMIT = 2**53
"""What every JSON reader holds exactly."""

_NAME_MUST = "must be 1 to 63 lower-case letters, digits, dots, dashes or underscores"
_ATTACK = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STATISTIC = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VECTOR_LIMIT, _SIGNATURE_LIMIT, _PREFIX_LIMIT = 32, 4, 10_000
_MATCH_LENGTH = 65_536
_PREFIX_LENGTH = 64
_SEVERITY_LIMIT = 1e15
_STATISTICS_LIMIT = 128


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counters and gauges of a sensor by name, such as `packets_dropped_total`; at most 128."""

    numbers: tuple[tuple[str, int | float], ...] = ()
    """Sorted by name, each name once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", tuple(sorted(dict(self.numbers).items())))

    @classmethod
    def of(cls, numbers: Mapping[str, int | float]) -> "Statistics":
        """The statistics of a mapping."""
        return cls(tuple(numbers.items()))

    def get(self, name: str, default: int | float = 0) -> int | float:
        """One number by its name."""
        return dict(self.numbers).get(name, default)


# -------------------------------------------------------------------------------------------------------- detections


def detection_to_json(detection: Detection) -> JsonObject:
    """The detection as a JSON object; times in UTC to the microsecond."""
    return {
        "sensor": detection.sensor,
        "attack": detection.attack,
        "sequence": detection.sequence,
        "zone": detection.zone,
        "target": str(detection.target),
        "state": detection.state.value,
        "vantage": detection.vantage.value,
        "confirmed": detection.confirmed,
        "severity": detection.severity,
        "metric": detection.metric,
        "rate": _rate_to_json(detection.rate),
        "peak": _rate_to_json(detection.peak),
        "vectors": [
            {"id": str(share.vector), "share_packets": share.packets, "share_bytes": share.bytes}
            for share in detection.vectors
        ],
        "signatures": [_signature_to_json(signature) for signature in detection.signatures],
        "sources": detection.sources,
        "spoofed": detection.spoofed,
        "first_seen": moment_to_json(detection.first_seen),
        "seen": moment_to_json(detection.seen),
        "confidence": detection.confidence,
    }


def detection_from_json(value: object, path: str = "detection") -> Detection:
    """The detection of a JSON object, or `Refused` with the path of every wrong field."""
    return read(value, path, read_detection)


def read_detection(fields: Fields) -> Detection:
    """Reads a detection's fields; for messages that hold one."""
    return fields.build(
        Detection,
        sensor=fields.text("sensor", 63, NAME, _NAME_MUST),
        attack=fields.text("attack", 64, _ATTACK, "must be 1 to 64 letters, digits, dots, dashes or underscores"),
        sequence=fields.integer("sequence", 0, SEQUENCE_LIMIT),
        zone=fields.text("zone", 63, NAME, _NAME_MUST),
        target=read_prefix(fields, "target"),
        state=fields.choice("state", State),
        vantage=fields.choice("vantage", Vantage),
        confirmed=fields.boolean("confirmed"),
        severity=fields.number("severity", 0, _SEVERITY_LIMIT),
        metric=_metric(fields),
        rate=fields.nested("rate", _read_rate),
        peak=fields.nested("peak", _read_rate),
        vectors=fields.items("vectors", _VECTOR_LIMIT, lambda inner, name: inner.nested(name, _read_share)),
        signatures=fields.items("signatures", _SIGNATURE_LIMIT, lambda inner, name: inner.nested(name, _read_sign)),
        sources=fields.integer("sources", 0, SEQUENCE_LIMIT),
        spoofed=fields.nullable("spoofed", fields.boolean),
        first_seen=fields.moment("first_seen"),
        seen=fields.moment("seen"),
        # Sensors of before said nothing about it.
        confidence=fields.number("confidence", 0, 1) if fields.has("confidence") else 0.5,
    )


def moment_to_json(moment: datetime) -> str:
    """A time as ISO 8601 in UTC."""
    return moment.astimezone(UTC).isoformat()


def read_prefix(fields: Fields, name: str) -> Network:
    """Reads a prefix; no host bits, no zone index."""
    return fields.parsed(name, lambda text: _prefix(name, text), _PREFIX_LENGTH)


def read_name(fields: Fields, name: str) -> str:
    """Reads the name of a zone, a sensor or a neighbour."""
    return fields.text(name, 63, NAME, _NAME_MUST)


def _prefix(field: str, text: str) -> Network:
    if "%" in text:
        raise Refused(field, text, "a prefix has no zone index (%)")
    return parse_prefix(field, text)


def _metric(fields: Fields) -> str:
    metric = fields.choice("metric", Metric)
    return metric.value if isinstance(metric, Metric) else metric


def _rate_to_json(rate: Rate) -> JsonObject:
    return {"packets_per_second": rate.packets_per_second, "bits_per_second": rate.bits_per_second}


def _read_rate(fields: Fields) -> Rate:
    return fields.build(
        Rate,
        packets_per_second=fields.number("packets_per_second", 0, 1e12),
        bits_per_second=fields.number("bits_per_second", 0, 1e18),
    )


def _read_share(fields: Fields) -> VectorShare:
    return fields.build(
        VectorShare,
        vector=fields.parsed("id", _vector, 64),
        packets=fields.number("share_packets", 0, 1),
        bytes=fields.number("share_bytes", 0, 1),
    )


def _vector(text: str) -> Vector:
    try:
        return Vector.parse(text)
    except Refused as error:
        raise Refused.all(Problem("id", text, problem.reason) for problem in error.problems) from None


def _signature_to_json(signature: Signature) -> JsonObject:
    return {
        "match": str(signature.match),
        # The text alone doesn't tell the family of a match without prefixes.
        "family": signature.match.ip_family.label,
        "coverage": signature.coverage,
        "collateral": signature.collateral,
        "rate_limit": signature.rate_limit,
    }


def _read_sign(fields: Fields) -> Signature:
    label = fields.text("family", 4, re.compile("ipv[46]"), "must be ipv4 or ipv6")
    family = Family.IPV4 if label == "ipv4" else Family.IPV6
    return fields.build(
        Signature,
        match=fields.parsed("match", lambda text: Match.parse(text, family), _MATCH_LENGTH),
        coverage=fields.number("coverage", 0, 1),
        collateral=fields.nullable("collateral", fields.number, 0, 1),
        rate_limit=(
            fields.nullable("rate_limit", fields.integer, 1, RateLimit.MAXIMUM) if fields.has("rate_limit") else None
        ),
    )


# ------------------------------------------------------------------------------------------------------------- zones


def zone_to_json(zone: Zone) -> JsonObject:
    """The zone as a JSON object; limits keep their order."""
    return {
        "name": zone.name,
        "prefixes": [str(prefix) for prefix in zone.prefixes],
        "owner": zone.owner,
        "mode": zone.mode.value,
        "limits": {metric.value: limit for metric, limit in zone.limits},
        "prefix_factor": zone.prefix_factor,
        "total_limits": {metric.value: limit for metric, limit in zone.total_limits},
        "learned": zone.learned,
        "action": _action_to_json(zone.action),
        "rule_lifetime_seconds": zone.rule_lifetime_seconds,
        "collateral_limit": zone.collateral_limit,
        "automatic_rules": zone.automatic_rules,
        "blackhole": zone.blackhole,
        "blackhole_bits_per_second": zone.blackhole_bits_per_second,
    }


def zone_from_json(value: object, path: str = "zone") -> Zone:
    """The zone of a JSON object, or `Refused` with the path of every wrong field."""
    return read(value, path, read_zone)


def read_zone(fields: Fields) -> Zone:
    """Reads a zone's fields; for messages that hold some."""
    return fields.build(
        Zone,
        name=read_name(fields, "name"),
        prefixes=fields.items("prefixes", _PREFIX_LIMIT, read_prefix),
        owner=fields.text("owner", 256),
        mode=fields.choice("mode", Mode),
        limits=fields.nested("limits", _read_limits),
        # Zones written before these existed don't have them.
        prefix_factor=fields.number("prefix_factor", 1, 256) if fields.has("prefix_factor") else 4.0,
        total_limits=fields.nested("total_limits", _read_limits) if fields.has("total_limits") else (),
        learned=fields.boolean("learned") if fields.has("learned") else True,
        action=fields.nested("action", _read_action),
        rule_lifetime_seconds=fields.integer("rule_lifetime_seconds", 10, 86_400),
        collateral_limit=fields.number("collateral_limit", 0, 1),
        automatic_rules=fields.integer("automatic_rules", 0, 10_000),
        blackhole=fields.boolean("blackhole"),
        blackhole_bits_per_second=fields.nullable("blackhole_bits_per_second", fields.integer, 1, 10**15),
    )


def _read_limits(fields: Fields) -> tuple[tuple[Metric, int], ...]:
    present = [(metric, fields.integer(metric.value, 1, 10**15)) for metric in Metric if fields.has(metric.value)]
    order = {name: index for index, name in enumerate(fields.names())}
    return tuple(sorted(present, key=lambda pair: order[pair[0].value]))


def _action_to_json(action: Action) -> JsonObject:
    match action:
        case Discard():
            return {"kind": "discard"}
        case RateLimit():
            return {"kind": "rate-limit", "bytes_per_second": action.bytes_per_second}


def _read_action(fields: Fields) -> Action:
    kind = fields.text("kind", 16, re.compile("discard|rate-limit"), "must be discard or rate-limit")
    if kind == "rate-limit":
        rate = fields.integer("bytes_per_second", 1, RateLimit.MAXIMUM)
        return fields.build(RateLimit, bytes_per_second=rate)
    return fields.build(Discard)


# -------------------------------------------------------------------------------------------------------- statistics


def statistics_to_json(statistics: Statistics) -> JsonObject:
    """The statistics as a JSON object of numbers."""
    return dict(statistics.numbers)


def read_statistics(fields: Fields, name: str) -> Statistics:
    """Reads the statistics in the field of that name."""
    numbers = fields.numbers(name, _STATISTICS_LIMIT, -1e18, 1e18, _STATISTIC)
    return fields.build(Statistics.of, numbers=numbers)
