"""One packet's bytes to the fields that count, compiled by Numba: link layers, IPv4, IPv6 with its extension headers,
TCP flags, ports, ICMP.

Never reads outside `start` to `end`, whatever the bytes are, and never raises: what makes no sense gets a verdict.
Payloads are not looked at: headers embedded in ICMP errors or tunnels are nobody's traffic.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from sensors.compiled import inlined, kernel
from sensors.headers import HAS_FLAGS, HAS_ICMP, HAS_PORTS, IS_IPV6, MAPPED

NULL, ETHERNET, PPP, RAW, RAW_BSD, PPP_SERIAL, PPP_ETHER, RAW_LINKTYPE = 0, 1, 9, 12, 14, 50, 51, 101
C_HDLC, IEEE802_11, LOOP, LINUX_SLL, IEEE802_11_RADIO, PPP_WITH_DIRECTION = 104, 105, 108, 113, 127, 204
MPLS, IPV4, IPV6, LINUX_SLL2 = 219, 228, 229, 276
LINK_TYPES = frozenset({NULL, ETHERNET, PPP, RAW, RAW_BSD, PPP_SERIAL, PPP_ETHER, RAW_LINKTYPE, C_HDLC, IEEE802_11,
LOOP,
                        LINUX_SLL, IEEE802_11_RADIO, PPP_WITH_DIRECTION, MPLS, IPV4, IPV6, LINUX_SLL2})  # fmt: skip
"""The DLT_ and LINKTYPE_ numbers (tcpdump.org/linktypes.html) that `parse` knows."""

COUNTED, NOT_IP, TRUNCATED, MALFORMED = 0, 1, 2, 3
"""Verdicts."""

_IP = -1  # "an IP header of whatever version stands here", in the place of an EtherType


@inlined
def be16(buffer, at):
    """A 16-bit big-endian number as int64."""
    return (np.int64(buffer[at]) << 8) | np.int64(buffer[at + 1])


@inlined
def be32(buffer, at):
    """A 32-bit big-endian number as int64."""
    return (
        (np.int64(buffer[at]) << 24)
        | (np.int64(buffer[at + 1]) << 16)
        | (np.int64(buffer[at + 2]) << 8)
        | np.int64(buffer[at + 3])
    )


@inlined
def be64(buffer, at):
    """A 64-bit big-endian number as uint64."""
    return (np.uint64(be32(buffer, at)) << np.uint64(32)) | np.uint64(be32(buffer, at + 4))


@kernel
def _ppp(buffer, at, end):
    """Behind address and control bytes, if present, and a protocol number that may be compressed to one byte."""
    if at + 2 <= end and buffer[at] == 0xFF and buffer[at + 1] == 0x03:
        at += 2
    if at + 2 > end:
        return at, 0
    if buffer[at] & 1:
        number, at = np.int64(buffer[at]), at + 1
    else:
        number, at = be16(buffer, at), at + 2
    if number == 0x0021 or number == 0x0057:
        return at, _IP
    return at, 0x8847 if number == 0x0281 else 0


@kernel
def _wireless(buffer, at, end):
    """Behind an 802.11 data header and LLC/SNAP; encrypted frames hold no IP."""
    if at + 24 > end:
        return at, 0
    control, more = np.int64(buffer[at]), np.int64(buffer[at + 1])
    if (control >> 2) & 3 != 2 or control & 0x40 or more & 0x40:
        return at, 0
    length = 30 if more & 3 == 3 else 24
    if control & 0x80:
        length += 6 if more & 0x80 else 2
    at += length
    if at + 8 > end or buffer[at] != 0xAA or buffer[at + 1] != 0xAA:
        return at, 0
    return at + 8, be16(buffer, at + 6)


@kernel
def _behind_link(buffer, at, end, link):  # one branch for each link type
    """Where the link layer ends, and the EtherType of what follows."""
    if link == ETHERNET:
        if at + 14 > end:
            return at, 0
        return at + 14, be16(buffer, at + 12)
    if link in (RAW, RAW_LINKTYPE, RAW_BSD, IPV4, IPV6):
        return at, _IP
    if link == LINUX_SLL and at + 16 <= end:
        return at + 16, be16(buffer, at + 14)
    if link == LINUX_SLL2 and at + 20 <= end:
        return at + 20, be16(buffer, at)
    if link in (NULL, LOOP) and at + 4 <= end:
        return at + 4, _IP
    if link == C_HDLC and at + 4 <= end:
        return at + 4, be16(buffer, at + 2)
    if link == PPP_SERIAL and at + 4 <= end and buffer[at] != 0xFF:
        return at + 4, be16(buffer, at + 2)
    if link in (PPP, PPP_SERIAL):
        if at + 4 <= end and buffer[at] & 0x7F == 0x0F and buffer[at + 1] == 0:  # Cisco HDLC under PPP's number
            return at + 4, be16(buffer, at + 2)
        return _ppp(buffer, at, end)
    if link == PPP_WITH_DIRECTION:
        return _ppp(buffer, at + 1, end)
    if link == PPP_ETHER:
        return at, 0x8864
    if link == MPLS:
        return at, 0x8847
    if link == IEEE802_11:
        return _wireless(buffer, at, end)
    if link == IEEE802_11_RADIO and at + 4 <= end:
        return _wireless(buffer, at + np.int64(buffer[at + 2]) + (np.int64(buffer[at + 3]) << 8), end)
    return at, 0


@inlined
def network(buffer, start, end, link):
    """Where the IP header starts (-1: there is none), and whether a VLAN tag was stepped over."""
    at, kind = _behind_link(buffer, start, end, link)
    tagged = False
    for _ in range(8):
        if kind == 0x0800 or kind == 0x86DD or kind == _IP:
            return at, tagged
        if kind == 0x8100 or kind == 0x88A8 or kind == 0x9100 or kind == 0x9200:
            if at + 4 > end:
                break
            at, kind, tagged = at + 4, be16(buffer, at + 2), True
        elif kind == 0x8864:
            at, kind = _ppp(buffer, at + 6, end)
        elif kind == 0x8847 or kind == 0x8848:
            while at + 4 <= end and not buffer[at + 2] & 1:
                at += 4
            at, kind = at + 4, _IP
        elif 0 < kind < 1536 and at + 8 <= end and buffer[at] == 0xAA and buffer[at + 1] == 0xAA:
            at, kind = at + 8, be16(buffer, at + 6)
        else:
            break
    return np.int64(-1), tagged


_NOTHING = np.uint64(0)


@inlined
def _refused(verdict):
    return verdict, 0, _NOTHING, _NOTHING, _NOTHING, _NOTHING, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0


@inlined
def _transport(buffer, at, end, protocol, later):
    """Marks, ports, TCP flags, ICMP type and code; a later fragment has none of them, a cut header some."""
    if later:
        return 0, 0, 0, 0, 0, 0
    if (protocol == 6 or protocol == 17) and at + 4 <= end:
        source, destination = be16(buffer, at), be16(buffer, at + 2)
        if protocol == 6 and at + 14 <= end:
            flags = ((np.int64(buffer[at + 12]) & 1) << 8) | np.int64(buffer[at + 13])
            return HAS_PORTS | HAS_FLAGS, source, destination, flags, 0, 0
        return HAS_PORTS, source, destination, 0, 0, 0
    if (protocol == 1 or protocol == 58) and at + 2 <= end:
        return HAS_ICMP, 0, 0, 0, np.int64(buffer[at]), np.int64(buffer[at + 1])
    return 0, 0, 0, 0, 0, 0


@inlined
def _fragment_bits(later, more):
    """FlowSpec's bits but DF (RFC 8955 §4.2.2.12): is-fragment means a later one, the first one has its own."""
    if later:
        return 2 if more else 2 | 8
    return 4 if more else 0


