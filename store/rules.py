"""The rules that are wanted, were wanted, or wait for approval: reading them, ending them, extending them.

How a rule gets in is `store.admission`. Ending never asks whether a row is readable: a broken rule can be withdrawn.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from rules.errors import Refused
from rules.guard import Limits, Origin
from rules.rule import RuleId
from store import audit, outbox, readback
from store.database import Concern, Database, direct
from store.models import AnnouncementRow, RuleHistoryRow, RuleRow, ZoneRow, table
from store.records import Intent, RuleChange, RuleFilter, RuleRecord, UnreadableRecord
from store.wanted import WantedRules

ALIVE = RuleRow.intent != Intent.ENDED.value
_REMEMBER = table(RuleHistoryRow).insert()
_AUTOMATIC = tuple(origin.value for origin in Origin if origin.is_automatic)


def alive(session: Session, rule_id: RuleId) -> RuleRow | None:
    """The generation of a rule that has not ended."""
    return session.scalar(select(RuleRow).where(RuleRow.rule_id == rule_id, ALIVE))


def alive_or_refused(session: Session, rule_id: RuleId) -> RuleRow:
    """The generation that has not ended; raises `Refused`."""
    row = alive(session, rule_id)
    if row is None:
        raise Refused("rule", rule_id, "is not known, or has ended already")
    return row


def note(session: Session, row: RuleRow, *, change: str, actor: str, detail: str, now: datetime) -> None:
    """History, audit and outbox of one change, in the transaction of the change itself."""
    entry = {
        "rule_id": row.rule_id,
        "generation": row.generation,
        "at": now,
        "actor": actor,
        "change": change,
        "detail": detail,
        "deadline": row.deadline,
    }
    direct(session).execute(_REMEMBER, entry)
    what: dict[str, object] = {
        "generation": row.generation,
        "rule": row.text,
        "owner": row.owner,
        "zone": row.zone,
        "origin": row.origin,
        "hash": row.hash,
        "deadline": row.deadline.isoformat(),
        "incident": row.incident,
        "detail": detail,
    }
    audit.append(session, actor=actor, action=f"rule.{change}", subject=row.rule_id, detail=what, now=now)
    outbox.add(session, f"rule.{change}", {"id": row.rule_id, "actor": actor, "at": now.isoformat(), **what}, now)


def end(session: Session, row: RuleRow, *, why: str, actor: str, now: datetime) -> None:
    """Ends a rule; the row stays."""
    row.intent, row.ended, row.ended_why = Intent.ENDED.value, now, why
    note(session, row, change="ended", actor=actor, detail=why, now=now)


class Rules(Database):
    """Reading, ending and extending rules."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._wanted = WantedRules()

    def rule(self, rule_id: RuleId) -> RuleRecord | None:
        """The newest generation of a rule, None when it is unknown or unreadable."""
        query = select(RuleRow).where(RuleRow.rule_id == rule_id).order_by(RuleRow.generation.desc()).limit(1)
        with self.reading() as session:
            return next(iter(_readable(session, query)), None)

    def rules(self, wanted: RuleFilter | None = None, limit: int = 100, offset: int = 0) -> tuple[RuleRecord, ...]:
        """The newest first."""
        query = _filtered(wanted or RuleFilter()).order_by(RuleRow.key.desc()).limit(limit).offset(offset)
        with self.reading() as session:
            return tuple(_readable(session, query))

    def wanted(self) -> tuple[RuleRecord, ...]:
        """What shall be announced, oldest first; unreadable rules are not in it, so the speaker takes them off."""
        with self.reading() as session:
            return self._wanted.current(session)

    def proposed(self) -> tuple[RuleRecord, ...]:
        """What waits for approval, oldest first."""
        query = select(RuleRow).where(RuleRow.intent == Intent.PROPOSED.value).order_by(RuleRow.key)
        with self.reading() as session:
            return tuple(_readable(session, query))

    def unreadable(self) -> tuple[UnreadableRecord, ...]:
        """The rows that should count and can't be read: zones, and rules that have not ended."""
        with self.reading() as session:
            rules = map(readback.rule_record, session.scalars(select(RuleRow).where(ALIVE)))
            zones = map(readback.zone, session.scalars(select(ZoneRow)))
            announcements = map(readback.announcement, session.scalars(select(AnnouncementRow)))
            found: Iterable[object] = (*rules, *zones, *announcements)
            return tuple(one for one in found if isinstance(one, UnreadableRecord))

    def history(self, rule_id: RuleId, limit: int = 200) -> tuple[RuleChange, ...]:
        """What happened to a rule in all its generations, newest first."""
        query = select(RuleHistoryRow).where(RuleHistoryRow.rule_id == rule_id).order_by(RuleHistoryRow.id.desc())
        with self.reading() as session:
            return tuple(
                RuleChange(RuleId(one.rule_id), one.generation, one.at, one.actor, one.change, one.detail, one.deadline)
                for one in session.scalars(query.limit(limit))
            )

    def last_change(
        self, rules: Collection[RuleId], changes: Collection[str], not_by: Collection[str]
    ) -> datetime | None:
        """When one of the rules last changed in one of these ways, by anybody else; None when never."""
        query = select(RuleHistoryRow.at).where(
            RuleHistoryRow.rule_id.in_(rules),
            RuleHistoryRow.change.in_(changes),
            RuleHistoryRow.actor.not_in(not_by),
        )
        with self.reading() as session:
            return session.scalar(query.order_by(RuleHistoryRow.id.desc()).limit(1))

    def withdraw(self, rule_id: RuleId, actor: str, reason: str, now: datetime) -> None:
        """Ends a rule or a proposal; `Refused` when there is none."""
        with self.writing(Concern.INTENTS) as session:
            end(session, alive_or_refused(session, rule_id), why=reason, actor=actor, now=now)

    def withdraw_many(self, which: RuleFilter, actor: str, reason: str, now: datetime) -> tuple[RuleId, ...]:
        """Ends every rule and proposal that fits, in one transaction; an empty filter is all of them."""
        with self.writing(Concern.INTENTS) as session:
            rows = session.scalars(_filtered(which).where(ALIVE).order_by(RuleRow.key)).all()
            for row in rows:
                end(session, row, why=reason, actor=actor, now=now)
            return tuple(RuleId(row.rule_id) for row in rows)

    def extend(
        self,
        rule_id: RuleId,
        deadline: datetime,
        actor: str,
        reason: str,
        now: datetime,
        limits: Limits | None = None,
    ) -> None:
        """Moves a rule's deadline; `Refused` when it is past or, with limits, beyond the longest lifetime from now, and
        without a reason."""
        with self.writing(Concern.INTENTS) as session:
            row = alive_or_refused(session, rule_id)
            check_reason(reason)
            check_deadline(deadline, now, _longest(row, limits))
            row.deadline = deadline
            note(session, row, change="extended", actor=actor, detail=reason, now=now)

    def expire(self, rule_id: RuleId, now: datetime, seen_deadline: datetime | None = None) -> bool:
        """Ends a rule whose deadline has passed; says whether it did.

        The speaker counts deadlines on a monotonic clock and gives the deadline it saw: then `now`, which a clock step
        may have moved, doesn't matter, and a rule that was extended meanwhile lives on.
        """
        with self.writing(Concern.INTENTS) as session:
            row = alive(session, rule_id)
            if row is None or not (row.deadline <= now if seen_deadline is None else row.deadline == seen_deadline):
                return False
            end(session, row, why="deadline", actor="system", now=now)
            return True


