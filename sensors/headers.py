"""The layout of what the kernel counts and remembers: columns of the host table and entries of the header rings.

Kernel, windows and classification share these numbers. Nothing here computes.
"""

from enum import IntEnum

import numpy as np

from rules.zone import Metric


class Column(IntEnum):
    """What is counted for each destination, as 64-bit integers; the first eight share a cache line."""

    PACKETS = 0
    BYTES = 1
    """IP lengths, headers included, link layer excluded."""
    TCP = 2
    SYN = 3
    """TCP with SYN and none of ACK, RST, FIN; ECE and CWR don't matter."""
    ACK = 4
    """TCP with ACK and none of SYN, RST, FIN: established traffic, or an ACK flood."""
    UDP = 5
    """Every UDP packet, first fragments included, later fragments too."""
    UDP_BYTES = 6
    AMPLIFICATION = 7
    """UDP from the source port of a known reflector; see `tables.make` for ports with ordinary traffic in bulk."""
    SYN_ACK = 8
    RST = 9
    FIN = 10
    TCP_NULL = 11
    TCP_XMAS = 12
    TCP_OTHER = 13
    """Flag combinations that no stack sends, and TCP headers cut short."""
    ICMP = 14
    ICMPV6 = 15
    FRAGMENTS = 16
    """Every fragment, first or later, of any protocol."""
    GRE = 17
    ESP = 18
    OTHER = 19
    """Every other protocol."""
    HTTP = 20
    """TCP segments that begin with an HTTP request line."""
    TLS = 21
    """TCP segments that begin with a TLS ClientHello."""
    FLOWS = 22
    """Packets whose addresses, protocol and ports the recency table doesn't know from the last seconds."""
    OUTGOING = 23
    """What the host sends to destinations outside every zone."""
    OUTGOING_BYTES = 24


BYTE_COLUMNS = (Column.BYTES, Column.UDP_BYTES, Column.OUTGOING_BYTES)
COLUMNS = len(Column)

METRIC_COLUMNS: dict[Metric, tuple[Column, ...]] = {
    Metric.PACKETS: (Column.PACKETS,),
    Metric.BITS: (Column.BYTES,),
    Metric.SYN_PACKETS: (Column.SYN,),
    Metric.TCP_PACKETS: (Column.TCP,),
    Metric.ACK_PACKETS: (Column.ACK,),
    Metric.SYN_ACK_PACKETS: (Column.SYN_ACK,),
    Metric.RST_PACKETS: (Column.RST,),
    Metric.FIN_PACKETS: (Column.FIN,),
    Metric.ODD_TCP_PACKETS: (Column.TCP_NULL, Column.TCP_XMAS, Column.TCP_OTHER),
    Metric.UDP_PACKETS: (Column.UDP,),
    Metric.UDP_BITS: (Column.UDP_BYTES,),
    Metric.ICMP_PACKETS: (Column.ICMP, Column.ICMPV6),
    Metric.FRAGMENT_PACKETS: (Column.FRAGMENTS,),
    Metric.AMPLIFICATION_PACKETS: (Column.AMPLIFICATION,),
    Metric.GRE_PACKETS: (Column.GRE,),
    Metric.ESP_PACKETS: (Column.ESP,),
    Metric.OTHER_PACKETS: (Column.GRE, Column.ESP, Column.OTHER),
    Metric.FLOWS: (Column.FLOWS,),
    Metric.HTTP_REQUESTS: (Column.HTTP,),
    Metric.TLS_HANDSHAKES: (Column.TLS,),
    Metric.OUTGOING_PACKETS: (Column.OUTGOING,),
    Metric.OUTGOING_BITS: (Column.OUTGOING_BYTES,),
}
"""Which columns a limit adds up; bits are bytes times eight."""


class Kind(IntEnum):
    """The one class a packet belongs to. The value is the column that counts it, but for fragments: a fragment counts
    in its protocol's column too."""

    SYN = Column.SYN
    ACK = Column.ACK
    UDP = Column.UDP
    AMPLIFICATION = Column.AMPLIFICATION
    SYN_ACK = Column.SYN_ACK
    RST = Column.RST
    FIN = Column.FIN
    TCP_NULL = Column.TCP_NULL
    TCP_XMAS = Column.TCP_XMAS
    TCP_OTHER = Column.TCP_OTHER
    ICMP = Column.ICMP
    ICMPV6 = Column.ICMPV6
    FRAGMENT = Column.FRAGMENTS
    """A fragment, but for the first one of a datagram from a reflector's port, which is AMPLIFICATION."""
    GRE = Column.GRE
    ESP = Column.ESP
    OTHER = Column.OTHER


class Total(IntEnum):
    """Counters over everything seen, whether protected or not."""

    PACKETS = 0
    """Records weighed: a GRO super-frame counts as the packets it stands for."""
    RECORDS = 1
    BYTES = 2
    NOT_IP = 3
    TRUNCATED = 4
    """The capture cut the IP header short: seen, not counted for a host."""
    MALFORMED = 5
    UNPROTECTED = 6
    """To destinations outside every zone."""
    OVERFLOW = 7
    """Not counted for a host: the table was full of hosts under attack."""
    RECLAIMED = 8
    """Rows taken from the longest silent of a few hosts, for a new host."""
    BACKWARDS = 9
    """Timestamps before the one before."""
    VLAN = 10
    IPV6 = 11
    OUTGOING = 12
    """From protected hosts to elsewhere."""
    CLOCK_STEPS = 13
    """Steps of the clock: timestamps more than a second before the one before."""
    UNWATCHED = 14
    """Times that a busy target could not be looked at, because too many were busy."""


TOTALS = len(Total)

HAS_PORTS, HAS_FLAGS, HAS_ICMP, IS_IPV6, IS_OUTGOING = 1, 2, 4, 8, 16
"""Bits of `marks`: which fields of an entry mean something."""
IS_HTTP, IS_TLS, HAS_PAYLOAD = 32, 64, 128
"""Bits of `marks`: a TCP segment that begins with an HTTP request line, or with a TLS ClientHello; one that is longer
than its headers, whether the capture kept the rest or not."""

HEADER = np.dtype(
    [
        ("time", "<i8"),
        ("source_high", "<u8"),
        ("source_low", "<u8"),
        ("destination_high", "<u8"),
        ("destination_low", "<u8"),
        ("source_port", "<u2"),
        ("destination_port", "<u2"),
        ("length", "<u2"),
        ("tcp_flags", "<u2"),
        ("protocol", "u1"),
        ("ttl", "u1"),
        ("icmp_type", "u1"),
        ("icmp_code", "u1"),
        ("fragment", "u1"),
        ("kind", "u1"),
        ("marks", "u1"),
        ("traffic_class", "u1"),
        ("weight", "<u4"),
        ("row", "<i4"),
    ]
)
"""One remembered packet, a cache line of 64 bytes. IPv4 addresses are mapped (RFC 4291 §2.5.5.2), `fragment` has the
bits of FlowSpec, `length` is the IP length of one packet, at most 65535, `weight` how many packets it stands for."""

WORDS = HEADER.itemsize // 8
MAPPED = 0xFFFF00000000
"""An IPv4 address as the low half of a key; the high half is 0."""
