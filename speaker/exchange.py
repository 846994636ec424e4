"""What the loop and the database thread tell each other: values, handed over through queues and never waited for."""

from collections.abc import Mapping
from dataclasses import dataclass

from rules.messages import DetectionReport, Heartbeat
from rules.rule import RuleId
from rules.zone import Zone
from speaker.desire import Expiry, Offer
from speaker.journal import Note
from speaker.orders import Status
from speaker.settings import Settings
from speaker.socket import Answering


@dataclass(frozen=True, slots=True)
class Known:
    """To the loop: what the database wants."""

    offers: tuple[Offer, ...]
    is_complete: bool = True
    audit_head: tuple[int, str] | None = None
    zones: tuple[Zone, ...] | None = None
    """That the guard judged by; None: nothing is said of them."""


@dataclass(frozen=True, slots=True)
class Left:
    """To the loop: the database wants nothing but these; what ended need not wait for the guard."""

    rules: frozenset[RuleId]


@dataclass(frozen=True, slots=True)
class Away:
    """To the loop: the database can't be used, because…"""

    why: str


@dataclass(frozen=True, slots=True)
class Written:
    """To the loop: these audit lines are in the database."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """From the loop: something changed, look now."""


@dataclass(frozen=True, slots=True)
class Statuses:
    """From the loop: where announcements stand."""

    changes: tuple[Status, ...]
    is_complete: bool = False
    """Every announcement there is: rows of ours that are not among them have ended."""


@dataclass(frozen=True, slots=True)
class Switched:
    """From the loop: whether new automatic rules may be made."""

    may_act: bool


@dataclass(frozen=True, slots=True)
class Report:
    """From a sensor, by way of the intake."""

    request: DetectionReport | Heartbeat
    answer: Answering


@dataclass(frozen=True, slots=True)
class News:
    """From the loop: what people are to be told, by the outbox."""

    kind: str
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Configured:
    """From the loop: the settings, at start and whenever they change."""

    settings: Settings


Request = Look | Statuses | Report | Configured | Switched | News | Expiry | Note
ToLoop = Known | Left | Away | Written
