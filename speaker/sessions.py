"""The BGP sessions as ExaBGP tells of them: up or down, families, End-of-RIB, and what a neighbour must not send.

With `manual-eor` nobody but us ends the initial update: End-of-RIB goes out for every family after every `up`, once
that neighbour has been told everything (RFC 4724 §4.1), or routers drop what they kept for us.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rules.neighbour import Address, Neighbour, SessionFamily
from speaker.replies import Negotiated, Neighbours, PeerState, Session, Waits

DEBOUNCE_SECONDS = 2.0
"""A state is reported once it has stood so long: a failing peer gives a pair of events every retry."""

ATTEMPT_SECONDS = 125.0
"""ExaBGP waits a minute for an OPEN, and at most a minute more before it connects again."""


@dataclass(slots=True)
class PeerSession:
    """One neighbour's session."""

    peer: Address
    is_up: bool = False
    since: float = 0.0
    """When it last changed, or was first expected."""
    reason: str = ""
    """Why it is down."""
    waits_for: Waits | None = None
    """How far it gets; None while it is up, or nobody knows."""
    connected_at: float = -1e9
    """When a TCP connection was last made."""
    families: frozenset[SessionFamily] = frozenset()
    ended: set[SessionFamily] = field(default_factory=set)
    """Families whose End-of-RIB was sent since it came up."""
    patience: float = 30.0
    """Seconds: what is not up for so long will hardly come up by itself."""
    reported: bool | None = None
    """The state that was last reported."""
    is_told: bool = False
    """That it hangs was told."""
    flaps: int = 0
    inbound: int = 0
    """Alarms about received updates."""
    notification: str = ""
    """The last NOTIFICATION received."""

    def hangs(self, now: float) -> bool:
        """Whether it should have come up long ago."""
        return not self.is_up and bool(self.since) and now - self.since > self.patience


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
            session.connected_at, session.waits_for = now, Waits.OPEN
            return False
        if is_up:
            session.waits_for = None
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

    def expect(self, neighbours: Iterable[Neighbour], now: float) -> None:
        """These should come up, from now on where they were not known; within their hold time."""
        for one in neighbours:
            session = self.of(one.peer_address)
            session.since, session.patience = session.since or now, one.hold_time_seconds

    def listed(self, event: Neighbours, now: float) -> tuple[Address, ...]:
        """Where all sessions stand: a new process gets no replay of events. Must be told in its turn among the events:
        an `up` that follows it is newer. Gives those that were not known to be up."""
        found = []
        for one in event.established:
            session = self.of(one.peer)
            session.families = one.families
            if not session.is_up:
                session.is_up, session.since, session.reason = True, now, ""
                session.waits_for = None
                session.ended.clear()
                found.append(one.peer)
        for other in event.others:
            session = self.of(other.peer)
            if session.is_up:
                session.is_up, session.since = False, now
            # Between two attempts ExaBGP is idle also where the neighbour took each of them.
            if other.waits_for is not Waits.CONNECTION or now - session.connected_at > ATTEMPT_SECONDS:
                session.waits_for = other.waits_for
        return tuple(found)

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

    def hanging(self, now: float) -> Iterator[PeerSession]:
        """Sessions that began to hang, or ceased to, since they were last asked for."""
        for session in self.known.values():
            has_begun = not session.is_told and session.hangs(now)
            has_ceased = session.is_told and session.is_up
            if has_begun or has_ceased:
                session.is_told = has_begun
                yield session
