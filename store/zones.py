"""Zones and settings: what people decide, each change audited.

Addresses belong to one owner: a zone that would meet another owner's is refused here, so that every writer obeys.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from rules.errors import Problem, Refused
from rules.match import Network
from rules.messages_values import zone_to_json
from rules.special import reach_problems
from rules.zone import Zone
from store import audit, readback
from store.database import Concern, Database, direct
from store.models import SettingRow, ZoneRow

_ZONES = select(ZoneRow.name, ZoneRow.document).order_by(ZoneRow.name)


def all_zones(session: Session) -> tuple[Zone, ...]:
    """The readable zones, by name."""
    rows = direct(session).execute(_ZONES)
    zones = (readback.zone(ZoneRow(name=name, document=document)) for name, document in rows)
    return tuple(zone for zone in zones if isinstance(zone, Zone))


class Zones(Database):
    """Zones and settings."""

    def zones(self) -> tuple[Zone, ...]:
        """The readable zones, by name; see `Store.unreadable` for others."""
        with self.reading() as session:
            return all_zones(session)

    def put_zone(self, zone: Zone, actor: str, now: datetime, *, shared: bool = False) -> None:
        """Makes a zone, or replaces the one of this name; `Refused` when it meets a zone of another owner.

        `shared` says that both owners may filter there. What a zone shared before stays shared.
        """
        with self.writing(Concern.INTENTS) as session:
            _put(session, zone, actor, now, shared)

    def add_zone(self, zone: Zone, actor: str, now: datetime, *, shared: bool = False) -> None:
        """Makes a zone; as `put_zone`, and `Refused` when the name is taken."""
        with self.writing(Concern.INTENTS) as session:
            if session.get(ZoneRow, zone.name) is not None:
                raise Refused("name", zone.name, "is a zone already; `zone change` changes it")
            _put(session, zone, actor, now, shared)

    def change_zone(
        self, name: str, change: Callable[[Zone], Zone], actor: str, now: datetime, *, shared: bool = False
    ) -> Zone:
        """The zone after the change, which sees it as it stands; as `put_zone`, and `Refused` when it isn't known."""
        with self.writing(Concern.INTENTS) as session:
            row = session.get(ZoneRow, name)
            if row is None:
                raise Refused("name", name, "is no zone; the list shows those there are")
            found = readback.zone(row)
            if not isinstance(found, Zone):
                raise Refused("name", name, f"can't be read ({found.problem}): remove it and add it anew")
            changed = change(found)
            _put(session, changed, actor, now, shared)
            return changed

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


def _put(session: Session, zone: Zone, actor: str, now: datetime, shared: bool) -> None:
    before = session.get(ZoneRow, zone.name)
    was = None if before is None else dict(before.document)
    known = None if before is None else readback.zone(before)
    if unfit := reach_problems(zone.prefixes):
        raise Refused.all(unfit)
    problems = _foreign(session, zone, known if isinstance(known, Zone) else None)
    if problems and not shared:
        raise Refused.all(problems)
    document = zone_to_json(zone)
    session.merge(ZoneRow(name=zone.name, document=document, changed=now, changed_by=actor))
    detail = {"zone": document, "was": was, "shared": [problem.value for problem in problems]}
    audit.append(session, actor=actor, action="zone.put", subject=zone.name, detail=detail, now=now)


def _foreign(session: Session, zone: Zone, before: Zone | None) -> list[Problem]:
    """One problem for each prefix that is new here and meets another owner's."""
    own = before.prefixes if before is not None and before.owner == zone.owner else ()
    return [
        Problem(
            "prefixes", str(new), f"meets {theirs} of zone {other.name}, which is {other.owner}'s; `shared` allows it"
        )
        for other in all_zones(session)
        if other.name != zone.name and other.owner != zone.owner
        for new in zone.prefixes
        if new not in own
        for theirs in other.prefixes
        if _meet(new, theirs)
    ]


def _meet(one: Network, two: Network) -> bool:
    return one.version == two.version and one.overlaps(two)
