"""The set of packets a match selects, as a product of sets: the ground on which matches are compared.

Follows RFC 8955 §4.2.2: ports exist in TCP and UDP, flags in TCP, type and code in ICMP, and all of them only where the
transport header is, not in later fragments. Exact, so it may never guess.
"""

from dataclasses import dataclass
from functools import cache

from rules.components import Bitmask, FlagMeaning, Numeric, Spans, complement, contains, intersection
from rules.match import FRAGMENT_BITS, ICMP, ICMPV6, MAXIMUM, TCP, UDP, Component, Family, Match, OffsetPrefix, Prefix

LATER_FRAGMENT = FRAGMENT_BITS["is-fragment"]
"""Set for every fragment but the first (RFC 8955 §4.2.2.12): it has no transport header."""

_FRAGMENTS_IPV6 = frozenset((0, 4, 2, 2 | 8))
"""Whole packet, first, middle and last fragment."""

FRAGMENT_VALUES = {
    Family.IPV4: _FRAGMENTS_IPV6 | {value | FRAGMENT_BITS["dont-fragment"] for value in _FRAGMENTS_IPV6},
    Family.IPV6: _FRAGMENTS_IPV6,
}
"""Every combination of fragment bits a packet can have; IPv6 has no don't-fragment (RFC 8956 §3.6)."""

_PORTS_EXIST: Spans = ((TCP, TCP), (UDP, UDP))
_ALL_FLAGS = FlagMeaning(0, frozenset({0}))

Bits = tuple[int, int]
"""(mask, value): an address matches when its masked bits equal the value."""
Rectangle = tuple[Spans, Spans]
"""Source ports × destination ports."""


@dataclass(frozen=True, slots=True)
class Region:
    """A product of sets; `protocols` and `fragments` are narrowed to packets that have the fields asked about."""

    family: Family
    destination: Bits
    source: Bits
    protocols: Spans
    fragments: frozenset[int]
    numbers: tuple[Spans, ...]
    """ICMP type and code, packet length, DSCP, flow label."""
    flags: FlagMeaning
    ports: tuple[Rectangle, ...]
    """Their union."""

    @property
    def is_empty(self) -> bool:
        """Whether no packet is in it."""
        return not (self.protocols and self.fragments and all(self.numbers) and self.flags.accepted and self.ports)

    def covers(self, other: "Region") -> bool:
        """Whether every packet of the other is in this one."""
        if self.family is not other.family:
            return False
        return other.is_empty or (
            _holds(self.destination, other.destination)
            and _holds(self.source, other.source)
            and contains(self.protocols, other.protocols)
            and self.fragments >= other.fragments
            and all(contains(ours, theirs) for ours, theirs in zip(self.numbers, other.numbers, strict=True))
            and (self.flags == _ALL_FLAGS or _widened(other, self) <= _widened(self, other))
            and all(_covered(part, self.ports) for part in other.ports)
        )

    def overlaps(self, other: "Region") -> bool:
        """Whether some packet is in both."""
        return (
            self.family is other.family
            and _meet(self.destination, other.destination)
            and _meet(self.source, other.source)
            and bool(intersection(self.protocols, other.protocols))
            and bool(self.fragments & other.fragments)
            and all(intersection(ours, theirs) for ours, theirs in zip(self.numbers, other.numbers, strict=True))
            and bool(_widened(self, other) & _widened(other, self))
            and any(_cross(one, two) for one in self.ports for two in other.ports)
        )


@cache
def _everything(component: Component) -> Spans:
    return ((0, MAXIMUM[component]),)


_NUMBERS = (
    Component.ICMP_TYPE,
    Component.ICMP_CODE,
    Component.PACKET_LENGTH,
    Component.DSCP,
    Component.FLOW_LABEL,
)


def region(match: Match) -> Region:
    """The packets a match selects."""
    return Region(
        family=match.ip_family,
        destination=_bits(match.destination, match.ip_family),
        source=_bits(match.source, match.ip_family),
        protocols=_protocols(match),
        fragments=_fragments(match),
        numbers=tuple(_spans(component, getattr(match, component.attribute)) for component in _NUMBERS),
        flags=_ALL_FLAGS if match.tcp_flags is None else match.tcp_flags.meaning(),
        ports=_rectangles(match),
    )


