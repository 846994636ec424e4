"""A speaker's first seconds: what a predecessor left is told again, while the database is still being opened.

Routers wait for it (RFC 4724), so whatever can wait for its end does: the garbage collector, the database's look at
what stands already, whatever `is_informed` holds back.
"""

import gc
from collections.abc import Set

from rules.guard import Surroundings
from rules.rule import RuleId
from speaker.desire import Desire
from speaker.health import Health
from speaker.latecomer import LateMemory
from speaker.pipe import WINDOW
from speaker.reconcile import Ledger
from speaker.talk import Talk

PATIENCE_SECONDS = 10.0
"""How long End-of-RIB waits for the database's first word, of the restart time routers grant."""
STANDING_SECONDS = 3.0
"""How long what stands already leaves the processor to the database's first word: what is new and what has ended."""
INHERITED = 32
"""Rules of the journal judged in one turn: a window's worth of commands bridges it."""
AHEAD = 2 * WINDOW
"""So many rules waiting to go out are enough: what is judged later keeps nobody waiting."""
COLLECT_AFTER = 20_000
"""Objects made before Python looks for cycles: rules are thousands of values that live long and have none."""


class Beginning:
    """From the first word to the last that a predecessor's journal is the reason for."""

    def __init__(self, talk: Talk, ledger: Ledger, desire: Desire, memory: LateMemory, health: Health) -> None:
        self._talk, self._ledger, self._desire, self._memory = talk, ledger, desire, memory
        self._health = health
        self._began = -1e9
        self._is_through = False

    def begin(self, now: float) -> None:
        """The speaker starts now."""
        self._began = now

    def seconds(self, now: float) -> float:
        """How long ago it began."""
        return now - self._began

    def may_inherit(self) -> bool:
        """Whether a rule of the journal may be judged now, with a use for it."""
        is_ready = self._health.settings is not None and self._talk.is_synced
        return is_ready and self._desire.inherited.has_next and self._ledger.waiting < AHEAD

    def inherit(self) -> None:
        """The next rules of the journal go out as the guard lets them, before the database was read."""
        one, zones = self._health.settings, self._health.zones
        assert one is not None
        if not zones:
            self._desire.inherited.leave_unjudged()
            return
        surroundings = Surroundings(zones, one.neighbours, one.protected, one.infrastructure, limits=one.limits)
        self._desire.inherit(INHERITED, surroundings)

    def found(self, rules: Set[RuleId], now: float) -> None:
        """ExaBGP holds these already."""
        if now - self._began < STANDING_SECONDS and self._health.database:
            self._desire.inherited.postpone(set(rules))

    def has_told_all(self) -> bool:
        """Whether ExaBGP has heard all there is, what the journal says included."""
        is_waiting = self._talk.in_flight or self._ledger.waiting
        return self._talk.is_synced and self._desire.inherited.is_judged and not is_waiting

    def tick(self, now: float) -> None:
        """Time passes: what had to wait for the end of the beginning needn't for ever."""
        if not self._health.is_informed and now - self._began > PATIENCE_SECONDS:
            self._health.is_informed = True
            collect_rarely()
        if not self._health.database or now - self._began > STANDING_SECONDS:
            self._desire.inherited.resume()
        if not self._is_through and self.has_told_all():
            self._is_through = True
            self._memory.at_leisure()
            collect_rarely()


def collect_rarely() -> None:
    """Look for garbage again after start-up, which goes without, and not among what was made until now."""
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER, 20, 20)
        gc.enable()
