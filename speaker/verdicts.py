"""The guard's word on every rule that the database wants: its rows are not trusted.

A verdict holds as long as record, zones and surroundings stay as they were; the loop is told what it has not heard.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain

from rules import guard
from rules.guard import Surroundings
from rules.rule import RuleId
from rules.zone import Zone
from speaker.clock import Clock
from speaker.desire import Offer
from speaker.exchange import Known, Left, ToLoop
from speaker.wishes import Remembered
from store.admission import request_of
from store.records import RuleRecord, World
from store.store import Store

CHUNK = 50
"""Rules judged before they are told: neither disk nor ExaBGP need wait for the last one."""
LEISURE_SECONDS = 10.0
"""How long what a predecessor had let through is not judged together with all others, while it is being told anew."""


class Verdicts:
    """On the rules of one database; used by its thread alone, but for `at_leisure`."""

    def __init__(self, clock: Clock, tell: Callable[[ToLoop], None]) -> None:
        self._clock, self._tell = clock, tell
        self._verdicts: dict[RuleId, Offer] = {}
        """What the guard said of a record in this world and these zones: `_judged_in`."""
        self._told: dict[RuleId, Offer] = {}
        """What the loop was told and took in."""
        self._judged_in: tuple[World, tuple[Zone, ...]] | None = None
        self._carried: Mapping[RuleId, Remembered] = {}
        self._leisure = threading.Event()
        self._first_at: float | None = None

    def carry(self, wishes: Mapping[RuleId, Remembered]) -> None:
        """What a predecessor had let through and is announced already: it is judged when there is time."""
        self._carried = wishes

    def at_leisure(self) -> None:
        """There is time now."""
        self._leisure.set()

    def tell_again(self) -> None:
        """The loop has not taken in what it was told."""
        self._told.clear()

    def let_in(self, wanted: tuple[RuleRecord, ...]) -> tuple[Offer, ...]:
        """Rules that the guard let in a moment ago; the loop is told of them by the caller."""
        offers = tuple(Offer(record) for record in wanted)
        for offer in offers:
            self._verdicts[offer.record.id] = self._told[offer.record.id] = offer
        return offers

    def are_due(self) -> bool:
        """Whether rules of the journal are left to be judged, and nobody waits for the processor any more."""
        if not self._carried or self._first_at is None:
            return False
        return self._leisure.is_set() or self._clock.now() - self._first_at > LEISURE_SECONDS

    def of(
        self, records: tuple[RuleRecord, ...], store: Store, world: World, audit_head: tuple[int, str] | None
    ) -> Known:
        """The word on all of these, and what it was judged by. What is new is told in parts while it is judged."""
        self._first_at = self._clock.now() if self._first_at is None else self._first_at
        zones = store.zones()
        offers = self._judge(store, records, world, zones)
        # What stands and is left for later is none of these: the word is not complete before.
        return Known(offers, is_complete=not self._carried, audit_head=audit_head, zones=zones)

    def _judge(
        self, store: Store, records: tuple[RuleRecord, ...], world: World, zones: tuple[Zone, ...]
    ) -> tuple[Offer, ...]:
        now = self._clock.wall()
        surroundings: Surroundings | None = None
        if self._judged_in != (world, zones):
            self._verdicts.clear()
            self._judged_in = (world, zones)
        # What stands is judged as well, but what waits to go out is judged before it.
        first = [record for record in records if not self._is_carried(record)]
        then = [record for record in records if self._is_carried(record)]
        is_left_for_later = bool(then) and not self.are_due()
        if is_left_for_later or sum(record.id not in self._verdicts for record in records) > CHUNK:
            self._tell(Left(frozenset(record.id for record in records)))
        if is_left_for_later:
            then = []
        else:
            self._carried = {}
        verdicts: dict[RuleId, Offer] = {}
        untold: list[Offer] = []
        for record in chain(first, then):
            offer = self._verdicts.get(record.id)
            # The whole record: also who asked, what was measured and who approved it decide. An objection may be
            # lifted by time, by room or by a clock that is set right: it is asked for again.
            if offer is None or offer.objection or offer.record != record:
                # What counts is whether it may stand, not how fast it came.
                surroundings = surroundings or replace(store.surroundings(world, now), recent=0)
                offer = Offer(record, _objection(record, surroundings, now))
            verdicts[record.id] = offer
            if offer.objection and record.deadline <= now:
                # It is not announced, so nobody counts its deadline; left wanted it would fill budgets for ever.
                store.expire(record.id, now)
            if self._told.get(record.id) is not offer:
                self._told[record.id] = offer
                untold.append(offer)
            if len(untold) == CHUNK or (then and untold and len(verdicts) == len(first)):
                self._tell(Known(tuple(untold), is_complete=False))
                untold.clear()
        self._verdicts, self._told = verdicts, verdicts.copy()
        return tuple(verdicts.values())

    def _is_carried(self, record: RuleRecord) -> bool:
        """Whether the rule was in the journal at start, exactly as the database wants it now."""
        wish = self._carried.get(record.id)
        return (
            wish is not None
            and (wish.generation, wish.origin, wish.owner, wish.zone)
            == (record.generation, record.origin, record.owner, record.zone)
            and wish.is_for(record.rule)
        )


def _objection(record: RuleRecord, surroundings: Surroundings, now: datetime) -> str:
    if record.deadline <= now:
        # It counts on the monotonic clock whether it has expired; the lifetime is no reason here.
        now = record.deadline - timedelta(seconds=1)
    errors = [one for one in guard.objections(request_of(record, now), surroundings) if one.is_error]
    return "; ".join(f"[{one.id}] {one.reason}" for one in errors)
