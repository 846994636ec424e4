"""What `enforce` is told: where it listens, from whom it takes rules, and what it never touches."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from pathlib import Path

from rules.components import Numeric
from rules.errors import Problem, Refused
from rules.match import TCP, Match, Network
from rules.neighbour import PASSWORD_REASON, Address, SessionFamily, is_password

FLOW_FAMILIES = frozenset((SessionFamily.IPV4_FLOW, SessionFamily.IPV6_FLOW))

_LINK_LOCAL, _ALL_ON_LINK = ip_network("fe80::/10"), ip_network("ff02::/16")


@dataclass(frozen=True, slots=True)
class Source:
    """A speaker that rules are taken from."""

    address: Address
    remote_as: int
    md5_password: str | None = None
    families: frozenset[SessionFamily] = FLOW_FAMILIES

    def __repr__(self) -> str:
        return f"Source({self.address}, AS{self.remote_as})"


@dataclass(frozen=True, slots=True)
class EnforceSettings:
    """One enforcing process and the ExaBGP around it."""

    local_address: Address
    local_as: int
    router_id: IPv4Address
    sources: tuple[Source, ...]
    state: Path
    """Directory for `enforce.conf` and `enforce.json`."""
    command: tuple[str, ...]
    """What ExaBGP runs: the absolute path of a program, and arguments without spaces, that end in `enforce.run`."""
    protected: tuple[Network, ...] = ()
    """A rule that could touch a packet to one of these is refused: own loopbacks, management, peering LANs."""
    protected_flows: tuple[Match, ...] = ()
    """As `protected`, for kinds of packets."""
    port: int = 179
    hold_time_seconds: int = 30
    maximum_rules: int = 5000
    """Over all speakers; what comes on top is refused."""
    batch_seconds: float = 0.01
    """How long a change waits for others to go along."""
    user: str = "root"
    """Whom ExaBGP becomes; he needs CAP_NET_ADMIN, and CAP_NET_BIND_SERVICE for a port below 1024."""
    exabgp: Path = Path("exabgp")
    nft: str = "nft"

    def __post_init__(self) -> None:
        if problems := tuple(self._problems()):
            raise Refused.all(problems)

    def _problems(self) -> Iterator[Problem]:
        if not self.sources:
            yield Problem("speakers", "", "at least one is needed: rules are taken from named speakers only")
        addresses = [source.address for source in self.sources]
        for address in sorted({str(one) for one in addresses if addresses.count(one) > 1}):
            yield Problem("speakers", address, "stands twice")
        for source in self.sources:
            if source.address.version != self.local_address.version:
                yield Problem("speakers", str(source.address), f"is of another family than {self.local_address}")
            if not source.families or source.families - FLOW_FAMILIES:
                yield Problem("speakers", str(source.address), "its families must be ipv4 flow, ipv6 flow or both")
            if source.md5_password is not None and not is_password(source.md5_password):
                yield Problem("md5_password", "(not shown)", f"of {source.address}: {PASSWORD_REASON}")
        if not self.command or not self.command[0].startswith("/"):
            yield Problem("command", " ".join(self.command), "must start with the absolute path of a program")
        for word in self.command:
            if not word or set(word) & set(" \t\n\"'\\;{}#"):
                yield Problem("command", word, "ExaBGP can't take this word in a command line")
        if not 1 <= self.port <= 65535:
            yield Problem("port", str(self.port), "must be a number from 1 to 65535")
        if not 3 <= self.hold_time_seconds <= 65535:
            yield Problem("hold_time_seconds", str(self.hold_time_seconds), "must be a number from 3 to 65535")

    @property
    def untouchable(self) -> tuple[Match, ...]:
        """Packets that no rule may touch: the sessions themselves, neighbour discovery, and what is configured."""
        own = ip_network(self.local_address)
        return (
            Match(destination=own, protocol=Numeric.only(TCP), port=Numeric.only(*{179, self.port})),
            # Neighbour discovery on our links, and duplicate address detection (RFC 4861, RFC 4862).
            Match(source=_LINK_LOCAL, destination=_LINK_LOCAL),
            Match(source=_LINK_LOCAL, destination=_ALL_ON_LINK),
            Match(source=ip_network("::/128"), destination=_ALL_ON_LINK),
            *(Match(destination=prefix) for prefix in self.protected),
            *self.protected_flows,
        )
