import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.messages import KillMode
from speaker import killswitch

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("mode", KillMode)
def test_the_flag_is_read_as_it_was_written(tmp_path: Path, mode: KillMode) -> None:
    killswitch.write(tmp_path, KillMode.FREEZE, "before", NOW)
    killswitch.write(tmp_path, mode, "alice", NOW)
    assert killswitch.read(tmp_path).mode is mode
    assert (tmp_path / killswitch.FLAG).exists() is (mode is not KillMode.NORMAL)


@given(st.binary())
def test_a_flag_that_cannot_be_read_is_a_freeze(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    state = tmp_path_factory.mktemp("state")
    (state / killswitch.FLAG).write_bytes(raw)
    assert killswitch.read(state).mode is KillMode.FREEZE


def test_only_the_very_process_that_left_its_id_is_killed(tmp_path: Path) -> None:
    script = f"from speaker import killswitch; from pathlib import Path; killswitch.write_pid(Path({str(tmp_path)!r}))"
    process = subprocess.Popen([sys.executable, "-c", f"{script}; print(flush=True); input()"], stdin=-1, stdout=-1)
    assert process.stdout is not None and process.stdout.readline()
    word = (tmp_path / killswitch.PID).read_text()
    (tmp_path / killswitch.PID).write_text(word.replace(str(process.pid), str(os.getppid())))
    assert not killswitch.kill_speaker(tmp_path)
    assert process.poll() is None
    (tmp_path / killswitch.PID).write_text(word)
    assert killswitch.kill_speaker(tmp_path)
    assert process.wait(20) == -9
    assert not killswitch.kill_speaker(tmp_path)
    process.communicate()


@given(st.binary())
def test_a_process_file_of_garbage_kills_nobody(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    state = tmp_path_factory.mktemp("state")
    (state / killswitch.PID).write_bytes(raw)
    assert not killswitch.kill_speaker(state)
