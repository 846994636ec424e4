"""The kill switch, with ever more of the rest dead."""

import os
import signal
from datetime import UTC, datetime

import pytest
from speaker_lab import SpeakerLab, flowspec, speaker_lab

from lab.namespaces import wait_until
from rules.guard import Origin
from rules.messages import KillMode, Wake
from speaker import kill_flag, killswitch

pytestmark = pytest.mark.peer

COUNT = 50


def filled(lab: SpeakerLab) -> None:
    """Rules on the router."""
    lab.wait_up()
    lab.want(*(flowspec(number) for number in range(COUNT)))
    lab.wait_active(COUNT, "bird0")
    wait_until(lambda: len(lab.routers["bird0"].flowspec()) == COUNT, "the rules do not arrive")


def throw(lab: SpeakerLab, mode: KillMode) -> killswitch.Report:
    return killswitch.throw(lab.state, mode, "test", datetime.now(UTC), 60)


def is_empty(lab: SpeakerLab) -> bool:
    return not lab.routers["bird0"].flowspec()


def test_withdraw_all_empties_the_routers_and_lifting_it_brings_back_what_is_still_wanted() -> None:
    with speaker_lab("bird") as lab:
        filled(lab)
        report = throw(lab, KillMode.WITHDRAW_ALL)
        assert report == killswitch.Report(KillMode.WITHDRAW_ALL, 1, 1, was_killed=False)
        wait_until(lambda: is_empty(lab), "rules stay")
        lab.want(flowspec(COUNT))
        lab.withdraw(flowspec(0))
        assert throw(lab, KillMode.NORMAL).problem == ""
        lab.wait_active(COUNT, "bird0")
        expected = {flowspec(number).match for number in range(1, COUNT + 1)}
        wait_until(lambda: {held.match for held in lab.routers["bird0"].flowspec()} == expected, "not what is wanted")


def test_a_stopped_speaker_is_killed_and_its_successor_clears_everything() -> None:
    with speaker_lab("bird") as lab:
        filled(lab)
        before = lab.speaker_pid()
        os.kill(before, signal.SIGSTOP)
        report = throw(lab, KillMode.WITHDRAW_ALL)
        assert report == killswitch.Report(KillMode.WITHDRAW_ALL, 1, 1, was_killed=True), lab.log[-2000:]
        assert lab.speaker_pid() != before
        wait_until(lambda: is_empty(lab), "rules stay")


def test_withdraw_all_works_without_the_database() -> None:
    with speaker_lab("bird") as lab:
        filled(lab)
        lab.store.close()
        for path in lab.state.glob("stopbank.db*"):
            path.unlink()
        (lab.state / "stopbank.db").mkdir()
        assert throw(lab, KillMode.WITHDRAW_ALL).problem == ""
        wait_until(lambda: is_empty(lab), "rules stay")


def test_the_flag_alone_is_enough() -> None:
    with speaker_lab("bird") as lab:
        filled(lab)
        kill_flag.write(lab.state, KillMode.WITHDRAW_ALL, "somebody with an editor", datetime.now(UTC))
        wait_until(lambda: is_empty(lab), "rules stay")


def test_freeze_lets_nothing_new_out_and_keeps_the_rest_until_its_deadline() -> None:
    with speaker_lab("bird") as lab:
        lab.wait_up()
        lab.want(flowspec(2))
        lab.wait_active(1, "bird0")
        # Only now, so that little of its life is spent on a slow start.
        lab.want(flowspec(1), seconds=20)
        lab.wait_active(2, "bird0")
        assert throw(lab, KillMode.FREEZE).problem == ""
        lab.want(flowspec(3))
        wait_until(
            lambda: {held.match for held in lab.routers["bird0"].flowspec()} == {flowspec(2).match}, "no expiry", 40
        )
        assert throw(lab, KillMode.NORMAL).problem == ""
        lab.wait_active(2, "bird0")


def test_withdraw_automatic_leaves_what_people_wanted() -> None:
    with speaker_lab("bird") as lab:
        lab.wait_up()
        lab.want(flowspec(1))
        lab.want(flowspec(2), origin=Origin.SENSOR, seconds=600)
        lab.wait_active(2, "bird0")
        assert throw(lab, KillMode.WITHDRAW_AUTOMATIC).problem == ""
        wait_until(
            lambda: {held.match for held in lab.routers["bird0"].flowspec()} == {flowspec(1).match}, "the wrong ones"
        )
        lab.ask(Wake())


def test_without_a_speaker_it_fails_loudly_and_kills_nobody_else() -> None:
    with speaker_lab(start=False) as lab:
        (lab.state / killswitch.PID).write_text(f'{{"pid": {os.getpid()}, "command": "other", "started": "1"}}')
        report = killswitch.throw(lab.state, KillMode.WITHDRAW_ALL, "test", datetime.now(UTC), patience_seconds=1)
        assert report.problem and not report.was_killed
        assert kill_flag.read(lab.state).mode is KillMode.WITHDRAW_ALL
