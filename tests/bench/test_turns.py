"""Figures of programs that are fed in turns: only what was measured in one round is compared."""

import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bench.full_sensor import HOSTS, NETWORK, ROUNDS, SECONDS, WANTED, Seen, compared, feed
from bench.turns import Turn, move, processor_ns, resident_megabytes

TURN = Turn(520_000.0, 2_600_000, 300.0, 280.0, 900.0)
costs = st.floats(1.0, 10_000.0)


def seen(*nanoseconds: float) -> Seen:
    return Seen([replace(TURN, nanoseconds=one) for one in nanoseconds], 300.0, 5.0, "it tells no rate")


@given(st.lists(st.tuples(costs, costs), min_size=1, max_size=7))
def test_a_ratio_is_the_median_of_the_rounds(rounds: list[tuple[float, float]]) -> None:
    cpu, idle, memory = compared("tuned", *(seen(*some) for some in zip(*rounds, strict=True)))
    assert cpu.metric == "full_sensor.cpu_against_tuned"
    assert cpu.ratio == statistics.median(mine / other for mine, other in rounds)
    assert (idle.ratio, memory.ratio) == (1.0, 1.0)


def test_a_machine_that_slows_down_in_the_middle_changes_no_ratio() -> None:
    cpu, *_ = compared("default", seen(100, 100, 300, 300, 300), seen(200, 200, 600, 600, 600))
    assert cpu.ratio == 0.5
    assert "0.50 to 0.50 in 5 rounds" in cpu.note


def test_the_feed_is_as_much_as_promised_and_of_another_victim_each_round() -> None:
    assert sum(one.packets for one in feed(0)) == WANTED * SECONDS
    victims = {one.target for number in range(ROUNDS) for one in feed(number) if one.target != NETWORK}
    assert len(victims) == ROUNDS
    assert all(one.subnet_of(NETWORK) for one in victims)  # type: ignore[arg-type]
    assert NETWORK.num_addresses > HOSTS


def test_time_of_threads_that_ended_counts() -> None:
    before, own = processor_ns(os.getpid()), time.thread_time_ns()
    worker = threading.Thread(target=lambda: sum(range(500_000)))
    worker.start()
    worker.join()
    mine = time.thread_time_ns() - own
    assert processor_ns(os.getpid()) - before > mine + 1_000_000


def test_another_process_is_moved_and_looked_at() -> None:
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()  # it runs
        processor = max(os.sched_getaffinity(0))
        move(other.pid, processor)
        assert os.sched_getaffinity(other.pid) == {processor}
        assert resident_megabytes(other.pid) > 0.1
        assert processor_ns(other.pid) >= 0
        other.communicate(b"\n")
