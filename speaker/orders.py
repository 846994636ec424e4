"""What the ledger hands out: commands with what they are about, and where announcements stand."""

from dataclasses import dataclass
from enum import Enum

from rules.lifecycle import Phase
from rules.neighbour import Address
from rules.rule import RuleId
from speaker.commands import Route
from speaker.fitness import Key


class Verb(Enum):
    """What a command does."""

    ANNOUNCE = "announce"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True)
class Command:
    """One line to ExaBGP and what it is about."""

    line: str
    verb: Verb
    routes: tuple[tuple[Key, Route], ...]


@dataclass(frozen=True, slots=True)
class Status:
    """Where a rule stands at a neighbour."""

    rule: RuleId
    peer: Address
    neighbour: str
    """Its name; its address where no configuration names it."""
    phase: Phase
    detail: str = ""
