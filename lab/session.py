"""What a router of the lab is told: its sessions, typed, and what it can tell back. Opens nothing."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from rules.action import Action
from rules.match import Family, Match, Network
from rules.neighbour import BLACKHOLE, Address, Neighbour, SessionFamily

ALL_FAMILIES = frozenset(SessionFamily)

DISCARD_IPV4, DISCARD_IPV6 = "192.0.2.254", "100::1"
"""Next hops that FRR routes to nowhere (TEST-NET-1, and the discard prefix of RFC 6666)."""


@dataclass(frozen=True, slots=True)
class Session:
    """One BGP session, seen from the router."""

    local_address: Address
    peer_address: Address
    local_as: int
    peer_as: int
    """Equal to `local_as` for iBGP."""
    families: frozenset[SessionFamily] = ALL_FAMILIES
    md5_password: str | None = None
    gtsm_hops: int | None = None
    """The speaker is at most this many hops away (RFC 5082)."""
    graceful_restart_seconds: int | None = None
    hold_time_seconds: int = 30
    passive: bool = True
    """The router waits for the speaker to connect."""
    port: int = 179
    """Where the side that waits listens."""
    name: str = "speaker"
    """A word: BIRD's protocol name, FRR's description."""

    @property
    def is_internal(self) -> bool:
        """iBGP."""
        return self.local_as == self.peer_as

    @classmethod
    def facing(cls, neighbour: Neighbour, name: str = "speaker") -> "Session":
        """The router's end of a session that the speaker knows as `neighbour`."""
        return cls(
            local_address=neighbour.peer_address,
            peer_address=neighbour.local_address,
            local_as=neighbour.peer_as,
            peer_as=neighbour.local_as,
            families=neighbour.families,
            md5_password=neighbour.md5_password,
            gtsm_hops=neighbour.gtsm_hops,
            graceful_restart_seconds=neighbour.graceful_restart_seconds,
            hold_time_seconds=neighbour.hold_time_seconds,
            passive=not neighbour.passive,
            port=neighbour.port,
            name=name,
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """A whole router of the lab. All its sessions share one local AS."""

    router_id: IPv4Address
    sessions: tuple[Session, ...]
    validate: bool = False
    """BIRD only: check FlowSpec against unicast routes (RFC 8955 §6); what fails stays in the table, invalid."""
    routes: tuple[Network, ...] = ()
    """BIRD only: prefixes the router has unicast routes for, which validation looks at."""
    blackhole_communities: tuple[tuple[int, int], ...] = (BLACKHOLE,)
    """A host route with one of these becomes a blackhole route; all other unicast routes are refused."""

    def __post_init__(self) -> None:
        if len({session.local_as for session in self.sessions}) != 1:
            raise ValueError("a router of the lab needs sessions, all with the same local AS")

    @property
    def local_as(self) -> int:
        """The router's own AS."""
        return self.sessions[0].local_as


class Validity(Enum):
    """What a router thinks of a FlowSpec route it holds."""

    ACCEPTED = "accepted"
    """Would be enforced, where the router can enforce."""
    INVALID = "invalid"
    """Fails RFC 8955 §6 and waits in the table."""


@dataclass(frozen=True, slots=True)
class HeldFlowSpec:
    """One FlowSpec route as a router holds it."""

    family: Family
    text: str
    """The match in the router's own words."""
    match: Match | None
    """The match as a value; None where the router's text does not tell everything (FRR)."""
    action_text: str
    """The action in the router's own words."""
    action: Action | None = None
    """The action as a value, where it is one that Stopbank sends."""
    validity: Validity = Validity.ACCEPTED
    nlri: bytes | None = None
    """The very bytes, length in front, where the router tells them (GoBGP)."""
