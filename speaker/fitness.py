"""Whether a neighbour may be told a rule, and as what route: profile, permitted prefixes, budget, quarantine, refusals.

The guard decides; what does not change while rule and neighbour stay the same is asked once. Reads no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rules import guard
from rules.errors import Refused
from rules.neighbour import Address, Neighbour
from rules.rule import Rule, RuleId
from speaker import commands
from speaker.commands import Route

REFUSED_SECONDS = 60.0
"""How long a route that ExaBGP refused is not tried again."""

_REFUSED = "ExaBGP refused it; its log says why"

Key = tuple[Address, RuleId]
"""Neighbour and rule."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The word on one rule at one neighbour."""

    route: Route
    reason: str = ""
    """Why it must not go there; empty: it may."""
    is_full: bool = False
    """The reason is the budget: it may when something leaves."""


class Fitness:
    """What is known of every rule at every neighbour."""

    def __init__(self) -> None:
        self._barred: dict[Key, str] = {}
        self._missing: frozenset[Address] = frozenset()
        self._refused: dict[Key, tuple[Route, float]] = {}
        self._lasting: dict[Key, tuple[Rule, Neighbour, Fit]] = {}

    def judge(self, key: Key, rule: Rule, neighbour: Neighbour, held_there: int, now: float) -> Fit:
        """Whether the rule may go there, with so many others there."""
        lasting = self._judged_once(key, rule, neighbour)
        if reason := self._passing(key, lasting.route, now) or lasting.reason:
            return Fit(lasting.route, reason)
        if held_there < neighbour.budget:
            return lasting
        full = [one.reason for one in guard.for_neighbour(rule, neighbour, held_there) if one.is_error]
        return Fit(lasting.route, "; ".join(full), is_full=True)

    def is_barred(self, key: Key) -> bool:
        """Whether the rule is kept from there by `bar`."""
        return key in self._barred

    def bar(self, peer: Address, reasons: Mapping[RuleId, str]) -> frozenset[RuleId]:
        """Exactly these rules are barred there; gives those for which that is news."""
        before = {key for key in self._barred if key[0] == peer}
        after = {(peer, rule): why for rule, why in reasons.items()}
        self._barred = {key: why for key, why in self._barred.items() if key[0] != peer} | after
        return frozenset(rule for _, rule in before ^ after.keys())

    def set_missing(self, peers: frozenset[Address]) -> bool:
        """Neighbours that ExaBGP does not have; says whether that is news."""
        is_news, self._missing = peers != self._missing, peers
        return is_news

    def refused(self, key: Key, route: Route, now: float) -> float:
        """ExaBGP refused this very route; gives when it may be tried again."""
        self._refused[key] = (route, now + REFUSED_SECONDS)
        return now + REFUSED_SECONDS

    def forget(self, key: Key) -> None:
        """The rule has left that neighbour."""
        self._refused.pop(key, None)
        self._lasting.pop(key, None)

    def _passing(self, key: Key, route: Route, now: float) -> str:
        """What may be otherwise soon."""
        if key in self._barred:
            return self._barred[key]
        if key[0] in self._missing:
            return "ExaBGP has no such neighbour yet: reload (SIGHUP) or restart"
        refused, until = self._refused.get(key, (None, 0.0))
        return _REFUSED if refused == route and now < until else ""

    def _judged_once(self, key: Key, rule: Rule, neighbour: Neighbour) -> Fit:
        known = self._lasting.get(key)
        if known is None or known[0] is not rule or known[1] is not neighbour:
            known = (rule, neighbour, _judged(rule, neighbour))
            self._lasting[key] = known
        return known[2]


def _judged(rule: Rule, neighbour: Neighbour) -> Fit:
    try:
        route = commands.route(rule, neighbour)
    except Refused as refused:
        return Fit(Route(rule), "; ".join(map(str, refused.problems)))
    errors = (one.reason for one in guard.for_neighbour(rule, neighbour, 0) if one.is_error)
    return Fit(route, "; ".join(errors))
