from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from bgp_updates import announcing, flowspec, withdrawing
from hypothesis import given
from hypothesis import strategies as st
from strategies import flowspecs

from rules.errors import Refused
from rules.match import Match
from rules.relations import overlaps
from rules.rule import FlowSpec, RuleId
from sensors.enforce_settings import EnforceSettings, Source
from sensors.enforce_tables import Tables
from sensors.enforce_update import SessionChanged, heard

ONE, TWO = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.9")
LOOPBACK = Match(destination=IPv4Network("192.0.2.254/32"))

SETTINGS = EnforceSettings(
    local_address=IPv4Address("192.0.2.2"),
    local_as=64500,
    router_id=IPv4Address("192.0.2.2"),
    sources=(Source(IPv4Address("192.0.2.1"), 64500),),
    state=Path("/nowhere"),
    command=("/usr/bin/true",),
)


def tables(*untouchable: Match, maximum: int = 100) -> Tables:
    return Tables((ONE, TWO), untouchable, maximum)


def ids(found: Tables) -> set[RuleId]:
    return {rule.id for rule in found.enforced()}


@given(st.lists(st.tuples(st.sampled_from([ONE, TWO]), st.integers(0, 5), st.booleans()), max_size=30), st.data())
def test_what_is_enforced_is_what_stands_at_the_speakers(
    steps: list[tuple[IPv4Address, int, bool]], data: st.DataObject
) -> None:
    pool = data.draw(st.lists(flowspecs(), min_size=6, max_size=6))
    found, model = tables(), {}
    for peer, number, announce in steps:
        rule = pool[number]
        found.apply(heard(peer, announcing(rule) if announce else withdrawing(rule)))
        if announce:
            model[peer, rule.id] = rule
        else:
            model.pop((peer, rule.id), None)
        assert ids(found) == {rule_id for _, rule_id in model}
    for peer in (ONE, TWO):
        found.apply(SessionChanged(peer, False))
        model = {key: rule for key, rule in model.items() if key[0] != peer}
        assert ids(found) == {rule_id for _, rule_id in model}


@given(flowspecs())
def test_a_rule_is_refused_exactly_when_it_could_touch_a_protected_packet(rule: FlowSpec) -> None:
    found = tables(LOOPBACK)
    rejected = found.apply(heard(ONE, announcing(rule)))
    assert bool(rejected) == overlaps(rule.match, LOOPBACK)
    assert bool(found.enforced()) != bool(rejected)


@pytest.mark.parametrize(
    ("text", "touches"),
    [
        ("match { destination 192.0.2.2/32; protocol =tcp; destination-port =179; }", True),
        ("match { destination 192.0.2.0/24; port >=100; }", True),
        ("match { source 192.0.2.1/32; }", True),
        ("match { destination 192.0.2.2/32; protocol =udp; }", False),
        ("match { destination 192.0.2.2/32; port =80; }", True),
        ("match { destination 192.0.2.2/32; destination-port =80; source-port =443; }", False),
        ("match { destination 203.0.113.7/32; }", False),
        ("match { source fe80::/64; next-header =icmpv6; }", True),
        ("match { destination ff02::/16; next-header =icmpv6; }", True),
        ("match { next-header =icmpv6; source ::/0; }", True),
        ("match { destination 2001:db8::7/128; next-header =icmpv6; }", False),
        ("match { destination 2001:db8::7/128; source 2001:db8:1::/48; }", False),
    ],
)
def test_the_session_itself_and_neighbour_discovery_are_never_touched(text: str, touches: bool) -> None:
    rule = flowspec(text + " then { discard; }")
    found = tables(*SETTINGS.untouchable)
    assert bool(found.apply(heard(ONE, announcing(rule)))) == touches


def test_a_stranger_is_counted_and_not_heard() -> None:
    found = tables()
    rule = flowspec("match { destination 203.0.113.7/32; } then { discard; }")
    (rejected,) = found.apply(heard(IPv4Address("198.51.100.66"), announcing(rule)))
    assert "no named speaker" in rejected.reason
    assert not found.enforced() and found.counts.strangers == 1


def test_an_announcement_that_became_unusable_ends_the_rule_before_it() -> None:
    found = tables()
    rule = flowspec("match { destination 203.0.113.7/32; } then { discard; }")
    found.apply(heard(ONE, announcing(rule)))
    redirect = announcing(rule)[:-8] + bytes.fromhex("8008fde800000064")
    (rejected,) = found.apply(heard(ONE, redirect))
    assert not found.enforced() and "redirect" in rejected.reason
    assert found.rejected() == ((ONE, rejected),)
    found.apply(heard(ONE, withdrawing(rule)))
    assert not found.rejected()


def test_a_new_session_starts_empty() -> None:
    found = tables()
    found.apply(heard(ONE, announcing(flowspec("match { destination 203.0.113.7/32; } then { discard; }"))))
    found.apply(SessionChanged(ONE, True))
    assert not found.enforced() and found.sessions[ONE].is_up


def test_what_exceeds_the_limit_is_refused() -> None:
    found = tables(maximum=2)
    for number in range(10):
        rule = flowspec(f"match {{ destination 203.0.113.{number}/32; }} then {{ discard; }}")
        rejected = found.apply(heard(ONE, announcing(rule)))
        assert bool(rejected) == (number >= 2)
    assert len(found.enforced()) == 2 and found.count() <= 4


def test_what_the_kernel_refuses_is_left_out_and_listed() -> None:
    found = tables()
    for number in range(2):
        rule = flowspec(f"match {{ destination 203.0.113.{number}/32; }} then {{ discard; }}")
        found.apply(heard(ONE, announcing(rule)))
    first, second = found.enforced()
    found.refuse([first], "too odd")
    assert found.enforced() == (second,)
    assert [one.reason for _, one in found.rejected()] == ["too odd"]


def test_settings_name_everything_that_is_wrong_at_once() -> None:
    source = Source(IPv4Address("192.0.2.1"), 64500, md5_password="a;b")
    with pytest.raises(Refused) as refused:
        replace(SETTINGS, sources=(source, source), command=("enforce", "a b"), port=0)
    fields = [problem.field for problem in refused.value.problems]
    assert {"speakers", "md5_password", "command", "port"} <= set(fields)
    assert "a;b" not in str(refused.value)
    with pytest.raises(Refused, match="named speakers only"):
        replace(SETTINGS, sources=())
