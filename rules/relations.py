"""How two matches stand to each other: which holds the other's packets, and which a router looks at first.

Compares meanings (`rules.region`) for packets, and encodings for precedence: RFC 8955 §5.1 orders bytes, not meanings.
"""

from enum import Enum

from rules.match import PREFIXES, Component, Family, Match, OffsetPrefix, Prefix
from rules.region import Region, region
from rules.wire import encode_component

Precedence = tuple[tuple[int, tuple[int, ...]], ...]
"""Sorts matches of one family: the lower one is looked at first."""

_END: Precedence = ((len(Component) + 1, ()),)
"""A match that ends has an infinite next component type (RFC 8955 §5.1)."""


def covers(outer: Match, inner: Match) -> bool:
    """Whether every packet that `inner` selects is selected by `outer`; of two families never."""
    return region(outer).covers(region(inner))


def overlaps(one: Match, two: Match) -> bool:
    """Whether some packet is selected by both."""
    return region(one).overlaps(region(two))


def precedence(match: Match) -> Precedence:
    """A sort key: routers look at the match with the lowest key first (RFC 8955 §5.1, RFC 8956 §4)."""
    own = ((int(component), _value_key(component, value)) for component, value in match.components())
    # Families live in tables of their own; their order among each other is ours.
    return ((match.ip_family.value, ()), *own, *_END)


def order(one: Match, two: Match) -> int:
    """Negative when a router looks at `one` first, positive for `two`, 0 for the same NLRI."""
    ours, theirs = precedence(one), precedence(two)
    return (ours > theirs) - (ours < theirs)


def _value_key(component: Component, value: object) -> tuple[int, ...]:
    if component in PREFIXES:
        return _prefix_key(value)  # type: ignore[arg-type]
    # The longer of two strings with a common start goes first: their end sorts behind every byte.
    return (*encode_component(component, value)[1:], 0x100)  # type: ignore[arg-type]


def _prefix_key(prefix: Prefix) -> tuple[int, ...]:
    """Offset, then the bits; the end sorts behind every bit, so the longer prefix goes first."""
    if isinstance(prefix, OffsetPrefix):
        offset, length, number = prefix.offset, prefix.length, int(prefix.pattern)
    else:
        offset, length, number = 0, prefix.prefixlen, int(prefix.network_address)
    bits = Family.of(prefix).bits
    return (offset, *(number >> (bits - 1 - position) & 1 for position in range(offset, length)), 2)


class Relation(Enum):
    """What another rule means for one of ours, at a router that acts on the first rule that matches."""

    DISJOINT = "disjoint"
    """They never meet."""
    SAME = "same"
    """One NLRI: a router holds only one of them."""
    SHADOWED = "shadowed"
    """The other goes first and holds all our packets: ours does nothing."""
    SHADOWS = "shadows"
    """Ours goes first and holds all of the other's packets."""
    EXCEPTION = "exception"
    """Ours goes first, inside the wider other one."""
    EXCEPTED = "excepted"
    """The other goes first, inside our wider one."""
    OVERLAPS = "overlaps"
    """They share some packets, which go to the one that comes first."""


def relation(ours: Match, other: Match) -> Relation:
    """How the other match stands to ours."""
    return compare(ours, region(ours), other, region(other))


def compare(ours: Match, our_region: Region, other: Match, other_region: Region) -> Relation:
    """`relation`, for those who keep the regions."""
    if not our_region.overlaps(other_region):
        return Relation.DISJOINT
    sign = order(ours, other)
    if sign == 0:
        return Relation.SAME
    if other_region.covers(our_region):
        return Relation.EXCEPTION if sign < 0 and not our_region.covers(other_region) else _first(sign)
    if our_region.covers(other_region):
        return Relation.SHADOWS if sign < 0 else Relation.EXCEPTED
    return Relation.OVERLAPS


def _first(sign: int) -> Relation:
    return Relation.SHADOWS if sign < 0 else Relation.SHADOWED
