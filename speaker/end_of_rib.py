"""End-of-RIB (RFC 4724) for every family of a session that has been told everything: routers wait for it, and drop then
what they kept and were not told again."""

from rules.neighbour import Address
from speaker.reconcile import Ledger
from speaker.sessions import Sessions
from speaker.talk import EndOfRib, Talk

RETRY_SECONDS = 5.0


class EndsOfRib:
    """What was said to each session, and what ExaBGP turned down."""

    def __init__(self, ledger: Ledger, sessions: Sessions, talk: Talk) -> None:
        self._ledger, self._sessions, self._talk = ledger, sessions, talk
        self._retry_at: dict[Address, float] = {}

    def up(self, peer: Address) -> None:
        """A new session: what was turned down in the old one is no reason to wait."""
        self._retry_at.pop(peer, None)

    def failed(self, one: EndOfRib, now: float) -> None:
        """ExaBGP did not take it: once more, later."""
        self._sessions.of(one.peer).ended.discard(one.family)
        self._retry_at[one.peer] = now + RETRY_SECONDS

    def tick(self, now: float) -> None:
        """To whomever it is due. Call while everything that is wanted is known and on disk, or it says too much."""
        for peer in self._ledger.neighbours:
            if self._retry_at.get(peer, 0.0) > now or not self._ledger.is_settled(peer):
                continue
            for family in self._sessions.unended(peer):
                if self._talk.has_room():
                    self._sessions.of(peer).ended.add(family)
                    self._talk.end_of_rib(peer, family, now)
