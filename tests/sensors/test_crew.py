"""Threads that share a job: all of it is done before anybody goes on, and what fails is heard."""

import threading

import pytest

from sensors.crew import Crew


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_every_part_is_done_each_in_a_thread_of_its_own(helpers: int) -> None:
    crew, done = Crew(helpers, "crew"), dict[int, list[str]]()
    barrier = threading.Barrier(helpers + 1)

    def part(number: int) -> None:
        barrier.wait(10)  # nobody gets past it unless all are at work
        done.setdefault(number, []).append(threading.current_thread().name)

    for _ in range(3):
        crew.do(part)
    crew.stop()
    assert sorted(done) == list(range(helpers + 1))
    assert all(len(set(names)) == 1 and len(names) == 3 for names in done.values())
    assert len({names[0] for names in done.values()}) == helpers + 1


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_fails_is_raised_when_the_others_are_done(failing: int) -> None:
    crew, done = Crew(2, "crew"), list[int]()

    def part(number: int) -> None:
        if number == failing:
            raise MemoryError(str(number))
        done.append(number)

    with pytest.raises(MemoryError, match=str(failing)):
        crew.do(part)
    assert sorted(done) == [number for number in range(3) if number != failing]
    crew.stop()


def test_processor_time_of_helpers_is_told() -> None:
    def work(number: int) -> None:
        sum(range(300_000))

    crew = Crew(1, "crew")
    crew.do(work)
    before = crew.cpu_seconds
    crew.do(work)
    assert crew.cpu_seconds > before
    crew.stop()
