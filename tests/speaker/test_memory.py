"""The database thread against rows that nobody foresaw, and objections that do not last."""

import queue
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from speaker_lab import LIMITS, ZONE, flowspec, neighbour

from rules.guard import Origin, Request
from rules.messages import Accepted, Answer, DetectionReport, Heartbeat, Statistics
from rules.neighbour import SessionFamily
from rules.rule import RuleId
from rules.text import parse_flowspec
from rules.traffic import Detection, Rate, Signature, State, Vantage, Vector, VectorShare
from rules.zone import Mode
from speaker.clock import Clock, Moment
from speaker.exchange import Away, Configured, Known, Left, Look, Report, Switched, ToLoop
from speaker.memory import Memory
from speaker.settings import Settings
from speaker.verdicts import CHUNK, LEISURE_SECONDS
from speaker.wishes import Remembered, Wish
from store import canonical
from store.records import World
from store.store import Store

PATIENCE = 20.0
NEIGHBOURS = (neighbour("bird", 0),)


class SetClock(Clock):
    """The machine's clock with a wall clock that a test may set wrong."""

    ahead = timedelta()

    def wall(self) -> datetime:
        return super().wall() + self.ahead


class Bench:
    """A memory thread on a database of its own, and what it told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stopbank.db"
        self.clock = SetClock()
        self.told: queue.SimpleQueue[ToLoop] = queue.SimpleQueue()
        self.memory = Memory(self.clock, self.told.put)
        self.settings = Settings(folder, f"sqlite:///{self.path}", NEIGHBOURS, limits=LIMITS)

    def start(self) -> None:
        self.memory.start()
        self.memory.ask(Configured(self.settings))

    def known(self) -> Known:
        while not isinstance(told := self.told.get(timeout=PATIENCE), Known):
            pass
        return told

    def heard(self) -> list[Known]:
        """What was told since the last call, without waiting."""
        return [told for _ in range(self.told.qsize()) if isinstance(told := self.told.get(), Known)]

    def edit(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(statement)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    now = datetime.now(UTC)
    with Store.open(made.path) as store:
        store.put_zone(ZONE, "test", now)
        request = Request(flowspec(1), "operator", Origin.OPERATOR, 600, is_operator=True)
        deadline = now + timedelta(seconds=600)
        world = World(NEIGHBOURS, limits=LIMITS)
        store.admit(request, world, deadline=deadline, actor="test", reason="test", now=now)
    yield made
    made.memory.stop()


def test_a_row_that_nobody_foresaw_is_reported_and_the_thread_goes_on_once_it_is_mended(bench: Bench) -> None:
    bench.edit("UPDATE zones SET document = 'no JSON'")
    bench.start()
    away = bench.told.get(timeout=PATIENCE)
    assert isinstance(away, Away) and "JSON" in away.why
    bench.edit("DELETE FROM zones")
    (offer,) = bench.known().offers
    assert "guard.ownership.outside" in offer.objection


def test_an_objection_ends_when_the_clock_is_set_right(bench: Bench) -> None:
    bench.clock.ahead = timedelta(days=-400)
    bench.start()
    (offer,) = bench.known().offers
    assert "guard.lifetime.cap" in offer.objection
    bench.clock.ahead = timedelta()
    bench.edit("UPDATE counters SET value = value + 1")
    bench.memory.ask(Look())
    (offer,) = bench.known().offers
    assert offer.objection == ""


def test_lowered_budgets_stop_new_rules_and_leave_those_that_stand(bench: Bench) -> None:
    bench.settings = replace(bench.settings, limits=replace(LIMITS, total_rules=1))
    now = datetime.now(UTC)
    with Store.open(bench.path) as store:
        request = Request(flowspec(2), "operator", Origin.OPERATOR, 600, is_operator=True)
        deadline = now + timedelta(seconds=600)
        world = World(NEIGHBOURS, limits=LIMITS)
        store.admit(request, world, deadline=deadline, actor="test", reason="test", now=now)
    bench.start()
    assert [offer.objection for offer in bench.known().offers] == ["", ""]


def test_a_rule_that_is_objected_to_ends_at_its_deadline_all_the_same(bench: Bench) -> None:
    bench.edit("DELETE FROM zones")
    bench.clock.ahead = timedelta(seconds=601)
    bench.start()
    assert len(bench.known().offers) == 1
    assert bench.known().offers == ()
    with Store.open(bench.path) as store:
        assert store.wanted() == ()


def test_an_empty_file_in_the_place_of_the_database_ends_no_rule(bench: Bench) -> None:
    aside = bench.path.with_suffix(".aside")
    bench.path.rename(aside)
    bench.memory.remember(2, {})
    bench.start()
    away = bench.told.get(timeout=PATIENCE)
    assert isinstance(away, Away) and "is empty" in away.why
    for suffix in ("-wal", "-shm"):
        bench.path.with_name(bench.path.name + suffix).unlink(missing_ok=True)
    aside.rename(bench.path)
    (offer,) = bench.known().offers
    assert offer.objection == ""


def test_a_new_database_is_taken_where_none_was_known(bench: Bench) -> None:
    bench.path.unlink()
    bench.start()
    assert bench.known().offers == ()


def set_protected(settings: Settings) -> Settings:
    return replace(settings, protected=(ip_network("10.0.0.0/16"),))


def set_permitted(settings: Settings) -> Settings:
    (one,) = settings.neighbours
    return replace(settings, neighbours=(replace(one, permitted=(ip_network("192.0.2.0/24"),)),))


def set_profile(settings: Settings) -> Settings:
    (one,) = settings.neighbours
    return replace(settings, neighbours=(replace(one, families=frozenset({SessionFamily.IPV6_FLOW})),))


def set_limits(settings: Settings) -> Settings:
    return replace(settings, limits=replace(settings.limits, manual_lifetime_seconds=60))


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        (set_protected, "guard.protected.overlap"),
        (set_permitted, "guard.neighbour.none"),
        (set_profile, "guard.neighbour.none"),
        (set_limits, "guard.lifetime.cap"),
    ],
)
def test_a_verdict_is_not_used_in_another_world(
    bench: Bench, change: Callable[[Settings], Settings], objection: str
) -> None:
    bench.start()
    (offer,) = bench.known().offers
    assert offer.objection == ""
    bench.memory.ask(Configured(change(bench.settings)))
    (offer,) = bench.known().offers
    assert objection in offer.objection


@pytest.mark.parametrize(
    ("edit", "objection"),
    [
        ("UPDATE rules SET origin = 'sensor', collateral = 0.5", "guard.collateral.limit"),
        ("UPDATE rules SET is_operator = 0", "guard.ownership.tenant"),
        ("UPDATE rules SET deadline = '2099-01-01 00:00:00.000000'", "guard.lifetime.cap"),
        ("DELETE FROM zones", "guard.ownership.outside"),
        ("UPDATE rules SET text = replace(text, '=53', '=54')", None),
        ("UPDATE rules SET owner = 'eve'", None),
        ("UPDATE rules SET intent = 'ended'", None),
    ],
)
def test_a_verdict_is_not_used_for_a_row_or_zone_that_changed(bench: Bench, edit: str, objection: str | None) -> None:
    if "is_operator" in edit:
        bench.edit("UPDATE zones SET document = replace(document, '\"operator\"', '\"somebody\"')")
    bench.start()
    (offer,) = bench.known().offers
    assert offer.objection == ""
    bench.edit(edit)
    bench.edit("UPDATE counters SET value = value + 1")
    bench.memory.ask(Look())
    offers = bench.known().offers
    if objection is None:
        assert offers == ()
    else:
        assert [objection in one.objection for one in offers] == [True]


def test_what_the_loop_would_not_take_is_told_again_when_the_switch_is_lifted(bench: Bench) -> None:
    bench.start()
    (first,) = bench.known().offers
    bench.memory.ask(Switched(True))
    assert bench.known().offers == (first,)


def detection(now: datetime, host: int = 9) -> Detection:
    """A confirmed flood on a host that has no rule yet."""
    rate, target = Rate(100_000, 800_000_000), ip_network(f"203.0.113.{host}/32")
    match = parse_flowspec(
        f"match {{ destination {target}; protocol =udp; source-port =53; }} then {{ discard; }}"
    ).match
    return Detection(
        sensor="edge",
        attack=f"a{host}",
        sequence=0,
        zone=ZONE.name,
        target=target,
        state=State.STARTED,
        vantage=Vantage.UPSTREAM,
        confirmed=True,
        severity=10,
        metric="packets",
        rate=rate,
        peak=rate,
        vectors=(VectorShare(Vector("udp_amp", "dns"), 0.99, 0.99),),
        signatures=(Signature(match, 0.99, 0.0),),
        sources=1000,
        spoofed=False,
        first_seen=now,
        seen=now,
    )


def test_what_a_detection_made_goes_out_before_anything_is_read_back_and_is_not_judged_twice(bench: Bench) -> None:
    with Store.open(bench.path) as store:
        store.put_zone(replace(ZONE, mode=Mode.AUTO), "test", datetime.now(UTC))
    bench.start()
    bench.known()
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    report = DetectionReport("edge", detection(datetime.now(UTC)))
    bench.memory.ask(Report(report, answers.put))
    first, then = bench.known(), bench.known()
    assert isinstance(answers.get(timeout=PATIENCE), Accepted)
    (offer,) = first.offers
    assert not first.is_complete and not offer.objection and offer.record.rule.target == report.detection.target
    # The very offer: what stands in the database is what was told.
    assert then.is_complete and any(one is offer for one in then.offers)


def test_work_that_waits_for_new_rules_does_not_wait_for_ever(bench: Bench) -> None:
    with Store.open(bench.path) as store:
        store.put_zone(replace(ZONE, mode=Mode.AUTO), "test", datetime.now(UTC))
    bench.start()
    bench.known()
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    for host in range(10, 250):
        bench.memory.ask(Report(DetectionReport("edge", detection(datetime.now(UTC), host)), answers.put))
        assert isinstance(answers.get(timeout=PATIENCE), Accepted)
        if any(known.is_complete for known in bench.heard()):
            return
    pytest.fail("the database was not read while rules kept being made")


def test_a_heartbeat_is_answered_at_once_and_written_with_the_rest(bench: Bench) -> None:
    bench.start()
    bench.known()
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    bench.memory.ask(Report(Heartbeat("edge", Statistics.of({"packets_total": 7})), answers.put))
    assert isinstance(answers.get(timeout=PATIENCE), Accepted)
    with Store.open(bench.path) as store:
        give_up = time.monotonic() + PATIENCE
        while not (found := store.sensors()) and time.monotonic() < give_up:
            pass
    assert [(one.name, one.statistics) for one in found] == [("edge", {"packets_total": 7})]


def carried(bench: Bench) -> dict[RuleId, Remembered]:
    """What a predecessor wrote of every rule of the database, once there are more than the thread judges at a time."""
    now = datetime.now(UTC)
    with Store.open(bench.path) as store, store.together():
        for number in range(2, CHUNK + 10):
            request = Request(flowspec(number), "operator", Origin.OPERATOR, 600, is_operator=True)
            deadline = now + timedelta(seconds=600)
            world = World(NEIGHBOURS, limits=LIMITS)
            store.admit(request, world, deadline=deadline, actor="test", reason="test", now=now)
        return {
            one.id: Remembered.of(
                Wish(
                    rule=one.rule,
                    deadline=Moment.of(one.deadline, bench.clock),
                    origin=one.origin,
                    generation=one.generation,
                    owner=one.owner,
                    zone=one.zone,
                )
            )
            for one in store.wanted()
        }


def test_what_ended_and_what_is_new_is_told_before_what_stands_is_judged_again(bench: Bench) -> None:
    wishes = carried(bench)
    ended, new, *standing = wishes
    bench.edit(f"UPDATE rules SET intent = 'ended' WHERE rule_id = '{ended}'")
    bench.memory.remember(0, {id: wish for id, wish in wishes.items() if id != new})
    bench.start()
    left = bench.told.get(timeout=PATIENCE)
    assert isinstance(left, Left) and left.rules == {new, *standing}
    first = bench.known()
    assert [offer.record.id for offer in first.offers] == [new] and not first.is_complete
    with pytest.raises(queue.Empty):
        bench.told.get(timeout=LEISURE_SECONDS / 5)
    bench.memory.at_leisure()
    while not (known := bench.known()).is_complete:
        pass
    assert {offer.record.id for offer in known.offers} == {new, *standing}


@pytest.mark.parametrize(
    "edit",
    ["generation = 2", "owner = 'eve'", "zone = 'other'", "origin = 'sensor'", "text = replace(text, '=53', '=54')"],
)
def test_a_row_that_differs_from_the_journal_is_never_passed_off_as_one_that_stands(bench: Bench, edit: str) -> None:
    wishes = carried(bench)
    changed = next(reversed(wishes))
    bench.edit(f"UPDATE rules SET {edit} WHERE rule_id = '{changed}'")
    mend_hash(bench, changed)
    bench.memory.remember(0, wishes)
    bench.start()
    # Nobody says that ExaBGP was heard: what is told now was judged first.
    told = bench.told.get(timeout=PATIENCE)
    assert isinstance(told, Left)
    if changed in told.rules:
        (offer,) = bench.known().offers
        assert offer.record.id == changed
    else:
        assert "text" in edit


def mend_hash(bench: Bench, rule: RuleId) -> None:
    """Whoever can write the row can write its hash as well."""
    with closing(sqlite3.connect(bench.path)) as connection, connection:
        query = "SELECT text, owner, zone, generation FROM rules WHERE rule_id = ?"
        row = connection.execute(query, (rule,)).fetchone()
        connection.execute("UPDATE rules SET hash = ? WHERE rule_id = ?", (canonical.rule_hash(*row), rule))


def test_what_stands_is_objected_to_like_anything_else(bench: Bench) -> None:
    wishes = carried(bench)
    bench.edit("DELETE FROM zones")
    bench.memory.remember(0, wishes)
    bench.memory.at_leisure()
    bench.start()
    while not (known := bench.known()).is_complete:
        pass
    assert len(known.offers) == len(wishes) and all(offer.objection for offer in known.offers)
