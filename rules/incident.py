"""One attack on one target as all sensors tell it, from the first word to the end of the quiet that follows.

It records and it waits; `rules.policy` decides. What it must never do: take silence for peace, let one sensor end what
another one sees, or act on old messages. Merging is a join: the order of messages, and duplicates, leave no trace, as
long as a sensor's clock doesn't run backwards within the messages concerned.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from rules.errors import Problem, Refused
from rules.match import Network
from rules.rule import Rule, RuleId
from rules.traffic import Detection, Rate, State, Vantage, VectorShare
from rules.zone import Zone


class Phase(Enum):
    """Where an incident stands."""

    OPEN = "open"
    """Some sensor sees the attack."""
    QUIET = "quiet"
    """None does, and it may come back: rules stand."""
    CLOSED = "closed"
    """Quiet long enough, on evidence. A closed incident never opens again; a new one follows it."""


class Standing(Enum):
    """Where one sensor's part stands."""

    ACTIVE = "active"
    OVER = "over"
    SILENT = "silent"
    """No data, which is not zero: the sensor vanished, or what it said was too old to act on."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    hold_down: float = 30
    """Quiet before the first withdrawal, doubled with each recurrence. Longer than the 25 s pause of a usual pulse
    wave, so that its second pulse still meets the rule."""
    hold_down_limit: float = 300
    """As in DOTS, which doubles up to 300 s (RFC 9132 §4.4.4)."""
    silence: float = 10
    """Sensors write each second while an attack goes on; after ten missing words a sensor counts as gone."""
    stale: float = 10
    """Messages older than this, or from this far in the future, are history and never action."""
    memory: float = 900
    """How long after closing a new attack on the same target counts as the old one coming back."""

    def held_down(self, recurrence: int) -> timedelta:
        """How long it must stay quiet after that many recurrences."""
        return timedelta(seconds=min(self.hold_down * 2 ** min(recurrence, 32), self.hold_down_limit))


PATIENCE = Patience()

ATTACKS_REMEMBERED = 16
"""Per sensor: more recurrences than that change no waiting time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rule of an incident that is wanted, or waits for a person; automatic ones only, never an operator's own."""

    rule: Rule
    deadline: datetime
    is_proposed: bool = False
    """It waits for a person and filters nothing yet."""

    @property
    def id(self) -> RuleId:
        """The rule's key."""
        return self.rule.id

    def is_in_force(self, now: datetime) -> bool:
        """Whether routers are to hold it now."""
        return not self.is_proposed and now < self.deadline


@dataclass(frozen=True, slots=True)
class Part:
    """What one sensor has said about an incident."""

    latest: Detection
    heard: datetime
    """When that arrived; for history, when it was written."""
    is_fresh: bool
    """It was young enough on arrival to act on."""
    peak: Rate
    attacks: frozenset[str]
    """Ids of the attacks it confirmed, the last `ATTACKS_REMEMBERED`."""

    @property
    def sensor(self) -> str:
        """Who."""
        return self.latest.sensor

    @property
    def is_upstream(self) -> bool:
        """Whether it sees the attack also while rules filter it."""
        return self.latest.vantage is Vantage.UPSTREAM

    def standing(self, now: datetime, patience: Patience = PATIENCE) -> Standing:
        """Where this part stands."""
        if not self.is_fresh:
            return Standing.SILENT
        if self.latest.state is State.OVER:
            return Standing.OVER
        gone = now - self.heard > timedelta(seconds=patience.silence)
        return Standing.SILENT if gone else Standing.ACTIVE

    def speaks_for(self, other: "Part") -> bool:
        """Whether it sees the same traffic from before the rules: it measured at least half of what the other did."""
        ours, theirs = self.peak, other.peak
        return (
            self.is_upstream
            and bool(self.attacks)
            and 2 * ours.packets_per_second >= theirs.packets_per_second
            and 2 * ours.bits_per_second >= theirs.bits_per_second
        )


