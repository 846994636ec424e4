"""The spool remembers exactly what wasn't settled, through crashes at any byte, within its bound."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rules.traffic import State
from sensors.backlog import Backlog
from sensors.spool import Spool

payloads = st.binary(max_size=200).map(lambda raw: raw.replace(b"\n", b" "))
LIMIT = 4_000


def _content(spool: Spool) -> dict[int, bytes]:
    return {number: spool.payload(number) for number in spool.pending()}


class SpoolMachine(RuleBasedStateMachine):
    """A spool against a dictionary, reopened and torn now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="stopbank-spool-"))
        self.spool = Spool(self.directory, LIMIT)
        self.model: dict[int, bytes] = {}

    @rule(payload=payloads)
    def append(self, payload: bytes) -> None:
        number, given_up = self.spool.append(payload)
        assert list(given_up) == list(self.model)[: len(given_up)], "the oldest go first"
        for old in given_up:
            del self.model[old]
        assert number not in self.model
        self.model[number] = payload

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        numbers = data.draw(st.lists(st.sampled_from(sorted(self.model)), min_size=1, unique=True))
        self.spool.settle([*numbers, 10**9])
        for number in numbers:
            del self.model[number]

    @rule(torn=st.binary(max_size=30))
    def crash(self, torn: bytes) -> None:
        """What follows the last line end is lost, whatever it is; reopening keeps all whole lines."""
        self.spool.sync()
        segment = max(self.directory.glob("*.spool"))
        with segment.open("ab") as file:
            file.write(torn.replace(b"\n", b""))
        self.spool.close()
        self.spool = Spool(self.directory, LIMIT)

    @invariant()
    def agrees(self) -> None:
        assert _content(self.spool) == self.model
        assert self.spool.size <= LIMIT
        assert sum(path.stat().st_size for path in self.directory.iterdir()) == self.spool.size

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.directory)


SpoolMachine.TestCase.settings = settings(stateful_step_count=20)
TestSpool = SpoolMachine.TestCase


@given(st.lists(payloads, min_size=1, max_size=6), st.data())
def test_a_file_cut_anywhere_keeps_every_whole_line(
    tmp_path_factory: pytest.TempPathFactory, given_payloads: list[bytes], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool = Spool(directory, 1 << 20)
    for payload in given_payloads:
        spool.append(payload)
    spool.close()
    segment = max(directory.glob("*.spool"))
    whole = segment.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    segment.write_bytes(whole[:cut])
    again = Spool(directory, 1 << 20)
    count = whole[:cut].count(b"\n")
    assert list(_content(again).values()) == given_payloads[:count]
    assert again.damaged == (0 if whole[:cut].endswith(b"\n") or cut == 0 else 1)
    again.close()


@given(st.binary(max_size=300))
def test_a_damaged_file_is_read_without_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    directory = tmp_path_factory.mktemp("spool")
    (directory / "00000001.spool").write_bytes(raw)
    spool = Spool(directory, 1 << 20)
    assert len(spool) == 0 or b"+" in raw
    spool.close()


def test_a_flipped_bit_loses_one_line_only(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20)
    for payload in (b"one", b"two", b"three"):
        spool.append(payload)
    spool.close()
    segment = max((tmp_path / "spool").glob("*.spool"))
    segment.write_bytes(segment.read_bytes().replace(b"two", b"twp"))
    again = Spool(tmp_path / "spool", 1 << 20)
    assert list(_content(again).values()) == [b"one", b"three"]
    assert again.damaged == 1
    again.close()


def test_a_crash_between_new_and_old_segment_changes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    spool = Spool(directory, 1 << 20)
    numbers = [spool.append(payload)[0] for payload in (b"one", b"two", b"three")]
    spool.settle(numbers[:1])
    spool.close()
    old = max(directory.glob("*.spool"))
    kept = tmp_path / "kept"
    shutil.copy(old, kept)
    Spool(directory, 1 << 20).close()
    shutil.copy(kept, old)
    both = Spool(directory, 1 << 20)
    assert list(_content(both).values()) == [b"two", b"three"]
    both.close()


@given(st.integers(1, 38), st.integers(1_000, LIMIT))
def test_what_fits_is_kept_when_it_is_opened_again(count: int, limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), LIMIT)
        for number in range(count):
            spool.append(b"%80d" % number)
        before, size = _content(spool), spool.size
        spool.close()
        spool = Spool(Path(folder), limit)
        kept = _content(spool)
        assert kept.items() <= before.items() and list(kept) == list(before)[len(before) - len(kept) :]
        assert spool.size <= limit and len(kept) >= min(len(before), limit // (size // count + 1))
        spool.close()


def test_an_emptied_spool_gives_its_space_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 8 << 20)
    for _ in range(3_000):
        number, _ = spool.append(b"x" * 1_000)
        spool.settle([number])
    assert spool.size <= (1 << 20) + 2_000
    spool.close()


