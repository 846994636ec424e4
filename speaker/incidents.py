"""From detections to rules in the database: merge, decide, admit, renew, end. Runs in the database thread.

`rules.incident` and `rules.policy` think; this carries out. It never announces: a rule it admits comes back as one that
the database wants, through the guard once more. A detection is acknowledged after everything about it is written.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from rules import incident as logic
from rules import policy
from rules.errors import Refused
from rules.findings import Objected
from rules.guard import Origin, Request
from rules.incident import Incident, Phase, Wanted
from rules.match import Network
from rules.messages import Accepted, Answer, Declined, DetectionReport
from rules.neighbour import Role, SessionFamily
from rules.policy import Ask, Hold, Mitigate
from rules.quiet import step
from rules.rule import RuleId, Scope
from rules.zone import Zone
from speaker import incident_rows
from speaker.clock import Clock
from speaker.settings import Settings
from speaker.unattended import Passed, passed
from store.database import Concern
from store.records import IncidentRecord, Intent, RuleFilter, RuleRecord, World
from store.store import Store

ACTOR = "policy"
"""Whom the audit names for what the machine decided."""
_NOT_PEOPLE = frozenset({ACTOR, "system"})

_WORDS = frozenset({"approved", "extended"})
"""What people do with a rule that they want to stand."""

_PASSING = ("guard.budget", "guard.neighbour.budget", "guard.interaction.duplicate", "store.duplicate")
"""Objections that time may lift: the rule is tried again."""

STEP_SECONDS = 1.0
RESTORED, MESSAGES_RESTORED = 10_000, 5_000
"""Incidents read at start, and messages of each, the newest."""
UNICAST = frozenset({SessionFamily.IPV4_UNICAST, SessionFamily.IPV6_UNICAST})

log = structlog.get_logger("speaker")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a detection; everything in it is on disk."""

    answer: Answer
    wanted: tuple[RuleRecord, ...] = ()
    """Rules that it made: the guard let them through just now, so they need not be read back before they go out."""


