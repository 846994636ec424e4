"""A running intake and a speaker's socket, for the tests of the link."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from link_rig import RunningIntake, SpeakerSocket


@pytest.fixture
def speaker(tmp_path: Path) -> Iterator[SpeakerSocket]:
    socket = SpeakerSocket(tmp_path / "speaker.sock")
    socket.start()
    yield socket
    socket.stop()


@pytest.fixture
def intake(tmp_path: Path, speaker: SpeakerSocket) -> Iterator[RunningIntake]:
    running = RunningIntake(tmp_path / "intake", speaker.path)
    running.start()
    yield running
    running.stop()
