"""Zones and settings: what people decide, each change audited."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from rules.errors import Refused
from rules.messages_values import zone_to_json
from rules.zone import Zone
from store import audit, readback
from store.database import Concern, Database
from store.models import SettingRow, ZoneRow


def all_zones(session: Session) -> tuple[Zone, ...]:
    """The readable zones, by name."""
    rows = session.scalars(select(ZoneRow).order_by(ZoneRow.name))
    return tuple(zone for zone in map(readback.zone, rows) if isinstance(zone, Zone))


class Zones(Database):
    """Zones and settings."""

    def zones(self) -> tuple[Zone, ...]:
        """The readable zones, by name; see `Store.unreadable` for others."""
        with self.reading() as session:
            return all_zones(session)

    def put_zone(self, zone: Zone, actor: str, now: datetime) -> None:
        """Makes a zone, or replaces the one of this name."""
        document = zone_to_json(zone)
        with self.writing(Concern.INTENTS) as session:
            before = session.get(ZoneRow, zone.name)
            was = None if before is None else dict(before.document)
            session.merge(ZoneRow(name=zone.name, document=document, changed=now, changed_by=actor))
            detail = {"zone": document, "was": was}
            audit.append(session, actor=actor, action="zone.put", subject=zone.name, detail=detail, now=now)

    def remove_zone(self, name: str, actor: str, now: datetime) -> None:
        """Removes a zone; its rules no longer pass the guard, so the speaker takes them off."""
        with self.writing(Concern.INTENTS) as session:
            before = session.get(ZoneRow, name)
            if before is None:
                raise Refused("zone", name, "is not known")
            detail = {"was": dict(before.document)}
            session.execute(delete(ZoneRow).where(ZoneRow.name == name))
            audit.append(session, actor=actor, action="zone.removed", subject=name, detail=detail, now=now)

    def setting(self, name: str) -> object:
        """The value of a setting, None when it was never set."""
        with self.reading() as session:
            row = session.get(SettingRow, name)
            return None if row is None else row.value.get("value")

    def put_setting(self, name: str, value: object, actor: str, now: datetime) -> None:
        """Sets a setting to anything JSON can hold."""
        with self.writing(Concern.INTENTS) as session:
            session.merge(SettingRow(name=name, value={"value": value}))
            audit.append(session, actor=actor, action="setting.put", subject=name, detail={"value": value}, now=now)
