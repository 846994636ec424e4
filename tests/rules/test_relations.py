"""Which packets two matches share, held against a packet oracle, and RFC 8955 §5.1 order, against its pseudo code."""

from itertools import pairwise

import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from packets import packets, selects
from strategies import families, matches, sensible_matches

from rules.match import Family, Match
from rules.region import region
from rules.relations import Relation, covers, order, overlaps, precedence, relation
from rules.wire import encode

both = st.one_of(matches(), sensible_matches())
pairs = families.flatmap(lambda family: st.tuples(matches(family), matches(family)))


@st.composite
def related_pairs(draw: st.DrawFn) -> tuple[Match, Match]:
    """Two matches, the second with some components of the first changed or left out: often nested."""
    first = draw(both)
    second = draw(matches(first.ip_family))
    fields = {component.attribute: value for component, value in first.components()}
    others = {component.attribute: value for component, value in second.components()}
    for name in draw(st.sets(st.sampled_from(sorted(fields)))):
        fields.pop(name)
    if draw(st.booleans()) or not fields:
        fields |= dict(list(others.items())[: draw(st.integers(1, 2))])
    return first, Match(family=first.family, **fields)  # type: ignore[arg-type]


@given(st.one_of(pairs, related_pairs(), related_pairs().map(lambda pair: pair[::-1])), st.data())
def test_every_packet_of_a_covered_match_is_selected_by_the_covering_one(
    pair: tuple[Match, Match], data: st.DataObject
) -> None:
    outer, inner = pair
    assume(covers(outer, inner))
    packet = data.draw(packets(inner))
    event(f"selected: {selects(inner, packet)}")
    assert selects(outer, packet) or not selects(inner, packet)


@given(st.one_of(pairs, related_pairs()), st.data())
def test_matches_that_do_not_overlap_share_no_packet(pair: tuple[Match, Match], data: st.DataObject) -> None:
    one, two = pair
    packet = data.draw(st.one_of(packets(one), packets(two)))
    if selects(one, packet) and selects(two, packet):
        assert overlaps(one, two) and overlaps(two, one)
        assert not region(one).is_empty


@given(both, st.data())
def test_a_selected_packet_proves_that_the_region_is_not_empty(match: Match, data: st.DataObject) -> None:
    packet = data.draw(packets(match))
    assert not (selects(match, packet) and region(match).is_empty)


@given(both)
def test_a_match_covers_itself_and_its_normal_form(match: Match) -> None:
    assert covers(match, match)
    assert covers(match, match.normal()) and covers(match.normal(), match)


@given(st.one_of(pairs, related_pairs()))
def test_covering_implies_overlapping_unless_nothing_is_covered(pair: tuple[Match, Match]) -> None:
    outer, inner = pair
    if covers(outer, inner):
        assert overlaps(outer, inner) or region(inner).is_empty


@given(related_pairs())
def test_leaving_out_components_only_widens(pair: tuple[Match, Match]) -> None:
    first, second = pair
    theirs = dict(second.components())
    if all(dict(first.components()).get(component) == value for component, value in theirs.items()):
        assert covers(second, first)


def parse(text: str) -> Match:
    return Match.parse(f"match {{ {text} }}")


HOST = "destination 203.0.113.7/32; "


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("destination 203.0.113.0/24;", HOST),
        (HOST, HOST + "protocol =udp;"),
        (HOST + "protocol [ =tcp =udp ];", HOST + "source-port =53;"),
        (HOST + "port =53;", HOST + "protocol =udp; source-port =53;"),
        (HOST + "port >=0;", HOST + "destination-port =53;"),
        (HOST + "fragment !is-fragment;", HOST + "source-port =53;"),
        (HOST + "tcp-flags syn;", HOST + "tcp-flags =syn+ack;"),
        (HOST + "protocol <=17;", HOST + "protocol =icmp; icmp-type =8;"),
        (HOST + "protocol =tcp;", HOST + "tcp-flags syn;"),
        (HOST + "port [ <=99 >=100 ];", HOST + "protocol =tcp; tcp-flags ack;"),
        ("destination ::7/128/120;", "destination 2001:db8::7/128;"),
        (HOST, HOST + "protocol =icmp; source-port =53;"),
    ],
)
def test_these_cover(outer: str, inner: str) -> None:
    assert covers(parse(outer), parse(inner))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (HOST, "destination 203.0.113.0/24;"),
        (HOST + "protocol =udp;", HOST + "source-port =53;"),
        (HOST + "source-port =53;", HOST + "port =53;"),
        (HOST + "port [ <=99 >=100 ];", HOST + "protocol =udp;"),
        (HOST + "tcp-flags =syn+ack;", HOST + "tcp-flags syn;"),
        (HOST + "fragment is-fragment;", HOST + "fragment [ is-fragment first-fragment ];"),
        ("destination 2001:db8::7/128;", "destination ::7/128/120;"),
        (HOST, "destination 2001:db8::7/128;"),
        (HOST + "source-port =53; destination-port =80;", HOST + "port [ =53 =80 ];"),
    ],
)
def test_these_do_not_cover(outer: str, inner: str) -> None:
    assert not covers(parse(outer), parse(inner))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (HOST + "protocol =udp;", HOST + "tcp-flags syn;"),
        (HOST + "source-port =53;", HOST + "fragment is-fragment;"),
        (HOST + "tcp-flags =syn;", HOST + "tcp-flags !syn;"),
        (HOST + "source-port =53; destination-port >1023;", HOST + "port <53;"),
        (HOST, "destination 2001:db8::7/128;"),
        (HOST + "icmp-type =8;", HOST + "source-port =53;"),
        ("destination 2001:db8::7/128;", "destination ::8/128/120;"),
    ],
)
def test_these_are_disjoint(one: str, two: str) -> None:
    assert not overlaps(parse(one), parse(two)) and not overlaps(parse(two), parse(one))


