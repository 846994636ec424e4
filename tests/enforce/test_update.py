import contextlib
from ipaddress import ip_address

import pytest
from bgp_updates import (
    SPEAKER,
    announcing,
    attribute,
    body,
    communities,
    flowspec,
    reach,
    state_line,
    unreach,
    update_line,
    withdrawing,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import flowspecs

from rules import wire
from rules.errors import Refused
from rules.match import Family
from rules.rule import FlowSpec
from sensors.enforce_update import Announced, Heard, Said, SessionChanged, Unusable, Withdrawn, heard, parse_event

PEER = ip_address(SPEAKER)
GOOD = flowspec("match { destination 203.0.113.7/32; protocol =udp; } then { discard; }")
OTHER = flowspec("match { destination 203.0.113.8/32; protocol =tcp; } then { discard; }")


def said(update: bytes) -> tuple[Said, ...]:
    return heard(PEER, update).said


@given(flowspecs())
def test_what_was_announced_is_heard_and_withdrawn_under_the_same_key(rule: FlowSpec) -> None:
    (announced,) = said(announcing(rule))
    assert isinstance(announced, Announced)
    assert FlowSpec(announced.match, announced.action) == rule
    assert said(withdrawing(rule)) == (Withdrawn(announced.key),)


@given(flowspecs())
def test_the_line_of_exabgp_carries_the_update(rule: FlowSpec) -> None:
    assert parse_event(update_line(announcing(rule))) == heard(PEER, announcing(rule))


def test_a_rule_that_cannot_be_understood_leaves_its_neighbours_alone() -> None:
    nonsense = bytes((3, 99, 0x81, 1))
    update = body(reach(Family.IPV4, wire.encode(GOOD.match), nonsense, wire.encode(OTHER.match)), communities(GOOD))
    first, bad, last = said(update)
    assert isinstance(first, Announced) and isinstance(last, Announced)
    assert isinstance(bad, Unusable) and "unknown component" in bad.reason


def test_an_action_that_is_not_supported_is_unusable_and_keeps_its_key() -> None:
    redirect = attribute(16, bytes.fromhex("8008fde800000064"))
    (bad,) = said(body(reach(Family.IPV4, wire.encode(GOOD.match)), redirect))
    (good,) = said(announcing(GOOD))
    assert isinstance(bad, Unusable) and "redirect" in bad.reason
    assert bad.key == good.key


def test_an_nlri_that_ends_early_ends_the_message_and_says_so() -> None:
    update = body(reach(Family.IPV4, wire.encode(GOOD.match), b"\x20\x01"), communities(GOOD))
    found = heard(PEER, update)
    assert "ends before" in found.malformed


def test_end_of_rib_and_other_families_say_nothing() -> None:
    assert heard(PEER, body(unreach(Family.IPV4))) == Heard(PEER, ())
    unicast = attribute(14, bytes.fromhex("0001010400000000000a"))
    assert heard(PEER, body(unicast)) == Heard(PEER, ())
    assert heard(PEER, bytes(4)) == Heard(PEER, ())


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer(data: bytes) -> None:
    assert isinstance(heard(PEER, data), Heard)


@given(st.lists(st.tuples(st.sampled_from([14, 15, 16]), st.binary(max_size=60)), max_size=4))
def test_any_attributes_give_an_answer(attributes: list[tuple[int, bytes]]) -> None:
    assert isinstance(heard(PEER, body(*(attribute(*one) for one in attributes))), Heard)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: b"{" + text.encode(errors="replace")))
def test_any_line_gives_an_event_nothing_or_a_refusal(line: bytes) -> None:
    with contextlib.suppress(Refused):
        parse_event(line)


@pytest.mark.parametrize("line", [b'{"type": "update", "neighbor": {"direction": "receive"}}', b"{"])
def test_an_event_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(Refused, match="event"):
        parse_event(line)


def test_states_answers_and_other_events() -> None:
    assert parse_event(state_line("up")) == SessionChanged(PEER, True)
    assert parse_event(state_line("down")) == SessionChanged(PEER, False)
    assert parse_event(state_line("connected")) is None
    assert parse_event(b"done") is None
    assert parse_event(b'{"neighbor": 3}') is None
    assert parse_event(b'{"type": "open", "neighbor": {}}') is None
