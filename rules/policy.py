"""What an incident leads to: rules at once, a question to a person, or nothing yet, each with its reason.

Doubt asks or waits. Nothing here escalates: a rule that was refused is not followed by a bigger one, and a blackhole
stands on its own three conditions (the zone's opt-in, measured saturation, two witnesses) and on nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rules.candidates import Candidate, candidates, doubt, few, total_coverage
from rules.incident import PATIENCE, Incident, Part, Patience, Phase, Wanted
from rules.match import Match
from rules.quiet import prospect
from rules.relations import covers, overlaps
from rules.rule import Blackhole, FlowSpec, Rule, RuleId, Scope
from rules.zone import Mode, Zone

COVERAGE_BAR = 0.5
"""Rules that together catch less of the attack are no answer to it; a person looks."""

RULES_PER_INCIDENT = 4
"""Routers hold few entries, and a signature that needs more is none."""

LIFETIME_LIMIT_SECONDS = 3600.0
"""No automatic rule lives longer without a renewal, however often the attack came back."""

ALONE = timedelta(hours=24)
"""So long the machine acts on one attack without a person's word. An attack that lasts for days and a sensor that says
so for days look alike; within a day somebody has looked, and after his word another day begins."""

RENEWAL_STEP = 0.1
"""A deadline moves only when that gains this share of the lifetime: a write a minute, not one a second."""


@dataclass(frozen=True, slots=True)
class Mitigate:
    """Announce these, if the guard agrees. One of them may be waiting for a person, who is no longer needed."""

    rules: tuple[Rule, ...]
    lifetime_seconds: float
    why: str
    """One sentence for the operator."""
    collateral: tuple[float | None, ...] = ()
    """Measured for each rule, in their order; None where unknown."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Put these to a person. Without rules: only a person can find an answer."""

    rules: tuple[Rule, ...]
    lifetime_seconds: float
    why: str
    collateral: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Do nothing new."""

    why: str


Decision = Mitigate | Ask | Hold


@dataclass(frozen=True, slots=True)
class Renewal:
    """A deadline to move."""

    rule: RuleId
    deadline: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Ending:
    """A rule to withdraw now."""

    rule: RuleId
    why: str


def lifetime_seconds(zone: Zone, recurrence: int) -> float:
    """How long a rule lives without renewal: the zone's, doubled with each recurrence, up to the limit."""
    return min(zone.rule_lifetime_seconds * 2.0 ** min(recurrence, 32), LIFETIME_LIMIT_SECONDS)


def decide(
    incident: Incident,
    zone: Zone,
    active: Sequence[Wanted],
    now: datetime,
    patience: Patience = PATIENCE,
    blackhole_scope: Scope = Scope.UPSTREAM,
    alone: timedelta = ALONE,
) -> Decision:
    """What to do beyond the rules of this incident that are wanted or proposed already.

    What saturates is the line towards us, so a blackhole goes upstream; give the local scope where nobody is upstream.
    """
    witnesses = incident.witnesses(now, patience)
    if reason := _reason_to_hold(incident, zone, witnesses, now, patience):
        return Hold(reason)
    weighed = _weigh(incident, zone, active, witnesses, now, blackhole_scope)
    if zone.mode is Mode.PROPOSE:
        return _propose(weighed, "the zone asks a person first")
    if is_long_alone(incident, now, alone):
        hours = alone.total_seconds() / 3600
        return _propose(weighed, f"automatic rules stood here for {hours:g} h without a person's word")
    return _act(weighed)


def is_long_alone(incident: Incident, now: datetime, alone: timedelta = ALONE) -> bool:
    """Whether the machine has acted so long on its own that a person has to say a word first."""
    return incident.alone_since is not None and now - incident.alone_since >= alone


def renewals(
    incident: Incident,
    held: Sequence[Wanted],
    zone: Zone,
    now: datetime,
    patience: Patience = PATIENCE,
    alone: timedelta = ALONE,
) -> tuple[Renewal, ...]:
    """Deadlines that a confirmed, ongoing detection moves; never shortens one, never touches a proposal.

    A rule is renewed while a witness's signatures meet it, or a witness has none to tell by; and not for ever without
    a person's word.
    """
    if zone.mode is Mode.OBSERVE or incident.phase is Phase.CLOSED or is_long_alone(incident, now, alone):
        return ()
    lifetime = timedelta(seconds=lifetime_seconds(zone, incident.recurrence))
    moved = []
    for wanted in held:
        backing = [part for part in incident.witnesses(now, patience) if _backs(part, wanted.rule, zone)]
        if wanted.is_proposed or not wanted.is_in_force(now) or not backing:
            continue
        witness = max(backing, key=lambda part: part.heard)
        if witness.heard + lifetime - wanted.deadline >= lifetime * RENEWAL_STEP:
            moved.append(
                Renewal(wanted.id, witness.heard + lifetime, f"sensor {witness.sensor} says the attack goes on")
            )
    return tuple(moved)


