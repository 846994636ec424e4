"""The database thread against rows that nobody foresaw, and objections that do not last."""

import queue
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from speaker_lab import LIMITS, ZONE, flowspec, neighbour

from rules.guard import Origin, Request
from speaker.clock import Clock
from speaker.memory import Away, Configured, Known, Look, Memory, ToLoop
from speaker.settings import Settings
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
    bench.memory.remember(2)
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
