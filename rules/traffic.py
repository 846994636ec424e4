"""What a sensor may say: rates, attack vectors, the signature that separates attack from normal, and the detection."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from rules.action import RateLimit
from rules.errors import Refused
from rules.match import Match, Network

AMPLIFICATION_SERVICES = {
    17: "qotd", 19: "chargen", 53: "dns", 69: "tftp", 111: "portmap", 123: "ntp", 137: "netbios", 161: "snmp",
    389: "cldap", 443: "quic", 500: "ike", 520: "rip", 1194: "openvpn", 1434: "mssql", 1701: "l2tp", 1900: "ssdp",
    3283: "ard", 3478: "stun", 3702: "wsd", 5060: "sip", 5353: "mdns", 5683: "coap", 10001: "ubnt", 11211: "memcached",
    27015: "valve", 37810: "dahua", 47808: "bacnet",
}  # fmt: skip
"""UDP source port of a reflector -> the service's name in `udp_amp:<service>`."""

CONVERSATIONS = frozenset({"quic", "openvpn", "ike", "l2tp", "stun", "sip", "valve"})
"""Services whose port carries ordinary traffic in bulk (browsing over HTTP/3, tunnels, calls, games): packets from it
are a reflection only when they also look like one."""

STATEMENTS = frozenset({"multi_vector", "carpet_bombing"})
"""Kinds that say something about an attack as a whole and stand behind the vectors it is made of."""

_KINDS = {
    "syn_flood", "synack_reflection", "ack_flood", "rst_flood", "fin_flood", "tcp_null", "tcp_xmas",
    "tcp_connection_flood", "tcp_flood", "tcp_middlebox_reflection", "udp_flood", "udp_amp", "icmp_flood",
    "icmpv6_flood", "ip_fragment_flood", "gre_flood", "esp_flood", "ip_proto_flood", "http_flood", "http_slow",
    "tls_flood", "carpet_bombing", "multi_vector", "volumetric",
}  # fmt: skip
_SERVICE = re.compile(r"[a-z0-9]{1,16}")


@dataclass(frozen=True, slots=True, order=True)
class Vector:
    """A taxonomy id: `syn_flood`, `udp_amp:dns`."""

    kind: str
    service: str | None = None
    """Only with `udp_amp`: the reflecting service."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise Refused("vector", self.kind, f"is unknown; known: {', '.join(sorted(_KINDS))}")
        if (self.kind == "udp_amp") != (self.service is not None):
            raise Refused("vector", str(self), "a service goes with udp_amp, and udp_amp with a service: udp_amp:dns")
        if self.service is not None and not _SERVICE.fullmatch(self.service):
            raise Refused("vector", self.service, "a service is 1 to 16 lower-case letters or digits")

    def __str__(self) -> str:
        return self.kind if self.service is None else f"{self.kind}:{self.service}"

    @property
    def is_statement(self) -> bool:
        """Whether it tells about the whole attack and names no packets of its own."""
        return self.kind in STATEMENTS

    @classmethod
    def parse(cls, given: str) -> "Vector":
        """The vector of its text form."""
        kind, colon, service = given.partition(":")
        return cls(kind, service if colon else None)


@dataclass(frozen=True, slots=True)
class Rate:
    """Traffic over elapsed time."""

    packets_per_second: float
    bits_per_second: float

    def __post_init__(self) -> None:
        if not (0 <= self.packets_per_second < 1e12 and 0 <= self.bits_per_second < 1e18):
            raise Refused("rate", (self.packets_per_second, self.bits_per_second), "must be finite and not negative")


@dataclass(frozen=True, slots=True)
class VectorShare:
    """One vector's part in an attack."""

    vector: Vector
    packets: float
    """Share of the attack's packets, 0 to 1."""
    bytes: float
    """Share of the attack's bytes, 0 to 1."""

    def __post_init__(self) -> None:
        _share("share_packets", self.packets)
        _share("share_bytes", self.bytes)


@dataclass(frozen=True, slots=True)
class Signature:
    """One FlowSpec match for an attack, with what it would do."""

    match: Match
    coverage: float
    """Share of the attack that matches, 0 to 1: the lesser of packets and bytes."""
    collateral: float | None
    """Share of the target's normal traffic that matches, 0 to 1: the worst of packets, bytes, new
    connections, services and sources; None without a normal sample."""
    rate_limit: int | None = None
    """Where nothing separates attack from normal: bytes per second to let through, never to drop everything. None: it
    separates, or nobody can tell."""

    def __post_init__(self) -> None:
        _share("coverage", self.coverage)
        if self.collateral is not None:
            _share("collateral", self.collateral)
        if self.rate_limit is not None and not 1 <= self.rate_limit <= RateLimit.MAXIMUM:
            raise Refused("rate_limit", self.rate_limit, f"must be from 1 to {RateLimit.MAXIMUM} bytes per second")

    @property
    def separates(self) -> bool:
        """Whether it may drop what it matches."""
        return self.rate_limit is None


class State(Enum):
    """Where a detection stands."""

    STARTED = "started"
    ONGOING = "ongoing"
    OVER = "over"


class Vantage(Enum):
    """Where the sensor looks, seen from the router that enforces."""

    UPSTREAM = "upstream"
    """Before it: sees the attack also while it is filtered."""
    DOWNSTREAM = "downstream"
    """Behind it: blinded by a working rule, so its silence proves nothing."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What one sensor says about one target, at one moment."""

    sensor: str
    """The sensor's name; the intake holds it against the certificate."""
    attack: str
    """The sensor's id of this attack, the same from started to over: 1 to 64 of `[A-Za-z0-9._-]`."""
    sequence: int
    """Counts the messages about this attack, from 0: duplicates and late-comers are told by it."""
    zone: str
    target: Network
    state: State
    vantage: Vantage
    confirmed: bool
    """Two windows above the limit, or ten times the limit: enough to act on. Else a suspicion, only shown."""
    severity: float
    """Measured rate over the limit that was crossed; 3.0 is three times the limit."""
    metric: str
    """Which limit that was, a `rules.zone.Metric` value."""
    rate: Rate
    """Now, over the last window."""
    peak: Rate
    vectors: tuple[VectorShare, ...]
    """Descending; the first is the dominant one, named by what saturates. Statements stand last."""
    signatures: tuple[Signature, ...]
    """Rules proposed, best first, at most 4; empty when nothing separates attack from normal."""
    sources: int
    """Estimated number of distinct source addresses."""
    spoofed: bool | None
    """Whether the sources look forged; None when that can't be told."""
    first_seen: datetime
    seen: datetime
    """When the sensor wrote this, UTC."""
    confidence: float = 0.5
    """The probability that this is an attack, on this target, with that dominant vector; 0.5 where nobody said."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.attack):
            raise Refused("attack", self.attack, "must be 1 to 64 letters, digits, dots, dashes or underscores")
        if not self.vectors:
            raise Refused("vectors", "", "at least one is needed")
        _share("confidence", self.confidence)
        if len(self.signatures) > 4:
            raise Refused("signatures", len(self.signatures), "at most 4")
        for name, moment in (("first_seen", self.first_seen), ("seen", self.seen)):
            if moment.tzinfo is None:
                raise Refused(name, moment, "needs a time zone; write UTC")

    @property
    def vector(self) -> Vector:
        """The dominant vector."""
        return self.vectors[0].vector


def _share(field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise Refused(field, value, "must lie between 0 and 1")
