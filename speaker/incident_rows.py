"""An incident as a row of the database, and what of it only the row knows. Pure."""

from dataclasses import replace
from datetime import datetime

from rules.incident import Incident, Phase
from rules.rule import RuleId
from store.records import IncidentRecord


def row(incident: Incident, why: str, now: datetime) -> IncidentRecord:
    """What the database keeps of an incident."""
    first = incident.vectors[0] if incident.vectors else None
    return IncidentRecord(
        id=incident.id,
        zone=incident.zone,
        target=str(incident.target),
        state=incident.phase.value,
        opened=incident.opened,
        updated=now,
        closed=incident.closed,
        vector=str(first.vector) if first else "",
        severity=max((part.latest.severity for part in incident.parts), default=0.0),
        peak_packets_per_second=incident.peak.packets_per_second,
        peak_bits_per_second=incident.peak.bits_per_second,
        document={
            "why": why,
            "rules": sorted(incident.rules),
            "barred": sorted(incident.barred),
            "carried": incident.carried,
            "filtered_until": incident.filtered_until.isoformat() if incident.filtered_until else None,
            "alone_since": incident.alone_since.isoformat() if incident.alone_since else None,
            "sensors": [part.sensor for part in incident.parts],
            "sources": max((part.latest.sources for part in incident.parts), default=0),
            "rate": {
                "packets_per_second": incident.rate(now).packets_per_second,
                "bits_per_second": incident.rate(now).bits_per_second,
            },
            "is_confirmed": incident.is_confirmed,
            "recurrence": incident.recurrence,
        },
    )


def completed(incident: Incident, record: IncidentRecord) -> Incident:
    """An incident restored from its messages, with what only its row says."""
    document = record.document
    until, alone = document.get("filtered_until"), document.get("alone_since")
    # Of a long incident only the latest messages are read; what the earlier ones counted stands in the record.
    recurrence, carried = (int(str(document.get(name, 0))) for name in ("recurrence", "carried"))
    counted = incident.recurrence - incident.carried
    is_closed = record.closed is not None
    return replace(
        incident,
        phase=Phase.CLOSED if is_closed else incident.phase,
        closed=record.closed,
        rules=frozenset(RuleId(str(one)) for one in _list(document.get("rules"))),
        barred=frozenset(RuleId(str(one)) for one in _list(document.get("barred"))),
        carried=max(carried, recurrence - counted),
        filtered_until=datetime.fromisoformat(str(until)) if until else None,
        alone_since=datetime.fromisoformat(str(alone)) if alone else None,
    )


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
