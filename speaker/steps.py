"""The wall clock set back, and what it does to ExaBGP, which times its pauses between attempts by it: a neighbour that
hung up shortly before is not tried again before the clock has caught up. Pure.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import Enum

from speaker.sessions import ATTEMPT_SECONDS, PeerSession

STEP_SECONDS = 5.0
"""Less is slewing, or an attempt a little later."""


class Advice(Enum):
    """What to do about it."""

    NOTHING = "nothing"
    TELL = "tell"
    """Some neighbours are up, and would be lost: a person chooses the time."""
    START_ANEW = "start anew"
    """Nobody is up: ending ExaBGP costs nothing."""


class Steps:
    """Watches one clock by the other."""

    def __init__(self) -> None:
        self._offset: float | None = None
        """Of the wall clock, before the monotonic one."""
        self._stepped_at = self._until = -1e9
        self.seconds = 0.0
        """How far it was set back last."""

    def tick(self, now: float, wall: datetime) -> None:
        """Look at both clocks."""
        offset = wall.timestamp() - now
        if self._offset is not None and self._offset - offset > STEP_SECONDS:
            self.seconds = self._offset - offset
            self._stepped_at, self._until = now, now + self.seconds
        self._offset = offset

    def advise(self, sessions: Iterable[PeerSession], now: float) -> Advice:
        """Now; `START_ANEW` once for each step."""
        if now >= self._until:
            return Advice.NOTHING
        known = tuple(sessions)
        if not any(one.hangs(now) and self._waits(one) for one in known):
            return Advice.NOTHING
        if any(one.is_up for one in known):
            return Advice.TELL
        self._until = now
        return Advice.START_ANEW

    def _waits(self, session: PeerSession) -> bool:
        """Whether ExaBGP may have been in a pause, and has not connected since."""
        return 0 <= self._stepped_at - session.connected_at < ATTEMPT_SECONDS
