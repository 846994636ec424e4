"""A number passes once; windows agree with a set of all numbers ever seen."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from intake.replay import WIDTH, ReplayMemory, ReplayWindow
from intake.seen import Seen

numbers = st.lists(st.integers(0, 30) | st.integers(0, 3 * WIDTH) | st.sampled_from([2**53, 2**53 - 1]), max_size=60)


@given(numbers)
def test_the_window_agrees_with_a_set(given_numbers: list[int]) -> None:
    memory, model = ReplayMemory(4), set[int]()
    for number in given_numbers:
        is_old = bool(model) and number <= max(model) - WIDTH
        assert memory.has("a", number) == (number in model or is_old)
        memory.add("a", ReplayWindow(number))
        model.add(number)
        assert memory.has("a", number)


@given(numbers.filter(bool), st.integers(0, 60))
def test_uniting_two_windows_is_seeing_both(given_numbers: list[int], cut: int) -> None:
    parts = [part for part in (given_numbers[:cut], given_numbers[cut:]) if part]
    united, whole = ReplayMemory(1), ReplayMemory(1)
    for part in parts:
        alone = ReplayMemory(1)
        for number in part:
            alone.add("a", ReplayWindow(number))
            whole.add("a", ReplayWindow(number))
        united.add("a", dict(alone)["a"])
    assert dict(united) == dict(whole)


def test_the_attack_longest_untouched_is_forgotten_first() -> None:
    memory = ReplayMemory(2)
    for attack in ("a", "b", "a", "c"):
        memory.add(attack, ReplayWindow(0))
    assert [attack for attack, _ in memory] == ["a", "c"]


def test_what_was_seen_outlives_the_process_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    first = Seen(path, 10)
    for sequence in (0, 1, 5):
        first.add("edge-1", "a", sequence)
    first.close()
    with path.open("ab") as file:
        file.write(b"\xff\x00\nedge-1 a 77")
    again = Seen(path, 10)
    assert [number for number in range(100) if again.of("edge-1").has("a", number)] == [0, 1, 5]
    assert not again.of("edge-2").has("a", 0)
    again.add("edge-1", "b", 3)
    again.close()
    third = Seen(path, 10)
    assert third.of("edge-1").has("a", 5) and third.of("edge-1").has("b", 3)
    third.close()
