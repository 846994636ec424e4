import os
import queue
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.pipe import Reader, Window, Writer
from speaker.replies import Done, Reply, UpdateReceived

INBOUND = (
    b'{"type": "update", "neighbor": {"address": {"peer": "192.0.2.1"}, "direction": "receive", '
    b'"message": {"update": {}}}}\n'
)


@given(st.lists(st.one_of(st.integers(1, 30_000), st.none())))
def test_every_answer_belongs_to_the_oldest_command_and_the_window_never_overfills(steps: list[int | None]) -> None:
    window: Window[int] = Window(limit=4, bytes_limit=40_000)
    sent: list[int] = []
    for number, size in enumerate(steps):
        if size is None:
            assert window.answered() == (sent.pop(0) if sent else None)
        elif window.has_room():
            window.sent(number, size, now=0)
            sent.append(number)
        assert len(window) == len(sent) <= 4
    assert list(window.abandon()) == sent
    assert window.has_room() and window.answered() is None


def test_the_oldest_command_tells_how_long_we_wait() -> None:
    window: Window[str] = Window()
    assert window.waiting_seconds(5) == 0
    window.sent("a", 1, 1.0)
    window.sent("b", 1, 4.0)
    assert window.waiting_seconds(5) == 4.0


def read(feed: bytes, cuts: int) -> list[Reply | None]:
    ours, theirs = os.pipe()
    got: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
    reader = Reader(ours, got.put, lambda: 0.0)
    reader.start()
    for start in range(0, len(feed), cuts):
        os.write(theirs, feed[start : start + cuts])
    os.close(theirs)
    replies = []
    while (reply := got.get(timeout=20)) is not None:
        replies.append(reply)
    os.close(ours)
    return [*replies, None]


@pytest.mark.parametrize("cuts", [1, 3, 4096])
def test_lines_are_put_together_however_they_arrive_and_the_end_is_told(cuts: int) -> None:
    assert read(b"done\n" * 40, cuts) == [Done()] * 40 + [None]


def test_a_flood_of_received_updates_is_one_alarm() -> None:
    replies = read(INBOUND * 1000 + b"done\n", 4096)
    assert [type(one) for one in replies] == [UpdateReceived, Done, type(None)]


def test_a_window_is_filled_up_when_half_of_it_is_answered() -> None:
    window: Window[int] = Window(limit=4, bytes_limit=400)
    assert window.is_half_empty()
    for number in range(3):
        window.sent(number, 10, 0.0)
    assert window.has_room() and not window.is_half_empty()
    window.answered()
    assert window.is_half_empty()
    window.sent(9, 300, 0.0)
    assert not window.is_half_empty()
    while window.answered() is not None:
        pass
    assert window.is_half_empty()


def test_a_long_line_is_written_whole_though_the_pipe_is_small() -> None:
    ours, theirs = os.pipe()
    got = bytearray()

    def drain() -> None:
        while block := os.read(ours, 1000):
            got.extend(block)

    thread = threading.Thread(target=drain)
    thread.start()
    Writer(theirs).write("x" * 300_000, "y")
    os.close(theirs)
    thread.join(20)
    os.close(ours)
    assert bytes(got) == b"x" * 300_000 + b"\ny\n"
