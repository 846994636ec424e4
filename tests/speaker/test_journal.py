import json
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import flowspecs, sensible_matches

from rules.action import Discard
from rules.guard import Origin
from rules.match import Match
from rules.rule import FlowSpec
from speaker import journal
from speaker.clock import Clock, Moment
from speaker.journal import Contents, Journal, Note
from speaker.wishes import Wish

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PEER = ip_address("192.0.2.1")


def wish(rule: FlowSpec, generation: int = 1) -> Wish:
    return Wish(
        rule=rule,
        deadline=Moment(NOW, "boot", 17.25),
        origin=Origin.API,
        generation=generation,
        owner="tenant",
        zone="zone",
        peers=(PEER,),
    )


class Disk:
    """Waits for what the thread tells."""

    def __init__(self) -> None:
        self.ticket = 0
        self.errors: list[OSError] = []
        self._changed = threading.Condition()

    def synced(self, ticket: int) -> None:
        with self._changed:
            self.ticket = ticket
            self._changed.notify_all()

    def failed(self, error: OSError) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()

    def wait(self, ticket: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.ticket >= ticket, 20)

    def wait_for_error(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self.errors), 20)


@given(st.lists(flowspecs(sensible_matches()), max_size=4, unique_by=lambda rule: rule.id), st.data())
def test_what_was_wanted_and_not_ended_is_read_back_also_after_compaction(
    tmp_path_factory: pytest.TempPathFactory, rules: list[FlowSpec], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    ended = data.draw(st.sets(st.sampled_from(rules)) if rules else st.just(set()))
    for _ in range(2):
        disk = Disk()
        diary = Journal(path, disk.synced, disk.failed)
        diary.open()
        entries = [journal.wanted(wish(rule)) for rule in rules] + [journal.ended(rule.id) for rule in ended]
        disk.wait(diary.append(entries))
        diary.close()
        found = {id: one.wish() for id, one in journal.read(path).wishes.items()}
        assert found == {rule.id: wish(rule) for rule in rules if rule not in ended}


@given(st.integers(0, 400), st.binary(max_size=20))
def test_a_torn_or_damaged_tail_costs_only_itself(
    tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    first, second = (
        Wish(rule=rule, deadline=Moment(NOW, "boot", 1), origin=Origin.API, generation=1)
        for rule in [
            flow(1),
            flow(2),
        ]
    )
    lines = [journal._bytes(journal.wanted(one)) for one in (first, second)]
    path.write_bytes(lines[0] + lines[1][: min(cut, len(lines[1]) - 2)] + garbage)
    contents = journal.read(path)
    assert contents.wishes[first.id].wish() == first
    disk = Disk()
    diary = Journal(path, disk.synced, disk.failed)
    diary.open()
    disk.wait(diary.append([journal.wanted(second)]))
    diary.close()
    assert set(journal.read(path).wishes) == {first.id, second.id}


def flow(number: int) -> FlowSpec:
    from rules.text import parse_flowspec

    return parse_flowspec(f"match {{ destination 203.0.113.{number}/32; }} then {{ discard; }}")


def test_notes_stay_until_the_database_has_them_and_numbers_are_not_used_twice(tmp_path: Path) -> None:
    notes = [Note(number, NOW, "rule.quarantined", "x", {"why": "y"}) for number in (1, 2)]
    for _ in range(2):
        disk = Disk()
        diary = Journal(tmp_path / "journal", disk.synced, disk.failed)
        diary.open()
        disk.wait(diary.append([*map(journal.noted, notes), journal.written(1)]))
        diary.close()
        assert journal.read(tmp_path / "journal").notes == {2: notes[1]}
    disk = Disk()
    diary = Journal(tmp_path / "journal", disk.synced, disk.failed)
    diary.open()
    diary.append([journal.written(2)])
    diary.close()
    diary = Journal(tmp_path / "journal", disk.synced, disk.failed)
    assert diary.open().notes == {}
    diary.close()
    assert journal.read(tmp_path / "journal").last_note == 2


def test_five_thousand_rules_are_not_five_thousand_fsyncs(tmp_path: Path) -> None:
    disk = Disk()
    diary = Journal(tmp_path / "journal", disk.synced, disk.failed)
    diary.open()
    tickets = [diary.append([journal.ended(flow(1).id)]) for _ in range(5_000)]
    disk.wait(tickets[-1])
    diary.close()
    assert diary.fsyncs < 500
    assert journal.read(tmp_path / "journal").lines == 5_000


def test_a_disk_that_fails_is_reported_and_nothing_is_claimed_until_it_works_again(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    disk = Disk()
    diary = Journal(folder / "journal", disk.synced, disk.failed)
    diary.open()
    folder.rename(tmp_path / "away")
    ticket = diary.append([journal.wanted(wish(flow(1)))])
    disk.wait_for_error()
    assert disk.ticket < ticket
    (tmp_path / "away").rename(folder)
    disk.wait(ticket)
    diary.close()
    assert set(journal.read(folder / "journal").wishes) == {flow(1).id}


def without_room_for_a_draft(folder: Path) -> None:
    (folder / ".journal.draft").mkdir()


def test_a_journal_that_cannot_be_rewritten_still_says_what_ends_and_takes_lines(tmp_path: Path) -> None:
    path, disk = tmp_path / "journal", Disk()
    path.write_bytes(json.dumps(journal.wanted(wish(flow(1)))).encode() + b'\n{"is": "wan')
    without_room_for_a_draft(tmp_path)
    diary = Journal(path, disk.synced, disk.failed)
    assert set(diary.open().wishes) == {flow(1).id}
    disk.wait_for_error()
    disk.wait(diary.append([journal.ended(flow(1).id), journal.wanted(wish(flow(2)))]))
    diary.close()
    assert set(journal.read(path).wishes) == {flow(2).id}


def test_a_journal_that_grows_too_long_for_its_disk_goes_on_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "COMPACT_AFTER", 1)
    path, disk = tmp_path / "journal", Disk()
    path.write_bytes(json.dumps(journal.wanted(wish(flow(0)))).encode() + b"\n")
    without_room_for_a_draft(tmp_path)
    diary = Journal(path, disk.synced, disk.failed)
    diary.open()
    for number in range(1, 6):
        disk.wait(diary.append([journal.wanted(wish(flow(number)))]))
    diary.close()
    disk.wait_for_error()
    assert len(journal.read(path).wishes) == journal.read(path).lines == 6


def test_a_missing_file_is_an_empty_journal(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "journal") == Contents()


class Clocks(Clock):
    """Clocks that a test sets."""

    def __init__(self) -> None:
        self.seconds, self.time, self.id = 100.0, NOW, "boot"

    def now(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return self.time

    def boot(self) -> str:
        return self.id


@given(st.floats(-1e7, 1e7), st.integers(0, 86_400))
def test_no_step_of_the_wall_clock_moves_a_deadline_and_only_a_reboot_makes_it_count(
    step: float, lifetime: int
) -> None:
    clocks = Clocks()
    moment = Moment.of(NOW + timedelta(seconds=lifetime), clocks)
    clocks.time += timedelta(seconds=step)
    assert moment.loaded(clocks).monotonic == 100.0 + lifetime
    clocks.id = "after a reboot"
    clocks.time = NOW
    assert moment.loaded(clocks).monotonic == 100.0 + lifetime


def test_a_wall_clock_that_lost_years_over_a_reboot_gives_a_rule_no_more_than_a_day() -> None:
    class Lost(Clock):
        def now(self) -> float:
            return 12.0

        def wall(self) -> datetime:
            return datetime(1970, 1, 1, tzinfo=UTC)

        def boot(self) -> str:
            return "after a reboot"

    assert Moment(NOW, "boot", 17.25).loaded(Lost()).monotonic == 12.0 + 86_400


@pytest.mark.parametrize("line", [b'{"is": "written", "number": 1e999}', b"[" * 100_000])
def test_a_line_beyond_measure_is_counted_and_not_fatal(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(line + b"\n")
    assert journal.read(path).unreadable == 1


@pytest.mark.parametrize("never", ["NaN", "Infinity"])
def test_a_deadline_that_never_comes_is_not_read_back(tmp_path: Path, never: str) -> None:
    rule = FlowSpec(Match.parse("match { destination 203.0.113.7/32; protocol =udp; }"), Discard())
    path = tmp_path / "journal"
    path.write_text(json.dumps(journal.wanted(wish(rule))).replace("17.25", never) + "\n")
    assert (journal.read(path).wishes, journal.read(path).unreadable) == ({}, 1)
