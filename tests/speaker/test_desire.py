"""What is wanted, against clocks that a test sets: on disk before it goes out, and gone at its deadline."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from speaker_lab import LIMITS, ZONE, flowspec, neighbour

from rules.guard import Origin, Request, Surroundings
from rules.messages import KillMode
from rules.rule import FlowSpec
from speaker import journal
from speaker.clock import Clock
from speaker.desire import Desire, Offer
from speaker.journal import Contents, Entry
from speaker.reconcile import Ledger
from speaker.wishes import Remembered
from store.records import RuleRecord, World
from store.store import Store

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SURROUNDINGS = Surroundings((ZONE,), (neighbour("bird", 0),), limits=LIMITS)


class Clocks(Clock):
    """Both clocks, set apart from each other."""

    def __init__(self) -> None:
        self.seconds, self.time = 1000.0, NOW

    def now(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return self.time

    def boot(self) -> str:
        return "boot"

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds
        self.time += timedelta(seconds=seconds)


class Paper:
    """A journal that is on disk when the test says so."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.ticket = 0

    def append(self, entries: list[Entry]) -> int:
        self.entries += entries
        self.ticket += 1
        return self.ticket


class Bench:
    """Desire with everything around it."""

    def __init__(self, store: Store) -> None:
        self.store, self.clocks, self.paper, self.ledger = store, Clocks(), Paper(), Ledger()
        self.ledger.set_neighbours([neighbour("bird", 0)], 0)
        self.ledger.found({}, 0)
        self.desire = Desire(self.ledger, self.paper, self.clocks)  # type: ignore[arg-type]

    def record(self, rule: FlowSpec, seconds: float = 100, origin: Origin = Origin.OPERATOR) -> RuleRecord:
        request = Request(rule, "operator", origin, seconds, is_operator=True, collateral=0.0)
        now = self.clocks.wall()
        world = World((neighbour("bird", 0),), limits=LIMITS)
        deadline = now + timedelta(seconds=seconds)
        return self.store.admit(request, world, deadline=deadline, actor="t", reason="t", now=now)[0]

    def known(self, *records: RuleRecord) -> None:
        self.desire.known([Offer(record) for record in records], is_complete=True)

    def said(self) -> list[str]:
        """What goes to ExaBGP now."""
        lines = []
        while (command := self.ledger.next_command(self.clocks.now())) is not None:
            lines.append(command.verb.value)
            self.ledger.answered(command, True, self.clocks.now())
        return lines


@pytest.fixture
def bench(tmp_path: Path) -> object:
    with Store.open(tmp_path / "db") as store:
        store.put_zone(ZONE, "test", NOW)
        yield Bench(store)


def test_a_rule_goes_out_only_after_its_line_is_on_disk(bench: Bench) -> None:
    bench.known(bench.record(flowspec(1)))
    assert bench.said() == [] and not bench.desire.is_on_disk
    bench.desire.synced(bench.paper.ticket)
    assert bench.said() == ["announce"] and bench.desire.is_on_disk


def test_many_rules_go_out_in_parts_and_all_of_them_go(bench: Bench) -> None:
    bench.known(*(bench.record(flowspec(number)) for number in range(5)))
    assert bench.desire.synced(1, limit=2)
    assert bench.said() == ["announce"] * 2 and not bench.desire.is_on_disk
    assert bench.desire.synced(1, limit=2)
    assert not bench.desire.synced(1, limit=2)
    assert bench.said() == ["announce"] * 3 and bench.desire.is_on_disk


def test_a_rule_that_is_no_longer_wanted_goes_at_once_and_the_journal_knows(bench: Bench) -> None:
    bench.known(bench.record(flowspec(1)))
    bench.desire.synced(1)
    bench.said()
    bench.known()
    assert bench.said() == ["withdraw"]
    assert bench.paper.entries[-1] == journal.ended(flowspec(1).id)


