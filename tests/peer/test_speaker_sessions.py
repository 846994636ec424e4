"""What the speaker knows of its sessions, on a busy machine and with routers that do not speak."""

import os
import signal

import pytest
from speaker_lab import flowspec, speaker_lab

from lab.namespaces import wait_until

pytestmark = pytest.mark.peer

COUNT = 200


def test_a_session_that_comes_up_in_the_middle_of_the_speakers_questions_is_known_and_gets_its_end_of_rib() -> None:
    with speaker_lab("gobgp", start=False) as lab:
        router = lab.routers["gobgp0"]
        router.namespace.ip("link", "set", "dev", "up", "down")
        (lab.state / "busy").touch()
        lab.start()
        wait_until((lab.state / "busy-now").exists, "the speaker asks nothing")
        # ExaBGP has said that nobody is up, and says so no more once it is asked for its routes.
        router.namespace.ip("link", "set", "dev", "up", "up")
        router.wait_established(30)
        (lab.state / "busy").unlink()
        lab.wait_up(20)
        lab.want(flowspec(1))
        lab.wait_active(1, "gobgp0")
        one = lab.neighbour("gobgp0")
        assert one["end_of_rib"] == one["families"]


def test_an_exabgp_that_lets_go_of_its_neighbours_is_ended_and_its_successor_has_everything() -> None:
    with speaker_lab("gobgp") as lab:
        lab.wait_up()
        lab.want(*(flowspec(number) for number in range(COUNT)))
        lab.wait_active(COUNT, "gobgp0")
        assert lab.process is not None
        # Killed while it is told many routes: ExaBGP finds the pipe broken before it finds the process dead.
        (lab.state / "mortal").touch()
        os.kill(lab.speaker_pid(), signal.SIGKILL)
        wait_until(lambda: not (lab.state / "mortal").exists(), "nobody is told a route")
        lab.process.wait(30)
        lab.start()
        lab.wait_up()
        wait_until(lambda: len(lab.routers["gobgp0"].flowspec()) == COUNT, "the rules do not come back")
