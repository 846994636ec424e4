"""From a detection to a rule in a real database and on to its end; time is set by the test."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from speaker_lab import LIMITS, neighbour

from rules.match import Match
from rules.messages import Accepted, Answer, Declined, DetectionReport
from rules.text import parse_flowspec
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import Mode, Zone
from speaker.clock import Clock
from speaker.incidents import Incidents
from speaker.settings import Settings
from store.records import Intent
from store.store import Store

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TARGET = IPv4Network("203.0.113.7/32")
ZONE = Zone("web", (IPv4Network("203.0.113.0/24"),), mode=Mode.AUTO, rule_lifetime_seconds=60)
MATCH = parse_flowspec("match { destination 203.0.113.7/32; protocol =udp; source-port =53; } then { discard; }").match


class Ticking(Clock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return (self.time - NOW).total_seconds()

    def wall(self) -> datetime:
        return self.time


def report(
    sequence: int, at: datetime, state: State = State.ONGOING, match: Match = MATCH, confirmed: bool = True
) -> DetectionReport:
    rate = Rate(100_000, 800_000_000)
    detection = Detection(
        sensor="edge",
        attack="a1",
        sequence=sequence,
        zone=ZONE.name,
        target=TARGET,
        state=state,
        vantage=Vantage.UPSTREAM,
        confirmed=confirmed,
        severity=10,
        metric="packets",
        rate=rate,
        peak=rate,
        vectors=(VectorShare(Vector("udp_amp", "dns"), 0.99, 0.99),),
        signatures=(Signature(match, 0.99, 0.0),),
        sources=1000,
        spoofed=False,
        first_seen=NOW,
        seen=at,
    )
    return DetectionReport("edge", detection)


class Bench:
    """Incidents on a database of their own."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.clock, self.store = Ticking(), store
        self.settings = Settings(folder, "", (neighbour("bird", 0),), limits=LIMITS)
        self.incidents = Incidents(store, self.settings, self.clock)

    def at(self, seconds: float) -> datetime:
        self.clock.time = NOW + timedelta(seconds=seconds)
        return self.clock.time

    def take(self, sequence: int, seconds: float, state: State = State.ONGOING, confirmed: bool = True) -> Answer:
        now = self.at(seconds)
        return self.incidents.take(report(sequence, now, state, confirmed=confirmed), now).answer

    def tick(self, seconds: float) -> None:
        self.incidents.tick(self.at(seconds))


@pytest.fixture
def bench(tmp_path: Path) -> object:
    with Store.open(tmp_path / "db") as store:
        store.put_zone(ZONE, "test", NOW)
        yield Bench(store, tmp_path)


def test_a_confirmed_detection_makes_a_rule_that_is_renewed_and_ends_after_the_hold_down(bench: Bench) -> None:
    answer = bench.take(0, 0, State.STARTED)
    assert isinstance(answer, Accepted)
    (record,) = bench.store.wanted()
    assert (record.rule.id, record.zone, record.incident) == (record.id, "web", answer.body["incident"])
    assert record.deadline == NOW + timedelta(seconds=60)
    bench.take(1, 30)
    (renewed,) = bench.store.wanted()
    assert renewed.deadline == NOW + timedelta(seconds=90)
    bench.take(2, 31, State.OVER)
    hold_down = bench.settings.patience.hold_down
    bench.tick(31 + hold_down - 2)
    assert len(bench.store.wanted()) == 1
    for more in range(5):
        bench.tick(31 + hold_down + 2 * more)
    assert bench.store.wanted() == ()
    ended = bench.store.rule(record.id)
    assert ended is not None and ended.intent is Intent.ENDED and "quiet" in str(ended.ended_why)
    assert bench.store.incidents()[0].state == "closed"


def test_only_rules_that_are_wanted_now_and_on_disk_are_handed_on(bench: Bench) -> None:
    taken = bench.incidents.take(report(0, bench.at(0)), bench.at(0))
    assert taken.wanted == bench.store.wanted() != ()
    assert bench.incidents.take(report(1, bench.at(1)), bench.at(1)).wanted == ()


