"""Incidents: merging is a join, silence is no peace, nobody ends what another sees, pulses don't flap."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.action import Discard
from rules.errors import Refused
from rules.incident import PATIENCE, Incident, Phase, Standing, Wanted, merge, restore
from rules.match import Match
from rules.policy import Mitigate, closing, decide, renewals
from rules.quiet import prospect, step
from rules.rule import FlowSpec, RuleId
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import Mode, Zone

TARGET = IPv4Network("203.0.113.7/32")
ZONE = Zone("customers", (IPv4Network("203.0.113.0/24"),), mode=Mode.AUTO)
START = datetime(2026, 5, 4, 12, tzinfo=UTC)
DNS = Match.parse("match { destination 203.0.113.7/32; protocol =udp; source-port =53; }")
RULE = FlowSpec(DNS, Discard())
USUAL = Rate(100_000, 1e9)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def detection(
    seconds: float = 0,
    state: State = State.ONGOING,
    *,
    sensor: str = "a",
    attack: str = "1",
    sequence: int = 0,
    vantage: Vantage = Vantage.UPSTREAM,
    confirmed: bool = True,
    rate: Rate = USUAL,
    since: float = 0,
    vectors: tuple[VectorShare, ...] = (VectorShare(Vector("udp_amp", "dns"), 0.9, 0.95),),
    signatures: tuple[Signature, ...] = (Signature(DNS, 0.95, 0.0),),
) -> Detection:
    return Detection(
        sensor, attack, sequence, "customers", TARGET, state, vantage, confirmed, 3.0, "packets", rate, rate,
        vectors, signatures, 50, True, after(since), after(seconds),
    )  # fmt: skip


def opened(*detections: Detection) -> Incident:
    """Each merged at the time it was written."""
    incident: Incident | None = None
    for one in detections:
        incident = merge(incident, one, ZONE, one.seen)
    assert incident is not None
    return incident


def wanted(until: float, *, proposed: bool = False) -> tuple[Wanted, ...]:
    return (Wanted(RULE, after(until), proposed),)


# -------------------------------------------------------------------------------------------------------------- laws


@st.composite
def histories(draw: st.DrawFn) -> list[Detection]:
    """What up to three sensors say in turn, each with a clock that doesn't run backwards and a growing peak."""
    told: list[Detection] = []
    for sensor in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        vantage = draw(st.sampled_from(Vantage))
        clock = draw(st.integers(-60, 0))
        for attack in range(draw(st.integers(1, 3))):
            since, peak = clock, 0.0
            for sequence in range(draw(st.integers(1, 4))):
                clock += draw(st.integers(1, 20))
                peak = max(peak, draw(st.sampled_from([1e3, 1e5, 1e6])))
                told.append(
                    detection(
                        clock, draw(st.sampled_from(State)), sensor=sensor, attack=f"{sensor}-{attack}",
                        sequence=sequence, vantage=vantage, confirmed=draw(st.booleans()),
                        rate=Rate(peak, peak * 1000), since=since,
                    )
                )  # fmt: skip
    return told


@st.composite
def shuffled(draw: st.DrawFn) -> tuple[list[Detection], list[int], list[int]]:
    """Messages, and two orders of them with different duplicates."""
    told = draw(histories())
    places = list(range(len(told)))
    repeats = st.lists(st.sampled_from(places), max_size=4)
    return told, draw(st.permutations(places + draw(repeats))), draw(st.permutations(places + draw(repeats)))


def merged(detections: Sequence[Detection], now: datetime) -> Incident:
    incident: Incident | None = None
    for one in detections:
        incident = merge(incident, one, ZONE, now)
    assert incident is not None
    return incident


@given(shuffled(), st.integers(-20, 120))
def test_order_and_duplicates_leave_no_trace(orders: tuple[list[Detection], list[int], list[int]], at: int) -> None:
    told, one, other = orders
    assert merged([told[place] for place in one], after(at)) == merged([told[place] for place in other], after(at))


