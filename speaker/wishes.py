"""A rule that this speaker may announce; and what a predecessor's journal says of one, neither parsed nor judged."""

from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Any

from rules.errors import Refused
from rules.guard import Origin
from rules.neighbour import Address
from rules.rule import Rule, RuleId
from speaker.clock import Clock, Moment
from store.texts import parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms a rule may stand: until when, and what the guard was told of who wants it."""

    deadline: Moment
    origin: Origin
    generation: int
    owner: str = ""
    zone: str | None = None
    is_operator: bool = False
    collateral: float | None = None
    person_decides: bool = False
    """These three are what the guard was told of the request, and is told again by a successor."""

    def terms(self) -> dict[str, Any]:
        """By name: to be carried over."""
        return {name: getattr(self, name) for name in _TERMS}


_TERMS = tuple(one.name for one in fields(Terms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish(Terms):
    """A rule that this speaker may announce until its deadline, whoever is away."""

    rule: Rule
    peers: tuple[Address, ...] = ()
    """Neighbours that may have been told."""

    @property
    def id(self) -> RuleId:
        """The rule's key."""
        return self.rule.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered(Terms):
    """What a journal says of a wish. Parsing thousands takes longer than reading them, so it waits for its turn."""

    id: RuleId
    text: str
    peers: tuple[str, ...] = ()

    @classmethod
    def of(cls, wish: Wish) -> "Remembered":
        """As the journal will have it."""
        return cls(id=wish.id, text=str(wish.rule), peers=tuple(map(str, wish.peers)), **wish.terms())

    def is_for(self, rule: Rule) -> bool:
        """Whether it says this very rule."""
        try:
            own = parsed(self.text)[0]
        except ValueError:
            return False
        # Where both come from the same text they are the same object, which is asked of thousands.
        return own is rule or own == rule

    def wish(self, clock: Clock | None = None) -> Wish:
        """The wish, its deadline in this process where a clock is given. Raises `ValueError` (`Refused`) where the text
        is no rule, or another one than its key says."""
        rule, id = parsed(self.text)
        if id != self.id:
            raise Refused("id", self.id, f"is not the id of its text, which is {id}")
        terms = self.terms()
        if clock is not None:
            terms["deadline"] = self.deadline.loaded(clock)
        return Wish(rule=rule, peers=tuple(map(ip_address, self.peers)), **terms)