def test_a_proposal_is_not_handed_on(bench: Bench) -> None:
    bench.store.put_zone(replace(ZONE, mode=Mode.PROPOSE), "test", NOW)
    taken = bench.incidents.take(report(0, bench.at(0)), bench.at(0))
    assert bench.store.proposed() and taken.wanted == ()


def test_a_suspicion_is_recorded_and_makes_no_rule(bench: Bench) -> None:
    assert isinstance(bench.take(0, 0, confirmed=False), Accepted)
    assert bench.store.wanted() == ()
    assert len(bench.store.incidents()) == 1


def test_the_same_message_twice_changes_nothing(bench: Bench) -> None:
    bench.take(0, 0)
    before = (bench.store.wanted(), len(bench.store.incidents()))
    bench.take(0, 0)
    assert (bench.store.wanted(), len(bench.store.incidents())) == before
    assert len(bench.store.detections(1)) == 1


def test_history_is_recorded_and_makes_no_rule(bench: Bench) -> None:
    now = bench.at(0)
    old = report(0, now)
    taken = bench.incidents.take(DetectionReport("edge", old.detection, is_history=True), now)
    assert isinstance(taken.answer, Accepted) and not taken.wanted
    assert bench.store.wanted() == ()


def test_an_unknown_zone_is_declined_for_good(bench: Bench) -> None:
    bench.store.remove_zone("web", "test", NOW)
    answer = bench.take(0, 0)
    assert isinstance(answer, Declined) and not answer.retry


def test_what_a_person_withdrew_does_not_come_back(bench: Bench) -> None:
    bench.take(0, 0)
    (record,) = bench.store.wanted()
    bench.store.withdraw(record.id, "alice", "no", bench.at(1))
    bench.take(1, 2)
    assert bench.store.wanted() == ()


def test_while_the_kill_switch_is_thrown_no_rule_is_made(bench: Bench) -> None:
    bench.incidents.may_act = False
    bench.take(0, 0)
    assert bench.store.wanted() == ()
    assert "kill switch" in str(bench.store.incidents()[0].document["why"])
    bench.incidents.may_act = True
    bench.take(1, 1)
    assert len(bench.store.wanted()) == 1


def test_open_incidents_survive_a_restart(bench: Bench, tmp_path: Path) -> None:
    bench.take(0, 0)
    (record,) = bench.store.wanted()
    again = Incidents(bench.store, bench.settings, bench.clock)
    again.take(report(1, bench.at(5)), bench.at(5))
    assert [one.id for one in bench.store.wanted()] == [record.id]
    assert len(bench.store.incidents()) == 1


def test_an_incident_that_cannot_be_read_back_is_left_out_and_hides_nothing(bench: Bench) -> None:
    bench.take(0, 0)
    (broken,) = bench.store.incidents()
    bench.store.save_incident(replace(broken, document={**broken.document, "recurrence": "often"}))
    bench.incidents = Incidents(bench.store, bench.settings, bench.clock)
    assert isinstance(bench.take(1, 30), Accepted)


def test_a_proposal_that_nobody_answered_in_time_is_made_anew_while_the_attack_goes_on(bench: Bench) -> None:
    bench.store.put_zone(replace(ZONE, mode=Mode.PROPOSE), "test", NOW)
    bench.take(0, 0)
    (first,) = bench.store.proposed()
    bench.take(1, 61)
    (second,) = bench.store.proposed()
    assert second.generation == first.generation + 1
    bench.store.approve(second.id, second.hash, "ann", bench.at(62))
    assert [one.id for one in bench.store.wanted()] == [first.id]


DAY = 400
"""Of these tests: how long the machine may act alone."""


def _attacked_for_a_day(bench: Bench, sequence: int = 0) -> int:
    """A sensor says for a day that the attack goes on; gives the next number and leaves the clock there."""
    limits = replace(bench.settings.limits, alone_seconds=DAY)
    bench.settings = bench.incidents.settings = replace(bench.settings, limits=limits)
    for seconds in range(0, DAY + 1, 50):
        bench.take(sequence, seconds)
        sequence += 1
    return sequence


