"""What the speaker, ExaBGP or both dying does to routes on real routers: nothing."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from speaker_lab import SpeakerLab, blackhole, flowspec, speaker_lab

from lab.namespaces import wait_until
from lab.routers import Router
from rules.messages import Wake

pytestmark = pytest.mark.peer

COUNT = 100


@contextmanager
def never_fewer(router: Router, count: int) -> Iterator[None]:
    """Looks at the router's table all the time."""
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(len(router.flowspec()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert seen and min(seen) >= count, seen


def respawned(lab: SpeakerLab, before: int) -> bool:
    """Whether a new speaker has found out what ExaBGP holds and has said all there is to say."""
    return lab.speaker_pid() != before and bool(lab.status().get("synced"))


def test_killing_the_speaker_loses_no_route_and_its_successor_makes_up_for_what_it_missed() -> None:
    with speaker_lab("bird") as lab:
        lab.wait_up()
        bird = lab.routers["bird0"]
        lab.want(*(flowspec(number) for number in range(COUNT)), blackhole(1))
        lab.wait_active(COUNT + 1, "bird0")
        wait_until(lambda: len(bird.flowspec()) == COUNT, "the rules do not arrive")
        with never_fewer(bird, COUNT - 1):
            before = lab.speaker_pid()
            os.kill(before, signal.SIGKILL)
            # Ended and wanted while nobody listens.
            lab.store.withdraw(flowspec(0).id, "test", "test", datetime.now(UTC))
            lab.want(flowspec(COUNT), wake=False)
            wait_until(lambda: respawned(lab, before), f"no successor: {lab.log[-2000:]}")
            lab.wait_active(COUNT + 1, "bird0")
        wait_until(
            lambda: {held.match for held in bird.flowspec()} == {flowspec(n).match for n in range(1, COUNT + 1)},
            "the successor does not reconcile",
        )
        assert blackhole(1).prefix in bird.blackholes()


def test_answers_to_the_dead_are_not_taken_for_answers_to_the_successor() -> None:
    with speaker_lab("bird") as lab:
        lab.wait_up()
        rules = [flowspec(number) for number in range(COUNT)]
        lab.want(*rules, wake=False)
        before = lab.speaker_pid()
        lab.ask(Wake())
        wait_until(lambda: "active" in lab.neighbour("bird0").get("rules", {}), "nothing is announced", step_seconds=0)
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: respawned(lab, before), f"no successor: {lab.log[-2000:]}")
        lab.wait_active(COUNT, "bird0")
        wait_until(
            lambda: {held.match for held in lab.routers["bird0"].flowspec()} == {rule.match for rule in rules},
            "the routes differ",
        )


def test_killing_exabgp_under_graceful_restart_leaves_no_gap_and_end_of_rib_flushes_what_ended() -> None:
    with speaker_lab("bird") as lab:
        lab.wait_up()
        bird = lab.routers["bird0"]
        lab.want(*(flowspec(number) for number in range(COUNT)))
        lab.wait_active(COUNT, "bird0")
        wait_until(lambda: len(bird.flowspec()) == COUNT, "the rules do not arrive")
        speaker = lab.speaker_pid()
        with never_fewer(bird, COUNT - 1):
            lab.kill_exabgp()
            wait_until(lambda: not Path(f"/proc/{speaker}").exists(), "the speaker outlives ExaBGP")
            lab.store.withdraw(flowspec(0).id, "test", "test", datetime.now(UTC))
            lab.start()
            lab.wait_up()
            lab.wait_active(COUNT - 1, "bird0")
            # Long before the restart time of 60 s is over.
            wait_until(lambda: len(bird.flowspec()) == COUNT - 1, "End-of-RIB does not flush what ended", 30)
        assert flowspec(0).match not in {held.match for held in bird.flowspec()}


def killed(lab: SpeakerLab) -> None:
    """ExaBGP killed and started again."""
    speaker = lab.speaker_pid()
    lab.kill_exabgp()
    wait_until(lambda: not Path(f"/proc/{speaker}").exists(), "the speaker outlives ExaBGP")
    lab.start()


def test_exabgp_killed_over_and_over_loses_nothing_that_was_told_anew_and_nobody_waits_for_a_timeout() -> None:
    count = 4 * COUNT
    with speaker_lab("bird") as lab:
        lab.wait_up()
        bird = lab.routers["bird0"]
        lab.want(*(flowspec(number) for number in range(count)))
        lab.wait_active(count, "bird0")
        wait_until(lambda: len(bird.flowspec()) == count, "the rules do not arrive")
        with never_fewer(bird, count):
            for _ in range(2):
                killed(lab)
                wait_until(lambda: len(lab.neighbour("bird0").get("end_of_rib", ())) == 4, "no End-of-RIB", 120)
        for _ in range(3):
            # Some are told, others not yet: the next death comes in the midst of it. What was kept as stale and is not
            # told again by then a router must drop (RFC 4724 section 4.2); it comes back as fast as it can be told.
            killed(lab)
            wait_until(lambda: lab.neighbour("bird0").get("rules", {}).get("active", 0), "nothing is told", 120, 0)
        lab.wait_active(count, "bird0", 120)
        wait_until(
            lambda: {held.match for held in bird.flowspec()} == {flowspec(number).match for number in range(count)},
            "not everything comes back",
        )


def test_successors_killed_in_their_handshake_leave_the_next_one_nothing_to_wait_for() -> None:
    with speaker_lab("bird") as lab:
        lab.wait_up()
        bird = lab.routers["bird0"]
        lab.want(*(flowspec(number) for number in range(COUNT)))
        lab.wait_active(COUNT, "bird0")
        wait_until(lambda: len(bird.flowspec()) == COUNT, "the rules do not arrive")
        with never_fewer(bird, COUNT - 1):
            for _ in range(3):
                before = lab.speaker_pid()
                os.kill(before, signal.SIGKILL)
                # As soon as it has a name it is killed: it has hardly asked what ExaBGP holds.
                wait_until(lambda dead=before: lab.speaker_pid() != dead, "no successor", 40, 0)  # type: ignore[misc]
            lab.withdraw(flowspec(0))
            lab.wait_active(COUNT - 1, "bird0", 40)
        wait_until(lambda: len(bird.flowspec()) == COUNT - 1, "the withdrawal does not arrive")


def test_a_bad_configuration_never_ends_the_speaker_and_deadlines_are_kept() -> None:
    with speaker_lab("bird") as lab:
        lab.wait_up()
        bird = lab.routers["bird0"]
        lab.want(flowspec(1), seconds=15)
        lab.want(flowspec(2))
        lab.wait_active(2, "bird0")
        lab.break_configuration()
        before = lab.speaker_pid()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: respawned(lab, before), f"no successor: {lab.log[-2000:]}")
        blind = lab.speaker_pid()
        assert not lab.status()["configured"]
        wait_until(
            lambda: {held.match for held in bird.flowspec()} == {flowspec(2).match}, "the deadline is not kept", 40
        )
        lab.want(flowspec(3))
        assert lab.speaker_pid() == blind, "it died"
        lab.configure(lab.settings)
        lab.wait_active(2, "bird0")
        assert lab.speaker_pid() == blind
        assert {held.match for held in bird.flowspec()} == {flowspec(2).match, flowspec(3).match}


def test_end_of_rib_follows_every_session_flap() -> None:
    with speaker_lab("bird") as lab:
        lab.wait_up()
        bird = lab.routers["bird0"]
        lab.want(flowspec(1))
        lab.wait_active(1, "bird0")
        flaps = lab.neighbour("bird0")["flaps"]
        bird.ask("restart speaker")  # type: ignore[attr-defined]
        wait_until(lambda: lab.neighbour("bird0")["flaps"] > flaps, "the session does not flap")
        lab.wait_up()
        wait_until(
            lambda: len(lab.neighbour("bird0")["end_of_rib"]) == len(lab.neighbour("bird0")["families"]) == 4,
            f"no End-of-RIB: {lab.neighbour('bird0')}",
        )
        wait_until(lambda: len(bird.flowspec()) == 1, "the rule does not come back")