@given(histories(), st.integers(0, 60))
def test_merging_twice_changes_nothing(told: list[Detection], late: int) -> None:
    incident = opened(*sorted(told, key=lambda one: one.seen))
    now = max(one.seen for one in told) + timedelta(seconds=late)
    again = incident
    for one in told:
        again = merge(again, one, ZONE, now)
    assert (again.parts, again.peak, again.recurrence, again.opened) == (
        incident.parts, incident.peak, incident.recurrence, incident.opened,
    )  # fmt: skip


@given(histories(), histories(), st.integers(0, 400))
def test_a_sensor_never_closes_what_another_sees(mine: list[Detection], theirs: list[Detection], late: int) -> None:
    """Whatever the others say, as long as one sensor confirms the attack the incident stays open."""
    others = [replace(one, sensor=f"other-{one.sensor}") for one in theirs]
    now = after(late)
    incident = merged([*mine, *others, detection(late, sensor="z", attack="z", since=late - 1)], now)
    assert step(incident, (), ZONE, now).phase is Phase.OPEN
    assert closing(step(incident, wanted(late + 60), ZONE, now), wanted(late + 60), ZONE, now) == ()


@given(histories(), st.integers(0, 2_000))
def test_with_a_rule_in_force_only_upstream_evidence_closes(told: list[Detection], late: int) -> None:
    blind = [replace(one, vantage=Vantage.DOWNSTREAM) for one in told]
    incident = opened(*sorted(blind, key=lambda one: one.seen))
    now = max(one.seen for one in told) + timedelta(seconds=late)
    held = (Wanted(RULE, now + timedelta(seconds=1)),)
    assert step(incident, held, ZONE, now).phase is not Phase.CLOSED


@given(histories(), st.integers(0, 2_000), st.booleans())
def test_time_alone_never_opens_and_a_step_is_final_for_its_moment(
    told: list[Detection], late: int, filtered: bool
) -> None:
    incident = opened(*sorted(told, key=lambda one: one.seen))
    now = max(one.seen for one in told) + timedelta(seconds=late)
    held = (Wanted(RULE, now + timedelta(seconds=60)),) if filtered else ()
    stepped = step(incident, held, ZONE, now)
    assert step(stepped, held, ZONE, now) == stepped
    if incident.phase is Phase.QUIET:
        assert stepped.phase is not Phase.OPEN


@given(histories())
def test_every_incident_closes_once_its_rules_are_gone(told: list[Detection]) -> None:
    incident = opened(*sorted(told, key=lambda one: one.seen))
    assert step(incident, (), ZONE, after(10_000)).phase is Phase.CLOSED


# ----------------------------------------------------------------------------------------------------------- merging


def test_a_first_detection_opens_an_incident_with_its_facts() -> None:
    incident = opened(detection(2, State.STARTED))
    assert incident.phase is Phase.OPEN and incident.id is None
    assert (incident.opened, incident.last_activity) == (after(0), after(2))
    assert incident.rate(after(2)) == Rate(100_000, 1e9) == incident.peak
    assert [part.sensor for part in incident.witnesses(after(2))] == ["a"]
    assert incident.is_confirmed and incident.recurrence == 0


def test_rates_of_several_sensors_are_not_added_up() -> None:
    incident = opened(detection(rate=Rate(5_000, 9e9)), detection(1, sensor="b", rate=Rate(7_000, 1e9)))
    assert incident.rate(after(1)) == Rate(7_000, 9e9)


def test_vectors_of_all_sensors_are_merged_by_their_largest_share() -> None:
    dns, syn = Vector("udp_amp", "dns"), Vector("syn_flood")
    incident = opened(
        detection(vectors=(VectorShare(dns, 0.6, 0.7), VectorShare(syn, 0.4, 0.3))),
        detection(1, sensor="b", vectors=(VectorShare(syn, 0.9, 0.5),)),
    )
    assert incident.vectors == (VectorShare(syn, 0.9, 0.5), VectorShare(dns, 0.6, 0.7))


