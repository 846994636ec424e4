"""A rule: what is announced to routers, FlowSpec or blackhole, without its lifetime (that is `rules.lifecycle`)."""

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from rules.action import Action
from rules.errors import Refused
from rules.match import Match, Network, OffsetPrefix

RuleId = NewType("RuleId", str)
"""20 hex digits; equal for rules of equal key meaning: same match, or same blackhole prefix."""


class Scope(Enum):
    """How far a blackhole may travel."""

    LOCAL = "local"
    """Own routers only: NO_EXPORT."""
    UPSTREAM = "upstream"
    """The provider drops: his community, without NO_EXPORT (RFC 7999 §3.2 leaves that to him)."""


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """A FlowSpec rule; the match is brought into its normal form."""

    match: Match
    action: Action
    _id: RuleId | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "match", self.match.normal())

    @property
    def id(self) -> RuleId:
        """The key, not the action: a router holds one action per NLRI. Worked out at the first use."""
        if self._id is None:
            object.__setattr__(self, "_id", _rule_id("flowspec", self.match.meaning()))
        return self._id  # type: ignore[return-value]

    @property
    def target(self) -> Network | OffsetPrefix | None:
        """The destination, where there is one."""
        return self.match.destination

    def __str__(self) -> str:
        return f"{self.match} {self.action}"


@dataclass(frozen=True, slots=True)
class Blackhole:
    """Destination RTBH (RFC 5635 §3): routers drop everything to the prefix."""

    prefix: Network
    scope: Scope = Scope.LOCAL

    @property
    def id(self) -> RuleId:
        """The key is the prefix alone: a router has one route for it."""
        return _rule_id("blackhole", (str(self.prefix),))

    @property
    def target(self) -> Network:
        """The prefix."""
        return self.prefix

    def __str__(self) -> str:
        return f"blackhole {{ prefix {self.prefix}; scope {self.scope.value}; }}"


Rule = FlowSpec | Blackhole


def parse(given: str) -> Rule:
    """The rule of a text, in the form that `str(rule)` gives; raises `Refused` with every problem."""
    from rules import text

    words = given.split(None, 1)
    if words and words[0] == "blackhole":
        return text.parse_blackhole(given)
    if words and words[0].startswith("match"):
        return text.parse_flowspec(given)
    raise Refused("rule", given, "starts with neither `match { … } then { … }` nor `blackhole { … }`")


def _rule_id(kind: str, meaning: tuple[object, ...]) -> RuleId:
    return RuleId(hashlib.sha256(repr((kind, meaning)).encode()).hexdigest()[:20])
