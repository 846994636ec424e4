"""Matches and rule ids: what may be built, and that an id follows the meaning and not the spelling."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from packets import packets, selects
from strategies import actions, matches, networks

from rules.action import Discard, RateLimit
from rules.components import Bitmask, Comparison, FlagTest, Numeric, Operator
from rules.errors import Refused
from rules.match import MASK_LIMIT, MAXIMUM, Component, Family, Match, Network, OffsetPrefix, parse_prefix
from rules.rule import Blackhole, FlowSpec, Scope


@st.composite
def respelt(draw: st.DrawFn, match: Match) -> Match:
    """The same meaning in other words: groups shuffled and repeated, ranges cut, conditions that hold anyway added."""
    changes: dict[str, Numeric | Bitmask] = {}
    for component, value in match.components():
        if isinstance(value, Numeric):
            changes[component.attribute] = draw(_respelt_numeric(value, MAXIMUM[component]))
        elif isinstance(value, Bitmask):
            changes[component.attribute] = draw(_respelt_bitmask(value))
    return replace(match, **changes)  # type: ignore[arg-type]


@st.composite
def _respelt_numeric(draw: st.DrawFn, value: Numeric, limit: int) -> Numeric:
    groups = [*value.groups, *draw(st.lists(st.sampled_from(value.groups), max_size=2))]
    groups = draw(st.permutations(groups))
    cut = draw(st.integers(0, limit - 1))
    first = groups[0]
    below, above = (*first, Comparison(Operator.AT_MOST, cut)), (Comparison(Operator.GREATER, cut), *first)
    return Numeric((below, *groups[1:], above))


@st.composite
def _respelt_bitmask(draw: st.DrawFn, value: Bitmask) -> Bitmask:
    groups = draw(st.permutations([*value.groups, value.groups[0]]))
    # Every component has these bits in both families.
    bit = draw(st.sampled_from([2, 4, 8]))
    first = groups[0]
    return Bitmask(((*first, FlagTest(bit)), *groups[1:], (FlagTest(bit, negated=True), *first)))


@given(matches(), actions, st.data())
def test_equal_meaning_gives_an_equal_id_whatever_the_spelling(
    match: Match, action: Discard, data: st.DataObject
) -> None:
    other = data.draw(respelt(match))
    assert FlowSpec(match, Discard()).id == FlowSpec(other, action).id
    assert match.meaning() == other.meaning()


@given(st.data())
def test_matches_that_a_packet_tells_apart_have_different_ids(data: st.DataObject) -> None:
    one = data.draw(matches())
    two = data.draw(matches(one.ip_family))
    packet = data.draw(packets(one))
    assume(selects(one, packet) != selects(two, packet))
    assert FlowSpec(one, Discard()).id != FlowSpec(two, Discard()).id


@given(matches(), st.data())
def test_the_normal_form_selects_the_same_packets_and_is_its_own_normal_form(match: Match, data: st.DataObject) -> None:
    normal = match.normal()
    packet = data.draw(packets(match))
    assert selects(normal, packet) == selects(match, packet)
    assert normal.normal() == normal
    assert normal.meaning() == match.meaning()


@given(networks(), networks())
def test_blackholes_are_known_by_their_prefix(one: Network, two: Network) -> None:
    assert Blackhole(one, Scope.LOCAL).id == Blackhole(one, Scope.UPSTREAM).id
    assert (Blackhole(one).id == Blackhole(two).id) == (one == two)


def test_a_blackhole_and_a_flowspec_rule_for_one_prefix_have_different_ids() -> None:
    prefix = IPv4Network("203.0.113.7/32")
    assert Blackhole(prefix).id != FlowSpec(Match(destination=prefix), Discard()).id


def test_the_action_is_no_part_of_the_id() -> None:
    match = Match(destination=IPv4Network("203.0.113.7/32"))
    assert FlowSpec(match, Discard()).id == FlowSpec(match, RateLimit(1000)).id


def test_an_empty_match_is_refused() -> None:
    with pytest.raises(Refused, match="every packet"):
        Match()


def test_every_problem_of_a_match_is_reported_at_once() -> None:
    with pytest.raises(Refused) as caught:
        Match(
            destination=IPv4Network("203.0.113.7/32"),
            source=IPv6Network("2001:db8::/32"),
            flow_label=Numeric.only(1),
            dscp=Numeric.only(64),
            fragment=Bitmask.of(FlagTest(0x10)),
            family=Family.IPV4,
        )
    assert {problem.field for problem in caught.value.problems} == {"source", "flow-label", "dscp", "fragment"}


def test_the_family_follows_the_prefixes_and_the_flow_label() -> None:
    assert Match(destination=IPv6Network("::/64")).family is Family.IPV6
    assert Match(flow_label=Numeric.only(1)).family is Family.IPV6
    assert Match(dscp=Numeric.only(1)).family is Family.IPV4


@pytest.mark.parametrize(("length", "offset"), [(64, 64), (64, 65), (129, 1), (64, 0)])
def test_an_offset_lies_inside_its_prefix(length: int, offset: int) -> None:
    with pytest.raises(Refused):
        OffsetPrefix(IPv6Address("::1"), length, offset)


def test_an_offset_prefix_forgets_the_bits_outside() -> None:
    assert OffsetPrefix(IPv6Address("2001:db8::7"), 128, 64).pattern == IPv6Address("::7")


@given(networks())
def test_a_written_prefix_reads_as_itself(prefix: Network) -> None:
    assert parse_prefix("destination", str(prefix)) == prefix


@pytest.mark.parametrize(
    "given", ["192.0.2.7", "192.0.2.7/24", "192.0.2.0/33", "192.0.2.0/255.255.255.0", "2001:db8::1/64", "x/8", "", "/8"]
)
def test_doubtful_prefixes_are_refused_and_never_rounded(given: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_prefix("destination", given)
    assert caught.value.problems[0].field == "destination"


def test_limits_name_every_component_that_has_values() -> None:
    assert set(MAXIMUM) | set(MASK_LIMIT) | {Component.DESTINATION, Component.SOURCE} == set(Component)
