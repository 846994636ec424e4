"""An independent packet matcher, bit by bit as RFC 8955 §4.2.2 reads, to hold the arithmetic of `rules` against.

Uses nothing of `rules` but the values themselves: no intervals, no truth tables, no prefixes of a library.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from hypothesis import strategies as st
from strategies import address_numbers, numbers

from rules.components import Bitmask, Comparison, FlagTest, Numeric, Operator
from rules.match import Component, Family, Match, OffsetPrefix

DONT_FRAGMENT, LATER, FIRST, LAST = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Packet:
    """The header fields FlowSpec can ask about; what the packet lacks is None."""

    family: Family
    destination: int
    source: int
    protocol: int
    length: int
    dscp: int
    fragment: int
    flow_label: int
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    tcp_flags: int | None = None


def selects(match: Match, packet: Packet) -> bool:
    """Whether the match selects the packet."""
    if match.family is not packet.family:
        return False
    return all(_holds(component, value, packet) for component, value in match.components())


def _holds(component: Component, value: Any, packet: Packet) -> bool:
    match component:
        case Component.DESTINATION:
            return _inside(packet.destination, value)
        case Component.SOURCE:
            return _inside(packet.source, value)
        case Component.PORT:
            return _number(value, packet.source_port) or _number(value, packet.destination_port)
        case Component.TCP_FLAGS:
            return _flags(value, packet.tcp_flags)
        case Component.FRAGMENT:
            return _flags(value, packet.fragment)
        case Component.PACKET_LENGTH:
            return _number(value, packet.length)
        case _:
            return _number(value, getattr(packet, component.attribute))


def _inside(address: int, prefix: IPv4Network | IPv6Network | OffsetPrefix) -> bool:
    if isinstance(prefix, OffsetPrefix):
        bits, wanted = 128, int(prefix.pattern)
        positions = range(prefix.offset, prefix.length)
    else:
        bits, wanted = prefix.max_prefixlen, int(prefix.network_address)
        positions = range(prefix.prefixlen)
    return all((address >> (bits - 1 - p)) & 1 == (wanted >> (bits - 1 - p)) & 1 for p in positions)


def _number(value: Numeric, given: int | None) -> bool:
    return given is not None and any(all(_compares(one, given) for one in group) for group in value.groups)


def _compares(one: Comparison, given: int) -> bool:
    return {
        Operator.FALSE: False,
        Operator.EQUAL: given == one.value,
        Operator.GREATER: given > one.value,
        Operator.AT_LEAST: given >= one.value,
        Operator.LESS: given < one.value,
        Operator.AT_MOST: given <= one.value,
        Operator.NOT_EQUAL: given != one.value,
        Operator.TRUE: True,
    }[one.operator]


def _flags(value: Bitmask, given: int | None) -> bool:
    return given is not None and any(all(_tests(test, given) for test in group) for group in value.groups)


def _tests(test: FlagTest, given: int) -> bool:
    hit = (given & test.mask) == test.mask if test.exact else (given & test.mask) != 0
    return hit is not test.negated


@st.composite
def packets(draw: st.DrawFn, match: Match | None = None, family: Family | None = None) -> Packet:
    """Packets that can exist; for a match, fields are drawn towards its values so that many are selected by it."""
    if match is not None:
        family = match.family
    family = family or draw(st.sampled_from(Family))
    icmp = 1 if family is Family.IPV4 else 58
    shapes = [0, FIRST, LATER, LATER | LAST]
    if family is Family.IPV4:
        shapes += [shape | DONT_FRAGMENT for shape in shapes]
    packet = Packet(
        family=family,
        destination=draw(_address(match and match.destination, family)),
        source=draw(_address(match and match.source, family)),
        protocol=draw(st.one_of(st.sampled_from([6, 17, icmp]), _value(match, Component.PROTOCOL))),
        length=max(draw(_value(match, Component.PACKET_LENGTH)), 20 if family is Family.IPV4 else 40),
        dscp=draw(_value(match, Component.DSCP)),
        fragment=draw(st.sampled_from(shapes)),
        flow_label=draw(_value(match, Component.FLOW_LABEL)) if family is Family.IPV6 else 0,
    )
    if packet.fragment & LATER:
        return packet
    either = _value(match, Component.PORT)
    if packet.protocol in (6, 17):
        packet = replace(
            packet,
            source_port=draw(st.one_of(_value(match, Component.SOURCE_PORT), either)),
            destination_port=draw(st.one_of(_value(match, Component.DESTINATION_PORT), either)),
        )
    if packet.protocol == 6:
        packet = replace(packet, tcp_flags=draw(_flag_value(match)))
    if packet.protocol == icmp:
        kind, code = draw(_value(match, Component.ICMP_TYPE)), draw(_value(match, Component.ICMP_CODE))
        packet = replace(packet, icmp_type=kind, icmp_code=code)
    return packet


def _address(prefix: Any, family: Family) -> st.SearchStrategy[int]:
    anywhere = address_numbers(family)
    if prefix is None:
        return anywhere
    bits = family.bits
    start, length = (prefix.offset, prefix.length) if isinstance(prefix, OffsetPrefix) else (0, prefix.prefixlen)
    mask = ((1 << (length - start)) - 1) << (bits - length)
    wanted = int(prefix.pattern if isinstance(prefix, OffsetPrefix) else prefix.network_address)
    inside = anywhere.map(lambda given: (given & ~mask) | wanted)
    return st.one_of(inside, inside, inside, anywhere)


def _value(match: Match | None, component: Component) -> st.SearchStrategy[int]:
    value = getattr(match, component.attribute) if match is not None else None
    if not isinstance(value, Numeric):
        return numbers(component)
    near = {one.value + step for group in value.groups for one in group for step in (-1, 0, 1)}
    limit = {Component.PROTOCOL: 255, Component.ICMP_TYPE: 255, Component.ICMP_CODE: 255, Component.DSCP: 63}.get(
        component, 0xFFFFF if component is Component.FLOW_LABEL else 65535
    )
    return st.one_of(st.sampled_from(sorted(n for n in near if 0 <= n <= limit)), numbers(component))


def _flag_value(match: Match | None) -> st.SearchStrategy[int]:
    anything = st.one_of(st.sampled_from([0, 2, 16, 18, 4, 1]), st.integers(0, 0xFFF))
    if match is None or match.tcp_flags is None:
        return anything
    masks = [test.mask for group in match.tcp_flags.groups for test in group]
    return st.one_of(st.sampled_from(masks), anything)
