"""Which remembered packets a FlowSpec match selects (RFC 8955 §4, RFC 8956 §3), over whole arrays at once."""

from ipaddress import IPv6Network

import numpy as np
from numpy.typing import NDArray

from rules.components import Bitmask, Numeric
from rules.match import MAXIMUM, Component, Family, Match, OffsetPrefix, Prefix
from sensors.headers import HAS_FLAGS, HAS_ICMP, HAS_PORTS, IS_IPV6, MAPPED
from sensors.tables import ANY

MASK = NDArray[np.bool_]


def selected(match: Match, entries: ANY) -> MASK:
    """True at every entry that the match selects. What a packet doesn't have (ports of a later fragment) never
    matches; a flow label is not remembered, so a match on it selects nothing."""
    is_v6 = entries["marks"] & IS_IPV6 != 0
    out: MASK = is_v6 if match.ip_family is Family.IPV6 else ~is_v6
    for component, value in match.components():
        if isinstance(value, Numeric):
            out = out & _numeric(component, value, entries)
        elif isinstance(value, Bitmask):
            out = out & _bitmask(component, value, entries)
        else:
            out = out & _prefix(component, value, entries)
    return out


def _prefix(component: Component, prefix: Prefix, entries: ANY) -> MASK:
    side = component.attribute
    high, low = entries[f"{side}_high"], entries[f"{side}_low"]
    if isinstance(prefix, OffsetPrefix):
        mask = ((1 << (prefix.length - prefix.offset)) - 1) << (128 - prefix.length)
        number = int(prefix.pattern)
    elif isinstance(prefix, IPv6Network):
        mask, number = int(prefix.netmask), int(prefix.network_address)
    else:
        mask = (2**96 - 1) << 32 | int(prefix.netmask)
        number = MAPPED | int(prefix.network_address)
    low_bits = (1 << 64) - 1
    same: MASK = (high & np.uint64(mask >> 64)) == np.uint64(number >> 64)
    same &= (low & np.uint64(mask & low_bits)) == np.uint64(number & low_bits)
    return same


_FIELDS = {
    Component.PROTOCOL: ("protocol", 0),
    Component.DESTINATION_PORT: ("destination_port", HAS_PORTS),
    Component.SOURCE_PORT: ("source_port", HAS_PORTS),
    Component.ICMP_TYPE: ("icmp_type", HAS_ICMP),
    Component.ICMP_CODE: ("icmp_code", HAS_ICMP),
    Component.PACKET_LENGTH: ("length", 0),
}


def _numeric(component: Component, value: Numeric, entries: ANY) -> MASK:
    if component is Component.PORT:
        return _numeric(Component.SOURCE_PORT, value, entries) | _numeric(Component.DESTINATION_PORT, value, entries)
    if component is Component.FLOW_LABEL:
        return np.zeros(len(entries), bool)
    if component is Component.DSCP:
        numbers, present = entries["traffic_class"] >> 2, np.ones(len(entries), bool)
    else:
        name, mark = _FIELDS[component]
        numbers, present = entries[name], (entries["marks"] & mark) == mark
    inside = np.zeros(len(entries), bool)
    for low, high in value.spans(MAXIMUM[component]):
        inside |= (numbers >= low) & (numbers <= high)
    return inside & present


def _bitmask(component: Component, value: Bitmask, entries: ANY) -> MASK:
    name = "tcp_flags" if component is Component.TCP_FLAGS else "fragment"
    bits, places = np.unique(entries[name], return_inverse=True)
    holds = np.array([value.holds(int(pattern)) for pattern in bits], bool)
    out: MASK = holds[places] if len(bits) else np.zeros(0, bool)
    return out & (entries["marks"] & HAS_FLAGS != 0) if component is Component.TCP_FLAGS else out