def fragment_values(fragment: Bitmask, family: Family) -> frozenset[int]:
    """The fragment bits a packet can have and that match."""
    return frozenset(value for value in FRAGMENT_VALUES[family] if fragment.holds(value))


def _spans(component: Component, value: Numeric | None) -> Spans:
    return _everything(component) if value is None else value.spans(MAXIMUM[component])


def _bits(prefix: Prefix | None, family: Family) -> Bits:
    if prefix is None:
        return 0, 0
    if isinstance(prefix, OffsetPrefix):
        mask = ((1 << (prefix.length - prefix.offset)) - 1) << (128 - prefix.length)
        return mask, int(prefix.pattern)
    return int(prefix.netmask), int(prefix.network_address)


def _has_ports(match: Match) -> bool:
    return not (match.port is match.source_port is match.destination_port is None)


def _has_icmp(match: Match) -> bool:
    return not (match.icmp_type is match.icmp_code is None)


def _protocols(match: Match) -> Spans:
    """Those given, narrowed to the ones that have the fields asked about."""
    protocols = _spans(Component.PROTOCOL, match.protocol)
    if _has_ports(match):
        protocols = intersection(protocols, _PORTS_EXIST)
    if _has_icmp(match):
        number = ICMP if match.family is Family.IPV4 else ICMPV6
        protocols = intersection(protocols, ((number, number),))
    if match.tcp_flags is not None:
        protocols = intersection(protocols, ((TCP, TCP),))
    return protocols


def _fragments(match: Match) -> frozenset[int]:
    values = FRAGMENT_VALUES[match.ip_family]
    if match.fragment is not None:
        values = fragment_values(match.fragment, match.ip_family)
    if _has_ports(match) or _has_icmp(match) or match.tcp_flags is not None:
        values = frozenset(value for value in values if not value & LATER_FRAGMENT)
    return values


def _rectangles(match: Match) -> tuple[Rectangle, ...]:
    sources = _spans(Component.SOURCE_PORT, match.source_port)
    destinations = _spans(Component.DESTINATION_PORT, match.destination_port)
    if match.port is None:
        parts: tuple[Rectangle, ...] = ((sources, destinations),)
    else:
        either = _spans(Component.PORT, match.port)
        parts = (
            (intersection(sources, either), destinations),
            (sources, intersection(destinations, either)),
        )
    return tuple(part for part in parts if part[0] and part[1])


def _holds(outer: Bits, inner: Bits) -> bool:
    return outer[0] & inner[0] == outer[0] and inner[1] & outer[0] == outer[1]


def _meet(one: Bits, two: Bits) -> bool:
    return not (one[1] ^ two[1]) & one[0] & two[0]


def _widened(one: Region, two: Region) -> frozenset[int]:
    """The accepted flags of `one`, over the bits that matter to either."""
    if one.flags.support == two.flags.support:
        return one.flags.accepted
    return one.flags.widened(one.flags.support | two.flags.support)


def _covered(part: Rectangle, by: tuple[Rectangle, ...]) -> bool:
    """Whether the rectangles together hold the whole part: what the first leaves over, the rest must hold."""
    sources, destinations = part
    if not sources or not destinations:
        return True
    if not by:
        return False
    (first_sources, first_destinations), *rest = by
    beside = (_without(sources, first_sources), destinations)
    beyond = (intersection(sources, first_sources), _without(destinations, first_destinations))
    return _covered(beside, tuple(rest)) and _covered(beyond, tuple(rest))


def _without(spans: Spans, taken: Spans) -> Spans:
    return intersection(spans, complement(taken, MAXIMUM[Component.PORT]))


def _cross(one: Rectangle, two: Rectangle) -> bool:
    return bool(intersection(one[0], two[0]) and intersection(one[1], two[1]))