@dataclass(frozen=True, slots=True)
class Incident:
    """Detections of one target from all sensors."""

    zone: str
    target: Network
    opened: datetime
    last_activity: datetime
    """When a sensor last wrote that the attack goes on."""
    parts: tuple[Part, ...]
    """One for each sensor, by name."""
    phase: Phase
    id: int | None = None
    """None until stored."""
    carried: int = 0
    """Recurrences of the incidents this one follows."""
    filtered_until: datetime | None = None
    """When a rule of this incident was last known in force: until then downstream sensors were blind."""
    closed: datetime | None = None
    rules: frozenset[RuleId] = field(default=frozenset())
    """Every rule made for it, in force or not."""
    barred: frozenset[RuleId] = field(default=frozenset())
    """Rules that a person ended or turned down, or the guard refused for good: not tried again."""
    alone_since: datetime | None = None
    """Since when the machine acts here without a person's word; None: it has not acted."""

    def part(self, sensor: str) -> Part | None:
        """What that sensor has said."""
        return next((part for part in self.parts if part.sensor == sensor), None)

    def active(self, now: datetime, patience: Patience = PATIENCE) -> tuple[Part, ...]:
        """The sensors that see something now, suspicions included."""
        return tuple(part for part in self.parts if part.standing(now, patience) is Standing.ACTIVE)

    def witnesses(self, now: datetime, patience: Patience = PATIENCE) -> tuple[Part, ...]:
        """The sensors that confirm the attack now: the only ones acted on."""
        return tuple(part for part in self.active(now, patience) if part.latest.confirmed)

    def rate(self, now: datetime, patience: Patience = PATIENCE) -> Rate:
        """The attack now, as the sensor that sees most of it measures it.

        The maximum, also within a vantage: nothing tells whether two sensors see the same packets, and counting them
        twice would call for more than is needed.
        """
        return highest(part.latest.rate for part in self.active(now, patience))

    @property
    def is_confirmed(self) -> bool:
        """Whether it was ever more than a suspicion."""
        return any(part.attacks for part in self.parts)

    @property
    def peak(self) -> Rate:
        """The highest that any sensor measured."""
        return highest(part.peak for part in self.parts)

    @property
    def recurrence(self) -> int:
        """How often the attack came back after it seemed over, as the sensor that saw it most often counts."""
        return self.carried + max(0, max(len(part.attacks) for part in self.parts) - 1)

    @property
    def vectors(self) -> tuple[VectorShare, ...]:
        """Of all sensors' latest words, each with its largest shares, the dominant one first."""
        merged: dict[object, VectorShare] = {}
        for share in (share for part in self.parts for share in part.latest.vectors):
            known = merged.get(share.vector, share)
            merged[share.vector] = replace(
                share, packets=max(share.packets, known.packets), bytes=max(share.bytes, known.bytes)
            )
        weighed = sorted(
            merged.values(),
            key=lambda share: (share.vector.is_statement, -max(share.packets, share.bytes), str(share.vector)),
        )
        return tuple(weighed)

    def with_rules(self, ids: Iterable[RuleId]) -> "Incident":
        """The same, with these rules counted as made for it."""
        return replace(self, rules=self.rules | frozenset(ids))

    def barring(self, ids: Iterable[RuleId]) -> "Incident":
        """The same, never to try these rules again."""
        return replace(self, barred=self.barred | frozenset(ids))

    def acted(self, now: datetime) -> "Incident":
        """The same, once the machine has made a rule for it on its own."""
        return self if self.alone_since else replace(self, alone_since=now)

    def attended(self, word: datetime) -> "Incident":
        """The same, after a person's word on one of its rules: approved, or extended."""
        if self.alone_since is None or word <= self.alone_since:
            return self
        return replace(self, alone_since=word)


def merge(
    incident: Incident | None, detection: Detection, zone: Zone, now: datetime, patience: Patience = PATIENCE
) -> Incident:
    """The incident with one more message; give the last one of the target, also when it is closed, or None.

    An incident without an id came out: it is a new one. Raises `Refused` for a detection of another zone or target.
    """
    _admit(incident, detection, zone)
    part = _joined(incident.part(detection.sensor) if incident else None, detection, now, patience)
    if incident is None:
        return _opened(part, zone, now, patience)
    if incident.phase is Phase.CLOSED and part.latest is detection and part.standing(now, patience) is Standing.ACTIVE:
        return _opened(_joined(None, detection, now, patience), zone, now, patience, after=incident)
    others = (other for other in incident.parts if other.sensor != part.sensor)
    joined = replace(
        incident,
        parts=tuple(sorted((*others, part), key=lambda part: part.sensor)),
        opened=min(incident.opened, detection.first_seen),
        last_activity=max(incident.last_activity, _activity(detection, now)),
    )
    return joined if incident.phase is Phase.CLOSED else replace(joined, phase=_phase(joined, now, patience))


