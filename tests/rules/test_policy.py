"""Decisions: doubt asks or waits, nothing leaves the zone, nothing escalates, and each says why."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.action import Discard, RateLimit
from rules.candidates import is_narrow
from rules.incident import Incident, Phase, Wanted, merge
from rules.match import Match, Network
from rules.policy import (
    LIFETIME_LIMIT_SECONDS,
    RULES_PER_INCIDENT,
    Ask,
    Decision,
    Hold,
    Mitigate,
    closing,
    decide,
    lifetime_seconds,
    renewals,
)
from rules.quiet import step
from rules.rule import Blackhole, FlowSpec, Rule, Scope
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import Mode, Zone

TARGET = IPv4Network("203.0.113.7/32")
ZONE = Zone("customers", (IPv4Network("203.0.113.0/24"),), mode=Mode.AUTO)
BLACKHOLE_ZONE = replace(ZONE, blackhole=True, blackhole_bits_per_second=1_000_000_000)
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def match(rest: str, destination: str = "203.0.113.7/32") -> Match:
    return Match.parse(f"match {{ destination {destination}; {rest} }}")


DNS = match("protocol =udp; source-port =53;")
NTP = match("protocol =udp; source-port =123;")
SYN = match("protocol =tcp; tcp-flags =syn;")


def signature(of: Match, coverage: float = 0.95, collateral: float | None = 0.0) -> Signature:
    return Signature(of, coverage, collateral)


def detection(
    *signatures: Signature,
    sensor: str = "a",
    sequence: int = 1,
    state: State = State.ONGOING,
    vantage: Vantage = Vantage.UPSTREAM,
    confirmed: bool = True,
    bits: float = 5e8,
    spoofed: bool | None = True,
    target: Network = TARGET,
    at: datetime = NOW,
) -> Detection:
    rate = Rate(bits / 8000, bits)
    return Detection(
        sensor, f"of-{sensor}", sequence, "customers", target, state, vantage, confirmed, 3.0, "bits", rate, rate,
        (VectorShare(Vector("udp_flood"), 1, 1),), signatures, 50, spoofed, at, at,
    )  # fmt: skip


def incident(*told: Detection, zone: Zone = ZONE) -> Incident:
    merged: Incident | None = None
    for one in told:
        merged = merge(merged, one, zone, one.seen)
    assert merged is not None
    return merged


def held(*rules: Rule, seconds: float = 600, proposed: bool = False) -> tuple[Wanted, ...]:
    return tuple(Wanted(rule, NOW + timedelta(seconds=seconds), proposed) for rule in rules)


def discard(of: Match) -> FlowSpec:
    return FlowSpec(of, Discard())


# ------------------------------------------------------------------------------------------------ what doesn't separate


def test_what_does_not_separate_is_limited_and_never_dropped() -> None:
    told = (Signature(SYN, 0.95, 0.4, 100_000), signature(NTP))
    decision = decide(incident(detection(*told)), replace(ZONE, mode=Mode.PROPOSE), (), NOW)
    assert isinstance(decision, Ask)
    assert set(decision.rules) == {FlowSpec(SYN, RateLimit(100_000)), discard(NTP)}


def test_of_two_words_on_one_rule_the_one_that_spares_more_counts() -> None:
    one = detection(Signature(SYN, 0.95, 0.0), sensor="a")
    other = detection(Signature(SYN, 0.95, 0.0, 100_000), sensor="b")
    decision = decide(incident(one, other), replace(ZONE, mode=Mode.PROPOSE), (), NOW)
    assert isinstance(decision, Ask)
    assert decision.rules == (FlowSpec(SYN, RateLimit(100_000)),)


# -------------------------------------------------------------------------------------------------------------- laws


RESTS = (
    "protocol =udp; source-port =53;",
    "protocol =udp; source-port =123;",
    "protocol =udp; source-port =53; packet-length >=1000;",
    "protocol =tcp; tcp-flags =syn;",
    "protocol =icmp; icmp-type =8;",
    "protocol =udp; fragment is-fragment;",
    "protocol =udp;",
    "source 192.0.2.0/24; protocol =udp; port =53;",
)
DESTINATIONS = ("203.0.113.7/32", "203.0.113.7/32", "203.0.113.0/28", "203.0.113.0/24", "198.51.100.1/32")
"""The target, twice as likely; a part of the zone; the zone; beyond it."""
MATCHES = {(rest, to): match(rest, to) for rest in RESTS for to in DESTINATIONS}
LIMIT = 10**9

signatures = st.builds(
    Signature,
    st.sampled_from(list(MATCHES.values())),
    st.sampled_from([0.01, 0.3, 0.6, 0.95]),
    st.sampled_from([None, 0.0, 0.005, 0.3]),
)
mode_zones = st.builds(
    Zone,
    name=st.just("customers"),
    prefixes=st.just((IPv4Network("203.0.113.0/25"),)),
    mode=st.sampled_from([Mode.AUTO, Mode.AUTO, Mode.PROPOSE, Mode.OBSERVE]),
    action=st.sampled_from([Discard(), RateLimit(1_000_000)]),
    rule_lifetime_seconds=st.sampled_from([10, 600, 86_400]),
    collateral_limit=st.sampled_from([0.0, 0.01, 0.5]),
    blackhole=st.booleans(),
    blackhole_bits_per_second=st.just(LIMIT),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Incident, Zone, tuple[Wanted, ...], tuple[Detection, ...]]:
    """A zone, an incident of one to three sensors, some rules; most sensors confirm it now, often all do."""
    zone = draw(mode_zones)
    agree = {"state": State.ONGOING, "confirmed": True, "bits": LIMIT * 10, "at": NOW} if draw(st.booleans()) else {}
    told = []
    for sensor in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        said: dict[str, Any] = {
            "state": draw(st.sampled_from([State.STARTED, State.ONGOING, State.ONGOING, State.OVER])),
            "vantage": draw(st.sampled_from(Vantage)),
            "confirmed": draw(st.sampled_from([True, True, False])),
            "bits": draw(st.sampled_from([LIMIT / 10, LIMIT, LIMIT * 10])),
            "spoofed": draw(st.sampled_from([True, False, None])),
            "at": NOW - timedelta(seconds=draw(st.sampled_from([0, 0, 9, 60]))),
        }
        told.append(detection(*draw(st.lists(signatures, max_size=4)), sensor=sensor, **(said | agree)))
    merged: Incident | None = None
    for one in told:
        merged = merge(merged, one, zone, NOW)
    assert merged is not None
    flows = st.sampled_from([FlowSpec(one, zone.action) for one in MATCHES.values()])
    rules: list[Rule] = draw(st.lists(flows | st.just(Blackhole(TARGET)), max_size=4, unique_by=lambda rule: rule.id))
    wanted = tuple(
        Wanted(rule, NOW + timedelta(seconds=draw(st.sampled_from([-5, 5, 100, 590]))), draw(st.booleans()))
        for rule in rules
    )
    return merged, zone, wanted, tuple(told)


Situation = tuple[Incident, Zone, tuple[Wanted, ...], tuple[Detection, ...]]


def rules_of(decision: Decision) -> Sequence[Rule]:
    return () if isinstance(decision, Hold) else decision.rules


@given(situations())
def test_observe_never_makes_a_rule(situation: Situation) -> None:
    merged, zone, wanted, _ = situation
    observing = replace(zone, mode=Mode.OBSERVE)
    assert isinstance(decide(merged, observing, wanted, NOW), Hold)
    assert renewals(merged, wanted, observing, NOW) == ()


@given(situations())
def test_propose_never_acts_alone(situation: Situation) -> None:
    merged, zone, wanted, _ = situation
    assert not isinstance(decide(merged, replace(zone, mode=Mode.PROPOSE), wanted, NOW), Mitigate)


@given(situations())
def test_a_suspicion_or_history_never_yields_anything_but_hold(situation: Situation) -> None:
    _, zone, wanted, told = situation
    merged: Incident | None = None
    for one in told:
        is_old = NOW - one.seen > timedelta(seconds=10)
        merged = merge(merged, one if is_old else replace(one, confirmed=False), zone, NOW)
    assert merged is not None
    assert isinstance(decide(merged, replace(zone, mode=Mode.AUTO), wanted, NOW), Hold)
    assert renewals(merged, wanted, replace(zone, mode=Mode.AUTO), NOW) == ()


@given(situations())
def test_every_rule_lies_inside_the_zone_with_its_action_and_few_are_made(situation: Situation) -> None:
    merged, zone, wanted, _ = situation
    for mode in Mode:
        decision = decide(merged, replace(zone, mode=mode), wanted, NOW)
        assert decision.why
        for rule in rules_of(decision):
            assert not isinstance(rule.target, type(None)) and zone.holds(rule.target)  # type: ignore[arg-type]
            assert isinstance(rule, Blackhole) or rule.action == zone.action
        standing = {one.id for one in wanted if one.is_proposed or one.is_in_force(NOW)}
        made = [rule for rule in rules_of(decision) if isinstance(rule, FlowSpec) and rule.id not in standing]
        flows = sum(isinstance(one.rule, FlowSpec) for one in wanted if one.id in standing)
        assert not made or flows + len(made) <= RULES_PER_INCIDENT
        if not isinstance(decision, Hold):
            assert len(decision.collateral) == len(decision.rules)
            assert 0 < decision.lifetime_seconds <= LIFETIME_LIMIT_SECONDS


@given(situations())
def test_what_the_machine_does_alone_meets_the_zones_limits(situation: Situation) -> None:
    merged, zone, wanted, _ = situation
    decision = decide(merged, replace(zone, mode=Mode.AUTO), wanted, NOW)
    if not isinstance(decision, Mitigate):
        return
    for rule, collateral in zip(decision.rules, decision.collateral, strict=True):
        if isinstance(rule, FlowSpec):
            assert collateral <= zone.collateral_limit if collateral is not None else is_narrow(rule.match)
            assert rule.match.destination == merged.target


@given(situations(), st.integers(0, 2))
def test_no_blackhole_without_opt_in_saturation_and_two_witnesses(situation: Situation, missing: int) -> None:
    merged, zone, wanted, told = situation
    zone = replace(zone, mode=Mode.AUTO, blackhole=missing != 0)
    allowed_to_saturate = 1 if missing == 2 else 0 if missing == 1 else 3
    merged_again: Incident | None = None
    for place, one in enumerate(told):
        bits = LIMIT * 5.0 if place < allowed_to_saturate else LIMIT * 0.9
        merged_again = merge(merged_again, replace(one, rate=Rate(1e6, bits), peak=Rate(1e6, LIMIT * 9.0)), zone, NOW)
    assert merged_again is not None and merged_again.target == merged.target
    assert not any(isinstance(rule, Blackhole) for rule in rules_of(decide(merged_again, zone, wanted, NOW)))


@given(situations())
def test_turning_rules_down_never_brings_out_other_ones_of_a_greater_kind(situation: Situation) -> None:
    merged, zone, wanted, _ = situation
    zone = replace(zone, mode=Mode.AUTO)
    before = {rule.id for rule in rules_of(decide(merged, zone, wanted, NOW))}
    barred = merged.barring(before)
    assert not any(isinstance(rule, Blackhole) for rule in rules_of(decide(barred, zone, wanted, NOW)))
    assert not before & {rule.id for rule in rules_of(decide(barred, zone, wanted, NOW))}


@given(situations())
def test_renewals_only_lengthen_and_never_beyond_a_lifetime(situation: Situation) -> None:
    merged, zone, wanted, _ = situation
    by_id = {one.id: one for one in wanted}
    for renewal in renewals(merged, wanted, replace(zone, mode=Mode.AUTO), NOW):
        lifetime = timedelta(seconds=lifetime_seconds(zone, merged.recurrence))
        assert by_id[renewal.rule].deadline < renewal.deadline <= NOW + lifetime
        assert by_id[renewal.rule].is_in_force(NOW) and renewal.why


@given(situations())
def test_closing_ends_only_what_is_held_and_says_why(situation: Situation) -> None:
    merged, zone, wanted, _ = situation
    ended = closing(merged, wanted, zone, NOW)
    assert {one.rule for one in ended} <= {one.id for one in wanted} and all(one.why for one in ended)
    closed = replace(merged, phase=Phase.CLOSED)
    assert {one.rule for one in closing(closed, wanted, zone, NOW)} == {one.id for one in wanted}
    assert isinstance(decide(closed, replace(zone, mode=Mode.AUTO), wanted, NOW), Hold)


@given(situations())
def test_carrying_a_decision_out_settles_it(situation: Situation) -> None:
    """With its rules wanted or proposed, the same words of the sensors lead to nothing the second time."""
    merged, zone, _, _ = situation
    for mode in (Mode.AUTO, Mode.PROPOSE):
        moded = replace(zone, mode=mode)
        wanted: tuple[Wanted, ...] = ()
        for _ in range(8):
            decision = decide(merged, moded, wanted, NOW)
            made = rules_of(decision)
            if not made:
                break
            until, asked = NOW + timedelta(seconds=60), isinstance(decision, Ask)
            others = tuple(one for one in wanted if one.id not in {rule.id for rule in made})
            wanted = (*others, *(Wanted(rule, until, asked) for rule in made))
        else:
            pytest.fail("the decision never settles")


# -------------------------------------------------------------------------------------------------- mitigate or ask


def test_a_clean_signature_is_mitigated_with_the_zones_action_and_lifetime() -> None:
    zone = replace(ZONE, action=RateLimit(1_000_000), rule_lifetime_seconds=300)
    decision = decide(incident(detection(signature(DNS)), zone=zone), zone, (), NOW)
    assert isinstance(decision, Mitigate)
    assert decision.rules == (FlowSpec(DNS, RateLimit(1_000_000)),)
    assert (decision.lifetime_seconds, decision.collateral) == (300, (0.0,))
    assert "95%" in decision.why


def test_propose_asks_for_the_same_rule() -> None:
    zone = replace(ZONE, mode=Mode.PROPOSE)
    decision = decide(incident(detection(signature(DNS))), zone, (), NOW)
    assert isinstance(decision, Ask) and decision.rules == (discard(DNS),)
    waiting = decide(incident(detection(signature(DNS))), zone, held(discard(DNS), proposed=True), NOW)
    assert isinstance(waiting, Hold) and "wait for a person" in waiting.why


@pytest.mark.parametrize(
    ("given_signature", "zone", "spoofed", "word"),
    [
        (signature(DNS, collateral=0.02), ZONE, True, "2.0% of normal traffic"),
        (signature(DNS, coverage=0.49), ZONE, True, "49% of the attack"),
        (signature(match("protocol =udp;"), collateral=None), ZONE, True, "not narrow"),
        (signature(DNS, collateral=None), replace(ZONE, collateral_limit=0.0), True, "allows none"),
        (signature(match("source 192.0.2.0/24; protocol =udp; port =53;")), ZONE, True, "forged"),
        (signature(match("source 192.0.2.0/24; protocol =udp; port =53;")), ZONE, None, "forged"),
        (signature(match("protocol =udp; source-port =53;", "203.0.113.0/24")), ZONE, True, "beyond the target"),
    ],
)
def test_doubt_goes_to_a_person_with_the_reason(
    given_signature: Signature, zone: Zone, spoofed: bool | None, word: str
) -> None:
    decision = decide(incident(detection(given_signature, spoofed=spoofed)), zone, (), NOW)
    assert isinstance(decision, Ask) and decision.rules == (discard(given_signature.match),)
    assert word in decision.why


def test_sources_shown_to_be_real_may_be_matched() -> None:
    real = match("source 192.0.2.0/24; protocol =udp; port =53;")
    assert isinstance(decide(incident(detection(signature(real), spoofed=False)), ZONE, (), NOW), Mitigate)


def test_a_narrow_rule_goes_out_before_normal_traffic_is_known() -> None:
    assert isinstance(decide(incident(detection(signature(DNS, collateral=None))), ZONE, (), NOW), Mitigate)


@pytest.mark.parametrize(
    ("rest", "narrow"),
    [
        ("protocol =udp; source-port =53;", True),
        ("protocol =tcp; tcp-flags =syn;", True),
        ("protocol =udp; packet-length >=1000&<=1500;", True),
        ("protocol =udp; fragment is-fragment;", True),
        ("protocol =icmp; icmp-type =8;", True),
        ("protocol =udp;", False),
        ("source-port =53;", False),
        ("protocol =udp; dscp =46;", False),
        ("protocol =udp; source-port >=0;", False),
        ("protocol >=0; source-port =53;", False),
        # It says little to name much.
        ("protocol =udp; destination-port =53;", True),
        ("protocol =udp; destination-port >=1;", False),
        ("protocol =tcp; source-port >=1024;", False),
        ("protocol =udp; packet-length >=40;", False),
        ("protocol =udp; packet-length <=600;", False),
        ("protocol =udp; fragment !is-fragment;", False),
        ("protocol =tcp; tcp-flags ack;", False),
        ("protocol =tcp; tcp-flags !rst;", False),
        ("protocol =icmp; fragment !is-fragment;", True),
    ],
)
def test_narrow_means_a_protocol_and_something_that_narrows_it(rest: str, narrow: bool) -> None:
    assert is_narrow(match(rest)) is narrow


@pytest.mark.parametrize(
    ("rest", "takes_pages"),
    [
        ("protocol =tcp; source-port [ =80 =443 ];", True),
        ("protocol =tcp; source-port =443; packet-length >=1000;", True),
        ("protocol [ =tcp =udp ]; source-port >=53&<=123;", True),
        ("protocol =tcp; source-port [ =80 =443 ]; tcp-flags =rst;", False),
        ("protocol =udp; source-port =443;", False),
    ],
)
def test_what_web_servers_answer_is_limited_at_most_before_normal_traffic_is_known(
    rest: str, takes_pages: bool
) -> None:
    dropped = decide(incident(detection(signature(match(rest), collateral=None))), ZONE, (), NOW)
    assert isinstance(dropped, Ask if takes_pages else Mitigate)
    limited = decide(incident(detection(Signature(match(rest), 0.95, None, 10**6))), ZONE, (), NOW)
    assert isinstance(limited, Mitigate)


def test_no_signature_asks_without_rules_once_nothing_is_in_force() -> None:
    empty = incident(detection())
    decision = decide(empty, ZONE, (), NOW)
    assert isinstance(decision, Ask) and decision.rules == () and "person must look" in decision.why
    assert isinstance(decide(empty, ZONE, held(discard(DNS)), NOW), Hold)


def test_a_signature_outside_the_zone_is_nobodys_question() -> None:
    outside = detection(signature(match("protocol =udp; port =53;", "198.51.100.1/32")))
    decision = decide(incident(outside), ZONE, (), NOW)
    assert isinstance(decision, Ask) and decision.rules == ()


def test_what_a_person_turned_down_is_not_tried_again() -> None:
    decision = decide(incident(detection(signature(DNS))).barring([discard(DNS).id]), ZONE, (), NOW)
    assert isinstance(decision, Hold) and "turned down" in decision.why


def test_a_rule_that_waits_for_a_person_goes_out_when_the_doubt_is_gone() -> None:
    waiting = held(discard(DNS), proposed=True)
    doubtful = incident(detection(signature(DNS, collateral=0.5)))
    assert isinstance(decide(doubtful, ZONE, waiting, NOW), Hold)
    decision = decide(incident(detection(signature(DNS))), ZONE, waiting, NOW)
    assert isinstance(decision, Mitigate) and decision.rules == (discard(DNS),)


# ------------------------------------------------------------------------------------------------- several signatures


def test_two_vectors_that_each_cover_less_than_half_count_together() -> None:
    decision = decide(incident(detection(signature(DNS, 0.45), signature(SYN, 0.45))), ZONE, (), NOW)
    assert isinstance(decision, Mitigate) and set(decision.rules) == {discard(DNS), discard(SYN)}


def test_the_same_share_seen_by_two_sensors_does_not_count_twice() -> None:
    told = (detection(signature(DNS, 0.4)), detection(signature(NTP, 0.4), sensor="b"))
    assert isinstance(decide(incident(*told), ZONE, (), NOW), Ask)


def test_of_two_sensors_words_on_one_rule_the_worse_harm_counts() -> None:
    told = (detection(signature(DNS)), detection(signature(DNS, collateral=0.3), sensor="b"))
    assert isinstance(decide(incident(*told), ZONE, (), NOW), Ask)


def test_too_many_signatures_are_joined_where_one_component_differs() -> None:
    ports = [match(f"protocol =udp; source-port ={port};") for port in (53, 123, 389)]
    told = (
        detection(*(signature(one, 0.2, 0.001) for one in ports)),
        detection(signature(SYN, 0.6), signature(match("protocol =icmp; icmp-type =8;"), 0.3), sensor="b"),
    )
    decision = decide(incident(*told), ZONE, (), NOW)
    assert isinstance(decision, Mitigate) and len(decision.rules) == RULES_PER_INCIDENT
    joined = {
        discard(match(f"protocol =udp; source-port [ ={a} ={b} ];")) for a, b in ((53, 123), (53, 389), (123, 389))
    }
    assert len(joined & set(decision.rules)) == 1


def test_a_new_vector_gets_a_rule_beside_the_old_one() -> None:
    both = incident(detection(signature(DNS, 0.6), signature(SYN, 0.3)))
    decision = decide(both, ZONE, held(discard(DNS)), NOW)
    assert isinstance(decision, Mitigate) and decision.rules == (discard(SYN),)


def test_a_signature_inside_a_rule_in_force_needs_no_other_rule() -> None:
    narrower = match("protocol =udp; source-port =53; packet-length >=1000;")
    decision = decide(incident(detection(signature(narrower))), ZONE, held(discard(DNS)), NOW)
    assert isinstance(decision, Hold) and "in force cover" in decision.why
    assert isinstance(
        decide(incident(detection(signature(narrower))), ZONE, held(discard(DNS), seconds=-1), NOW), Mitigate
    )


FULL = tuple(discard(match(f"protocol =udp; source-port ={port};")) for port in (1, 2, 3, 4))


def test_no_more_than_four_rules_stand_and_the_longest_unseen_gives_way_upstream() -> None:
    told = incident(detection(signature(DNS)))
    lifetime = ZONE.rule_lifetime_seconds
    recent = held(*FULL, seconds=lifetime - 20)
    assert isinstance(decide(told, ZONE, recent, NOW), Hold)
    assert closing(told, recent, ZONE, NOW) == ()
    unseen = (*held(*FULL[:3], seconds=lifetime - 120), *held(FULL[3], seconds=lifetime - 200))
    [ending] = closing(told, unseen, ZONE, NOW)
    assert ending.rule == FULL[3].id and "new vector" in ending.why
    behind = incident(detection(signature(DNS), vantage=Vantage.DOWNSTREAM))
    assert closing(behind, unseen, ZONE, NOW) == ()


# ----------------------------------------------------------------------------------------------------------- renewal


def test_an_ongoing_confirmed_detection_moves_the_deadline_of_what_it_meets() -> None:
    told = incident(detection(signature(DNS)))
    [renewal] = renewals(told, held(discard(DNS), discard(SYN), seconds=300), ZONE, NOW)
    assert (renewal.rule, renewal.deadline) == (discard(DNS).id, NOW + timedelta(seconds=600))
    assert renewals(told, held(discard(DNS), seconds=550), ZONE, NOW) == ()
    assert renewals(told, held(discard(DNS), seconds=300, proposed=True), ZONE, NOW) == ()


def test_a_witness_without_signatures_keeps_every_rule() -> None:
    assert len(renewals(incident(detection()), held(discard(DNS), discard(SYN), seconds=300), ZONE, NOW)) == 2


def test_a_silent_sensor_renews_nothing() -> None:
    told = incident(detection(signature(DNS)))
    assert renewals(told, held(discard(DNS), seconds=300), ZONE, NOW + timedelta(seconds=11)) == ()


def test_rules_live_longer_each_time_the_attack_comes_back_but_not_for_ever() -> None:
    assert [lifetime_seconds(ZONE, count) for count in range(5)] == [600, 1200, 2400, 3600, 3600]
    assert lifetime_seconds(replace(ZONE, rule_lifetime_seconds=86_400), 0) == LIFETIME_LIMIT_SECONDS


# --------------------------------------------------------------------------------------------------------- blackhole


def saturated(*signatures: Signature, count: int = 2, target: Network = TARGET) -> Incident:
    told = [detection(*signatures, sensor=name, bits=2e9, target=target) for name in ("a", "b", "c")[:count]]
    return incident(*told, zone=BLACKHOLE_ZONE)


def test_two_saturated_witnesses_and_the_opt_in_lead_to_a_blackhole_beside_the_rules() -> None:
    decision = decide(saturated(signature(DNS)), BLACKHOLE_ZONE, (), NOW)
    assert isinstance(decision, Mitigate)
    assert decision.rules == (discard(DNS), Blackhole(TARGET, Scope.UPSTREAM))
    assert "two sensors measure 1000 Mbit/s" in decision.why
    alone = decide(saturated(), BLACKHOLE_ZONE, (), NOW)
    assert isinstance(alone, Mitigate) and alone.rules == (Blackhole(TARGET, Scope.UPSTREAM),)
    local = decide(saturated(), BLACKHOLE_ZONE, (), NOW, blackhole_scope=Scope.LOCAL)
    assert isinstance(local, Mitigate) and local.rules == (Blackhole(TARGET, Scope.LOCAL),)
    assert isinstance(decide(saturated(), BLACKHOLE_ZONE, held(Blackhole(TARGET)), NOW), Ask | Hold)


@pytest.mark.parametrize(
    ("told", "zone"),
    [
        (saturated(signature(DNS)), ZONE),
        (saturated(signature(DNS), count=1), BLACKHOLE_ZONE),
        (saturated(signature(DNS)), replace(BLACKHOLE_ZONE, blackhole_bits_per_second=3_000_000_000)),
        (saturated(target=IPv4Network("203.0.113.0/28")), BLACKHOLE_ZONE),
    ],
)
def test_a_missing_condition_means_no_blackhole(told: Incident, zone: Zone) -> None:
    assert not any(isinstance(rule, Blackhole) for rule in rules_of(decide(told, zone, (), NOW)))


def test_one_sensor_that_repeats_itself_is_one_witness() -> None:
    told = incident(*(detection(sequence=count, bits=2e9) for count in range(5)), zone=BLACKHOLE_ZONE)
    assert not any(isinstance(rule, Blackhole) for rule in rules_of(decide(told, BLACKHOLE_ZONE, (), NOW)))


def test_propose_asks_before_a_blackhole() -> None:
    decision = decide(saturated(), replace(BLACKHOLE_ZONE, mode=Mode.PROPOSE), (), NOW)
    assert isinstance(decision, Ask) and decision.rules == (Blackhole(TARGET, Scope.UPSTREAM),)


def test_a_blackhole_is_renewed_while_a_sensor_measures_saturation() -> None:
    wanted = held(Blackhole(TARGET, Scope.UPSTREAM), seconds=60)
    assert len(renewals(saturated(), wanted, BLACKHOLE_ZONE, NOW)) == 1
    assert renewals(incident(detection(bits=5e8), zone=BLACKHOLE_ZONE), wanted, BLACKHOLE_ZONE, NOW) == ()


def test_holding_says_why() -> None:
    assert "suspicion" in decide(incident(detection(signature(DNS), confirmed=False)), ZONE, (), NOW).why
    stale = merge(None, detection(signature(DNS)), ZONE, NOW + timedelta(seconds=60))
    assert "history" in decide(stale, ZONE, (), NOW + timedelta(seconds=60)).why
    over = incident(detection(signature(DNS)), detection(sequence=2, state=State.OVER))
    assert "no sensor sees" in decide(over, ZONE, (), NOW).why
    closed = step(over, (), ZONE, NOW + timedelta(seconds=31))
    assert "closed" in decide(closed, ZONE, (), NOW + timedelta(seconds=31)).why


# --------------------------------------------------------------------------------------------------- a person's word


def test_without_a_persons_word_nothing_is_renewed_for_ever() -> None:
    told = incident(detection(signature(DNS))).acted(NOW - timedelta(hours=23, minutes=59))
    standing = held(discard(DNS), seconds=60)
    assert renewals(told, standing, ZONE, NOW)
    late = replace(told, alone_since=NOW - timedelta(hours=24))
    assert renewals(late, standing, ZONE, NOW) == ()
    assert renewals(late, standing, ZONE, NOW, alone=timedelta(hours=48))
    assert renewals(late.attended(NOW - timedelta(hours=1)), standing, ZONE, NOW)


def test_after_that_the_machine_asks_instead_of_acting() -> None:
    late = replace(incident(detection(signature(DNS))), alone_since=NOW - timedelta(hours=24))
    decision = decide(late, ZONE, (), NOW)
    assert isinstance(decision, Ask) and decision.rules == (discard(DNS),) and "24 h" in decision.why
    assert isinstance(decide(late.attended(NOW), ZONE, (), NOW), Mitigate)


def test_a_short_pause_does_not_begin_the_day_anew() -> None:
    first = incident(detection(signature(DNS))).acted(NOW)
    assert first.acted(NOW + timedelta(hours=5)).alone_since == NOW
    closed = replace(first, phase=Phase.CLOSED, closed=NOW + timedelta(minutes=1))
    for minutes, since in ((10, NOW), (20, None)):
        again = NOW + timedelta(minutes=minutes)
        back = replace(detection(signature(DNS), at=again), attack="another")
        assert merge(closed, back, ZONE, again).alone_since == since


def test_a_word_of_before_changes_nothing() -> None:
    acted = incident(detection(signature(DNS))).acted(NOW)
    assert acted.attended(NOW - timedelta(hours=1)) == acted
    untouched = incident(detection(signature(DNS)))
    assert untouched.attended(NOW).alone_since is None


def test_all_tcp_of_a_network_is_asked_about() -> None:
    network = IPv4Network("203.0.113.0/24")
    tcp, udp = (match(f"protocol ={name};", str(network)) for name in ("tcp", "udp"))
    decision = decide(incident(detection(signature(tcp), target=network)), ZONE, (), NOW)
    assert isinstance(decision, Ask) and "TCP" in decision.why
    assert isinstance(decide(incident(detection(signature(udp), target=network)), ZONE, (), NOW), Mitigate)
