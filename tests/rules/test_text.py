"""Canonical text: what is written reads as itself, and arbitrary text gives a value or a refusal."""

import string

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from strategies import matches, rules

from rules.action import Discard, RateLimit
from rules.components import Numeric
from rules.errors import Refused
from rules.match import Family, Match
from rules.rule import Blackhole, FlowSpec, Rule, Scope, parse

_TEXT = """
match then { } ; [ ] destination source protocol next-header port source-port tcp-flags fragment dscp icmp-type
packet-length flow-label traffic-class discard rate-limit blackhole prefix scope local upstream =udp =6 true false !syn
=syn+ack >=1&<=2 1-5 192.0.2.0/24 2001:db8::/32 ::1/128/64 0x1f dont-fragment =70000 99999999999999999999 \0 é
"""
_WORDS = _TEXT.split()
fragments_of_rules = st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join)


@given(matches())
def test_a_match_reads_as_it_was_written(match: Match) -> None:
    assert Match.parse(str(match), match.family) == match


@given(rules())
def test_a_rule_reads_as_it_was_written(rule: Rule) -> None:
    again = parse(str(rule))
    if isinstance(rule, FlowSpec) and not tells_family(rule.match):
        event("the text does not tell the family")
        assert isinstance(again, FlowSpec) and again.match.family is Family.IPV4
    else:
        assert again == rule and again.id == rule.id


def tells_family(match: Match) -> bool:
    """A text without prefix, next-header and flow-label is taken for IPv4."""
    fields = (match.destination, match.source, match.protocol, match.flow_label)
    return match.family is Family.IPV4 or any(field is not None for field in fields)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = str(draw(rules()))
    at = draw(st.integers(0, len(text) - 1))
    piece = draw(st.one_of(st.text(string.printable, max_size=3), st.sampled_from(_WORDS)))
    return text[:at] + piece + text[at + draw(st.integers(0, 4)) :]


@given(st.one_of(st.text(), fragments_of_rules, mutated()))
def test_arbitrary_text_gives_a_rule_or_a_refusal(text: str) -> None:
    try:
        rule = parse(text)
    except Refused as refusal:
        event("refused")
        assert refusal.problems and all(problem.reason for problem in refusal.problems)
        return
    event("a rule")
    assert isinstance(rule, FlowSpec | Blackhole)
    assert str(parse(str(rule))) == str(rule)


@given(st.one_of(st.text(), fragments_of_rules, mutated()), st.sampled_from([None, *Family]))
def test_arbitrary_text_gives_a_match_or_a_refusal(text: str, family: Family | None) -> None:
    try:
        match = Match.parse(text, family)
    except Refused as refusal:
        assert refusal.problems
    else:
        assert Match.parse(str(match), match.family) == match