def test_statements_about_the_whole_attack_stand_behind_its_vectors() -> None:
    syn, many = Vector("syn_flood"), Vector("multi_vector")
    incident = opened(detection(vectors=(VectorShare(syn, 0.6, 0.3), VectorShare(many, 1.0, 1.0))))
    assert [share.vector for share in incident.vectors] == [syn, many]


def test_a_late_comer_does_not_bring_back_the_old_state() -> None:
    incident = opened(detection(0, State.STARTED), detection(5, State.OVER, sequence=5))
    late = merge(incident, detection(4, sequence=4), ZONE, after(5))
    assert (late.parts, late.phase, late.last_activity) == (incident.parts, Phase.QUIET, after(4))


def test_a_new_attack_of_the_same_sensor_is_a_recurrence() -> None:
    incident = opened(detection(), detection(5, State.OVER, sequence=1), detection(30, attack="2", since=29))
    assert (incident.phase, incident.recurrence) == (Phase.OPEN, 1)


def test_two_sensors_that_see_one_attack_are_no_recurrence() -> None:
    assert opened(detection(), detection(1, sensor="b", attack="other")).recurrence == 0


@pytest.mark.parametrize("age", [11, 3600, -11])
def test_messages_from_another_time_are_history_and_never_action(age: float) -> None:
    incident = merge(None, detection(0), ZONE, after(age))
    assert incident.witnesses(after(age)) == () and incident.phase is Phase.QUIET
    assert incident.is_confirmed and incident.peak == Rate(100_000, 1e9)


def test_an_old_over_does_not_end_a_part() -> None:
    incident = merge(opened(detection()), detection(5, State.OVER, sequence=1), ZONE, after(20))
    assert incident.parts[0].standing(after(20)) is Standing.SILENT
    assert step(incident, wanted(600), ZONE, after(599)).phase is Phase.QUIET


def test_a_detection_of_another_zone_or_target_is_refused_with_every_problem() -> None:
    stranger = replace(detection(), zone="elsewhere", target=IPv4Network("198.51.100.1/32"))
    with pytest.raises(Refused) as refused:
        merge(opened(detection()), stranger, ZONE, START)
    assert [problem.field for problem in refused.value.problems] == ["zone", "target", "target"]


def test_a_closed_incident_stays_closed_and_the_next_attack_inherits_its_recurrence() -> None:
    over = detection(5, State.OVER, sequence=1)
    closed = step(opened(detection(), over), (), ZONE, after(40)).barring([RuleId("ab")])
    assert closed.phase is Phase.CLOSED and closed.closed == after(40)
    assert merge(closed, over, ZONE, after(41)) == closed
    assert merge(closed, detection(6, State.OVER, attack="2"), ZONE, after(12)).phase is Phase.CLOSED
    again = merge(closed, detection(50, attack="2", since=49), ZONE, after(50))
    assert (again.id, again.phase, again.recurrence, again.opened) == (None, Phase.OPEN, 1, after(49))
    assert again.barred == {"ab"}
    much_later = merge(closed, detection(2000, attack="2", since=1999), ZONE, after(2000))
    assert (much_later.recurrence, much_later.barred) == (0, frozenset())


def test_an_incident_is_restored_from_its_stored_detections() -> None:
    told = [detection(0, State.STARTED), detection(1, sequence=1), detection(2, sensor="b")]
    assert restore(7, [(one, one.seen) for one in told], ZONE) == replace(opened(*told), id=7)


# ------------------------------------------------------------------------------------------------------------- quiet


def test_an_upstream_over_closes_after_the_hold_down() -> None:
    incident = opened(detection(), detection(5, State.OVER, sequence=1))
    assert step(incident, wanted(600), ZONE, after(34)).phase is Phase.QUIET
    closed = step(incident, wanted(600), ZONE, after(35))
    assert closed.phase is Phase.CLOSED
    [ending] = closing(closed, wanted(600), ZONE, after(35))
    assert ending.rule == RULE.id and "upstream" in ending.why


@pytest.mark.parametrize(("recurrence", "seconds"), [(0, 30), (1, 60), (2, 120), (3, 240), (4, 300), (99, 300)])
def test_the_hold_down_doubles_up_to_its_limit(recurrence: int, seconds: int) -> None:
    assert PATIENCE.held_down(recurrence) == timedelta(seconds=seconds)


