"""Which neighbours ExaBGP has, against those that are configured: when to ask it again, and when to start from what it
holds.

ExaBGP reads its file in its own time, says `done` to what is for a neighbour it lacks and for others, and starts a
neighbour whose definition changed with nothing to tell. It is asked now and then even where nothing seems to have
changed: no picture of ours is older than that, whatever was missed.
"""

from collections.abc import Iterable

from rules.neighbour import Address, Neighbour
from speaker.reconcile import Ledger
from speaker.replies import Neighbours
from speaker.sessions import Sessions
from speaker.suspects import Suspects
from speaker.talk import Talk

EAGER_SECONDS = 60.0
"""How long after a change the file is expected to be read."""
EAGER_EVERY_SECONDS = 1.0
PATIENT_EVERY_SECONDS = 30.0
DESERTED_SECONDS = 5.0
"""So long without a single neighbour, although some are configured: ExaBGP will not find them again. When it writes to
a speaker that was just killed, it lets go of every neighbour bound to that process, for the rest of its life."""


class RollCall:
    """Who is expected and who is there."""

    def __init__(self, ledger: Ledger, sessions: Sessions, suspects: Suspects, talk: Talk) -> None:
        self._ledger, self._sessions, self._suspects, self._talk = ledger, sessions, suspects, talk
        self._expected: dict[Address, Neighbour] | None = None
        self._there: frozenset[Address] | None = None
        self._changed: set[Address] = set()
        """Neighbours whose definition ExaBGP may not have read yet: its `up` tells."""
        self._is_stale = False
        """What ExaBGP holds may not be what the ledger believes."""
        self._ask_at = self._eager_until = self._heard_at = -1e9
        self._deserted_since: float | None = None

    def expect(self, neighbours: Iterable[Neighbour], now: float) -> None:
        """The configuration names these."""
        before, after = self._expected, {one.peer_address: one for one in neighbours}
        self._expected = after
        self._sessions.expect(after.values(), now)
        if self._deserted_since is not None:
            # ExaBGP is about to read its file, and has as long as before.
            self._deserted_since = now
        self.look_again(now)
        if before is not None and before != after:
            self._changed |= {peer for peer, one in after.items() if before.get(peer) != one}
            self._is_stale = True
        self._note_missing(now)
        self.tick(now)

    def look_again(self, now: float) -> None:
        """ExaBGP was told to read its file."""
        self._ask_at, self._eager_until = now, now + EAGER_SECONDS

    def heard(self, neighbours: Neighbours, now: float) -> None:
        """ExaBGP tells where the sessions stand; must be told at once, in its turn among the events."""
        self._heard_at = now
        if neighbours.established or neighbours.others:
            self._deserted_since = None
        elif self._deserted_since is None:
            self._deserted_since = now
            self.look_again(now)
        for peer in self._sessions.listed(neighbours, now):
            self._suspects.up(peer, now)

    def counted(self, neighbours: Neighbours, now: float, with_routes: bool = False) -> None:
        """ExaBGP has these and no others; `with_routes`: what it holds was listed as well."""
        there = frozenset(one.peer for one in neighbours.established) | {one.peer for one in neighbours.others}
        self._is_stale |= not with_routes and there != self._there
        self._there = there
        self._note_missing(now)
        self._sessions.keep_only(frozenset(self._expected or there) | there)

    def up(self, peer: Address, now: float) -> None:
        """A session is up, so ExaBGP has this neighbour, as it is now defined."""
        if self._there is not None and (peer in self._changed or peer not in self._there):
            self._changed.discard(peer)
            self._there |= {peer}
            self._is_stale = True
            self._note_missing(now)

    def is_deserted(self, now: float) -> bool:
        """Whether ExaBGP has lost all neighbours for good, and must be started anew. Says so once for each while."""
        since = self._deserted_since
        if not self._expected or since is None or self._heard_at - since < DESERTED_SECONDS:
            return False
        self._deserted_since = now
        return True

    def tick(self, now: float) -> None:
        """Ask now and then, and more often while ExaBGP has other neighbours than are configured; start anew from what
        it holds where it had."""
        if self._talk.is_synced and self._is_stale:
            self._is_stale = False
            self._talk.resync(now)
        elif self._talk.has_room() and now >= self._ask_at and (self._differs() or self._is_long_ago(now)):
            self._ask_at = now + (EAGER_EVERY_SECONDS if now < self._eager_until else PATIENT_EVERY_SECONDS)
            self._talk.look(now)

    def _differs(self) -> bool:
        return self._expected is not None and self._there != frozenset(self._expected)

    def _is_long_ago(self, now: float) -> bool:
        return now - self._heard_at > PATIENT_EVERY_SECONDS

    def _note_missing(self, now: float) -> None:
        if self._expected is not None and self._there is not None:
            self._ledger.set_missing(frozenset(self._expected) - self._there, now)
