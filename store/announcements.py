"""Status: where each rule stands at each neighbour. Written by speakers, each its own rows; read by everybody."""

from collections.abc import Iterable
from datetime import datetime
from typing import cast

from sqlalchemy import Table, and_, bindparam, delete, insert, select
from sqlalchemy.orm import Session

from rules.lifecycle import ON_THE_ROUTER, Phase
from rules.rule import RuleId
from store import outbox, readback
from store.database import Concern, Database
from store.models import AnnouncementRow
from store.records import AnnouncementRecord

_KEY = ("rule_id", "neighbour", "speaker")
_FEW = 500
"""So many rules are asked for by name. SQLite takes at most 999 variables in older builds."""
_table = cast(Table, AnnouncementRow.__table__)


class Announcements(Database):
    """The announcements table."""

    def record_announcements(self, records: Iterable[AnnouncementRecord]) -> None:
        """Replaces the rows of these rules, neighbours and speakers, all in one transaction; 5,000 rows take 0.3 s.

        People are told, through the outbox, when a rule first goes to a neighbour, and when none has it any more.
        """
        records = tuple(records)
        rows = {(one.rule, one.neighbour, one.speaker): _values(one) for one in records}
        if not rows:
            return
        keys = [dict(zip(("k_rule_id", "k_neighbour", "k_speaker"), key, strict=True)) for key in rows]
        same = and_(*(_table.c[name] == bindparam(f"k_{name}") for name in _KEY))
        rules = {rule for rule, _, _ in rows}
        latest = max(one.since for one in records)
        with self.writing(Concern.STATUS) as session:
            before = _standing(session, rules)
            # Delete and insert: an upsert would be shorter and differs between engines.
            session.connection().execute(delete(_table).where(same), keys)
            session.connection().execute(insert(_table), list(rows.values()))
            after = _standing(session, rules)
            outbox.add_many(session, "rule.announced", ({"id": rule} for rule in sorted(after - before)), latest)
            outbox.add_many(session, "rule.withdrawn", ({"id": rule} for rule in sorted(before - after)), latest)

    def announcements(self, rule: RuleId | None = None, speaker: str | None = None) -> tuple[AnnouncementRecord, ...]:
        """All, or those of one rule or one speaker, by rule and neighbour."""
        query = select(AnnouncementRow).order_by(*(_table.c[name] for name in _KEY))
        if rule is not None:
            query = query.where(AnnouncementRow.rule_id == rule)
        if speaker is not None:
            query = query.where(AnnouncementRow.speaker == speaker)
        with self.reading() as session:
            found = map(readback.announcement, session.scalars(query))
            return tuple(record for record in found if isinstance(record, AnnouncementRecord))

    def forget_announcements(self, rule: RuleId, speaker: str | None = None) -> int:
        """Removes a rule's rows, of all speakers or of one; says how many."""
        query = delete(AnnouncementRow).where(AnnouncementRow.rule_id == rule)
        if speaker is not None:
            query = query.where(AnnouncementRow.speaker == speaker)
        with self.writing(Concern.STATUS) as session:
            return len(session.scalars(query.returning(AnnouncementRow.neighbour)).all())

    def forget_ended_announcements(self, before: datetime) -> int:
        """Removes what ended before a moment; says how many."""
        ended = and_(AnnouncementRow.phase == Phase.ENDED.value, AnnouncementRow.since < before)
        query = delete(AnnouncementRow).where(ended).returning(AnnouncementRow.rule_id)
        with self.writing(Concern.STATUS) as session:
            return len(session.scalars(query).all())


def _standing(session: Session, rules: set[RuleId]) -> set[RuleId]:
    """Those of the rules that stand, or may stand, at some neighbour."""
    on = {phase.value for phase in ON_THE_ROUTER}
    query = select(AnnouncementRow.rule_id).where(AnnouncementRow.phase.in_(on)).distinct()
    if len(rules) <= _FEW:
        query = query.where(AnnouncementRow.rule_id.in_(rules))
    return rules.intersection(session.scalars(query))


def _values(record: AnnouncementRecord) -> dict[str, object]:
    return {
        "rule_id": record.rule,
        "neighbour": record.neighbour,
        "speaker": record.speaker,
        "phase": record.phase.value,
        "since": record.since,
        "detail": record.detail,
    }