def test_a_blinded_sensors_over_proves_nothing_until_the_rule_has_gone() -> None:
    over = detection(5, State.OVER, sequence=1, vantage=Vantage.DOWNSTREAM)
    incident = opened(detection(vantage=Vantage.DOWNSTREAM), over)
    quiet = step(incident, wanted(600), ZONE, after(599))
    assert quiet.phase is Phase.QUIET and closing(quiet, wanted(600), ZONE, after(599)) == ()
    assert "proves nothing" in prospect(quiet, wanted(600), ZONE, after(599)).why
    # The probe: the rule has expired, and the attack has a hold-down's time to show itself.
    assert step(quiet, (), ZONE, after(628)).phase is Phase.QUIET
    assert step(quiet, (), ZONE, after(629)).phase is Phase.CLOSED


def test_a_proposal_blinds_nobody() -> None:
    over = detection(5, State.OVER, sequence=1, vantage=Vantage.DOWNSTREAM)
    incident = step(opened(detection(vantage=Vantage.DOWNSTREAM), over), wanted(600, proposed=True), ZONE, after(35))
    assert incident.phase is Phase.CLOSED
    assert closing(incident, wanted(600, proposed=True), ZONE, after(35)) != ()


def test_an_upstream_sensor_that_saw_as_much_bears_out_a_blinded_one() -> None:
    behind = (detection(vantage=Vantage.DOWNSTREAM), detection(4, State.OVER, sequence=1, vantage=Vantage.DOWNSTREAM))
    before = (detection(1, sensor="b"), detection(6, State.OVER, sensor="b", sequence=1))
    assert step(opened(*behind, *before), wanted(600), ZONE, after(35)).phase is Phase.QUIET
    assert step(opened(*behind, *before), wanted(600), ZONE, after(36)).phase is Phase.CLOSED
    weak = [replace(one, peak=Rate(10, 1e4), rate=Rate(10, 1e4)) for one in before]
    assert step(opened(*behind, *weak), wanted(600), ZONE, after(599)).phase is Phase.QUIET
    unconfirmed = [replace(one, confirmed=False) for one in before]
    assert step(opened(*behind, *unconfirmed), wanted(600), ZONE, after(599)).phase is Phase.QUIET


def test_a_vanished_sensor_closes_nothing_before_the_rules_deadline() -> None:
    incident = opened(detection(), detection(1, sensor="b"), detection(5, State.OVER, sensor="b", sequence=1))
    assert step(incident, wanted(600), ZONE, after(100)).phase is Phase.QUIET
    assert step(incident, wanted(600), ZONE, after(599)).phase is Phase.QUIET
    outlook = prospect(incident, wanted(5_000), ZONE, after(4_999))
    assert outlook.closes is None and "no data from sensor a, so the rules stay" in outlook.why


def test_silence_without_rules_closes_when_a_rule_would_have_expired() -> None:
    incident = opened(detection())
    assert step(incident, (), ZONE, after(599)).phase is Phase.QUIET
    assert step(incident, (), ZONE, after(600)).phase is Phase.CLOSED


def test_a_suspicion_elsewhere_holds_up_nothing() -> None:
    suspicion = detection(34, sensor="b", confirmed=False)
    incident = opened(detection(), detection(5, State.OVER, sequence=1), suspicion)
    assert step(incident, wanted(600), ZONE, after(35)).phase is Phase.CLOSED


def test_among_suspicions_every_sensor_counts() -> None:
    over = detection(5, State.OVER, sequence=1, confirmed=False)
    incident = opened(detection(confirmed=False), over, detection(40, sensor="b", confirmed=False))
    assert step(incident, (), ZONE, after(40)).phase is Phase.OPEN


# -------------------------------------------------------------------------------------------------------- simulation


