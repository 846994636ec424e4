"""A BGP neighbour: how to peer with it, what it can hold, and what may be said to it."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from rules.errors import Problem, Refused
from rules.match import Network
from rules.zone import NAME, NAME_REASON

Address = IPv4Address | IPv6Address


class SessionFamily(Enum):
    """Address families of a session, as ExaBGP writes them."""

    IPV4_UNICAST = "ipv4 unicast"
    IPV6_UNICAST = "ipv6 unicast"
    IPV4_FLOW = "ipv4 flow"
    IPV6_FLOW = "ipv6 flow"


class Role(Enum):
    """Whose router it is."""

    OWN_EDGE = "own-edge"
    """Ours: rules carry NO_EXPORT."""
    UPSTREAM = "upstream"
    """A provider's: gets only what lies in `permitted`, blackholes with his community."""


BLACKHOLE = (65535, 666)
"""The well-known BLACKHOLE community (RFC 7999)."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One BGP session; give FlowSpec a session of its own, so that a reset by it leaves RTBH standing."""

    name: str
    peer_address: Address
    local_address: Address
    peer_as: int
    local_as: int
    """Equal to `peer_as` for iBGP, the default towards own edges (RFC 9117)."""
    router_id: IPv4Address
    families: frozenset[SessionFamily]
    role: Role = Role.OWN_EDGE
    profiles: tuple[str, ...] = ("generic",)
    """Platform profiles of all routers this session serves; they intersect (`rules.platforms`)."""
    budget: int = 100
    """Rules this neighbour may be given at once: the smallest of the routers it serves."""
    permitted: tuple[Network, ...] = ()
    """Only rules inside these go to it; empty: all zones (not allowed for an upstream)."""
    blackhole_communities: tuple[tuple[int, int], ...] = (BLACKHOLE,)
    next_hop_ipv4: IPv4Address | None = None
    """RTBH next hop for IPv4; required with ipv4 unicast."""
    next_hop_ipv6: IPv6Address | None = None
    """RTBH next hop for IPv6; required with ipv6 unicast."""
    port: int = 179
    passive: bool = False
    hold_time_seconds: int = 30
    multihop_ttl: int | None = None
    gtsm_hops: int | None = None
    """Generalised TTL security (RFC 5082): the peer is at most this many hops away; not with multihop."""
    graceful_restart_seconds: int | None = 120
    """Routers keep blackholes (and, but for FRR, FlowSpec) this long while ExaBGP is away; 1 to 120, or None."""
    md5_password: str | None = None

    def __post_init__(self) -> None:
        if problems := self._problems():
            raise Refused.all(problems)

    def __repr__(self) -> str:
        return f"Neighbour({self.name!r}, {self.peer_address}, AS{self.peer_as})"

    @property
    def is_internal(self) -> bool:
        """iBGP."""
        return self.peer_as == self.local_as

    def _problems(self) -> list[Problem]:
        problems = []
        if not NAME.fullmatch(self.name):
            problems.append(Problem("name", self.name, NAME_REASON))
        if self.peer_address.version != self.local_address.version:
            reason = f"must be of the same address family as local_address {self.local_address}"
            problems.append(Problem("peer_address", str(self.peer_address), reason))
        for field, address in (
            ("peer_address", self.peer_address),
            ("local_address", self.local_address),
            ("next_hop_ipv6", self.next_hop_ipv6),
        ):
            if isinstance(address, IPv6Address) and address.scope_id is not None:
                # A zone index may hold any text, and all of these are written into ExaBGP's commands.
                problems.append(Problem(field, str(address), "has a zone index; leave out what stands behind the %"))
        if self.peer_address == self.local_address:
            problems.append(Problem("peer_address", str(self.peer_address), "is also the local address"))
        if not self.families:
            known = ", ".join(family.value for family in SessionFamily)
            problems.append(Problem("families", "", f"at least one is needed of: {known}"))
        problems += self._number_problems()
        problems += self._blackhole_problems()
        if self.role is Role.UPSTREAM and not self.permitted:
            reason = "an upstream needs the prefixes it accepts rules for: those you announce to it"
            problems.append(Problem("permitted", "", reason))
        if self.gtsm_hops is not None and self.multihop_ttl is not None:
            problems.append(Problem("gtsm_hops", str(self.gtsm_hops), "does not go with multihop_ttl; choose one"))
        if self.md5_password is not None and not is_password(self.md5_password):
            problems.append(Problem("md5_password", "(not shown)", PASSWORD_REASON))
        return problems

    def _number_problems(self) -> list[Problem]:
        ranges: tuple[tuple[str, int | None, int, int], ...] = (
            ("peer_as", self.peer_as, 1, 2**32 - 2),
            ("local_as", self.local_as, 1, 2**32 - 2),
            ("port", self.port, 1, 65535),
            ("budget", self.budget, 1, 100_000),
            ("hold_time_seconds", self.hold_time_seconds, 3, 65535),
            ("multihop_ttl", self.multihop_ttl, 2, 255),
            ("gtsm_hops", self.gtsm_hops, 1, 254),
            ("graceful_restart_seconds", self.graceful_restart_seconds, 1, 120),
        )
        return [
            Problem(name, str(value), f"must be a whole number from {low} to {high}")
            for name, value, low, high in ranges
            if value is not None and not low <= value <= high
        ]

    def _blackhole_problems(self) -> list[Problem]:
        problems = []
        for family, name, value in (
            (SessionFamily.IPV4_UNICAST, "next_hop_ipv4", self.next_hop_ipv4),
            (SessionFamily.IPV6_UNICAST, "next_hop_ipv6", self.next_hop_ipv6),
        ):
            if family in self.families and value is None:
                problems.append(Problem(name, "", f"is needed for blackholes over {family.value}"))
        for high, low in self.blackhole_communities:
            if not (0 <= high <= 65535 and 0 <= low <= 65535):
                problems.append(Problem("blackhole_communities", f"{high}:{low}", "both halves end at 65535"))
        return problems


PASSWORD_REASON = "must be 1 to 80 printable ASCII characters without space, quotes, backslash, or any of #;{}"


def is_password(given: str) -> bool:
    """Whether it can be a session's MD5 password: ExaBGP's configuration holds it inside quotes, without escaping."""
    return 1 <= len(given) <= 80 and given.isascii() and given.isprintable() and not set(given) & set(" \"'\\#;{}")
