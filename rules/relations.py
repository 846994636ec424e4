"""How two matches stand to each other: which holds the other's packets, and which a router looks at first.

Compares meanings (`rules.region`) for packets, and encodings for precedence: RFC 8955 §5.1 orders bytes, not meanings.
"""

from dataclasses import dataclass
from enum import Enum

from rules.components import Bitmask, Numeric
from rules.match import Component, Family, Match, OffsetPrefix, Prefix
from rules.region import Region, region
from rules.wire import encode_component

Precedence = tuple[tuple[int, int, str], ...]
"""Sorts matches of one family: the lower one is looked at first. Component type, offset, bits or bytes as text."""

_END = ((len(Component) + 1, 0, ""),)
"""A match that ends has an infinite next component type (RFC 8955 §5.1)."""


def covers(outer: Match, inner: Match) -> bool:
    """Whether every packet that `inner` selects is selected by `outer`; of two families never."""
    return region(outer).covers(region(inner))


def overlaps(one: Match, two: Match) -> bool:
    """Whether some packet is selected by both."""
    return region(one).overlaps(region(two))


def precedence(match: Match) -> Precedence:
    """A sort key: routers look at the match with the lowest key first (RFC 8955 §5.1, RFC 8956 §4)."""
    own = ((int(component), *_value_key(component, value)) for component, value in match.components())
    # Families live in tables of their own; their order among each other is ours.
    return ((match.ip_family.value, 0, ""), *own, *_END)


def order(one: Match, two: Match) -> int:
    """Negative when a router looks at `one` first, positive for `two`, 0 for the same NLRI."""
    return _sign(precedence(one), precedence(two))


def _sign(ours: Precedence, theirs: Precedence) -> int:
    return (ours > theirs) - (ours < theirs)


def _value_key(component: Component, value: Prefix | Numeric | Bitmask) -> tuple[int, str]:
    """Text ends with a sign behind every bit or byte: of two with a common start, the longer goes first."""
    if isinstance(value, Numeric | Bitmask):
        return 0, encode_component(component, value)[1:].decode("latin-1") + "\u0100"
    if isinstance(value, OffsetPrefix):
        offset, length, number = value.offset, value.length, int(value.pattern)
    else:
        offset, length, number = 0, value.prefixlen, int(value.network_address)
    bits = Family.of(value).bits
    return offset, f"{number:0{bits}b}"[offset:length] + "2"


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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A match with what comparing it needs, worked out once."""

    region: Region
    precedence: Precedence


def prepared(match: Match) -> Prepared:
    """The match, ready to be compared with many others."""
    return Prepared(region(match), precedence(match))


def relation(ours: Match, other: Match) -> Relation:
    """How the other match stands to ours."""
    return compare(prepared(ours), prepared(other))


def compare(ours: Prepared, other: Prepared) -> Relation:
    """`relation`, for those who compare often."""
    if not ours.region.overlaps(other.region):
        return Relation.DISJOINT
    sign = _sign(ours.precedence, other.precedence)
    if sign == 0:
        return Relation.SAME
    inside, around = other.region.covers(ours.region), ours.region.covers(other.region)
    if sign < 0:
        return Relation.SHADOWS if around else Relation.EXCEPTION if inside else Relation.OVERLAPS
    return Relation.SHADOWED if inside else Relation.EXCEPTED if around else Relation.OVERLAPS