def restore(
    id: int, detections: Iterable[tuple[Detection, datetime]], zone: Zone, patience: Patience = PATIENCE
) -> Incident:
    """An incident from its stored detections, each with the time of its arrival; at least one.

    The caller sets `rules`, `barred`, `carried` and `filtered_until` from its record.
    """
    incident: Incident | None = None
    for detection, arrived in detections:
        incident = merge(incident, detection, zone, arrived, patience)
    if incident is None:
        raise AssertionError("an incident has at least one detection")
    return replace(incident, id=id)


def highest(rates: Iterable[Rate]) -> Rate:
    """The largest packet rate and the largest bit rate, 0 of nothing."""
    known = (Rate(0, 0), *rates)
    return Rate(max(rate.packets_per_second for rate in known), max(rate.bits_per_second for rate in known))


def _admit(incident: Incident | None, detection: Detection, zone: Zone) -> None:
    problems = []
    if detection.zone != zone.name:
        problems.append(Problem("zone", detection.zone, f"the detection is not of zone {zone.name}"))
    if not zone.holds(detection.target):
        problems.append(Problem("target", str(detection.target), f"lies outside zone {zone.name}"))
    if incident and (incident.zone, incident.target) != (detection.zone, detection.target):
        problems.append(Problem("target", str(detection.target), f"the incident is about {incident.target}"))
    if problems:
        raise Refused.all(problems)


def _opened(part: Part, zone: Zone, now: datetime, patience: Patience, after: Incident | None = None) -> Incident:
    """A new incident; one that follows another closely inherits its recurrences and what a person turned down."""
    detection = part.latest
    if after and (after.closed is None or now - after.closed > timedelta(seconds=patience.memory)):
        after = None
    incident = Incident(
        zone=zone.name,
        target=detection.target,
        opened=min(detection.first_seen, now),
        last_activity=_activity(detection, now),
        parts=(part,),
        phase=Phase.OPEN,
        carried=after.recurrence + after.is_confirmed if after else 0,
        barred=after.barred if after else frozenset(),
        # Else a sensor that lies would pause for a minute each day.
        alone_since=after.alone_since if after else None,
    )
    return replace(incident, phase=_phase(incident, now, patience))


def _joined(part: Part | None, detection: Detection, now: datetime, patience: Patience) -> Part:
    """The part with one more message; a late-comer completes the history and changes nothing else."""
    attacks = frozenset({detection.attack}) if detection.confirmed else frozenset()
    is_fresh = abs(now - detection.seen) <= timedelta(seconds=patience.stale)
    heard = now if is_fresh else min(detection.seen, now)
    fresh = Part(detection, heard, is_fresh, highest((detection.rate, detection.peak)), attacks)
    if part is None:
        return fresh
    newest = fresh if _is_newer(detection, part.latest) else part
    remembered = sorted(part.attacks | attacks)[-ATTACKS_REMEMBERED:]
    return replace(newest, peak=highest((part.peak, fresh.peak)), attacks=frozenset(remembered))


def _is_newer(one: Detection, other: Detection) -> bool:
    """Within an attack by sequence; across attacks by the sensor's clock, as ids carry no order."""
    if one.attack == other.attack:
        return one.sequence > other.sequence
    return (one.seen, one.attack) > (other.seen, other.attack)


def _activity(detection: Detection, now: datetime) -> datetime:
    return min(detection.first_seen if detection.state is State.OVER else detection.seen, now)


def _phase(incident: Incident, now: datetime, patience: Patience) -> Phase:
    return Phase.OPEN if incident.active(now, patience) else Phase.QUIET