@pytest.mark.parametrize("step", [-86_400, -30, 30, 86_400])
def test_a_step_of_the_wall_clock_neither_ends_nor_extends_a_rule(bench: Bench, step: float) -> None:
    record = bench.record(flowspec(1), seconds=100)
    bench.known(record)
    bench.desire.synced(1)
    bench.said()
    bench.clocks.time += timedelta(seconds=step)
    bench.known(record)
    bench.clocks.pass_by(99)
    assert bench.desire.due() == ()
    bench.clocks.pass_by(1.5)
    (expiry,) = bench.desire.due()
    assert expiry.late_seconds == pytest.approx(0.5)
    assert bench.said() == ["withdraw"]
    # The database has not heard of it yet: it must not come back.
    bench.known(record)
    bench.desire.synced(99)
    assert bench.said() == []


def test_an_extension_moves_the_deadline_without_a_word_to_exabgp(bench: Bench) -> None:
    bench.known(bench.record(flowspec(1), seconds=100))
    bench.desire.synced(1)
    bench.said()
    bench.store.extend(flowspec(1).id, NOW + timedelta(seconds=300), "t", "t", NOW)
    bench.known(*bench.store.wanted())
    bench.desire.synced(2)
    bench.clocks.pass_by(200)
    assert (bench.desire.due(), bench.said()) == ((), [])
    bench.clocks.pass_by(101)
    assert len(bench.desire.due()) == 1


def test_a_rule_the_guard_objects_to_is_withdrawn_and_told_of_once(bench: Bench) -> None:
    record = bench.record(flowspec(1))
    bench.known(record)
    bench.desire.synced(1)
    bench.said()
    assert bench.desire.known([Offer(record, "the zone is gone")], is_complete=True)
    assert bench.said() == ["withdraw"]
    assert not bench.desire.known([Offer(record, "the zone is gone")], is_complete=True)


def test_a_freeze_keeps_what_stands_and_lets_nothing_new_out(bench: Bench) -> None:
    first = bench.record(flowspec(1))
    bench.known(first)
    bench.desire.synced(1)
    bench.said()
    pending = bench.record(flowspec(2))
    bench.known(first, pending)
    bench.desire.set_mode(KillMode.FREEZE)
    bench.desire.synced(99)
    bench.known(first, pending)
    bench.desire.synced(99)
    assert bench.said() == []
    bench.desire.set_mode(KillMode.NORMAL)
    bench.known(first, pending)
    bench.desire.synced(99)
    assert bench.said() == ["announce"]


def test_withdraw_automatic_and_withdraw_all_take_out_what_they_say_and_lifting_brings_it_back(bench: Bench) -> None:
    records = [bench.record(flowspec(1)), bench.record(flowspec(2), origin=Origin.SENSOR)]
    bench.known(*records)
    bench.desire.synced(1)
    assert bench.said() == ["announce"] * 2
    bench.desire.set_mode(KillMode.WITHDRAW_AUTOMATIC)
    assert bench.said() == ["withdraw"]
    bench.desire.set_mode(KillMode.WITHDRAW_ALL)
    assert bench.said() == ["withdraw"]
    bench.desire.set_mode(KillMode.NORMAL)
    assert bench.said() == ["announce"] * 2


def test_what_the_journal_remembers_goes_out_without_the_database_and_expired_rules_do_not(bench: Bench) -> None:
    bench.known(bench.record(flowspec(1), seconds=100), bench.record(flowspec(2), seconds=10))
    wishes = {wish.id: Remembered.of(wish) for _, wish in bench.desire._unsynced.values()}
    successor = Bench(bench.store)
    successor.clocks.pass_by(50)
    successor.desire.load(Contents(wishes=wishes))
    successor.desire.inherit(99, SURROUNDINGS)
    assert [expiry.rule for expiry in successor.desire.due()] == [flowspec(2).id]
    assert successor.said() == ["announce"]


def test_what_a_freeze_kept_back_is_not_announced_by_a_successor_either(bench: Bench) -> None:
    bench.known(bench.record(flowspec(1)))
    bench.desire.set_mode(KillMode.FREEZE)
    assert bench.paper.entries[-1] == journal.ended(flowspec(1).id)
    bench.desire.synced(bench.paper.ticket)
    assert bench.said() == []