# --------------------------------------------------------------------------------------------------------- backlog

states = st.sampled_from(State)
messages = st.lists(st.tuples(st.sampled_from("abc"), states, st.booleans()), max_size=40)


@given(messages, st.data())
def test_the_backlog_keeps_order_and_drops_only_updates_with_a_newer_one(
    given_messages: list[tuple[str, State, bool]], data: st.DataObject
) -> None:
    backlog = Backlog()
    sent: list[int] = []
    replaced: set[int] = set()
    by_number = dict(enumerate(given_messages))
    under_way: list[int] = []
    for number, (attack, state, is_news) in by_number.items():
        replaced |= set(backlog.add(number, attack, state, is_news))
        action = data.draw(st.sampled_from(["nothing", "take", "settle", "put back", "break"]))
        if action == "take" and (taken := backlog.take()) is not None:
            assert by_number[taken][0] not in {by_number[one][0] for one in under_way}, "one of an attack at a time"
            under_way.append(taken)
        elif action == "settle" and under_way:
            sent.append(under_way.pop(0))
            backlog.settle([sent[-1]])
        elif action == "put back" and under_way:
            replaced |= set(backlog.put_back(under_way.pop()))
        elif action == "break":
            replaced |= set(backlog.put_back_all())
            under_way = []
        assert backlog.under_way == len(under_way)
    backlog_settled = [*under_way]
    backlog.settle(under_way)
    sent += backlog_settled
    while (taken := backlog.take()) is not None:
        sent.append(taken)
        backlog.settle([taken])
    assert len(backlog) == 0
    assert sorted([*sent, *replaced]) == list(by_number)
    for attack in "abc":
        order = [number for number in sent if by_number[number][0] == attack]
        assert order == sorted(order)
    for number in replaced:
        attack, state, _ = by_number[number]
        later = [one for one in sent if one > number and by_number[one][0] == attack]
        assert state is State.ONGOING and any(by_number[one][1] is State.ONGOING for one in later)


def test_news_goes_before_history() -> None:
    backlog = Backlog()
    for number in range(3):
        backlog.add(number, f"old{number}", State.STARTED, is_news=False)
    backlog.add(3, "new", State.STARTED)
    backlog.add(4, "old1", State.OVER)
    assert [backlog.take() for _ in range(5)] == [3, 1, 0, 2, None]
    backlog.put_back_all()
    backlog.add(5, "fresh", State.STARTED)
    assert backlog.take() == 5


@given(st.integers(2, 9), st.integers(1, 4), st.booleans())
def test_attacks_take_turns_however_much_news_the_others_have(attacks: int, window: int, is_news: bool) -> None:
    backlog, attack_of, under_way, told = Backlog(), list[int](), list[int](), list[int]()

    def add(attack: int) -> None:
        backlog.add(len(attack_of), str(attack), State.ONGOING, is_news)
        attack_of.append(attack)

    for attack in range(attacks):
        add(attack)
    while len(told) < attacks:
        while len(under_way) < window and (taken := backlog.take()) is not None:
            under_way.append(taken)
        done = under_way.pop(0)
        told.append(attack_of[done])
        add(attack_of[done])
        backlog.settle([done])
    assert sorted(told) == list(range(attacks))


@pytest.mark.peer
def test_a_full_disk_costs_nothing_that_still_fits_in_memory_and_heals(tmp_path: Path) -> None:
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], check=True)
    try:
        spool = Spool(directory / "spool", 1 << 20)
        hog = directory / "hog"
        kept = {spool.append(b"%d " % number + b"x" * 500)[0]: number for number in range(10)}
        with hog.open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"y" * 512)
        kept |= {spool.append(b"%d " % number + b"x" * 500)[0]: number for number in range(10, 40)}
        assert spool.failures > 0 and "space" in spool.trouble
        assert [int(payload.split()[0]) for payload in _content(spool).values()] == list(range(40))
        # A restart on the full disk keeps what the disk has, and works.
        again = Spool(directory / "spool", 1 << 20)
        assert set(range(10)) <= {int(payload.split()[0]) for payload in _content(again).values()}
        again.append(b"99 more")
        again.close()
        hog.unlink()
        for number in range(40, 60):
            kept[spool.append(b"%d " % number + b"x" * 500)[0]] = number
        assert spool.trouble == ""
        spool.close()
        healed = Spool(directory / "spool", 1 << 20)
        assert {number: int(payload.split()[0]) for number, payload in _content(healed).items()} == kept
        healed.close()
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
