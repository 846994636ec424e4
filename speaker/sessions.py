"""The BGP sessions as ExaBGP tells of them: up or down, families, End-of-RIB, and what a neighbour must not send.

With `manual-eor` nobody but us ends the initial update: End-of-RIB goes out for every family after every `up`, once
that neighbour has been told everything (RFC 4724 §4.1), or routers drop what they kept for us.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rules.neighbour import Address, SessionFamily
from speaker.replies import Negotiated, Neighbours, PeerState, Session

DEBOUNCE_SECONDS = 2.0
"""A state is reported once it has stood so long: a failing peer gives a pair of events every retry."""


@dataclass(slots=True)
class PeerSession:
    """One neighbour's session."""

    peer: Address
    is_up: bool = False
    since: float = 0.0
    """When it last changed."""
    reason: str = ""
    """Why it is down."""
    families: frozenset[SessionFamily] = frozenset()
    ended: set[SessionFamily] = field(default_factory=set)
    """Families whose End-of-RIB was sent since it came up."""
    reported: bool | None = None
    """The state that was last reported."""
    flaps: int = 0
    inbound: int = 0
    """Alarms about received updates."""
    notification: str = ""
    """The last NOTIFICATION received."""


class Sessions:
    """All of them."""

    def __init__(self) -> None:
        self.known: dict[Address, PeerSession] = {}

    def of(self, peer: Address) -> PeerSession:
        """A neighbour's session, made when it is not known yet."""
        return self.known.setdefault(peer, PeerSession(peer))

    def state(self, event: PeerState, now: float) -> bool:
        """A session changed; says whether it went up or down."""
        session = self.of(event.peer)
        is_up = event.state is Session.UP
        if event.state is Session.CONNECTED:
            return False
        if is_up or session.is_up:
            session.since = now
            session.ended.clear()
        session.flaps += session.is_up and not is_up
        changed = session.is_up != is_up or is_up
        session.is_up, session.reason = is_up, "" if is_up else event.reason
        return changed

    def negotiated(self, event: Negotiated) -> None:
        """What both ends speak; comes before `up`."""
        self.of(event.peer).families = event.families

    def listed(self, event: Neighbours, now: float) -> None:
        """Where all sessions stand: a new process gets no replay of events."""
        for one in event.established:
            session = self.of(one.peer)
            session.families = one.families
            if not session.is_up:
                session.is_up, session.since, session.reason = True, now, ""
                session.ended.clear()
        for peer in event.others:
            session = self.of(peer)
            if session.is_up:
                session.is_up, session.since = False, now

    def keep_only(self, peers: frozenset[Address]) -> None:
        """Neighbours that exist no more leave nothing behind."""
        self.known = {peer: session for peer, session in self.known.items() if peer in peers}

    def unended(self, peer: Address) -> tuple[SessionFamily, ...]:
        """Families that this neighbour still waits for the End-of-RIB of."""
        session = self.of(peer)
        if not session.is_up:
            return ()
        return tuple(family for family in SessionFamily if family in session.families - session.ended)

    def reports(self, now: float) -> Iterator[PeerSession]:
        """Sessions whose state has stood long enough and was not reported yet."""
        for session in self.known.values():
            if session.reported != session.is_up and now - session.since >= DEBOUNCE_SECONDS:
                session.reported = session.is_up
                yield session
