"""The order of delivery: subjects stay in line, failures hold up no more than they must."""

from hypothesis import given
from hypothesis import strategies as st

from worker.waiting import BackOff, Waiting

BACK_OFF = BackOff(1, 60)


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=20),
    st.lists(st.sampled_from(["deliver", "deliver", "refuse", "down", "add"]), max_size=60),
)
def test_each_subject_arrives_in_order_and_nothing_is_lost(subjects: list[str], events: list[str]) -> None:
    waiting, clock = Waiting(BACK_OFF), 0.0
    unadded = list(enumerate(subjects))
    arrived: list[tuple[int, str]] = []

    def turn(event: str) -> None:
        nonlocal clock
        if event == "add" and unadded:
            waiting.add(*unadded.pop(0))
        number = waiting.next(clock)
        if number is None:
            clock += waiting.wait_seconds(clock) or 0
        elif event == "deliver":
            waiting.answered()
            waiting.settled(number)
            arrived.append((number, subjects[number]))
        elif event == "refuse":
            waiting.refused(number, clock)
        elif event == "down":
            waiting.receiver_failed(clock)

    for event in events:
        turn(event)
    while unadded or len(waiting):
        turn("add")
        turn("deliver")
    assert sorted(arrived) == list(enumerate(subjects))
    for subject in set(subjects):
        mine = [number for number, of in arrived if of == subject]
        assert mine == sorted(mine)


def test_a_refused_notice_holds_up_its_subject_only() -> None:
    waiting = Waiting(BACK_OFF)
    for number, subject in enumerate("aab"):
        waiting.add(number, subject)
    assert waiting.refused(0, now=0) == 1
    assert waiting.next(0) == 2
    waiting.settled(2)
    assert (waiting.next(0.9), waiting.wait_seconds(0.9)) == (None, 1 - 0.9)
    assert waiting.next(1) == 0


def test_a_receiver_that_is_down_pauses_everything_ever_longer_until_it_answers() -> None:
    waiting = Waiting(BACK_OFF)
    waiting.add(0, "a")
    waits = [waiting.receiver_failed(0) for _ in range(8)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert waiting.next(59.9) is None and waiting.next(60) == 0
    waiting.answered()
    assert waiting.receiver_failed(0) == 1


def test_adding_twice_waits_once() -> None:
    waiting = Waiting(BACK_OFF)
    waiting.add(1, "a")
    waiting.add(1, "a")
    waiting.settled(1)
    assert len(waiting) == 0 and waiting.next(0) is None and waiting.wait_seconds(0) is None


def test_one_in_the_middle_of_a_line_can_be_given_up() -> None:
    waiting = Waiting(BACK_OFF)
    for number in (1, 2, 3):
        waiting.add(number, "a")
    waiting.settled(2)
    waiting.settled(1)
    assert waiting.next(0) == 3