@pytest.mark.parametrize(
    ("given_text", "canonical"),
    [
        ("match { destination 203.0.113.7/32; protocol udp; source-port [ 53 123 ]; } then { discard; }",
         "match { destination 203.0.113.7/32; protocol =udp; source-port [ =53 =123 ]; } then { discard; }"),
        ("match { source-port 53-54; protocol [ tcp udp ]; destination 203.0.113.7/32; } then { rate-limit 0; }",
         "match { destination 203.0.113.7/32; protocol [ =tcp =udp ]; source-port >=53&<=54; } then { discard; }"),
        ("match{destination 2001:db8::/48;next-header icmpv6;icmp-type !=2;}then{rate-limit 9600;}",
         "match { destination 2001:db8::/48; next-header =58; icmp-type [ <=1 >=3 ]; } then { rate-limit 9600; }"),
        ("match { destination 203.0.113.7/32; tcp-flags [ rst !ack&=syn ]; fragment !is-fragment; } then { discard; }",
         "match { destination 203.0.113.7/32; tcp-flags [ =syn&!ack rst ]; fragment !is-fragment; } then { discard; }"),
        ("match { destination 203.0.113.7/32; protocol icmp; icmp-type [ echo-request redirect ]; } then { discard; }",
         "match { destination 203.0.113.7/32; protocol =icmp; icmp-type [ =5 =8 ]; } then { discard; }"),
        ("match { icmp-type [ echo-request !=redirect ]; next-header icmpv6; source 2001:db8::/48; } then { discard; }",
         "match { source 2001:db8::/48; next-header =58; icmp-type [ <=136 >=138 ]; } then { discard; }"),
        ("match { icmp-type [ echo-reply packet-too-big ]; next-header icmpv6; } then { discard; }",
         "match { next-header =58; icmp-type [ =2 =129 ]; } then { discard; }"),
        ("match { source ::1234:5678:9a00:0/65-104; } then { discard; }",
         "match { source ::1234:5678:9a00:0/104/65; } then { discard; }"),
        ("blackhole { prefix 203.0.113.7/32; }", "blackhole { prefix 203.0.113.7/32; scope local; }"),
    ],
)  # fmt: skip
def test_rules_are_brought_into_their_canonical_text(given_text: str, canonical: str) -> None:
    assert str(parse(given_text)) == canonical
    assert str(parse(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "rule"),
        ("discard", "rule"),
        ("match { } then { discard; }", "match"),
        ("match { destination 192.0.2.7; } then { discard; }", "destination"),
        ("match { destination 192.0.2.7/24; } then { discard; }", "destination"),
        ("match { protocol udp; protocol tcp; } then { discard; }", "protocol"),
        ("match { next-header udp; protocol tcp; } then { discard; }", "protocol"),
        ("match { source-port 65536; } then { discard; }", "source-port"),
        ("match { source-port 2-1; } then { discard; }", "source-port"),
        ("match { source-port 1 2; } then { discard; }", "source-port"),
        ("match { source-port [ ]; } then { discard; }", "source-port"),
        ("match { source-port [ [ 1 ] ]; } then { discard; }", "source-port"),
        ("match { tcp-flags sin; } then { discard; }", "tcp-flags"),
        ("match { dscp 64; } then { discard; }", "dscp"),
        ("match { destination 2001:db8::/48; fragment !dont-fragment; } then { discard; }", "fragment"),
        ("match { destination 192.0.2.0/24; source 2001:db8::/32; } then { discard; }", "source"),
        ("match { protocol udp; } then { }", "then"),
        ("match { protocol udp; } then { discard; rate-limit 5; }", "then"),
        ("match { protocol udp; } then { discard 1; }", "discard"),
        ("match { protocol udp; } then { rate-limit 1000000000001; }", "rate-limit"),
        ("match { protocol udp; } then { accept; }", "accept"),
        ("match { protocol udp } then { discard; }", "rule"),
        ("match { protocol udp; } then { discard; } json", "rule"),
        ("blackhole { }", "prefix"),
        ("blackhole { prefix 192.0.2.7/32; scope world; }", "scope"),
        ("blackhole { prefix 192.0.2.7/32 192.0.2.8/32; }", "prefix"),
    ],
)
def test_these_texts_are_refused_and_the_field_is_named(text: str, field: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(text)
    assert field in {problem.field for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ("= 53", "close to their values"),
        (">=1000 & <=2000", "close to their values"),
        ("[ >= 1000 ]", "close to their values"),
        ("=53&", "close to their values"),
        ("53,123", "without commas"),
        ("[ 53, 123 ]", "without commas"),
        ("53 123", "in brackets"),
        ("0x35", "a number from 0 to 65535"),
        ("+53", "a number from 0 to 65535"),
        ("-53", "a number from 0 to 65535"),
        ("domain", "a number from 0 to 65535"),
        ("==53", "is no comparison"),
        ("2000-1000", "runs backwards"),
        ("[ " + "1 " * 2048 + "]", "has 2048 values"),
        ("&".join("1" * 2048), "has 2048 values"),
    ],
)
def test_values_written_in_other_ways_are_refused_and_told_how(values: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        parse(f"match {{ destination 192.0.2.7/32; source-port {values}; protocol udp; }} then {{ discard; }}")
    [problem] = caught.value.problems
    assert problem.field == "source-port" and problem.value in values


def test_the_same_name_of_an_icmp_type_is_another_number_in_ipv6() -> None:
    """RFC 792, RFC 4443."""
    for destination, number in (("192.0.2.7/32", 8), ("2001:db8::7/128", 128)):
        match = Match.parse(f"match {{ icmp-type echo-request; destination {destination}; }}")
        assert match.icmp_type == Numeric.only(number)


def test_all_problems_of_a_text_are_reported_at_once() -> None:
    with pytest.raises(Refused) as caught:
        parse("match { destination 192.0.2.7/24; source-port 70000; colour red; } then { rate-limit many; }")
    assert [problem.field for problem in caught.value.problems] == [
        "destination",
        "source-port",
        "colour",
        "rate-limit",
    ]


def test_a_text_of_unreasonable_length_is_refused() -> None:
    with pytest.raises(Refused, match="limit is 65536"):
        parse("match { " + "protocol udp; " * 5000 + "} then { discard; }")


def test_the_parsed_values_are_what_they_say() -> None:
    rule = parse("blackhole { scope upstream; prefix 2001:db8::7/128; }")
    assert isinstance(rule, Blackhole) and rule.scope is Scope.UPSTREAM
    flow = parse("match { protocol udp; } then { rate-limit 5; }")
    assert isinstance(flow, FlowSpec) and flow.action == RateLimit(5) and flow.match.family is Family.IPV4
    dropped = parse("match { next-header udp; } then { discard; }")
    assert isinstance(dropped, FlowSpec) and dropped.action == Discard() and dropped.match.family is Family.IPV6