def closing(
    incident: Incident, held: Sequence[Wanted], zone: Zone, now: datetime, patience: Patience = PATIENCE
) -> tuple[Ending, ...]:
    """Rules and proposals to end now: all once the incident is closed, else those that stand in a new vector's way."""
    if incident.phase is Phase.CLOSED:
        why = prospect(incident, held, zone, now, patience).why
        return tuple(Ending(wanted.id, why) for wanted in held)
    return _making_room(incident, held, zone, now, patience)


@dataclass(frozen=True, slots=True)
class _Weighed:
    """Everything a decision hangs on."""

    incident: Incident
    zone: Zone
    good: tuple[Candidate, ...]
    """New, and the machine may."""
    doubtful: tuple[tuple[Candidate, str], ...]
    """New, and a person must, because."""
    settled: tuple[Candidate, ...]
    """Filtered already."""
    proposed: frozenset[RuleId]
    """What a person has been asked and has not answered."""
    barred: int
    blackhole: Blackhole | None
    room: int

    @property
    def lifetime(self) -> float:
        return lifetime_seconds(self.zone, self.incident.recurrence)

    @property
    def coverage(self) -> float:
        """What the rules in force and the good ones catch together."""
        return total_coverage((*self.settled, *self.good))


def _reason_to_hold(
    incident: Incident, zone: Zone, witnesses: Sequence[Part], now: datetime, patience: Patience
) -> str | None:
    if incident.zone != zone.name or not zone.holds(incident.target):
        return f"{incident.target} is not in zone {zone.name}"
    if zone.mode is Mode.OBSERVE:
        return f"zone {zone.name} only observes"
    if incident.phase is Phase.CLOSED:
        return "the incident is closed"
    if witnesses:
        return None
    if incident.active(now, patience):
        return "no sensor confirms it yet: a suspicion"
    old = next((part for part in incident.parts if not part.is_fresh), None)
    if old is not None:
        return f"what sensor {old.sensor} says is more than {patience.stale:.0f} s old, or its clock is off: history"
    return "no sensor sees the attack now"


def _weigh(
    incident: Incident, zone: Zone, active: Sequence[Wanted], witnesses: Sequence[Part], now: datetime, scope: Scope
) -> _Weighed:
    standing = [wanted for wanted in active if wanted.is_proposed or wanted.is_in_force(now)]
    in_force = [wanted.rule for wanted in standing if not wanted.is_proposed]
    proposed = frozenset(wanted.id for wanted in standing if wanted.is_proposed)
    found = candidates(witnesses, zone)
    settled = tuple(one for one in found if any(_filters(rule, one.rule) for rule in in_force))
    new = [one for one in found if one not in settled and one.rule.id not in incident.barred]
    doubts = [(one, doubt(one, zone, incident.target)) for one in new]
    return _Weighed(
        incident=incident,
        zone=zone,
        good=tuple(one for one, reason in doubts if reason is None),
        doubtful=tuple((one, reason) for one, reason in doubts if reason is not None),
        settled=settled,
        proposed=proposed,
        barred=sum(1 for one in found if one.rule.id in incident.barred),
        blackhole=_blackhole(incident, zone, witnesses, standing, scope),
        room=RULES_PER_INCIDENT - sum(isinstance(wanted.rule, FlowSpec) for wanted in standing),
    )


def _propose(weighed: _Weighed, why: str) -> Decision:
    """Everything new goes to a person, the machine's own favourites first."""
    reasons = [*((one, why) for one in weighed.good), *weighed.doubtful]
    return _ask(weighed, reasons, weighed.blackhole)


def _act(weighed: _Weighed) -> Decision:
    """Mitigate where the machine may; else ask, and say what stood in the way."""
    # A good rule that was proposed before stands in the table already and takes no second place.
    upgraded = [one for one in weighed.good if one.rule.id in weighed.proposed]
    fresh = [one for one in weighed.good if one.rule.id not in weighed.proposed]
    chosen = [*upgraded, *few(fresh, weighed.room, weighed.zone, weighed.incident.target)]
    if not chosen or weighed.coverage < COVERAGE_BAR:
        short = f"the rules would catch {weighed.coverage:.0%} of the attack, less than {COVERAGE_BAR:.0%}"
        if weighed.blackhole is None:
            return _ask(weighed, [*((one, short) for one in weighed.good), *weighed.doubtful], None)
        chosen = []
    rules: list[Rule] = [one.rule for one in chosen]
    collateral = [one.collateral for one in chosen]
    count = "a new rule" if len(chosen) == 1 else f"{len(chosen)} new rules"
    why = f"{count}; {weighed.coverage:.0%} of the attack caught with those in force" if chosen else ""
    if weighed.blackhole is not None:
        rules.append(weighed.blackhole)
        collateral.append(None)
        why = "; ".join(filter(None, (why, _why_blackhole(weighed.zone))))
    return Mitigate(tuple(rules), weighed.lifetime, why, tuple(collateral))


