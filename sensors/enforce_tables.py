"""What each speaker has asked for, and which of it is enforced: the state between events and the kernel. Pure.

A session's rules end with it: nothing is kept as stale, so a speaker that restarts is without effect until it is back.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import assert_never

from rules.match import Match
from rules.neighbour import Address
from rules.nft_rule import Compiled, compile_rule
from rules.region import Region, region
from rules.rule import FlowSpec, RuleId
from sensors.enforce_update import Announced, Event, Heard, Said, SessionChanged, Unusable, Withdrawn


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rule that stands at the speaker and is not enforced here."""

    text: str
    """Canonical text, or the NLRI in hex."""
    reason: str


@dataclass(slots=True)
class Session:
    """One speaker."""

    is_up: bool = False
    held: dict[bytes, Compiled | Rejected] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """What happened since the start; every number only grows."""

    announced: int = 0
    withdrawn: int = 0
    rejected: int = 0
    malformed_updates: int = 0
    strangers: int = 0
    """Events of neighbours that are no named speakers."""


class Tables:
    """A table for each named speaker; `apply` events, then take `enforced`."""

    def __init__(self, speakers: Iterable[Address], untouchable: Iterable[Match], maximum_rules: int) -> None:
        self.sessions = {address: Session() for address in speakers}
        self.counts = Counts()
        self._untouchable: tuple[tuple[Match, Region], ...] = tuple((match, region(match)) for match in untouchable)
        self._maximum = maximum_rules
        self._refused_by_kernel: dict[RuleId, str] = {}

    def apply(self, event: Event) -> tuple[Rejected, ...]:
        """Take an event in; what it asked for and doesn't get."""
        session = self.sessions.get(event.peer)
        if session is None:
            self.counts.strangers += 1
            return (Rejected(f"an event of {event.peer}", "is no named speaker: ignored"),)
        match event:
            case SessionChanged():
                # Also on the way up: whatever the last session said, the new one says again.
                session.is_up = event.is_up
                session.held.clear()
                return ()
            case Heard():
                session.is_up = True
                return tuple(self._hear(session, event))
            case _:
                assert_never(event)

    def _hear(self, session: Session, event: Heard) -> Iterator[Rejected]:
        for said in event.said:
            kept = self._kept(said)
            session.held.pop(said.key, None)
            if kept is None:
                self.counts.withdrawn += 1
                continue
            if isinstance(kept, Compiled) and self.count() >= self._maximum:
                kept = Rejected(str(kept.rule), f"{self._maximum} rules are enforced already, the most allowed here")
            self.counts.announced += 1
            if self.count() < 2 * self._maximum:  # also what is rejected takes memory
                session.held[said.key] = kept
            if isinstance(kept, Rejected):
                self.counts.rejected += 1
                yield kept
        if event.malformed:
            self.counts.malformed_updates += 1
            yield Rejected("an update", event.malformed)

    def _kept(self, said: Said) -> Compiled | Rejected | None:
        match said:
            case Withdrawn():
                return None
            case Unusable():
                return Rejected(said.key[1:].hex(), said.reason)
            case Announced():
                rule = FlowSpec(said.match, said.action)
                asked = region(rule.match)
                for untouchable, its_region in self._untouchable:
                    if asked.overlaps(its_region):
                        return Rejected(str(rule), f"would touch what is protected here: {untouchable}")
                return compile_rule(rule)
            case _:
                assert_never(said)

    def enforced(self) -> tuple[Compiled, ...]:
        """The rules of all speakers, but for those the kernel refused."""
        every = (rule for session in self.sessions.values() for rule in session.held.values())
        return tuple(rule for rule in every if isinstance(rule, Compiled) and rule.id not in self._refused_by_kernel)

    def refuse(self, rules: Iterable[Compiled], reason: str) -> None:
        """Leave these out from now on: the kernel doesn't take them."""
        self._refused_by_kernel |= {rule.id: reason for rule in rules}

    def rejected(self) -> tuple[tuple[Address, Rejected], ...]:
        """Everything that stands at a speaker and is not enforced."""
        return tuple(
            (address, one)
            for address, session in self.sessions.items()
            for held in session.held.values()
            if (one := self._rejection(held)) is not None
        )

    def _rejection(self, held: Compiled | Rejected) -> Rejected | None:
        if isinstance(held, Rejected):
            return held
        reason = self._refused_by_kernel.get(held.id)
        return None if reason is None else Rejected(str(held.rule), reason)

    def count(self) -> int:
        """Rules held, over all speakers."""
        return sum(len(session.held) for session in self.sessions.values())
