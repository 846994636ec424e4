"""What the speaker knows of its sessions, on a busy machine and with routers that do not speak."""

import os
import signal
import socket
from dataclasses import replace

import pytest
from speaker_lab import SpeakerLab, flowspec, neighbour, speaker_lab

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
        # As often as it takes: now ExaBGP finds the pipe broken first, now the process dead, which it can deal with.
        wait_until(lambda: is_ended_by_its_speaker(lab), "ExaBGP goes on", 200, 0)
        lab.start()
        lab.wait_up()
        wait_until(lambda: len(lab.routers["gobgp0"].flowspec()) == COUNT, "the rules do not come back")


def is_ended_by_its_speaker(lab: SpeakerLab) -> bool:
    """Kills a speaker while it is told many routes; says whether ExaBGP ended, and not only started another speaker."""
    assert lab.process is not None
    (lab.state / "mortal").touch()
    before = lab.speaker_pid()
    os.kill(before, signal.SIGKILL)

    def is_over() -> bool:
        assert lab.process is not None
        is_healthy = lab.speaker_pid() != before and lab.neighbour("gobgp0").get("up") is True
        return lab.process.poll() is not None or (is_healthy and not (lab.state / "mortal").exists())

    wait_until(is_over, "neither ended nor well", 60)
    if lab.process.poll() is None:
        return False
    if "lost all its neighbours" in lab.log:
        return True
    # Six deaths in a minute end it as well.
    lab.start()
    lab.wait_active(COUNT, "gobgp0")
    return False


def test_a_router_that_takes_the_connection_and_says_nothing_is_named_and_comes_up_as_soon_as_it_speaks() -> None:
    quick = replace(neighbour("gobgp", 0), hold_time_seconds=3)
    with speaker_lab("gobgp", neighbours=(quick,), start=False) as lab:
        router = lab.routers["gobgp0"]
        router.stop()
        with router.namespace.call(lambda: socket.create_server((str(quick.peer_address), quick.port))) as mute:
            lab.start()
            taken, _ = mute.accept()
            with taken:
                wait_until(lambda: lab.neighbour("gobgp0").get("hangs") is True, "nobody is told")
                one = lab.neighbour("gobgp0")
                assert (one["up"], one["waits_for"]) == (False, "open") and 3 <= one["for_seconds"] < 30
                assert "a session does not come up" in lab.log
                wait_until(lambda: told(lab, "neighbour.hangs"), "no notice")
        router.start()
        lab.wait_up()
        assert lab.neighbour("gobgp0")["hangs"] is False
        wait_until(lambda: told(lab, "neighbour.up"), "no notice that it is over")


def told(lab: SpeakerLab, kind: str) -> bool:
    """Whether people were told of the router."""
    return [one.payload["id"] for one in lab.store.outbox() if one.kind == kind] == ["gobgp0"]
