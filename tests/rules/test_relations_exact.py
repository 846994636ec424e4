"""`covers` and `overlaps` say exactly what the packets say: all those that could tell two small matches apart."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from packets import DONT_FRAGMENT, FIRST, LAST, LATER, Packet, selects
from strategies import bitmasks, families, networks, offset_prefixes

from rules.components import Bitmask, Comparison, FlagTest, Numeric, Operator
from rules.match import ICMP, ICMPV6, MAXIMUM, TCP, UDP, Component, Family, Match, OffsetPrefix
from rules.relations import covers, overlaps

_MOST_PACKETS = 30_000
_NUMBERS = {
    Component.PROTOCOL: (0, ICMP, TCP, TCP, UDP, ICMPV6, 255),
    Component.PACKET_LENGTH: (0, 40, 1500, 65535),
    Component.ICMP_TYPE: (0, 3, 8, 255),
}
_PORTS = (0, 53, 54, 65535)
_CHOSEN = (
    Component.DESTINATION, Component.PROTOCOL, Component.PORT, Component.DESTINATION_PORT, Component.SOURCE_PORT,
    Component.ICMP_TYPE, Component.TCP_FLAGS, Component.PACKET_LENGTH, Component.FRAGMENT,
)  # fmt: skip


@st.composite
def small_values(draw: st.DrawFn, component: Component, family: Family) -> Any:
    """Values that meet each other often."""
    if component is Component.DESTINATION:
        return draw(st.one_of(networks(family), offset_prefixes()) if family is Family.IPV6 else networks(family))
    if component is Component.FRAGMENT:
        return draw(bitmasks(component, family))
    if component is Component.TCP_FLAGS:
        test = st.builds(FlagTest, st.sampled_from([0, 1, 2, 3, 16, 18]), st.booleans(), st.booleans())
        return Bitmask(
            draw(st.lists(st.lists(test, min_size=1, max_size=2).map(tuple), min_size=1, max_size=2).map(tuple))
        )
    number = st.sampled_from(_NUMBERS.get(component, _PORTS))
    one = st.builds(Comparison, st.sampled_from(Operator), number)
    return Numeric(draw(st.lists(st.lists(one, min_size=1, max_size=2).map(tuple), min_size=1, max_size=2).map(tuple)))


@st.composite
def small_matches(draw: st.DrawFn, family: Family) -> Match:
    chosen = draw(st.sets(st.sampled_from(_CHOSEN), min_size=1, max_size=3))
    return Match(family=family, **{c.attribute: draw(small_values(c, family)) for c in sorted(chosen)})


def numbers_that_tell(component: Component, *given_matches: Match) -> list[int]:
    """Each number named, and those beside it: between them nothing changes."""
    named = {0}
    for match in given_matches:
        value = getattr(match, component.attribute)
        for one in value.comparisons() if value is not None else ():
            named |= {one.value - 1, one.value, one.value + 1}
    return sorted(number for number in named if 0 <= number <= MAXIMUM[component])


def addresses_that_tell(*given_matches: Match) -> list[int]:
    """One inside each prefix, inside both where that can be, and outside by each single bit."""
    masks = []
    for match in given_matches:
        match match.destination:
            case None:
                masks.append((0, 0))
            case OffsetPrefix() as prefix:
                masks.append((((1 << prefix.length - prefix.offset) - 1) << 128 - prefix.length, int(prefix.pattern)))
            case network:
                masks.append((int(network.netmask), int(network.network_address)))
    (one_mask, one), (two_mask, two) = masks
    inside = {one | two & ~one_mask, two | one & ~two_mask}
    flips = {1 << bit for bit in range(128) if (one_mask | two_mask) >> bit & 1}
    # One bit of each mask that the other lacks, and one of both, is enough to leave one prefix and stay in the other.
    sorts = ({flip for flip in flips if flip & one_mask and flip & two_mask},
             {flip for flip in flips if flip & one_mask and not flip & two_mask},
             {flip for flip in flips if flip & two_mask and not flip & one_mask})  # fmt: skip
    telling = {min(sort) for sort in sorts if sort}
    return sorted(inside | {address ^ flip for address in inside for flip in telling})


def packets_that_tell(one: Match, two: Match) -> Iterator[Packet]:
    family = one.ip_family
    has = {component for match in (one, two) for component, _ in match.components()}
    ports = sorted({
        number
        for component in (Component.PORT, Component.SOURCE_PORT, Component.DESTINATION_PORT)
        for number in numbers_that_tell(component, one, two)
    })  # fmt: skip
    protocols = {*numbers_that_tell(Component.PROTOCOL, one, two), ICMP, TCP, UDP, ICMPV6}
    shapes = {0, FIRST, LATER, LATER | LAST}
    shapes |= {shape | DONT_FRAGMENT for shape in shapes} if family is Family.IPV4 else set()
    flags = (0, 1, 2, 3, 16, 17, 18, 19) if Component.TCP_FLAGS in has else (0,)
    types = numbers_that_tell(Component.ICMP_TYPE, one, two)
    lengths = numbers_that_tell(Component.PACKET_LENGTH, one, two)
    for address, protocol, shape, length in product(addresses_that_tell(one, two), protocols, shapes, lengths):
        bare = {"destination": address, "protocol": protocol, "fragment": shape, "length": length}
        whole = not shape & LATER
        pairs = list(product(ports, ports)) if whole and protocol in (TCP, UDP) else [(None, None)]
        given_flags = flags if whole and protocol == TCP else (None,)
        own_icmp = protocol == (ICMP if family is Family.IPV4 else ICMPV6)
        given_types = types if whole and own_icmp else [None]
        for (source_port, destination_port), flag, icmp_type in product(pairs, given_flags, given_types):
            yield Packet(
                family, source=0, dscp=0, flow_label=0, source_port=source_port, destination_port=destination_port,
                icmp_type=icmp_type, icmp_code=0 if icmp_type is not None else None, tcp_flags=flag, **bare,
            )  # fmt: skip


@pytest.mark.parametrize("is_nested", [False, True])
@given(st.data())
def test_relations_are_exactly_what_the_packets_say(is_nested: bool, data: st.DataObject) -> None:
    family = data.draw(families)
    one = data.draw(small_matches(family))
    if is_nested:
        fields: dict[str, Any] = {component.attribute: value for component, value in one.components()}
        component = data.draw(st.sampled_from(_CHOSEN))
        fields[component.attribute] = data.draw(small_values(component, family))
        two = Match(family=family, **fields)
    else:
        two = data.draw(small_matches(family))
    universe = []
    for packet in packets_that_tell(one, two):
        universe.append((selects(one, packet), selects(two, packet)))
        assume(len(universe) <= _MOST_PACKETS)
    shared = any(ours and theirs for ours, theirs in universe)
    one_in_two = all(theirs for ours, theirs in universe if ours)
    two_in_one = all(ours for ours, theirs in universe if theirs)
    event(f"overlap: {shared}, covered: {one_in_two or two_in_one}")
    assert overlaps(one, two) == overlaps(two, one) == shared
    assert covers(one, two) == two_in_one
    assert covers(two, one) == one_in_two
