"""An IP packet's bytes to the fields that count, compiled by Numba: IPv4, IPv6 with its extension headers, TCP flags,
ports, ICMP.

Never reads outside `start` to `end`, whatever the bytes are, and never raises: what makes no sense gets a verdict.
Payloads are not looked at: headers embedded in ICMP errors or tunnels are nobody's traffic.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from sensors.compiled import inlined, kernel
from sensors.headers import HAS_FLAGS, HAS_ICMP, HAS_PAYLOAD, HAS_PORTS, IS_HTTP, IS_IPV6, IS_TLS, MAPPED
from sensors.loads import be16, be32, be64, byte

COUNTED, NOT_IP, TRUNCATED, MALFORMED = 0, 1, 2, 3
"""Verdicts."""

_NOTHING = np.uint64(0)


@inlined
def _refused(verdict):
    return verdict, 0, _NOTHING, _NOTHING, _NOTHING, _NOTHING, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0


_METHODS = tuple(int.from_bytes(name, "big") for name in (b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI",
                                                          b"PATC", b"CONN", b"TRAC"))  # fmt: skip
_GET, _POST, _HEAD, _PUT, _DELETE, _OPTIONS, _PATCH, _CONNECT, _TRACE = _METHODS


@inlined
def _payload(buffer, at, end, whole):
    """Marks of a TCP segment's data, which begins at `at` and ends at `whole`; the capture may end before."""
    if at >= whole:
        return 0
    if at + 6 > end:
        return HAS_PAYLOAD
    word = be32(buffer, at)
    if word in (_GET, _POST, _HEAD, _PUT, _DELETE, _OPTIONS, _PATCH, _CONNECT, _TRACE):
        return HAS_PAYLOAD | IS_HTTP
    # A handshake record of any version so far (RFC 8446 §5.1), and in it a ClientHello.
    if word >> 16 == 0x1603 and (word >> 8) & 0xFF <= 4 and byte(buffer, at + 5) == 1:
        return HAS_PAYLOAD | IS_TLS
    return HAS_PAYLOAD


@inlined
def _transport(buffer, at, end, whole, protocol, later):
    """Marks, ports, TCP flags, ICMP type and code; a later fragment has none of them, a cut header some. `whole` is
    where the packet ended on the wire."""
    if later:
        return 0, 0, 0, 0, 0, 0
    if (protocol == 6 or protocol == 17) and at + 4 <= end:
        source, destination = be16(buffer, at), be16(buffer, at + 2)
        if protocol == 6 and at + 14 <= end:
            flags = ((byte(buffer, at + 12) & 1) << 8) | byte(buffer, at + 13)
            data = at + max((byte(buffer, at + 12) >> 4) * 4, 20)
            return HAS_PORTS | HAS_FLAGS | _payload(buffer, data, end, whole), source, destination, flags, 0, 0
        return HAS_PORTS, source, destination, 0, 0, 0
    if (protocol == 1 or protocol == 58) and at + 2 <= end:
        return HAS_ICMP, 0, 0, 0, byte(buffer, at), byte(buffer, at + 1)
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
        return (byte(buffer, at + 12) >> 4) * 4 if at + 13 <= end else np.int64(20)
    return np.int64(8)


@inlined
def _ipv4(buffer, at, end, wire):
    header = (byte(buffer, at) & 15) * 4
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
    protocol = byte(buffer, at + 9)
    transport = min(end, at + length)
    marks, sport, dport, flags, itype, icode = _transport(
        buffer, at + header, transport, at + length, protocol, later != 0
    )
    return (
        COUNTED, marks,
        np.uint64(0), np.uint64(MAPPED) | np.uint64(be32(buffer, at + 12)),
        np.uint64(0), np.uint64(MAPPED) | np.uint64(be32(buffer, at + 16)),
        protocol, length, byte(buffer, at + 8), byte(buffer, at + 1), fragment,
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
                # Cut off by the capture; all but a rare few that have it are fragments.
                fragment, later = 2, True
                break
            word = be16(buffer, at + 2)
            later = (word & 0xFFF8) != 0
            # An atomic fragment (RFC 6946) is whole.
            if word & 0xFFF9:
                fragment = _fragment_bits(later, word & 1 != 0)
            protocol, at = byte(buffer, at), at + 8
            if later:
                break
        elif protocol == 0 or protocol == 43 or protocol == 60 or protocol == 135 or protocol == 139 or protocol == 140:
            if at + 8 > end:
                break
            protocol, at = byte(buffer, at), at + 8 + byte(buffer, at + 1) * 8
        elif protocol == 51:
            if at + 8 > end:
                break
            protocol, at = byte(buffer, at), at + 8 + byte(buffer, at + 1) * 4
        else:
            break
    return at, protocol, fragment, later


@kernel
def _ipv6(buffer, at, end, wire):
    if at + 40 > end:
        return _refused(TRUNCATED)
    payload = be16(buffer, at + 4)
    length = payload + 40 if payload else min(max(wire, 40), 65535)  # 0: jumbogram or offload
    class_ = ((byte(buffer, at) & 15) << 4) | (byte(buffer, at + 1) >> 4)
    transport = min(end, at + length)
    upper, protocol, fragment, later = _extensions(buffer, at + 40, transport, byte(buffer, at + 6))
    marks, sport, dport, flags, itype, icode = _transport(buffer, upper, transport, at + length, protocol, later)
    return (
        COUNTED, marks | IS_IPV6,
        be64(buffer, at + 8), be64(buffer, at + 16), be64(buffer, at + 24), be64(buffer, at + 32),
        protocol, length, byte(buffer, at + 7), class_, fragment,
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
    version = byte(buffer, at) >> 4
    if version == 4:
        return _ipv4(buffer, at, end, wire)
    if version == 6:
        return _ipv6(buffer, at, end, wire)
    return _refused(MALFORMED)