# ------------------------------------------------------------------------------------------------------------- order


def components_of(nlri: bytes, family: Family) -> list[tuple[int, bytes]]:
    """Type and bytes of each component, read off the NLRI without our decoder."""
    body = nlri[1:] if nlri[0] < 0xF0 else nlri[2:]
    found, at = [], 0
    while at < len(body):
        kind, start = body[at], at + 1
        at = start
        if kind in (1, 2):
            skipped = body[at + 1] if family is Family.IPV6 else 0
            at += (2 if family is Family.IPV6 else 1) + (body[at] - skipped + 7) // 8
        else:
            last = False
            while not last:
                last = bool(body[at] & 0x80)
                at += 1 + (1 << ((body[at] >> 4) & 3))
        found.append((kind, body[start:at]))
    return found


def rfc_order(one: bytes, two: bytes, family: Family) -> int:
    """RFC 8955 §5.1 and RFC 8956 §4, as their pseudo code goes."""
    ours, theirs = components_of(one, family), components_of(two, family)
    for (kind_a, data_a), (kind_b, data_b) in zip([*ours, (99, b"")], [*theirs, (99, b"")], strict=False):
        if kind_a != kind_b:
            return -1 if kind_a < kind_b else 1
        sign = prefix_order(data_a, data_b, family) if kind_a in (1, 2) else string_order(data_a, data_b)
        if sign:
            return sign
    return 0


def prefix_order(a: bytes, b: bytes, family: Family) -> int:
    head = 2 if family is Family.IPV6 else 1
    if head == 2 and a[1] != b[1]:
        return -1 if a[1] < b[1] else 1
    offset = a[1] if head == 2 else 0
    bits_a, bits_b = ("".join(f"{byte:08b}" for byte in data[head:])[: data[0] - offset] for data in (a, b))
    common = min(len(bits_a), len(bits_b))
    if bits_a[:common] != bits_b[:common]:
        return -1 if bits_a[:common] < bits_b[:common] else 1
    return (len(bits_b) > len(bits_a)) - (len(bits_a) > len(bits_b))


def string_order(a: bytes, b: bytes) -> int:
    common = min(len(a), len(b))
    if a[:common] != b[:common]:
        return -1 if a[:common] < b[:common] else 1
    return (len(b) > len(a)) - (len(a) > len(b))


@given(st.one_of(pairs, related_pairs()))
def test_order_is_that_of_the_rfc_pseudo_code(pair: tuple[Match, Match]) -> None:
    one, two = pair
    assert order(one, two) == rfc_order(encode(one), encode(two), one.ip_family)


@given(st.one_of(pairs, related_pairs()))
def test_order_reverses_with_its_arguments_and_is_zero_only_for_one_nlri(pair: tuple[Match, Match]) -> None:
    one, two = pair
    assert order(one, two) == -order(two, one)
    assert (order(one, two) == 0) == (encode(one) == encode(two))


@given(st.lists(matches(), min_size=3, max_size=6))
def test_sorting_by_precedence_agrees_with_order(given_matches: list[Match]) -> None:
    for one, two in pairwise(sorted(given_matches, key=precedence)):
        assert order(one, two) <= 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (HOST, "destination 203.0.113.0/24;"),
        ("destination 10.0.0.0/24;", "destination 10.0.1.0/32;"),
        (HOST + "protocol =tcp;", HOST),
        (HOST, "source 10.0.0.0/8;"),
        (HOST + "protocol [ =tcp =udp ];", HOST + "protocol =udp;"),
        ("destination 2001:db8::/32; source 10::/16;", "destination ::7/128/120;"),
    ],
)
def test_these_stand_in_this_order(first: str, second: str) -> None:
    assert order(parse(first), parse(second)) < 0 < order(parse(second), parse(first))


# ---------------------------------------------------------------------------------------------------------- relation


@pytest.mark.parametrize(
    ("ours", "other", "expected"),
    [
        (HOST, HOST, Relation.SAME),
        (HOST + "protocol =udp;", HOST + "protocol =tcp;", Relation.DISJOINT),
        (HOST, "destination 203.0.113.0/24;", Relation.EXCEPTION),
        ("destination 203.0.113.0/24;", HOST, Relation.EXCEPTED),
        ("destination 203.0.113.0/24; protocol =udp;", HOST + "protocol =udp;", Relation.EXCEPTED),
        (HOST + "port =53; dscp =1;", HOST + "source-port =53;", Relation.OVERLAPS),
        (HOST + "dscp =1;", HOST + "packet-length >=0;", Relation.SHADOWED),
        (HOST + "packet-length >=0;", HOST + "dscp =1;", Relation.SHADOWS),
        (HOST + "protocol [ =6 =17 ]; port =53;", HOST + "port =53;", Relation.SHADOWS),
    ],
)
def test_relations_by_example(ours: str, other: str, expected: Relation) -> None:
    assert relation(parse(ours), parse(other)) is expected


_MIRROR = {
    Relation.SHADOWED: Relation.SHADOWS,
    Relation.SHADOWS: Relation.SHADOWED,
    Relation.EXCEPTION: Relation.EXCEPTED,
    Relation.EXCEPTED: Relation.EXCEPTION,
}


@given(st.one_of(pairs, related_pairs()))
def test_relation_mirrors(pair: tuple[Match, Match]) -> None:
    one, two = pair
    seen = relation(one, two)
    event(seen.value)
    assert relation(two, one) is _MIRROR.get(seen, seen)