class Incidents:
    """Every open incident, and the last closed one of each target."""

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store, self.settings, self._clock = store, settings, clock
        self.may_act = True
        """False while the kill switch forbids new automatic rules."""
        self._last: dict[tuple[str, Network], Incident] = {}
        self._why: dict[int, str] = {}
        self._passed: dict[int | None, Passed] = {}
        """Incident -> what people were told of the time it has gone on without them."""
        self._zones: dict[str, Zone] = {}
        self._zones_at: int | None = None
        self._stepped_at = -1e9
        self._made: list[RuleRecord] = []
        """By the detection that is being taken."""
        self._restore()

    def take(self, report: DetectionReport, now: datetime) -> Taken:
        """One detection; the answer says that it need not be sent again, or why it never will be taken."""
        detection = report.detection
        zone = self._current_zones().get(detection.zone)
        if zone is None:
            return Taken(Declined.of(Refused("zone", detection.zone, "is not a zone here")))
        key = (zone.name, detection.target)
        try:
            merged = logic.merge(self._last.get(key), detection, zone, now, self.settings.patience)
        except Refused as refused:
            return Taken(Declined.of(refused))
        self._made.clear()
        # One transaction: the rule waits for the disk once, and no crash leaves a rule without its incident.
        with self._store.together():
            is_new = merged.id is None
            if is_new:
                merged = self._saved(merged, now)
            if not report.is_history:
                merged = self._act(merged, () if is_new else self._held(merged), zone, now)
            merged = self._saved(merged, now)
            self._store.record_detection(detection, merged.id, now)
        self._last[key] = merged
        return Taken(Accepted({"incident": merged.id}), tuple(self._made))

    def tick(self, now: datetime) -> None:
        """Time passes: quiet incidents close, and what they no longer need ends."""
        if self._clock.now() - self._stepped_at < STEP_SECONDS:
            return
        self._stepped_at = self._clock.now()
        zones = self._current_zones()
        held_by = self._held_by_incident()
        for key, incident in list(self._last.items()):
            zone = zones.get(key[0])
            if incident.phase is Phase.CLOSED:
                if incident.closed and (now - incident.closed).total_seconds() > self.settings.patience.memory:
                    del self._last[key]
                    self._passed.pop(incident.id, None)
            elif zone is not None:
                held = held_by.get(incident.id, ())
                stepped = step(incident, held, zone, now, self.settings.patience)
                if stepped.phase is not incident.phase:
                    self._end(policy.closing(stepped, held, zone, now, self.settings.patience), now)
                    stepped = self._saved(stepped, now)
                self._last[key] = stepped

    # --------------------------------------------------------------------------------------------------------- acting

    def _act(self, incident: Incident, held: tuple[Wanted, ...], zone: Zone, now: datetime) -> Incident:
        patience = self.settings.patience
        held = self._without_lapsed(held, now)
        incident = incident.barring(self._ended_by_people(incident, held))
        incident, alone = self._alone(incident, held, now), self._longest_alone
        for renewal in policy.renewals(incident, held, zone, now, patience, alone):
            self._extend(renewal, now)
        endings = policy.closing(incident, held, zone, now, patience)
        if self._end(endings, now):
            held = self._held(incident)
        match policy.decide(incident, zone, held, now, patience, self._blackhole_scope(), alone):
            case Mitigate() | Ask() as decision:
                return self._admit(incident, held, zone, decision, now)
            case Hold(why):
                self._remember_why(incident, why)
        return incident

    @property
    def _longest_alone(self) -> timedelta:
        return timedelta(seconds=self.settings.limits.alone_seconds)

    def _alone(self, incident: Incident, held: tuple[Wanted, ...], now: datetime) -> Incident:
        """Since when its rules stand without a person's word, which is looked for when it is needed."""
        if any(one.is_in_force(now) for one in held):
            incident = incident.acted(now)
        told, longest = self._passed.get(incident.id, Passed.LITTLE), self._longest_alone
        share = passed(incident.alone_since, now, longest)
        if share is Passed.ALL or share is not told:
            word = self._store.last_change(incident.rules, _WORDS, _NOT_PEOPLE)
            incident = incident.attended(word) if word else incident
            share = passed(incident.alone_since, now, longest)
        if held:
            self._passed[incident.id] = share
        return incident

    def _blackhole_scope(self) -> Scope:
        """The provider drops what would saturate the line; without one, our own routers are all there is."""
        has_upstream = any(one.role is Role.UPSTREAM and one.families & UNICAST for one in self.settings.neighbours)
        return Scope.UPSTREAM if has_upstream else Scope.LOCAL

    def _admit(
        self, incident: Incident, held: tuple[Wanted, ...], zone: Zone, decision: Mitigate | Ask, now: datetime
    ) -> Incident:
        self._remember_why(incident, decision.why)
        if not self.may_act:
            self._remember_why(incident, "the kill switch is thrown: nothing new is made")
            return incident
        made: list[RuleId] = []
        refused: list[RuleId] = []
        collateral = decision.collateral or (None,) * len(decision.rules)
        proposed = {one.id for one in held if one.is_proposed}
        for rule, share in zip(decision.rules, collateral, strict=True):
            # What waited for a person needs none any more.
            replaces = rule.id if rule.id in proposed else None
            request = Request(rule, zone.owner, Origin.SENSOR, decision.lifetime_seconds, False, share, replaces)
            try:
                self._enter(request, incident, zone, decision, now)
            except Objected as objected:
                self._remember_why(incident, str(objected))
                errors = [one for one in objected.findings if one.is_error]
                if not all(one.id.startswith(_PASSING) for one in errors):
                    refused.append(rule.id)
            except Refused as problem:
                self._remember_why(incident, str(problem))
            else:
                made.append(rule.id)
        return incident.with_rules(made).barring(refused)

    def _enter(self, request: Request, incident: Incident, zone: Zone, decision: Mitigate | Ask, now: datetime) -> None:
        is_proposed = isinstance(decision, Ask)
        settings = self.settings
        record, _ = self._store.admit(
            request,
            World(settings.neighbours, settings.protected, settings.infrastructure, settings.limits),
            deadline=now + timedelta(seconds=decision.lifetime_seconds),
            actor=ACTOR,
            reason=decision.why,
            now=now,
            zone=zone.name,
            incident=incident.id,
            proposed=is_proposed,
        )
        if record.intent is Intent.WANTED:
            self._made.append(record)

    def _extend(self, renewal: policy.Renewal, now: datetime) -> None:
        # A rule may have ended meanwhile; then there is nothing left to extend.
        with contextlib.suppress(Refused):
            self._store.extend(renewal.rule, renewal.deadline, ACTOR, renewal.why, now)

    def _end(self, endings: Iterable[policy.Ending], now: datetime) -> bool:
        """Withdraws rules; says whether there were any."""
        ended = False
        for ending in endings:
            with contextlib.suppress(Refused):
                self._store.withdraw(ending.rule, ACTOR, ending.why, now)
                ended = True
        return ended

    def _held(self, incident: Incident) -> tuple[Wanted, ...]:
        """The incident's automatic rules that have not ended."""
        if incident.id is None:
            return ()
        alive = frozenset({Intent.PROPOSED, Intent.WANTED})
        records = self._store.rules(RuleFilter(intents=alive, incident=incident.id, automatic=True), limit=1000)
        return tuple(Wanted(one.rule, one.deadline, one.intent is Intent.PROPOSED) for one in records)

    def _held_by_incident(self) -> Mapping[int | None, tuple[Wanted, ...]]:
        """The same for all incidents at once: asking for each would take long when many hosts are attacked."""
        found: dict[int | None, tuple[Wanted, ...]] = {}
        for one in (*self._store.wanted(), *self._store.proposed()):
            if one.origin.is_automatic:
                wanted = Wanted(one.rule, one.deadline, one.intent is Intent.PROPOSED)
                found[one.incident] = (*found.get(one.incident, ()), wanted)
        return found

    def _without_lapsed(self, held: tuple[Wanted, ...], now: datetime) -> tuple[Wanted, ...]:
        """Ends proposals that nobody answered in time: they can't be approved any more, so they must be made anew."""
        lapsed = {wanted.id for wanted in held if wanted.is_proposed and wanted.deadline <= now}
        for id in lapsed:
            self._store.expire(id, now)
        return tuple(wanted for wanted in held if wanted.id not in lapsed)

    def _ended_by_people(self, incident: Incident, held: tuple[Wanted, ...]) -> list[RuleId]:
        alive = {wanted.id for wanted in held}
        return [
            rule
            for rule in incident.rules - incident.barred - alive
            if (last := self._store.history(rule, limit=1))
            and last[0].change == "ended"
            and last[0].actor not in _NOT_PEOPLE
        ]

    def _remember_why(self, incident: Incident, why: str) -> None:
        if incident.id is not None:
            self._why[incident.id] = why

    def _current_zones(self) -> dict[str, Zone]:
        counter = self._store.change_counter(Concern.INTENTS)
        if counter != self._zones_at:
            self._zones = {zone.name: zone for zone in self._store.zones()}
            self._zones_at = counter
        return self._zones

    # -------------------------------------------------------------------------------------------------------- storing

    def _saved(self, incident: Incident, now: datetime) -> Incident:
        record = incident_rows.row(incident, self._why.get(incident.id or 0, ""), now)
        alone: dict[str, object] = {"unattended": self._passed.get(incident.id, Passed.LITTLE).value}
        if incident.alone_since:
            alone["alone_until"] = (incident.alone_since + self._longest_alone).isoformat()
        record = self._store.save_incident(replace(record, document={**record.document, **alone}))
        return replace(incident, id=record.id)

    def _restore(self) -> None:
        """What was open, and what closed so lately that a new attack would count as its recurrence."""
        zones = self._current_zones()
        for state in (Phase.CLOSED, Phase.OPEN, Phase.QUIET):
            for record in reversed(self._store.incidents(state=state.value, limit=RESTORED)):
                zone = zones.get(record.zone)
                if zone is None or record.id is None or self._is_forgotten(record):
                    continue
                try:
                    self._restore_one(record.id, record, zone)
                except (ValueError, TypeError, AttributeError) as error:
                    log.error("an incident cannot be read back", incident=record.id, why=str(error))

    def _restore_one(self, number: int, record: IncidentRecord, zone: Zone) -> None:
        found = self._store.detections(number, limit=MESSAGES_RESTORED)
        if found:
            messages = [(one.detection, one.received) for one in reversed(found)]
            restored = logic.restore(number, messages, zone, self.settings.patience)
            self._last[restored.zone, restored.target] = incident_rows.completed(restored, record)
            self._passed[number] = Passed(record.document.get("unattended", ""))

    def _is_forgotten(self, record: IncidentRecord) -> bool:
        if record.closed is None:
            return False
        return (self._clock.wall() - record.closed).total_seconds() > self.settings.patience.memory
