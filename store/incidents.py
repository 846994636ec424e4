"""Incidents, the sensors' messages they are made of, and the sensors themselves."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, delete, desc, func, select, update

from rules.errors import Refused
from rules.messages_values import detection_from_json, detection_to_json
from rules.traffic import Detection
from store import outbox
from store.database import Concern, Database, direct
from store.models import DetectionRow, IncidentRow, SensorRow, table
from store.records import DetectionRecord, IncidentRecord, SensorRecord, is_confirmed

_STOOD = select(IncidentRow.closed, IncidentRow.document).where(IncidentRow.id == bindparam("number"))
_MAKE = table(IncidentRow).insert().returning(IncidentRow.id)
_REPLACE = table(IncidentRow).update().where(IncidentRow.id == bindparam("number"))
_MESSAGE = select(DetectionRow.id).where(
    *(getattr(DetectionRow, name) == bindparam(f"of_{name}") for name in ("sensor", "attack", "sequence"))
)
_KEEP = table(DetectionRow).insert()

_ALONE = ("unattended", "alone_since", "alone_until")
"""Of the document: since when the machine acts without a person's word, until when it may, how much of it is over."""


class Incidents(Database):
    """Incidents, detections, sensors."""

    def save_incident(self, incident: IncidentRecord) -> IncidentRecord:
        """Makes an incident, or replaces the one of its id; hands it back with its id.

        People are told, through the outbox, when it is first confirmed, when it has gone on for long without them, and
        when it closes; of mere suspicions never.
        """
        with self.writing(Concern.STATUS) as session:
            connection = direct(session)
            found = None if incident.id is None else connection.execute(_STOOD, {"number": incident.id}).one_or_none()
            if found is None:
                incident = replace(incident, id=connection.execute(_MAKE, _columns(incident)).scalar_one())
                before: Mapping[str, object] = {}
                was_closed = False
            else:
                connection.execute(_REPLACE, _columns(incident) | {"number": incident.id})
                was_closed, before = found.closed is not None, found.document
            for kind in _news(incident, was_closed, before):
                outbox.add(session, kind, _told(incident), incident.updated)
            return incident

    def incident(self, number: int) -> IncidentRecord | None:
        """One incident."""
        with self.reading() as session:
            row = session.get(IncidentRow, number)
            return None if row is None else _incident(row)

    def incidents(
        self, state: str | None = None, zone: str | None = None, limit: int = 100, before: int | None = None
    ) -> tuple[IncidentRecord, ...]:
        """The newest first; `before` is the id to go on from."""
        query = select(IncidentRow).order_by(desc(IncidentRow.id)).limit(limit)
        if state is not None:
            query = query.where(IncidentRow.state == state)
        if zone is not None:
            query = query.where(IncidentRow.zone == zone)
        if before is not None:
            query = query.where(IncidentRow.id < before)
        with self.reading() as session:
            return tuple(_incident(row) for row in session.scalars(query))

    def count_open_incidents(self) -> int:
        """How many have not closed, quiet ones included."""
        query = select(func.count()).select_from(IncidentRow).where(IncidentRow.closed.is_(None))
        with self.reading() as session:
            return session.scalar(query) or 0

    def record_detection(self, detection: Detection, incident: int | None, now: datetime) -> bool:
        """Keeps a sensor's message; False when this very message was there already."""
        with self.writing(Concern.STATUS) as session:
            key = {"sensor": detection.sensor, "attack": detection.attack, "sequence": detection.sequence}
            connection = direct(session)
            if connection.execute(_MESSAGE, {f"of_{name}": value for name, value in key.items()}).first() is not None:
                return False
            connection.execute(
                _KEEP, key | {"incident": incident, "received": now, "document": detection_to_json(detection)}
            )
            return True

    def detections(self, incident: int, limit: int = 200) -> tuple[DetectionRecord, ...]:
        """The newest messages of an incident, newest first; unreadable ones are left out."""
        query = select(DetectionRow).where(DetectionRow.incident == incident).order_by(desc(DetectionRow.id))
        with self.reading() as session:
            found = (_detection(row) for row in session.scalars(query.limit(limit)))
            return tuple(record for record in found if record is not None)

    def forget_detections(self, before: datetime) -> int:
        """Retention: removes messages received before a moment; says how many."""
        query = delete(DetectionRow).where(DetectionRow.received < before).returning(DetectionRow.id)
        with self.writing(Concern.STATUS) as session:
            return len(session.scalars(query).all())

    def attach_detections(self, sensor: str, attack: str, incident: int) -> None:
        """Ties the messages of one attack to the incident that was opened for it."""
        mine = (DetectionRow.sensor == sensor) & (DetectionRow.attack == attack)
        with self.writing(Concern.STATUS) as session:
            session.execute(update(DetectionRow).where(mine).values(incident=incident))

    def sensors(self) -> tuple[SensorRecord, ...]:
        """Every sensor ever heard, by name."""
        with self.reading() as session:
            return tuple(_sensor(row) for row in session.scalars(select(SensorRow).order_by(SensorRow.name)))

    def save_sensor_seen(self, sensor: SensorRecord) -> None:
        """Makes or replaces a sensor's row."""
        with self.writing(Concern.STATUS) as session:
            session.merge(
                SensorRow(
                    name=sensor.name,
                    last_seen=sensor.last_seen,
                    statistics=dict(sensor.statistics),
                    detail=sensor.detail,
                )
            )

    def forget_sensor(self, name: str) -> bool:
        """Removes a sensor's row, where there is one; should it be heard again, it comes back."""
        query = delete(SensorRow).where(SensorRow.name == name).returning(SensorRow.name)
        with self.writing(Concern.STATUS) as session:
            return session.scalar(query) is not None


