"""What the speaker knows of its sessions, on a busy machine and with routers that do not speak."""

import pytest
from speaker_lab import flowspec, speaker_lab

from lab.namespaces import wait_until

pytestmark = pytest.mark.peer


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
