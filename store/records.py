"""What the store hands out and takes in: frozen values, never rows. Moments are aware and in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from rules.guard import Limits, Origin
from rules.lifecycle import Phase
from rules.match import Network
from rules.neighbour import Neighbour
from rules.rule import Rule, RuleId
from rules.traffic import Detection


class Intent(Enum):
    """What people, or the policy, want of a rule; whether it is announced is another matter."""

    PROPOSED = "proposed"
    """Waits for a person's approval."""
    WANTED = "wanted"
    """Shall be announced, until its deadline."""
    ENDED = "ended"
    """Over; the row stays."""


@dataclass(frozen=True, slots=True)
class World:
    """What the guard must know and the database does not hold."""

    neighbours: tuple[Neighbour, ...]
    protected: tuple[Network, ...] = ()
    infrastructure: tuple[Network, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """One generation of a rule: the intent."""

    id: RuleId
    rule: Rule
    generation: int
    """Counts from 1; a rule wanted anew after its end is the next generation."""
    owner: str
    zone: str | None
    origin: Origin
    intent: Intent
    created: datetime
    deadline: datetime
    reason: str
    ended_why: str | None
    incident: int | None
    created_by: str
    approved_by: str | None
    hash: str
    """What an approval is bound to: SHA-256 over text, owner, zone and generation, in hex."""
    is_operator: bool = False
    collateral: float | None = None
    """Share of normal traffic it would hit, 0 to 1, as given with the request."""
    wanted_since: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A row that this version cannot turn into a value, or whose text does not fit its id or hash."""

    table: str
    subject: str
    """Its key: a rule's id, a zone's name."""
    text: str
    """What stands there."""
    problem: str
    is_wanted: bool
    """Whether it would count if it were readable: a rule that has not ended, any zone."""


@dataclass(frozen=True, slots=True)
class RuleFilter:
    """Which rules: every field that is given must fit."""

    intents: frozenset[Intent] | None = None
    owner: str | None = None
    zone: str | None = None
    incident: int | None = None
    automatic: bool | None = None
    """True: made by sensors and playbooks; False: by people."""
    ids: frozenset[RuleId] | None = None


@dataclass(frozen=True, slots=True)
class RuleChange:
    """One line of a rule's history."""

    rule: RuleId
    generation: int
    at: datetime
    actor: str
    change: str
    """`proposed`, `wanted`, `approved`, `extended`, `ended`."""
    detail: str
    deadline: datetime


@dataclass(frozen=True, slots=True)
class AnnouncementRecord:
    """Where a rule stands at one neighbour, says one speaker."""

    rule: RuleId
    neighbour: str
    speaker: str
    phase: Phase
    since: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class IncidentRecord:
    """An incident: what is searched for as fields, the rest as a JSON document."""

    id: int | None
    """None until saved."""
    zone: str
    target: str
    state: str
    """`open` until closed; other words are the incident logic's own."""
    opened: datetime
    updated: datetime
    closed: datetime | None
    vector: str
    severity: float
    peak_packets_per_second: float
    peak_bits_per_second: float
    document: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_confirmed(self) -> bool:
        """Whether a sensor has said more than that it suspects something."""
        return is_confirmed(self.document)


def is_confirmed(document: Mapping[str, object]) -> bool:
    """The same, of an incident's document."""
    return bool(document.get("is_confirmed"))


@dataclass(frozen=True, slots=True)
class DetectionRecord:
    """One message of a sensor, and the incident it belongs to."""

    id: int
    incident: int | None
    detection: Detection
    received: datetime


@dataclass(frozen=True, slots=True)
class SensorRecord:
    """When a sensor was last heard, and what it said about itself."""

    name: str
    last_seen: datetime
    statistics: Mapping[str, int | float] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One link of the audit chain."""

    sequence: int
    """Counts from 1 without gaps."""
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str
    """Canonical JSON."""
    previous: str
    """The hash of the row before; 64 zeros in the first."""
    hash: str


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of the audit chain: kept elsewhere, it proves that the tail was not cut off."""

    count: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What became of the audit chain; sound when there are no problems."""

    head: AuditHead
    problems: tuple[str, ...]
    broken_at: int | None = None
    """The first row that does not fit, or that is missing; None when all fit."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing was changed, removed, reordered or inserted."""
        return not self.problems


class OutboxState(Enum):
    """Where an outbox message stands."""

    WAITING = "waiting"
    TAKEN = "taken"
    """Somebody works on it; falls back to waiting when its lease ends."""
    DONE = "done"
    DEAD = "dead"
    """Given up."""


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """A message for the worker."""

    id: int
    kind: str
    payload: Mapping[str, object]
    created: datetime
    state: OutboxState
    due: datetime
    """When it may be taken (again)."""
    attempts: int
    last_error: str