def test_what_one_sensor_says_for_days_stands_for_a_day_and_then_a_person_is_asked(bench: Bench) -> None:
    sequence = _attacked_for_a_day(bench)
    (standing,) = bench.store.wanted()
    assert standing.deadline <= NOW + timedelta(seconds=DAY + 60)
    bench.take(sequence, DAY + 55)
    assert bench.store.wanted()[0].deadline == standing.deadline
    # The speaker ends it at its deadline; what is asked for after that waits.
    bench.store.expire(standing.id, bench.at(DAY + 65))
    bench.take(sequence + 1, DAY + 66)
    assert bench.store.wanted() == ()
    (asked,) = bench.store.proposed()
    assert "without a person's word" in asked.reason
    # Neither a restart nor saying it again helps.
    bench.incidents = Incidents(bench.store, bench.settings, bench.clock)
    bench.take(sequence + 2, DAY + 70)
    assert bench.store.wanted() == ()
    bench.store.approve(asked.id, asked.hash, "cli:ann", bench.at(DAY + 80))
    bench.take(sequence + 3, DAY + 110)
    assert bench.store.wanted()[0].deadline == NOW + timedelta(seconds=DAY + 170)


def test_a_persons_word_lets_it_stand_for_another_day(bench: Bench) -> None:
    bench.take(0, 0)
    (record,) = bench.store.wanted()
    bench.store.extend(record.id, NOW + timedelta(seconds=100), "cli:ann", "a real one", bench.at(5))
    sequence = _attacked_for_a_day(bench, 1)
    bench.take(sequence, DAY + 4)
    bench.store.extend(record.id, NOW + timedelta(seconds=DAY + 100), "cli:ann", "still real", bench.at(DAY + 4))
    bench.take(sequence + 1, DAY + 90)
    assert bench.store.wanted()[0].deadline == NOW + timedelta(seconds=DAY + 150)


def _told(bench: Bench) -> list[object]:
    """What people were told of attacks that go on without them, oldest first."""
    news = (one.payload["unattended"] for one in bench.store.outbox() if one.kind == "incident.unattended")
    return [*news][::-1]


def test_people_are_told_at_half_of_the_time_alone_and_at_its_end_once_each_and_anew_after_their_word(
    bench: Bench,
) -> None:
    # It has acted alone since the second message, at 50 s.
    sequence = _attacked_for_a_day(bench)
    assert _told(bench) == ["half"]
    bench.take(sequence, DAY + 50)
    assert _told(bench) == ["half", "all"]
    first = next(one for one in reversed(bench.store.outbox()) if one.kind == "incident.unattended")
    assert first.created == NOW + timedelta(seconds=50 + DAY / 2)
    assert first.payload["alone_until"] == (NOW + timedelta(seconds=50 + DAY)).isoformat()
    bench.incidents = Incidents(bench.store, bench.settings, bench.clock)
    bench.take(sequence + 1, DAY + 55)
    assert _told(bench) == ["half", "all"], "a restarted speaker says it again"
    (record,) = bench.store.wanted()
    bench.store.extend(record.id, NOW + timedelta(seconds=DAY + 150), "cli:ann", "still real", bench.at(DAY + 56))
    for number, seconds in enumerate(range(60, DAY, 30), sequence + 2):
        bench.take(number, DAY + seconds)
    assert _told(bench) == ["half", "all", "half"]


def test_a_word_before_half_of_the_time_is_over_puts_the_notice_off(bench: Bench) -> None:
    limits = replace(bench.settings.limits, alone_seconds=DAY)
    bench.settings = bench.incidents.settings = replace(bench.settings, limits=limits)
    for number, seconds in enumerate(range(0, DAY - 50, 50)):
        bench.take(number, seconds)
        if seconds == 150:
            (record,) = bench.store.wanted()
            bench.store.extend(record.id, NOW + timedelta(seconds=250), "cli:ann", "a real one", bench.at(160))
    assert _told(bench) == []
    bench.take(DAY, 160 + DAY // 2)
    assert _told(bench) == ["half"]