@dataclass
class Appliance:
    """The speaker's loop over the pure functions: one incident, its rules, and what went out."""

    zone: Zone
    incident: Incident | None = None
    held: dict[RuleId, Wanted] = field(default_factory=dict)
    announced: list[float] = field(default_factory=list)
    withdrawn: list[float] = field(default_factory=list)
    lifetimes: list[float] = field(default_factory=list)

    def hear(self, one: Detection, at: float) -> None:
        self.incident = merge(self.incident, one, self.zone, after(at))
        decision = decide(self.incident, self.zone, tuple(self.held.values()), after(at))
        if isinstance(decision, Mitigate):
            for rule in decision.rules:
                self.held[rule.id] = Wanted(rule, after(at + decision.lifetime_seconds))
                self.announced.append(at)
                self.lifetimes.append(decision.lifetime_seconds)
            self.incident = self.incident.with_rules(rule.id for rule in decision.rules)
        for renewal in renewals(self.incident, tuple(self.held.values()), self.zone, after(at)):
            self.held[renewal.rule] = replace(self.held[renewal.rule], deadline=renewal.deadline)

    def tick(self, at: float) -> None:
        for expired in [rule for rule in self.held.values() if rule.deadline <= after(at)]:
            del self.held[expired.id]
            self.withdrawn.append(at)
        if self.incident is not None:
            held = tuple(self.held.values())
            self.incident = step(self.incident, held, self.zone, after(at))
            for ending in closing(self.incident, held, self.zone, after(at)):
                del self.held[ending.rule]
                self.withdrawn.append(at)


def pulses(on: int, off: int, until: int, vantage: Vantage) -> Iterator[tuple[int, Detection]]:
    """One detection a second while a pulse is on, then over; a new attack id each time."""
    for start in range(0, until, on + off):
        for second in range(on + 1):
            state = State.STARTED if second == 0 else State.OVER if second == on else State.ONGOING
            at = start + second
            yield at, detection(at, state, attack=f"p{start}", sequence=second, vantage=vantage, since=start)


def run(appliance: Appliance, told: Iterator[tuple[int, Detection]], until: int) -> None:
    by_second: dict[int, list[Detection]] = {}
    for at, one in told:
        by_second.setdefault(at, []).append(one)
    for at in range(until):
        for one in by_second.get(at, []):
            appliance.hear(one, at)
        appliance.tick(at)


@pytest.mark.parametrize("lifetime", [60, 600, 3600])
def test_ten_minutes_of_pulses_cost_one_announcement_and_one_withdrawal(lifetime: int) -> None:
    appliance = Appliance(replace(ZONE, rule_lifetime_seconds=lifetime))
    run(appliance, pulses(5, 25, 600, Vantage.UPSTREAM), 2_000)
    assert appliance.announced == [0]
    assert len(appliance.withdrawn) == 1 and appliance.withdrawn[0] > 575
    assert appliance.incident is not None and appliance.incident.phase is Phase.CLOSED


@given(on=st.integers(1, 20), off=st.integers(1, 28))
def test_no_pulse_shape_with_short_gaps_flaps(on: int, off: int) -> None:
    appliance = Appliance(ZONE)
    run(appliance, pulses(on, off, 120, Vantage.UPSTREAM), 600)
    assert (len(appliance.announced), len(appliance.withdrawn)) == (1, 1)


def test_an_attack_behind_the_rule_is_probed_with_growing_lifetimes() -> None:
    """A downstream sensor sees the attack only while no rule filters it; the attack lasts for an hour."""
    appliance = Appliance(ZONE)
    attack, filtered = 0, False
    for at in range(3_600):
        was_filtered, filtered = filtered, bool(appliance.held)
        if was_filtered and not filtered:
            attack += 1
        state = State.OVER if filtered and not was_filtered else State.ONGOING
        if state is State.OVER or not filtered:
            one = detection(at, state, attack=f"d{attack}", sequence=at, vantage=Vantage.DOWNSTREAM, since=at)
            appliance.hear(one, at)
        appliance.tick(at)
    assert appliance.lifetimes == [600, 1200, 2400]
    assert appliance.incident is not None and appliance.incident.recurrence == 2
