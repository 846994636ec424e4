"""The only door for rules: the guard is asked inside the transaction that inserts, so that nothing slips in between.

A refused rule leaves no row but an audit line: denials are evidence too.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Engine, bindparam, func, select
from sqlalchemy.orm import Session

from rules import guard
from rules.errors import Refused
from rules.findings import Finding, Objected, error
from rules.guard import Origin, Request, Surroundings
from rules.match import OffsetPrefix
from rules.rule import Rule, RuleId
from rules.zone import Zone
from store import audit, canonical, readback
from store.database import Concern, direct
from store.held import HeldRules
from store.models import IncidentRow, RuleRow
from store.records import Intent, RuleRecord, UnreadableRecord, World
from store.rules import Rules, alive, alive_or_refused, check_deadline, check_reason, end, note
from store.zones import all_zones

_SINCE = select(func.count()).where(RuleRow.wanted_since > bindparam("moment"))
_LAST = select(func.max(RuleRow.generation)).where(RuleRow.rule_id == bindparam("rule"))
_INCIDENT = select(IncidentRow.id).where(IncidentRow.id == bindparam("number"))


def request_of(record: RuleRecord, now: datetime) -> Request:
    """The request that would bring a stored rule in today: what the speaker gives the guard before it announces."""
    return Request(
        rule=record.rule,
        owner=record.owner,
        origin=record.origin,
        lifetime_seconds=(record.deadline - now).total_seconds(),
        is_operator=record.is_operator,
        collateral=record.collateral,
        replaces=record.id,
        person_decides=record.intent is Intent.PROPOSED or record.approved_by is not None,
    )


class Admission(Rules):
    """Letting rules in."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._held = HeldRules(self._wanted)

    def admit(
        self,
        request: Request,
        world: World,
        *,
        deadline: datetime,
        actor: str,
        reason: str,
        now: datetime,
        zone: str | None = None,
        incident: int | None = None,
        proposed: bool = False,
    ) -> tuple[RuleRecord, tuple[Finding, ...]]:
        """Guard, rule, history, audit and outbox in one transaction; raises `Objected`, which is audited.

        Hands back the record and the guard's warnings and notes. The zone is found by the target unless given.
        `Refused` without a reason.
        """
        check_reason(reason)
        check_deadline(deadline, now, request.lifetime_seconds)
        if proposed:
            request = replace(request, person_decides=True)
        with self.writing(Concern.INTENTS) as session:
            try:
                zones = all_zones(session)
                findings = guard.admit(request, self._surroundings(session, world, zones, now))
                row = _row(session, request, zone or _zone_of(request.rule, zones))
                _make_way(session, row, request.replaces, proposed, actor, now)
            except Objected as objected:
                _audit_denial(session, request, objected, actor, now)
                denied = objected
            else:
                _insert(session, row, deadline=deadline, actor=actor, reason=reason, now=now, incident=incident)
                _settle(session, row, proposed=proposed, actor=actor, reason=reason, now=now)
                session.flush()
                return _readable(row), findings
        raise denied

    def objections(self, request: Request, world: World, now: datetime) -> tuple[Finding, ...]:
        """A dry run: everything the guard has to say, and nothing is recorded."""
        with self.reading() as session:
            return guard.objections(request, self._surroundings(session, world, all_zones(session), now))

    def surroundings(self, world: World, now: datetime) -> Surroundings:
        """What the guard would see now; the speaker asks it again with this before it announces."""
        with self.reading() as session:
            return self._surroundings(session, world, all_zones(session), now)

    def approve(
        self, rule_id: RuleId, rule_hash: str, actor: str, now: datetime, world: World | None = None
    ) -> RuleRecord:
        """Makes a proposal wanted, if it still is what the approver saw; with a world, the guard is asked again."""
        with self.writing(Concern.INTENTS) as session:
            row = alive_or_refused(session, rule_id)
            record = _readable(row)
            denied: Refused | Objected | None = _approval_problem(record, rule_hash, actor, now)
            if denied is None and world is not None:
                denied = self._objection(session, record, world, now)
            if denied is None:
                row.approved_by = actor
                row.intent, row.wanted_since = Intent.WANTED.value, now
                note(session, row, change="approved", actor=actor, detail="", now=now)
                return _readable(row)
            detail = {"rule": row.text, "why": str(denied)}
            audit.append(session, actor=actor, action="rule.approval-refused", subject=rule_id, detail=detail, now=now)
        raise denied

    def _surroundings(self, session: Session, world: World, zones: tuple[Zone, ...], now: datetime) -> Surroundings:
        lately = {"moment": now - timedelta(minutes=1)}
        return Surroundings(
            zones=zones,
            neighbours=world.neighbours,
            protected=world.protected,
            infrastructure=world.infrastructure,
            active=self._held.current(session),
            limits=world.limits,
            recent=direct(session).execute(_SINCE, lately).scalar_one(),
        )

    def _objection(self, session: Session, record: RuleRecord, world: World, now: datetime) -> Objected | None:
        try:
            guard.admit(request_of(record, now), self._surroundings(session, world, all_zones(session), now))
        except Objected as objected:
            return objected
        return None


