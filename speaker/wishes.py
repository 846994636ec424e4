"""A rule that this speaker may announce; and what a predecessor's journal says of one, neither parsed nor judged."""

from dataclasses import dataclass
from ipaddress import ip_address

from rules.errors import Refused
from rules.guard import Origin
from rules.neighbour import Address
from rules.rule import Rule, RuleId
from speaker.clock import Clock, Moment
from store.texts import parsed


@dataclass(frozen=True, slots=True)
class Wish:
    """A rule that this speaker may announce until its deadline, whoever is away."""

    rule: Rule
    deadline: Moment
    origin: Origin
    generation: int
    owner: str = ""
    zone: str | None = None
    peers: tuple[Address, ...] = ()
    """Neighbours that may have been told."""
    is_operator: bool = False
    collateral: float | None = None
    person_decides: bool = False
    """These three are what the guard was told of the request, and is told again by a successor."""

    @property
    def id(self) -> RuleId:
        """The rule's key."""
        return self.rule.id


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a journal says of a wish. Parsing thousands takes longer than reading them, so it waits for its turn."""

    id: RuleId
    text: str
    deadline: Moment
    origin: Origin
    generation: int
    owner: str
    zone: str | None
    peers: tuple[str, ...] = ()
    is_operator: bool = False
    collateral: float | None = None
    person_decides: bool = False

    @classmethod
    def of(cls, wish: Wish) -> "Remembered":
        """As the journal will have it."""
        return cls(
            id=wish.id,
            text=str(wish.rule),
            deadline=wish.deadline,
            origin=wish.origin,
            generation=wish.generation,
            owner=wish.owner,
            zone=wish.zone,
            peers=tuple(map(str, wish.peers)),
            is_operator=wish.is_operator,
            collateral=wish.collateral,
            person_decides=wish.person_decides,
        )

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
        return Wish(
            rule=rule,
            deadline=self.deadline.loaded(clock) if clock else self.deadline,
            origin=self.origin,
            generation=self.generation,
            owner=self.owner,
            zone=self.zone,
            peers=tuple(map(ip_address, self.peers)),
            is_operator=self.is_operator,
            collateral=self.collateral,
            person_decides=self.person_decides,
        )