@inlined
def _header_length(buffer, at, end, protocol):
    """Of the transport header, in bytes: what every packet of a merged one has."""
    if protocol == 6:
        return (np.int64(buffer[at + 12]) >> 4) * 4 if at + 13 <= end else np.int64(20)
    return np.int64(8)


@inlined
def _ipv4(buffer, at, end, wire):
    header = (np.int64(buffer[at]) & 15) * 4
    if header < 20:
        return _refused(MALFORMED)
    if at + 20 > end:
        return _refused(TRUNCATED)
    length = be16(buffer, at + 2)
    if length == 0:  # segmentation offload: the card would have filled it in
        length = min(max(wire, header), 65535)
    if length < header:
        return _refused(MALFORMED)
    word = be16(buffer, at + 6)
    later, more = word & 0x1FFF, word & 0x2000
    fragment = _fragment_bits(later != 0, more != 0) | (1 if word & 0x4000 else 0)
    protocol = np.int64(buffer[at + 9])
    transport = min(end, at + length)
    marks, sport, dport, flags, itype, icode = _transport(buffer, at + header, transport, protocol, later != 0)
    return (
        COUNTED, marks,
        np.uint64(0), np.uint64(MAPPED) | np.uint64(be32(buffer, at + 12)),
        np.uint64(0), np.uint64(MAPPED) | np.uint64(be32(buffer, at + 16)),
        protocol, length, np.int64(buffer[at + 8]), np.int64(buffer[at + 1]), fragment,
        sport, dport, flags, itype, icode, header + _header_length(buffer, at + header, transport, protocol),
    )  # fmt: skip


