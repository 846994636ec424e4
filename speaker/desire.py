"""What shall be announced now: what the database wants and the guard lets through, or the journal while it is away.

Less what has expired, less what the kill switch takes out. A rule reaches the ledger only after its line is on disk,
and leaves it at once. Deadlines count on the monotonic clock from when a rule was first seen: a clock step moves none.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from rules.guard import Surroundings
from rules.messages import KillMode
from rules.neighbour import Address
from rules.rule import RuleId
from speaker import journal
from speaker.clock import Clock, Moment
from speaker.deadlines import Deadlines
from speaker.inheritance import Inheritance
from speaker.journal import Contents, Journal
from speaker.reconcile import Ledger
from speaker.wishes import Remembered, Wish
from store.records import RuleRecord


@dataclass(frozen=True, slots=True)
class Offer:
    """A rule that the database wants, and what the guard says to it today."""

    record: RuleRecord
    objection: str = ""
    """Why it must not go out; empty: it may."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """A rule whose deadline is reached."""

    rule: RuleId
    deadline: datetime
    """As the database has it: an extension that we have not seen keeps the rule."""
    late_seconds: float
    """Behind the deadline, by the monotonic clock."""


class Desire:
    """The wishes, and their way into the ledger."""

    def __init__(self, ledger: Ledger, diary: Journal, clock: Clock) -> None:
        self._ledger, self._journal, self._clock = ledger, diary, clock
        self.wishes: dict[RuleId, Wish] = {}
        """On disk, not expired, in force or kept back by the kill switch."""
        self.inherited = Inheritance(clock)
        """What a predecessor wished and nobody has judged yet."""
        self.mode = KillMode.NORMAL
        self.peers: tuple[Address, ...] = ()
        self.deadlines = Deadlines()
        self._unsynced: dict[RuleId, tuple[int, Wish]] = {}
        self._expired: dict[RuleId, tuple[int, datetime]] = {}
        """Generation and deadline of rules that ended here and stand in the database still."""
        self._objections: dict[RuleId, str] = {}

    @property
    def count(self) -> int:
        """How many rules this speaker may announce, those of its predecessor included."""
        return len(self.wishes) + len(self.inherited)

    @property
    def is_on_disk(self) -> bool:
        """Whether the ledger knows of every wish."""
        return not self._unsynced and self.inherited.is_judged

    def load(self, contents: Contents) -> None:
        """Begin with what the journal says, which `inherit` hands on; what is past its deadline is due at once."""
        self.inherited.load(contents.wishes.values())
        for one in self.inherited:
            self.deadlines.set(one.id, one.deadline.loaded(self._clock).monotonic)
        self._expect()

    def inherit(self, limit: int, surroundings: Surroundings) -> None:
        """The next rules of the journal, so many at most, that the guard lets through."""
        for wish in self.inherited.judged(limit, surroundings):
            self._adopt(wish)

    def known(self, offers: Iterable[Offer], is_complete: bool) -> tuple[Offer, ...]:
        """What the database wants; gives those that the guard objects to now and didn't before."""
        objected = []
        entries: list[journal.Entry] = []
        fresh: list[Wish] = []
        seen: set[RuleId] = set()
        for offer in offers:
            id = offer.record.id
            seen.add(id)
            if offer.objection:
                if self._objections.get(id) != offer.objection:
                    self._objections[id] = offer.objection
                    objected.append(offer)
                self._end(id)
                continue
            self._objections.pop(id, None)
            if (remembered := self.inherited.take(id)) is not None:
                self._recall(remembered)
            wish = self._fresh(offer.record)
            if wish is not None:
                fresh.append(wish)
                entries.append(journal.wanted(wish))
        if is_complete:
            self.keep_only(seen)
            self._expired = {id: what for id, what in self._expired.items() if id in seen}
            self._objections = {id: why for id, why in self._objections.items() if id in seen}
        if entries:
            ticket = self._journal.append(entries)
            self._unsynced |= {wish.id: (ticket, wish) for wish in fresh}
        return tuple(objected)

    def keep_only(self, rules: Set[RuleId]) -> None:
        """The database wants none but these."""
        for id in (self.wishes.keys() | self._unsynced.keys() | self.inherited.ids) - rules:
            self._end(id)

    def synced(self, ticket: int, limit: int | None = None) -> bool:
        """Everything up to this ticket is on disk: it may go out. Says whether the limit left some for another call."""
        ready = (wish for at, wish in self._unsynced.values() if at <= ticket)
        some = tuple(islice(ready, limit))
        for wish in some:
            del self._unsynced[wish.id]
            self._adopt(wish)
        return len(some) == limit

    def due(self) -> tuple[Expiry, ...]:
        """Ends what is past its deadline."""
        found = []
        now = self._clock.now()
        for id in self.deadlines.due(now):
            wish = self.wishes.get(id) or self.inherited.get(id)
            if wish is None:
                continue
            self._expired[id] = (wish.generation, wish.deadline.wall)
            found.append(Expiry(id, wish.deadline.wall, now - wish.deadline.loaded(self._clock).monotonic))
            self._end(id)
        return tuple(found)

    def set_mode(self, mode: KillMode) -> None:
        """The kill switch was thrown or lifted."""
        self.mode = mode
        if mode in (KillMode.FREEZE, KillMode.WITHDRAW_ALL):
            # Nothing new: what has not gone out yet comes again with the database's next word. The journal may have it
            # already, and a successor would announce what it says.
            if unborn := [id for id in self._unsynced if id not in self.wishes]:
                self._journal.append([journal.ended(id) for id in unborn])
            self._unsynced.clear()
        now = self._clock.now()
        self._expect()
        for id, wish in self.wishes.items():
            if self._may_stand(wish):
                self._ledger.want(wish.rule, now)
            else:
                self._ledger.unwant(id, now)

    def _fresh(self, record: RuleRecord) -> Wish | None:
        """The wish for a record, unless it is known, has expired here, or must wait."""
        if self._expired.get(record.id) == (record.generation, record.deadline):
            return None
        pending = self._unsynced.get(record.id)
        known = pending[1] if pending else self.wishes.get(record.id)
        same_deadline = known is not None and known.deadline.wall == record.deadline
        if known is not None and same_deadline and known.rule == record.rule and known.generation == record.generation:
            return None
        is_new = known is None or known.rule != record.rule
        if is_new and not self._may_begin(record):
            return None
        deadline = known.deadline if known is not None and same_deadline else Moment.of(record.deadline, self._clock)
        return Wish(
            rule=record.rule,
            deadline=deadline,
            origin=record.origin,
            generation=record.generation,
            owner=record.owner,
            zone=record.zone,
            peers=self.peers,
            is_operator=record.is_operator,
            collateral=record.collateral,
            person_decides=record.approved_by is not None,
        )

    def _may_begin(self, record: RuleRecord) -> bool:
        if self.mode is KillMode.WITHDRAW_AUTOMATIC:
            return not record.origin.is_automatic
        return self.mode is KillMode.NORMAL

    def _may_stand(self, wish: Wish | Remembered) -> bool:
        if self.mode is KillMode.WITHDRAW_AUTOMATIC:
            return not wish.origin.is_automatic
        return self.mode is not KillMode.WITHDRAW_ALL

    def _recall(self, remembered: Remembered) -> None:
        """The guard has let it through as the database has it: what the journal adds is its deadline."""
        try:
            self._adopt(remembered.wish(self._clock))
        except ValueError:
            self.deadlines.drop(remembered.id)

    def _expect(self) -> None:
        """Where these stand they stay, and nobody is told."""
        self._ledger.expect({one.id for one in self.inherited if self._may_stand(one)}, self._clock.now())

    def _adopt(self, wish: Wish) -> None:
        self.wishes[wish.id] = wish
        self.deadlines.set(wish.id, wish.deadline.monotonic)
        now = self._clock.now()
        if self._may_stand(wish) and wish.deadline.monotonic > now:
            self._ledger.want(wish.rule, now)

    def _end(self, id: RuleId) -> None:
        self._unsynced.pop(id, None)
        self.deadlines.drop(id)
        remembered = self.inherited.take(id)
        if self.wishes.pop(id, None) is not None or remembered is not None:
            self._journal.append([journal.ended(id)])
            self._ledger.unwant(id, self._clock.now())
