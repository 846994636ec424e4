"""One FlowSpec match as nftables expressions (the JSON of libnftables), exact for every component, seen before
defragmentation.

nftables ends a rule, unmatched, when a packet is too short for the field a test loads. That is what RFC 8955 §4.2.2
asks for; but that the field means what the rule says (the protocol, and not a later fragment) is tested first.

`protocol` for IPv6 is the header where the kernel's walk over extension headers ends. It passes over hop-by-hop,
routing, fragment and destination options; an authentication header (51) ends it.

`packet-length` and rates see what the interface hands up: with receive offload (GRO) on, TCP segments come merged and
their lengths are those of the merged packet. An enforcing machine turns it off.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from rules.components import Numeric, Spans, intersection, merged
from rules.match import FRAGMENT_BITS, MAXIMUM, Component, Family, Match, OffsetPrefix, Prefix
from rules.region import Region, region

Expression = dict[str, Any]
"""One statement or expression in libnftables' JSON."""

Tests = tuple[Expression, ...]
"""Expressions that must all hold."""

_DF, _LATER, _FIRST, _LAST = (
    FRAGMENT_BITS[name] for name in ("dont-fragment", "is-fragment", "first-fragment", "last-fragment")
)
_V6_HEADER = 40
"""`packet-length` counts the whole packet, the IPv6 header's own field only what follows it."""


def alternatives(match: Match, with_destination: bool) -> tuple[Tests, ...]:
    """The match as an OR of test rows, each an AND; none at all when no packet can match.

    Leave the destination out where a map lookup has already settled it.
    """
    held = region(match)
    if held.is_empty:
        return ()
    fixed: list[Expression] = []
    try:
        fixed += _prefix_tests(match, with_destination)
        fixed += _protocol_tests(match, held)
        fixed += _numeric_tests(match)
        fixed += _flag_tests(match)
        choices = product(_port_choices(match), _fragment_choices(held))
    except _NeverMatches:
        return ()
    return tuple((*fragment, *fixed, *port) for port, fragment in choices)


class _NeverMatches(Exception):
    """A component that accepts nothing."""


# --------------------------------------------------------------------------------------------------------- prefixes


def _prefix_tests(match: Match, with_destination: bool) -> Iterator[Expression]:
    header = "ip" if match.ip_family is Family.IPV4 else "ip6"
    if with_destination and match.destination is not None:
        yield from _prefix_test(_field(header, "daddr"), match.destination)
    if match.source is not None:
        yield from _prefix_test(_field(header, "saddr"), match.source)


def _prefix_test(left: Expression, prefix: Prefix) -> Iterator[Expression]:
    if isinstance(prefix, OffsetPrefix):
        mask = ((1 << (prefix.length - prefix.offset)) - 1) << (128 - prefix.length)
        yield _equal(_masked(left, str(type(prefix.pattern)(mask))), str(prefix.pattern))
    elif prefix.prefixlen == prefix.max_prefixlen:
        yield _equal(left, str(prefix.network_address))
    elif prefix.prefixlen:
        yield _equal(left, {"prefix": {"addr": str(prefix.network_address), "len": prefix.prefixlen}})


# --------------------------------------------------------------------------------------------------------- protocol


def _protocol_tests(match: Match, held: Region) -> Iterator[Expression]:
    """The protocols asked for, less those that cannot have the other fields asked for."""
    if match.protocol is not None or held.protocols != ((0, 255),):
        yield _within({"meta": {"key": "l4proto"}}, held.protocols)


# ---------------------------------------------------------------------------------------------------------- numbers


def _numeric_tests(match: Match) -> Iterator[Expression]:
    is_v4 = match.ip_family is Family.IPV4
    icmp = "icmp" if is_v4 else "icmpv6"
    fields: tuple[tuple[Component, Numeric | None, Expression], ...] = (
        (Component.ICMP_TYPE, match.icmp_type, _field(icmp, "type")),
        (Component.ICMP_CODE, match.icmp_code, _field(icmp, "code")),
        (Component.DESTINATION_PORT, match.destination_port, _field("th", "dport")),
        (Component.SOURCE_PORT, match.source_port, _field("th", "sport")),
        (Component.FLOW_LABEL, match.flow_label, _masked(_raw("nh", 0, 32), 0xFFFFF)),
    )
    for component, value, left in fields:
        if value is not None:
            yield _within(left, value.spans(MAXIMUM[component]))
    if match.packet_length is not None:
        yield _packet_length(match.packet_length, is_v4)
    if match.dscp is not None:
        yield _dscp(match.dscp, is_v4)


