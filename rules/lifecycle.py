"""The life of one announcement, a rule at one neighbour, as a table of phases and events.

An answer event (announced, refused, withdrawn, kept) must be tied to the command it answers, first in first out. Taking
the `done` of an announce for that of the withdraw behind it leaves the rule on the router. A refused announce also
withdraws, because an earlier announcement of the same key may stand. Nothing here sends, waits or reads a clock.
"""

from dataclasses import dataclass, replace
from enum import Enum


class Phase(Enum):
    """Where an announcement stands."""

    PROPOSED = "proposed"
    """Not sent yet."""
    ANNOUNCING = "announcing"
    """Sent; no answer yet."""
    ACTIVE = "active"
    """ExaBGP has taken it."""
    WITHDRAWING = "withdrawing"
    """The withdrawal is sent; after its answer this is over."""
    EXPELLING = "expelling"
    """Withdrawn because the neighbour cannot hold it, while the rule itself lives on; then `UNFIT`."""
    UNFIT = "unfit"
    """The rule is wanted, and this neighbour must not get it: its profile, its budget, or a quarantine."""
    STUCK = "stuck"
    """The withdrawal failed too often: the router may still hold the rule, and somebody must look."""
    ENDED = "ended"
    """The router holds nothing of it; a new life starts as a new `Announcement`."""


class Event(Enum):
    """What can happen to an announcement."""

    APPROVED = "approved"
    """It may go out now, for the first time, or again after having been unfit."""
    ANNOUNCED = "announced"
    """`done` to an announce."""
    REFUSED = "refused"
    """`error` to an announce."""
    CHANGED = "changed"
    """The rule has another action: announcing again replaces it on the router without a gap (RFC 4271 §3.1)."""
    ENDED = "ended"
    """The rule's life is over: deadline, operator, kill switch, end of the incident."""
    UNFIT = "unfit"
    """The neighbour cannot hold the rule."""
    WITHDRAWN = "withdrawn"
    """`done` to a withdraw."""
    KEPT = "kept"
    """`error` to a withdraw."""
    GAVE_UP = "gave up"
    """One `KEPT` too many; `Announcement.step` makes it."""
    RETRIED = "retried"
    """Somebody, or a timer, asks to withdraw once more."""
    RESTARTED = "restarted"
    """ExaBGP or the speaker started anew: answers still due will not come, and what the router holds is unknown."""


class Effect(Enum):
    """What must be done on a transition."""

    ANNOUNCE = "announce"
    WITHDRAW = "withdraw"
    ALARM = "alarm"


