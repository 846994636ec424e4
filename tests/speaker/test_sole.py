"""Two speakers never work with one state directory."""

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path

from speaker import sole
from stopbank.speaking import PROGRAM

PATIENCE_SECONDS = 60.0


@contextlib.contextmanager
def speaker(state: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A real one, with the test in ExaBGP's place; without a configuration it announces nothing."""
    missing = state / "stopbank.toml"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*PROGRAM, "--state", str(state), "--config", str(missing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def speaks(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Whether it says something to ExaBGP within that time."""
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], seconds)[0])


def test_a_lock_is_given_once_and_again_after_its_holder_is_gone(tmp_path: Path) -> None:
    first = sole.claim(tmp_path)
    assert first is not None
    assert sole.claim(tmp_path) is None
    os.close(first)
    second = sole.claim(tmp_path)
    assert second is not None
    os.close(second)


def test_a_second_speaker_says_why_it_is_silent_and_takes_over_when_the_first_has_died(tmp_path: Path) -> None:
    log = tmp_path / "second.log"
    state = tmp_path / "state"
    with speaker(state, tmp_path / "first.log") as first:
        assert speaks(first, PATIENCE_SECONDS)
        journal, pid = (state / "journal").stat().st_ino, (state / "speaker.pid").read_text()
        with speaker(state, log) as second:
            while b"another speaker works with" not in log.read_bytes():
                assert second.poll() is None
                assert not speaks(second, 0.1)
            assert (state / "speaker.pid").read_text() == pid
            assert (state / "journal").stat().st_ino == journal
            first.kill()
            assert speaks(second, PATIENCE_SECONDS)
            assert str(second.pid) in (state / "speaker.pid").read_text()


def test_a_second_speaker_ends_when_its_exabgp_does(tmp_path: Path) -> None:
    lock = sole.claim(tmp_path)
    assert lock is not None
    with speaker(tmp_path, tmp_path / "log") as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_SECONDS) == 0
    os.close(lock)


def test_a_speaker_that_cannot_leave_its_process_id_still_speaks(tmp_path: Path) -> None:
    (tmp_path / "speaker.pid").mkdir()
    with speaker(tmp_path, tmp_path / "log") as process:
        assert speaks(process, PATIENCE_SECONDS)
