"""What a predecessor's journal wants: each rule is parsed and given to the guard again, before it is anybody's wish.

It is judged by the configuration as it is now and the zones as they were last seen, alone: what a rule is together with
all others is judged once the database has been read. What the guard objects to, or nobody can judge, waits for that:
it stays where it stands, and nobody is told of it.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace

from rules import guard
from rules.guard import ActiveRules, Held, Request, Surroundings
from rules.rule import RuleId
from speaker import log
from speaker.clock import Clock
from speaker.wishes import Remembered, Wish


class Inheritance:
    """Every rule of it until it became a wish, or ended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: dict[RuleId, Remembered] = {}
        self._unjudged: dict[RuleId, None] = {}
        self._postponed: dict[RuleId, None] = {}

    def __len__(self) -> int:
        return len(self._left)

    def __iter__(self) -> Iterator[Remembered]:
        return iter(self._left.values())

    @property
    def ids(self) -> Set[RuleId]:
        """The rules' keys."""
        return self._left.keys()

    @property
    def is_judged(self) -> bool:
        """Whether the guard has heard of every one."""
        return not (self._unjudged or self._postponed)

    @property
    def has_next(self) -> bool:
        """Whether `judged` has anything to do."""
        return bool(self._unjudged)

    def load(self, remembered: Iterable[Remembered]) -> None:
        """Take these over."""
        self._left = {one.id: one for one in remembered}
        self._unjudged = dict.fromkeys(self._left)

    def get(self, id: RuleId) -> Remembered | None:
        """One of them."""
        return self._left.get(id)

    def take(self, id: RuleId) -> Remembered | None:
        """Out of here: somebody who knows better has decided."""
        self._unjudged.pop(id, None)
        self._postponed.pop(id, None)
        return self._left.pop(id, None)

    def leave_unjudged(self) -> None:
        """Nothing is known of zones: the guard could only object."""
        self._unjudged.clear()
        self._postponed.clear()

    def postpone(self, ids: Set[RuleId]) -> None:
        """These stand already, so nobody waits for them: until `resume` they leave the processor to others."""
        self._postponed = {id: None for id in self._unjudged if id in ids}
        self._unjudged = {id: None for id in self._unjudged if id not in ids}

    def resume(self) -> None:
        """What was postponed has its turn."""
        self._unjudged |= self._postponed
        self._postponed.clear()

    def judged(self, limit: int, surroundings: Surroundings) -> list[Wish]:
        """The next ones that the guard lets through, out of so many; they are here no more."""
        through = []
        for id in [id for _, id in zip(range(limit), self._unjudged, strict=False)]:
            del self._unjudged[id]
            try:
                wish = self._left[id].wish(self._clock)
            except ValueError as error:
                log.warning("a rule of the journal can't be read", rule=id, why=str(error))
                continue
            if why := self._objection(wish, surroundings):
                log.warning("the guard objects to a rule of the journal", rule=str(wish.rule), why=why)
                continue
            del self._left[id]
            through.append(wish)
        return through

    def _objection(self, wish: Wish, surroundings: Surroundings) -> str:
        request = Request(
            rule=wish.rule,
            owner=wish.owner,
            origin=wish.origin,
            # What is due is withdrawn by whoever keeps the deadlines; a lifetime is no reason here.
            lifetime_seconds=max(1.0, wish.deadline.monotonic - self._clock.now()),
            is_operator=wish.is_operator,
            collateral=wish.collateral,
            replaces=wish.id,
            person_decides=wish.person_decides,
        )
        alone = ActiveRules([Held(wish.rule, wish.owner, wish.origin, wish.zone, wish.id)])
        found = guard.objections(request, replace(surroundings, active=alone))
        return "; ".join(f"[{one.id}] {one.reason}" for one in found if one.is_error)