class Illegal(ValueError):
    """An event that can't happen in this phase: a bug of the caller; nothing has changed."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"{event.value!r} cannot happen to an announcement that is {phase.value}")
        self.phase, self.event = phase, event


Transition = tuple[Phase, Effect | None]

TABLE: dict[Phase, dict[Event, Transition]] = {
    Phase.PROPOSED: {
        Event.APPROVED: (Phase.ANNOUNCING, Effect.ANNOUNCE),
        Event.UNFIT: (Phase.UNFIT, None),
        Event.ENDED: (Phase.ENDED, None),
        Event.RESTARTED: (Phase.PROPOSED, None),
    },
    Phase.ANNOUNCING: {
        Event.ANNOUNCED: (Phase.ACTIVE, None),
        Event.REFUSED: (Phase.WITHDRAWING, Effect.WITHDRAW),
        Event.UNFIT: (Phase.EXPELLING, Effect.WITHDRAW),
        Event.ENDED: (Phase.WITHDRAWING, Effect.WITHDRAW),
        Event.RESTARTED: (Phase.ANNOUNCING, Effect.ANNOUNCE),
    },
    Phase.ACTIVE: {
        Event.CHANGED: (Phase.ANNOUNCING, Effect.ANNOUNCE),
        Event.UNFIT: (Phase.EXPELLING, Effect.WITHDRAW),
        Event.ENDED: (Phase.WITHDRAWING, Effect.WITHDRAW),
        Event.RESTARTED: (Phase.ANNOUNCING, Effect.ANNOUNCE),
    },
    Phase.WITHDRAWING: {
        # The answer to an announce sent before the withdraw: the withdraw behind it decides.
        Event.ANNOUNCED: (Phase.WITHDRAWING, None),
        Event.REFUSED: (Phase.WITHDRAWING, None),
        # A refused announcement is being withdrawn already when its rule ends or turns out unfit.
        Event.UNFIT: (Phase.WITHDRAWING, None),
        Event.ENDED: (Phase.WITHDRAWING, None),
        Event.WITHDRAWN: (Phase.ENDED, None),
        Event.KEPT: (Phase.WITHDRAWING, Effect.WITHDRAW),
        Event.GAVE_UP: (Phase.STUCK, Effect.ALARM),
        Event.RESTARTED: (Phase.WITHDRAWING, Effect.WITHDRAW),
    },
    Phase.EXPELLING: {
        Event.ANNOUNCED: (Phase.EXPELLING, None),
        Event.REFUSED: (Phase.EXPELLING, None),
        Event.UNFIT: (Phase.EXPELLING, None),
        Event.ENDED: (Phase.WITHDRAWING, None),
        Event.WITHDRAWN: (Phase.UNFIT, None),
        Event.KEPT: (Phase.EXPELLING, Effect.WITHDRAW),
        Event.GAVE_UP: (Phase.STUCK, Effect.ALARM),
        Event.RESTARTED: (Phase.EXPELLING, Effect.WITHDRAW),
    },
    Phase.UNFIT: {
        Event.APPROVED: (Phase.ANNOUNCING, Effect.ANNOUNCE),
        Event.UNFIT: (Phase.UNFIT, None),
        Event.ENDED: (Phase.ENDED, None),
        Event.RESTARTED: (Phase.UNFIT, None),
    },
    Phase.STUCK: {
        Event.UNFIT: (Phase.STUCK, None),
        Event.ENDED: (Phase.STUCK, None),
        Event.RETRIED: (Phase.WITHDRAWING, Effect.WITHDRAW),
        Event.RESTARTED: (Phase.WITHDRAWING, Effect.WITHDRAW),
    },
    Phase.ENDED: {
        Event.RESTARTED: (Phase.ENDED, None),
    },
}
"""Every legal transition; what is not here raises `Illegal`."""

WITHDRAW_LIMIT = 5
"""Withdraws that may fail in a row before the alarm; withdrawing again is safe, also what was never announced."""

ON_THE_ROUTER = frozenset({Phase.ANNOUNCING, Phase.ACTIVE, Phase.WITHDRAWING, Phase.EXPELLING, Phase.STUCK})
"""Phases in which the router may hold the rule: these count against a neighbour's budget."""


def step(phase: Phase, event: Event) -> Transition:
    """The next phase and what to do; raises `Illegal`."""
    try:
        return TABLE[phase][event]
    except KeyError:
        raise Illegal(phase, event) from None


@dataclass(frozen=True, slots=True)
class Announcement:
    """One rule at one neighbour: its phase, and how often its withdrawal has failed in a row."""

    phase: Phase = Phase.PROPOSED
    failed_withdraws: int = 0

    def step(self, event: Event) -> "tuple[Announcement, Effect | None]":
        """The announcement after the event and what to do; a `KEPT` beyond the limit alarms instead of retrying."""
        failed = self.failed_withdraws
        if event is Event.KEPT:
            failed += 1
            event = Event.GAVE_UP if failed >= WITHDRAW_LIMIT and self._may_give_up else event
        elif event in (Event.WITHDRAWN, Event.RETRIED, Event.RESTARTED):
            failed = 0
        phase, effect = step(self.phase, event)
        return replace(self, phase=phase, failed_withdraws=failed), effect

    @property
    def _may_give_up(self) -> bool:
        return Event.GAVE_UP in TABLE[self.phase]

    @property
    def may_be_on_the_router(self) -> bool:
        """Whether the router may hold the rule."""
        return self.phase in ON_THE_ROUTER
