import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.messages import KillMode
from speaker import kill_flag, killswitch
from webui import app

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("mode", KillMode)
def test_the_flag_is_read_as_it_was_written(tmp_path: Path, mode: KillMode) -> None:
    kill_flag.write(tmp_path, KillMode.FREEZE, "before", NOW)
    kill_flag.write(tmp_path, mode, "alice", NOW)
    assert kill_flag.read(tmp_path).mode is mode
    assert (tmp_path / kill_flag.FLAG).exists() is (mode is not KillMode.NORMAL)


@given(st.binary())
def test_a_flag_that_cannot_be_read_is_a_freeze(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    state = tmp_path_factory.mktemp("state")
    (state / kill_flag.FLAG).write_bytes(raw)
    assert kill_flag.read(state).mode is KillMode.FREEZE


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Files can be made and not be written: what a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("mode", list(KillMode))
def test_a_full_disk_keeps_nobody_from_the_switch(tmp_path: Path, mode: KillMode) -> None:
    kill_flag.write(tmp_path, KillMode.WITHDRAW_AUTOMATIC, "bob", NOW)
    with full_disk():
        with pytest.raises(OSError):
            (tmp_path / "other").write_text("there is no room")
        kill_flag.write(tmp_path, mode, "ann" * 100, NOW)
        flag = kill_flag.read(tmp_path)
        assert flag.mode is mode and flag.by[:3] == ("" if mode is KillMode.NORMAL else "ann")
        assert app.mode(tmp_path) == mode.value, "and the page says so"
    kill_flag.write(tmp_path, KillMode.FREEZE, "eve", NOW)
    assert kill_flag.read(tmp_path).by == "eve", "with room again it is written as ever"
    assert {path.name for path in tmp_path.iterdir()} <= {"kill.json", "other"}


def test_who_has_no_session_is_named_after_a_withdrawal() -> None:
    up, down = {"name": "edge1", "up": True}, {"name": "edge2", "up": False}
    assert "no session with edge2, edge3: " in killswitch.untold({"neighbours": [up, down, {"name": "edge3"}]})
    assert killswitch.untold({"neighbours": [up]}) == killswitch.untold({}) == ""


def test_a_link_of_nonsense_is_a_freeze(tmp_path: Path) -> None:
    (tmp_path / kill_flag.FLAG).symlink_to("somewhere else")
    assert kill_flag.read(tmp_path).mode is KillMode.FREEZE


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


@pytest.mark.parametrize("mode", [KillMode.NORMAL, KillMode.FREEZE])
def test_without_anybody_the_flag_alone_is_what_lifting_and_freezing_need(tmp_path: Path, mode: KillMode) -> None:
    report = killswitch.throw(tmp_path, mode, "alice", NOW, patience_seconds=0.2)
    assert not report.problem and "no speaker runs" in report.note
    assert kill_flag.read(tmp_path).mode is mode


@pytest.mark.parametrize("mode", [KillMode.WITHDRAW_ALL, KillMode.WITHDRAW_AUTOMATIC])
def test_without_anybody_to_withdraw_it_says_so_long_before_patience_ends(tmp_path: Path, mode: KillMode) -> None:
    began = time.monotonic()
    report = killswitch.throw(tmp_path, mode, "alice", NOW, patience_seconds=300)
    assert "routers may still hold rules" in report.problem
    assert time.monotonic() - began < 60


def test_a_living_exabgp_is_waited_for_since_it_starts_a_speaker(tmp_path: Path) -> None:
    program = tmp_path / "exabgp"
    program.write_text("import sys; sys.stdin.read()")
    arguments = [sys.executable, str(program), "server", str(tmp_path / killswitch.CONFIGURATION)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as process:
        patience = killswitch.ABSENT_SECONDS + 1
        report = killswitch.throw(tmp_path, KillMode.FREEZE, "alice", NOW, patience_seconds=patience)
        process.communicate()
    assert report.problem and not report.note


def test_a_speaker_that_may_not_be_killed_is_a_problem_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    killswitch.write_pid(tmp_path)
    # This very process, which is at work.
    monkeypatch.setattr(killswitch, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr("speaker.killswitch.os.kill", refuse)
    report = killswitch.throw(tmp_path, KillMode.WITHDRAW_ALL, "alice", NOW, patience_seconds=300)
    assert "run as root or as the user Stopbank runs as" in report.problem and not report.was_killed


def test_the_watch_tells_each_change_once_and_who_lifted_the_switch(tmp_path: Path) -> None:
    seen: list[kill_flag.Flag] = []
    watch = kill_flag.Watch(tmp_path, seen.append)
    watch.look(0.0)
    kill_flag.write(tmp_path, KillMode.FREEZE, "alice", NOW)
    watch.look(2.0)
    watch.look(4.0)
    kill_flag.write(tmp_path, KillMode.NORMAL, "bob", NOW)
    watch.look(4.1, at_once=True, by="bob")
    watch.look(6.0)
    assert [(one.mode, one.by) for one in seen] == [(KillMode.FREEZE, "alice"), (KillMode.NORMAL, "bob")]


LISTEN = r"""
import signal, socket, sys, time
from pathlib import Path
from speaker import killswitch
from rules.messages import Accepted, render_answer
state, how = Path(sys.argv[1]), sys.argv[2]
killswitch.write_pid(state)
print(flush=True)
if how == "idle":
    signal.pause()
began = time.monotonic()
while time.monotonic() < began + killswitch.ANSWER_SECONDS + 0.5:
    pass
with socket.socket(socket.AF_UNIX) as server:
    server.bind(str(state / killswitch.SOCKET))
    server.listen()
    while True:
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(render_answer(Accepted({"kill": {"mode": "freeze", "done": True}})) + b"\n")
"""


@pytest.mark.parametrize(("how", "is_killed"), [("busy", False), ("idle", True)])
def test_a_speaker_that_is_slow_to_answer_lives_on_while_it_works(tmp_path: Path, how: str, is_killed: bool) -> None:
    arguments = [sys.executable, "-c", LISTEN, str(tmp_path), how]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            report = killswitch.throw(tmp_path, KillMode.FREEZE, "alice", NOW, patience_seconds=5)
            assert report.was_killed is is_killed
        finally:
            process.kill()
