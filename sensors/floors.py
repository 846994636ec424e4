"""From which rates on unsolicited packets are an attack, where no zone says so: for hosts by who sends them, for
visitors and whole prefixes what zones have by themselves. Values only.
"""

from dataclasses import dataclass

from rules.zone import DEFAULT_LIMITS, Metric
from sensors.headers import Kind


@dataclass(frozen=True, slots=True)
class Floor:
    """From which rate on unsolicited packets of a kind are an attack, packets per second."""

    diffuse: float
    """Sent by many: at least `DIFFUSE_SOURCES`, none of them sending more than half."""
    concentrated: float


DIFFUSE_SOURCES = 20
FLOORS: dict[Kind, Floor] = {
    # Scanners reach 1,000 SYNs a second from one address; nobody gets 1,000 from many that never complete one.
    Kind.SYN: Floor(1_000, 5_000),
    # A reflection has many reflectors; one host's SYN-ACKs are its answers to a scan or a flood.
    Kind.SYN_ACK: Floor(1_000, 50_000),
    # Of flows that have neither a beginning nor a length; transfers have one of them.
    Kind.ACK: Floor(5_000, 10_000),
    Kind.RST: Floor(2_000, 10_000),
    Kind.FIN: Floor(2_000, 10_000),
    Kind.TCP_NULL: Floor(1_000, 5_000),
    Kind.TCP_XMAS: Floor(1_000, 5_000),
    Kind.TCP_OTHER: Floor(1_000, 5_000),
    # One-way streams (video, iperf) of one sender are no rarity.
    Kind.UDP: Floor(5_000, 10_000),
    # Nobody asks hundreds of servers a thousand times a second, and doesn't show it.
    Kind.AMPLIFICATION: Floor(1_000, 10_000),
    Kind.ICMP: Floor(1_000, 3_000),
    Kind.ICMPV6: Floor(1_000, 3_000),
    # A host that gets fragments gets them from few: NFS, tunnels, video.
    Kind.FRAGMENT: Floor(300, 5_000),
    # Tunnels carry a link's worth between two addresses.
    Kind.GRE: Floor(5_000, 50_000),
    Kind.ESP: Floor(5_000, 50_000),
    Kind.OTHER: Floor(5_000, 50_000),
}
ORDINARY = Floor(50_000, 50_000)
"""For what looks like ordinary use, seen in one direction: streams, calls, games, tunnels, questions to a name server,
answers to a resolver. Only a rate that few hosts ever get makes it an attack."""
TUNNELS = (Kind.GRE, Kind.ESP, Kind.OTHER)
CROWD, OF_CROWD = 300, 20_000
"""Streams of more sources than that, and their floor: bots that keep their ports look like callers, and are more."""
FRESH = Floor(1_000, 50_000)
"""For tunnel packets of sources that send but a few each: tunnels have ends that stay."""
HALF_OPEN = Floor(300, 5_000)
"""For SYNs of which hardly any is followed by anything else: below this, servers that are down get such."""

INSISTING = Floor(1_000, 1_000)
"""For such SYNs where most go to one port: scanners go on to the next."""
REFUSED = Floor(1_000, 5_000)
"""For what the host refuses; a peer that has not heard of a restart stops when it is told."""
UNASKED = Floor(1_000, 1_000)
"""For answers of reflectors that the host refuses, or of services that nobody uses in bulk."""
FORGED = Floor(1_000, float("inf"))
"""For what comes from addresses drawn at random."""
ERRORS_EACH = 3_000.0
"""Errors a second that a host may send another: all stacks limit theirs (RFC 1812 §4.3.2.8), most to some hundreds."""

_DEFAULTS = dict(DEFAULT_LIMITS)
CARPETS = {
    Kind.SYN: Metric.SYN_PACKETS,
    Kind.UDP: Metric.UDP_PACKETS,
    Kind.AMPLIFICATION: Metric.AMPLIFICATION_PACKETS,
    Kind.ICMP: Metric.ICMP_PACKETS,
    Kind.ICMPV6: Metric.ICMP_PACKETS,
    Kind.FRAGMENT: Metric.FRAGMENT_PACKETS,
}
"""What zones have limits for under the packets' own kind."""
SESSIONS, PACKETS = float(_DEFAULTS[Metric.SYN_PACKETS]), float(_DEFAULTS[Metric.PACKETS])
"""New connections and packets a second, from which on visitors may be too many: what zones have by themselves."""
FACTOR = 4.0
"""How many times that a whole /24 or /48 may get, as zones have it by themselves."""


def carpet(kind: Kind) -> float:
    """The rate at which packets of a kind on many hosts of a prefix may be an attack, per second, before `FACTOR`."""
    return float(_DEFAULTS[CARPETS.get(kind, Metric.PACKETS)])


def least_carpet(kind: Kind) -> float:
    """The lowest such rate: of SYNs those that stay half-open."""
    return FLOORS[kind].diffuse if kind is Kind.SYN else carpet(kind)


def least(kind: Kind) -> float:
    """The lowest rate at which packets of a kind may be an attack, per second."""
    lower = {Kind.SYN: HALF_OPEN, **dict.fromkeys(TUNNELS, FRESH)}
    return min(FLOORS[kind].diffuse, lower.get(kind, REFUSED).diffuse)