def _packet_length(value: Numeric, is_v4: bool) -> Expression:
    if is_v4:
        return _within(_field("ip", "length"), value.spans(0xFFFF))
    shifted = tuple((low - _V6_HEADER, high - _V6_HEADER) for low, high in value.spans(0xFFFF + _V6_HEADER))
    return _within(_field("ip6", "length"), intersection(shifted, ((0, 0xFFFF),)))


def _dscp(value: Numeric, is_v4: bool) -> Expression:
    """In its place in the header: with the ECN bits masked out, ranges stay ranges."""
    shift, left = (2, _masked(_raw("nh", 8, 8), 0xFC)) if is_v4 else (6, _masked(_raw("nh", 0, 16), 0x0FC0))
    return _within(left, tuple((low << shift, high << shift) for low, high in value.spans(63)))


def _port_choices(match: Match) -> tuple[Tests, ...]:
    if match.port is None:
        return ((),)
    spans = match.port.spans(0xFFFF)
    return tuple((_within(_field("th", side), spans),) for side in ("dport", "sport"))


# ------------------------------------------------------------------------------------------------------------ flags


def _flag_tests(match: Match) -> Iterator[Expression]:
    if match.tcp_flags is None:
        return
    meaning = match.tcp_flags.meaning()
    left = _masked(_raw("th", 96, 16), meaning.support or 0x0FFF)
    if meaning.support == 0:
        # Every TCP segment; loading the field still asks for a header that is there.
        yield _within(left, ((0, 0x0FFF),))
    else:
        yield _one_of(left, sorted(meaning.accepted))


def _fragment_choices(held: Region) -> tuple[Tests, ...]:
    """Also where no fragment is asked about: the kernel takes the first bytes of a later fragment for a transport
    header (its fast path for payloads doesn't look at the offset), so rules on ports, ICMP and flags exclude those."""
    if held.family is Family.IPV4:
        return (_fragment_v4(held.fragments),)
    return tuple(_fragment_v6(held.fragments))


def _fragment_v4(values: frozenset[int]) -> Tests:
    """Accepted ranges of the field that holds DF, MF and the offset (RFC 8955 §4.2.2.12), under the smallest mask."""
    spans: list[tuple[int, int]] = []
    for dont, more in product((0, 1), (0, 1)):
        base = dont << 14 | more << 13
        known = _DF if dont else 0
        if known | (_FIRST if more else 0) in values:
            spans.append((base, base))
        if known | _LATER | (0 if more else _LAST) in values:
            spans.append((base | 1, base | 0x1FFF))
    accepted, mask = merged(spans), 0x7FFF
    for bit in (0x4000, 0x2000):
        half = intersection(accepted, ((0, bit - 1),))
        if mask == 2 * bit - 1 and accepted == merged((*half, *((low + bit, high + bit) for low, high in half))):
            accepted, mask = half, bit - 1
    return () if accepted == ((0, mask),) else (_within(_masked(_raw("nh", 48, 16), mask), accepted),)


def _fragment_v6(values: frozenset[int]) -> Iterator[Tests]:
    """Without a fragment header, at offset 0 and behind it."""
    whole, first, middle, last = (kind in values for kind in (0, _FIRST, _LATER, _LATER | _LAST))
    if whole and first and middle and last:
        yield ()
        return
    if whole:
        yield (_equal({"exthdr": {"name": "frag"}}, False),)
    yield from _offset_choice("==", last=whole, more=first)
    yield from _offset_choice("!=", last=last, more=middle)


def _offset_choice(operator: str, last: bool, more: bool) -> Iterator[Tests]:
    offset = _test(operator, {"exthdr": {"name": "frag", "field": "frag-off"}}, 0)
    if last and more:
        yield (offset,)
    elif last or more:
        yield (offset, _equal({"exthdr": {"name": "frag", "field": "more-fragments"}}, int(more)))


# ------------------------------------------------------------------------------------------------------ expressions


def _field(protocol: str, field: str) -> Expression:
    return {"payload": {"protocol": protocol, "field": field}}


def _raw(base: str, offset: int, length: int) -> Expression:
    """Bits at a place in the network (`nh`) or transport (`th`) header."""
    return {"payload": {"base": base, "offset": offset, "len": length}}


def _masked(left: Expression, mask: int | str) -> Expression:
    return {"&": [left, mask]}


def _test(operator: str, left: Expression, right: object) -> Expression:
    return {"match": {"op": operator, "left": left, "right": right}}


def _equal(left: Expression, right: object) -> Expression:
    return _test("==", left, right)


def _within(left: Expression, spans: Spans) -> Expression:
    """`left` lies in one of the spans."""
    right = [low if low == high else {"range": [low, high]} for low, high in spans]
    if not right:
        raise _NeverMatches
    return _equal(left, right[0] if len(right) == 1 else {"set": right})


def _one_of(left: Expression, values: list[int]) -> Expression:
    return _equal(left, values[0] if len(values) == 1 else {"set": values})