def check_reason(reason: str) -> None:
    """`Refused` when a reason says nothing. Not asked when a rule ends: nothing must keep anybody from ending it."""
    if not reason.strip():
        raise Refused("reason", reason, "is empty; say why, for the audit and for colleagues")
    if not reason.isprintable():
        raise Refused("reason", reason, "holds line breaks or control characters; write one plain line")


def check_deadline(deadline: datetime, now: datetime, longest_seconds: float | None) -> None:
    """`Refused` when a deadline is past or too far away."""
    if deadline <= now:
        raise Refused("deadline", deadline.isoformat(), f"must be later than now, {now.isoformat()}")
    if longest_seconds is not None and (deadline - now).total_seconds() > longest_seconds + 1:
        raise Refused("deadline", deadline.isoformat(), f"is more than {longest_seconds:.0f} s away")


def _readable(session: Session, query: Select[RuleRow]) -> Iterable[RuleRecord]:
    records = map(readback.rule_record, session.scalars(query))
    return (record for record in records if isinstance(record, RuleRecord))


def _filtered(which: RuleFilter) -> Select[RuleRow]:
    query = select(RuleRow)
    if which.intents is not None:
        query = query.where(RuleRow.intent.in_(intent.value for intent in which.intents))
    for column, value in ((RuleRow.owner, which.owner), (RuleRow.zone, which.zone)):
        if value is not None:
            query = query.where(column == value)
    if which.incident is not None:
        query = query.where(RuleRow.incident == which.incident)
    if which.automatic is not None:
        automatic = RuleRow.origin.in_(_AUTOMATIC)
        query = query.where(automatic if which.automatic else ~automatic)
    if which.ids is not None:
        query = query.where(RuleRow.rule_id.in_(which.ids))
    return query


def _longest(row: RuleRow, limits: Limits | None) -> float | None:
    return None if limits is None else limits.lifetime_seconds(Origin(row.origin))
