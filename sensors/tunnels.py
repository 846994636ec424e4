"""From an IP header that carries a tunnel to what lies in it, compiled by Numba: IP in IP, GRE, ERSPAN, VXLAN, Geneve.

Only asked where a whole capture is what somebody mirrored through a tunnel (`sensors.mirrored`). Everywhere else a
tunnel is its endpoints' traffic: an attacker writes into one whatever it likes.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from sensors.compiled import kernel
from sensors.loads import be16, byte

IP, BRIDGED = -1, -2
"""In the place of an EtherType: an IP header of whatever version stands here, or an Ethernet header."""
VXLAN_PORTS, GENEVE_PORT = (4789, 8472), 6081
"""RFC 7348, and what Linux used before it; RFC 8926."""
_TRANSPARENT = 0x6558
_ERSPAN, _ERSPAN_3 = 0x88BE, 0x22EB


@kernel
def _gre(buffer, at, end):
    """RFC 2784 and 2890; ERSPAN type I has no header of its own, type II has eight bytes, type III twelve or twenty
    (draft-foschiano-erspan)."""
    if at + 4 > end or byte(buffer, at + 1) & 7:
        return at, 0
    flags, kind = byte(buffer, at), be16(buffer, at + 2)
    at += 4 + 4 * ((flags >> 7) + (flags >> 5 & 1) + (flags >> 4 & 1))
    if kind == _TRANSPARENT:
        return at, BRIDGED
    if kind == _ERSPAN:
        return (at + 8 if flags & 0x10 else at), BRIDGED
    if kind == _ERSPAN_3:
        if at + 12 > end:
            return at, 0
        return (at + 20 if byte(buffer, at + 11) & 1 else at + 12), BRIDGED
    return at, kind


@kernel
def _udp(buffer, at, end):
    if at + 16 > end:
        return at, 0
    port = be16(buffer, at + 2)
    if port in VXLAN_PORTS and byte(buffer, at + 8) & 8:
        return at + 16, BRIDGED
    if port == GENEVE_PORT and byte(buffer, at + 8) >> 6 == 0:
        kind = be16(buffer, at + 10)
        return at + 16 + 4 * (byte(buffer, at + 8) & 63), BRIDGED if kind == _TRANSPARENT else kind
    return at, 0


@kernel
def inner(buffer, at, end):
    """Where what lies in the tunnel begins whose IP header stands at `at`, and its EtherType; 0: there is no tunnel."""
    if at >= end:
        return at, 0
    version = byte(buffer, at) >> 4
    if version == 4 and at + 20 <= end:
        # A fragment is a part of one.
        if be16(buffer, at + 6) & 0x3FFF:
            return at, 0
        protocol, at = byte(buffer, at + 9), at + 4 * (byte(buffer, at) & 15)
    elif version == 6 and at + 40 <= end:
        protocol, at = byte(buffer, at + 6), at + 40
    else:
        return at, 0
    if protocol == 4 or protocol == 41:
        return at, IP
    if protocol == 47:
        return _gre(buffer, at, end)
    return _udp(buffer, at, end) if protocol == 17 else (at, np.int64(0))