def _news(incident: IncidentRecord, was_closed: bool, before: Mapping[str, object]) -> Iterator[str]:
    """What has happened that people want to know; `before`: the document that stood there."""
    if not incident.is_confirmed:
        return
    if not is_confirmed(before):
        yield "incident.opened"
    unattended = incident.document.get("unattended")
    if unattended and unattended != before.get("unattended"):
        yield "incident.unattended"
    if incident.closed is not None and not was_closed:
        yield "incident.closed"


def _told(incident: IncidentRecord) -> dict[str, object]:
    return {
        "id": incident.id,
        "zone": incident.zone,
        "target": incident.target,
        "vector": incident.vector,
        "severity": incident.severity,
        "peak_packets_per_second": incident.peak_packets_per_second,
        "peak_bits_per_second": incident.peak_bits_per_second,
        "opened": incident.opened.isoformat(),
        "closed": None if incident.closed is None else incident.closed.isoformat(),
        "why": incident.document.get("why", ""),
        **{name: incident.document[name] for name in _ALONE if incident.document.get(name)},
    }


def _columns(incident: IncidentRecord) -> dict[str, object]:
    columns: dict[str, object] = {
        "zone": incident.zone,
        "target": incident.target,
        "state": incident.state,
        "opened": incident.opened,
        "updated": incident.updated,
        "closed": incident.closed,
        "vector": incident.vector,
        "severity": incident.severity,
        "peak_packets_per_second": incident.peak_packets_per_second,
        "peak_bits_per_second": incident.peak_bits_per_second,
        "document": dict(incident.document),
    }
    return columns if incident.id is None else columns | {"id": incident.id}


def _incident(row: IncidentRow) -> IncidentRecord:
    return IncidentRecord(
        id=row.id,
        zone=row.zone,
        target=row.target,
        state=row.state,
        opened=row.opened,
        updated=row.updated,
        closed=row.closed,
        vector=row.vector,
        severity=row.severity,
        peak_packets_per_second=row.peak_packets_per_second,
        peak_bits_per_second=row.peak_bits_per_second,
        document=row.document,
    )


def _detection(row: DetectionRow) -> DetectionRecord | None:
    try:
        return DetectionRecord(row.id, row.incident, detection_from_json(row.document), row.received)
    except Refused:
        return None


def _sensor(row: SensorRow) -> SensorRecord:
    numbers = {name: value for name, value in row.statistics.items() if isinstance(value, int | float)}
    return SensorRecord(row.name, row.last_seen, numbers, row.detail)
