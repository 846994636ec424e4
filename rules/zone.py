"""Zones: whose prefixes are protected, from what rate on, and what Stopbank may do there on its own."""

import re
from dataclasses import dataclass, field
from enum import Enum

from rules.action import Action, Discard
from rules.errors import Problem, Refused
from rules.match import Network

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""Names of zones, sensors and neighbours."""
NAME_REASON = "must be 1 to 63 lower-case letters, digits, dots, dashes or underscores"


class Mode(Enum):
    """What a detection in the zone leads to."""

    OBSERVE = "observe"
    """Incidents are recorded; no rule is made."""
    PROPOSE = "propose"
    """Rules are made and wait for a person."""
    AUTO = "auto"
    """Rules that pass the guard go out at once."""


class Metric(Enum):
    """What a limit counts, per target and second; what a target gets, where nothing else is said."""

    PACKETS = "packets"
    BITS = "bits"
    SYN_PACKETS = "syn_packets"
    """TCP with SYN and without ACK."""
    TCP_PACKETS = "tcp_packets"
    ACK_PACKETS = "ack_packets"
    """TCP with ACK and none of SYN, RST, FIN: bulk transfer as well as an ACK flood."""
    SYN_ACK_PACKETS = "syn_ack_packets"
    RST_PACKETS = "rst_packets"
    FIN_PACKETS = "fin_packets"
    ODD_TCP_PACKETS = "odd_tcp_packets"
    """TCP with flags that no stack sends: none at all, FIN with PUSH and URG, …"""
    UDP_PACKETS = "udp_packets"
    UDP_BITS = "udp_bits"
    ICMP_PACKETS = "icmp_packets"
    FRAGMENT_PACKETS = "fragment_packets"
    AMPLIFICATION_PACKETS = "amplification_packets"
    """UDP from the source ports of known reflectors; not from those of QUIC, tunnels, calls and games."""
    GRE_PACKETS = "gre_packets"
    ESP_PACKETS = "esp_packets"
    OTHER_PACKETS = "other_packets"
    """Every protocol but TCP, UDP and ICMP: GRE and ESP too."""
    FLOWS = "flows"
    """Flows that begin: packets whose addresses, protocol and ports were not seen together a moment before."""
    HTTP_REQUESTS = "http_requests"
    """TCP segments that begin with an HTTP request line."""
    TLS_HANDSHAKES = "tls_handshakes"
    """TCP segments that begin with a TLS ClientHello."""
    OUTGOING_PACKETS = "outgoing_packets"
    """What the target sends out of its zone."""
    OUTGOING_BITS = "outgoing_bits"


# A speed test over a gigabit line gets 81,000 packets and 975 Mbit of IP a second: an ordinary event.
DEFAULT_LIMITS: tuple[tuple[Metric, int], ...] = (
    (Metric.PACKETS, 100_000),
    (Metric.BITS, 1_000_000_000),
    (Metric.SYN_PACKETS, 10_000),
    (Metric.UDP_PACKETS, 60_000),
    (Metric.ICMP_PACKETS, 5_000),
    (Metric.FRAGMENT_PACKETS, 5_000),
    (Metric.AMPLIFICATION_PACKETS, 10_000),
)


@dataclass(frozen=True, slots=True)
class Zone:
    """A set of protected prefixes with one owner and one policy."""

    name: str
    prefixes: tuple[Network, ...]
    owner: str = "operator"
    """The tenant."""
    mode: Mode = Mode.OBSERVE
    limits: tuple[tuple[Metric, int], ...] = DEFAULT_LIMITS
    """Per host; always honoured. At most one for each metric."""
    prefix_factor: float = 4.0
    """How many times the host limits a whole /24 or /48 may get; lengths between it and the host lie in between."""
    total_limits: tuple[tuple[Metric, int], ...] = ()
    """For all of the zone together; always honoured."""
    learned: bool = True
    """Whether traffic far above what was learned as normal counts as an attack too, below the limits."""
    action: Action = field(default_factory=Discard)
    """What automatic FlowSpec rules do."""
    rule_lifetime_seconds: int = 600
    """How long an automatic rule lives after the last word that the attack goes on."""
    collateral_limit: float = 0.01
    """Automatic rules whose measured collateral exceeds this wait for a person."""
    automatic_rules: int = 100
    """Budget: active automatic rules of this zone."""
    blackhole: bool = False
    """Opt-in to automatic RTBH; needs measured saturation and a second witness."""
    blackhole_bits_per_second: int | None = None
    """Saturation: the attack rate on one target from which a blackhole may be considered."""

    def __post_init__(self) -> None:
        if problems := self._problems():
            raise Refused.all(problems)

    def _problems(self) -> list[Problem]:
        problems = []
        if not NAME.fullmatch(self.name):
            problems.append(Problem("name", self.name, NAME_REASON))
        if not self.prefixes:
            problems.append(Problem("prefixes", "", "at least one is needed"))
        problems += [
            Problem("prefixes", str(prefix), "a zone cannot protect everything; name your own prefixes")
            for prefix in self.prefixes
            if prefix.prefixlen == 0
        ]
        problems += _limit_problems("limits", self.limits) + _limit_problems("total_limits", self.total_limits)
        for name, value, low, high in (
            ("prefix_factor", self.prefix_factor, 1, 256),
            ("rule_lifetime_seconds", self.rule_lifetime_seconds, 10, 86_400),
            ("collateral_limit", self.collateral_limit, 0, 1),
            ("automatic_rules", self.automatic_rules, 0, 10_000),
        ):
            if not low <= value <= high:
                problems.append(Problem(name, str(value), f"must lie between {low} and {high}"))
        if not 1 <= len(self.owner) <= 256 or not self.owner.isprintable():
            problems.append(Problem("owner", self.owner, "must be 1 to 256 printable characters"))
        threshold = self.blackhole_bits_per_second
        if threshold is not None and not 1 <= threshold <= 10**15:
            # Below 1 every rate would count as saturation.
            problems.append(Problem("blackhole_bits_per_second", str(threshold), "must lie between 1 and 10^15"))
        elif self.blackhole and threshold is None:
            reason = "automatic RTBH needs the rate that saturates you; set it, or turn blackhole off"
            problems.append(Problem("blackhole_bits_per_second", str(self.blackhole_bits_per_second), reason))
        return problems

    def holds(self, prefix: Network) -> bool:
        """Whether the whole prefix, mask included, lies inside this zone."""
        return any(prefix.version == own.version and prefix.subnet_of(own) for own in self.prefixes)  # type: ignore[arg-type]


def _limit_problems(name: str, limits: tuple[tuple[Metric, int], ...]) -> list[Problem]:
    metrics = [metric for metric, _ in limits]
    twice = [Problem(name, metric.value, "is given twice") for metric in Metric if metrics.count(metric) > 1]
    return twice + [
        Problem(f"{name}.{metric.value}", str(limit), "must be a whole number from 1 to 10^15")
        for metric, limit in limits
        if not 1 <= limit <= 10**15
    ]