def _zone_of(rule: Rule, zones: tuple[Zone, ...]) -> str | None:
    """The zone with the narrowest prefix around the target."""
    target = rule.target
    if target is None or isinstance(target, OffsetPrefix):
        return None
    around = [
        (own.prefixlen, zone.name)
        for zone in zones
        if zone.holds(target)
        for own in zone.prefixes
        if own.version == target.version and target.subnet_of(own)  # type: ignore[arg-type]
    ]
    return max(around)[1] if around else None


def _row(session: Session, request: Request, zone: str | None) -> RuleRow:
    """The next generation of the rule, without its circumstances."""
    text, rule_id = str(request.rule), request.rule.id
    generation = (direct(session).execute(_LAST, {"rule": rule_id}).scalar_one() or 0) + 1
    return RuleRow(
        rule_id=rule_id,
        generation=generation,
        text=text,
        hash=canonical.rule_hash(text, request.owner, zone, generation),
        owner=request.owner,
        zone=zone,
        origin=request.origin.value,
        is_operator=request.is_operator,
        collateral=request.collateral,
    )


def _make_way(
    session: Session, row: RuleRow, replaces: RuleId | None, is_proposal: bool, actor: str, now: datetime
) -> None:
    """Ends what the rule replaces, and its own proposal; `Objected` when something stands in its way."""
    same = alive(session, RuleId(row.rule_id))
    if same is not None and same.rule_id != replaces and not _is_superseded(same, row, is_proposal):
        reason = f"is {same.intent} already, by {same.owner}"
        raise Objected([error("store.duplicate", "rule", row.text, reason, "extend, or replace it explicitly")])
    replaced = None if replaces is None else alive(session, replaces)
    if replaced is None and replaces not in (None, row.rule_id):
        reason = "is not known, or has ended already"
        raise Objected([error("store.unknown", "replaces", replaces, reason, "leave it out, or look at the list")])
    if replaced is not None and not _may_replace(row, replaced):
        reason = f"is {replaced.owner}'s, made by {replaced.created_by}"
        raise Objected([error("store.foreign", "replaces", replaced.rule_id, reason, "ask an operator to replace it")])
    for old in {one.key: one for one in (same, replaced) if one is not None}.values():
        end(session, old, why=f"replaced by {row.rule_id} generation {row.generation}", actor=actor, now=now)
    # The unique index on rules that are alive must see the end before the beginning.
    session.flush()


def _is_superseded(proposal: RuleRow, row: RuleRow, is_proposal: bool) -> bool:
    """A rule takes the place of its own proposal; a second proposal would only spoil the approval of the first."""
    is_own = proposal.owner == row.owner or row.is_operator
    return proposal.intent == Intent.PROPOSED.value and is_own and not is_proposal


def _may_replace(row: RuleRow, replaced: RuleRow) -> bool:
    """An operator anything; a tenant his own; the automation what the automation made."""
    if row.is_operator:
        return True
    is_upward = Origin(row.origin).is_automatic and not Origin(replaced.origin).is_automatic
    return replaced.owner == row.owner and not is_upward


def _insert(
    session: Session,
    row: RuleRow,
    *,
    deadline: datetime,
    actor: str,
    reason: str,
    now: datetime,
    incident: int | None,
) -> None:
    if incident is not None and direct(session).execute(_INCIDENT, {"number": incident}).first() is None:
        raise Refused("incident", incident, "is not known")
    row.deadline, row.created, row.created_by, row.reason, row.incident = deadline, now, actor, reason, incident
    row.ended = row.ended_why = row.approved_by = None
    session.add(row)


def _settle(session: Session, row: RuleRow, *, proposed: bool, actor: str, reason: str, now: datetime) -> None:
    intent = Intent.PROPOSED if proposed else Intent.WANTED
    row.intent, row.wanted_since = intent.value, None if proposed else now
    note(session, row, change=intent.value, actor=actor, detail=reason, now=now)


def _audit_denial(session: Session, request: Request, objected: Objected, actor: str, now: datetime) -> None:
    detail = {
        "rule": str(request.rule),
        "owner": request.owner,
        "origin": request.origin.value,
        "lifetime_seconds": request.lifetime_seconds,
        "findings": [str(finding) for finding in objected.findings],
    }
    audit.append(session, actor=actor, action="rule.refused", subject=request.rule.id, detail=detail, now=now)


def _approval_problem(record: RuleRecord, rule_hash: str, actor: str, now: datetime) -> Refused | None:
    if record.intent is not Intent.PROPOSED:
        return Refused("rule", record.id, f"is {record.intent.value} already")
    if rule_hash != record.hash:
        return Refused("hash", rule_hash, "is not that of the proposal as it stands; look at it again")
    if actor == record.created_by:
        return Refused("actor", actor, "made the proposal; another person must approve it")
    if record.deadline <= now:
        return Refused("deadline", record.deadline.isoformat(), "has passed; propose the rule anew")
    return None


def _readable(row: RuleRow) -> RuleRecord:
    record = readback.rule_record(row)
    if isinstance(record, UnreadableRecord):
        raise Refused("rule", record.subject, f"cannot be read back: {record.problem}")
    return record