def _ask(weighed: _Weighed, reasons: Sequence[tuple[Candidate, str]], blackhole: Blackhole | None) -> Decision:
    """A question about what was not asked before, or the reason why there is none."""
    unasked = {one.rule.id: reason for one, reason in reasons if one.rule.id not in weighed.proposed}
    asked = [one for one, _ in reasons if one.rule.id in unasked]
    chosen = few(asked, weighed.room, weighed.zone, weighed.incident.target)
    rules: list[Rule] = [one.rule for one in chosen]
    collateral = [one.collateral for one in chosen]
    why = next((unasked[one.rule.id] for one in chosen if one.rule.id in unasked), "several signatures joined into one")
    if blackhole is not None and blackhole.id not in weighed.proposed:
        why = "; ".join([why, _why_blackhole(weighed.zone)] if rules else [_why_blackhole(weighed.zone)])
        rules.append(blackhole)
        collateral.append(None)
    if rules:
        return Ask(tuple(rules), weighed.lifetime, why, tuple(collateral))
    return _nothing_new(weighed, bool(asked))


def _nothing_new(weighed: _Weighed, is_full: bool) -> Decision:
    if is_full:
        return Hold(f"{RULES_PER_INCIDENT} rules stand already, the most for one incident")
    if weighed.proposed:
        return Hold(f"{len(weighed.proposed)} proposals wait for a person")
    if weighed.settled:
        return Hold("the rules in force cover what is seen")
    if weighed.barred:
        return Hold("a person or the guard turned down what the sensors propose")
    if weighed.room < RULES_PER_INCIDENT:
        return Hold("rules are in force, and what is seen now has no signature")
    return Ask((), weighed.lifetime, "nothing separates the attack from normal traffic; a person must look")


def _blackhole(
    incident: Incident, zone: Zone, witnesses: Sequence[Part], standing: Sequence[Wanted], scope: Scope
) -> Blackhole | None:
    """Automatic RTBH, when each of its conditions is met; what became of FlowSpec rules is none of them."""
    target = incident.target
    saturated = [part for part in witnesses if _is_saturated(part, zone)]
    if len(saturated) < 2 or target.prefixlen != target.max_prefixlen:
        return None
    blackhole = Blackhole(target, scope)
    is_known = blackhole.id in incident.barred or any(
        wanted.id == blackhole.id and not wanted.is_proposed for wanted in standing
    )
    return None if is_known else blackhole


def _is_saturated(part: Part, zone: Zone) -> bool:
    """Whether this sensor alone measures what the zone calls saturation, and the zone has opted in."""
    limit = zone.blackhole_bits_per_second
    return zone.blackhole and limit is not None and part.latest.rate.bits_per_second >= limit


def _why_blackhole(zone: Zone) -> str:
    limit = zone.blackhole_bits_per_second or 0
    return f"two sensors measure {limit / 1e6:.0f} Mbit/s or more, where zone {zone.name} allows a blackhole"


def _filters(rule: Rule, candidate: FlowSpec) -> bool:
    """Whether a rule in force leaves the candidate nothing to do."""
    if isinstance(rule, FlowSpec):
        return covers(rule.match, candidate.match)
    return covers(Match(destination=rule.prefix), candidate.match)


def _backs(part: Part, rule: Rule, zone: Zone) -> bool:
    """Whether what the sensor sees now still calls for the rule."""
    if isinstance(rule, Blackhole):
        return _is_saturated(part, zone)
    signatures = part.latest.signatures
    return not signatures or any(overlaps(rule.match, signature.match) for signature in signatures)


def _making_room(
    incident: Incident, held: Sequence[Wanted], zone: Zone, now: datetime, patience: Patience
) -> tuple[Ending, ...]:
    """The longest unseen rule gives way when the table is full and a rule for a new vector waits.

    Only on the word of witnesses upstream of the rules: behind them, a working rule looks like a useless one.
    """
    witnesses = incident.witnesses(now, patience)
    upstream = [part for part in witnesses if part.is_upstream and part.latest.signatures]
    if zone.mode is not Mode.AUTO or not upstream or _reason_to_hold(incident, zone, witnesses, now, patience):
        return ()
    weighed = _weigh(incident, zone, held, witnesses, now, Scope.LOCAL)
    if weighed.room > 0 or all(one.rule.id in weighed.proposed for one in weighed.good):
        return ()
    # A deadline may lag by one renewal step behind the last time its rule was backed.
    unseen = weighed.lifetime * RENEWAL_STEP + patience.hold_down
    latest = now + timedelta(seconds=weighed.lifetime - unseen)
    stale = [
        wanted
        for wanted in held
        if isinstance(wanted.rule, FlowSpec)
        and wanted.is_in_force(now)
        and wanted.deadline <= latest
        and not any(_backs(part, wanted.rule, zone) for part in witnesses)
    ]
    oldest = min(stale, key=lambda wanted: (wanted.deadline, wanted.id), default=None)
    why = f"not seen for {unseen:.0f} s or more, and a new vector needs its place"
    return () if oldest is None else (Ending(oldest.id, why),)