@kernel
def _extensions(buffer, at, end, protocol):
    """Past IPv6 extension headers (RFC 8200 §4): where the upper layer starts, its protocol, fragment bits, and whether
    this is a later fragment. At most 16 headers: longer chains only cost time."""
    fragment, later = 0, False
    for _ in range(16):
        if protocol == 44:
            if at + 8 > end:
                break
            word = be16(buffer, at + 2)
            later = (word & 0xFFF8) != 0
            # An atomic fragment (RFC 6946) is whole.
            if word & 0xFFF9:
                fragment = _fragment_bits(later, word & 1 != 0)
            protocol, at = np.int64(buffer[at]), at + 8
            if later:
                break
        elif protocol == 0 or protocol == 43 or protocol == 60 or protocol == 135 or protocol == 139 or protocol == 140:
            if at + 8 > end:
                break
            protocol, at = np.int64(buffer[at]), at + 8 + np.int64(buffer[at + 1]) * 8
        elif protocol == 51:
            if at + 8 > end:
                break
            protocol, at = np.int64(buffer[at]), at + 8 + np.int64(buffer[at + 1]) * 4
        else:
            break
    return at, protocol, fragment, later


@kernel
def _ipv6(buffer, at, end, wire):
    if at + 40 > end:
        return _refused(TRUNCATED)
    payload = be16(buffer, at + 4)
    length = payload + 40 if payload else min(max(wire, 40), 65535)  # 0: jumbogram or offload
    class_ = ((np.int64(buffer[at]) & 15) << 4) | (np.int64(buffer[at + 1]) >> 4)
    transport = min(end, at + length)
    upper, protocol, fragment, later = _extensions(buffer, at + 40, transport, np.int64(buffer[at + 6]))
    marks, sport, dport, flags, itype, icode = _transport(buffer, upper, transport, protocol, later)
    return (
        COUNTED, marks | IS_IPV6,
        be64(buffer, at + 8), be64(buffer, at + 16), be64(buffer, at + 24), be64(buffer, at + 32),
        protocol, length, np.int64(buffer[at + 7]), class_, fragment,
        sport, dport, flags, itype, icode, upper - at + _header_length(buffer, upper, transport, protocol),
    )  # fmt: skip


@inlined
def parse(buffer, at, end, wire):
    """The IP packet at `at`: verdict, marks, source (high, low), destination (high, low), protocol, length, TTL,
    traffic class, fragment bits, source port, destination port, TCP flags, ICMP type, ICMP code.

    `wire` is the length on the wire from `at` on, used only where the IP header gives none.
    """
    if at < 0:
        return _refused(NOT_IP)
    if at >= end:
        return _refused(TRUNCATED)
    version = buffer[at] >> 4
    if version == 4:
        return _ipv4(buffer, at, end, wire)
    if version == 6:
        return _ipv6(buffer, at, end, wire)
    return _refused(MALFORMED)
