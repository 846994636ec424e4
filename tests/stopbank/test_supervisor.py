"""The supervisor restarts what dies, slows down for what keeps dying, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from speaker import report
from stopbank import runfile
from stopbank.supervisor import STEADY_SECONDS, TELL_SECONDS, Kept, Program, Supervisor, running_pid
from store.store import Store
from webui import app, programs
from webui.app import utc_now
from webui.settings import Settings


def until(claim: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *arguments)


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def drive(supervisor: Supervisor, claim: Callable[[], bool], seconds: float = 20) -> None:
    """Steps the supervisor in this thread until the claim holds."""

    def stepped() -> bool:
        supervisor.step(time.monotonic())
        return claim()

    until(stepped, seconds)


RECORD = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n')"


def test_a_program_that_dies_is_started_again(tmp_path: Path) -> None:
    record = tmp_path / "pids"
    supervisor = Supervisor([Program("short", python(RECORD, str(record)))])
    try:
        drive(supervisor, lambda: len(lines(record)) >= 2)
    finally:
        supervisor.end()
    assert len(set(lines(record))) == len(lines(record))


def test_the_first_death_costs_no_time_and_each_further_one_in_a_row_doubles_the_wait(tmp_path: Path) -> None:
    record = tmp_path / "pids"
    supervisor = Supervisor([Program("short", python(RECORD, str(record)))])
    now = 1000.0

    def dead(count: int) -> Callable[[], bool]:
        def claim() -> bool:
            supervisor.step(now)
            return supervisor._children[0].deaths == count

        return claim

    try:
        until(dead(1))
        assert supervisor._children[0].process is not None
        for count, wait in ((2, 0.5), (3, 1.0), (4, 2.0)):
            until(dead(count))
            assert len(lines(record)) == count
            supervisor.step(now + wait - 0.01)
            assert supervisor._children[0].process is None
            now += wait
    finally:
        supervisor.end()


SLEEP = "import time; time.sleep(60)"


def test_a_killed_program_is_well_again_as_soon_as_it_runs_and_one_that_keeps_dying_is_not(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'stopbank.db'}") as store:
        client = app.create_app(Settings(f"sqlite:///{tmp_path / 'stopbank.db'}", tmp_path), store).test_client()
        told: list[tuple[Kept, ...]] = []
        supervisor = Supervisor([Program("worker", python(SLEEP))], tell=told.append)

        def killed(deaths: int) -> None:
            pid = told[-1][0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            drive(supervisor, lambda: told[-1][0].deaths == deaths and told[-1][0].pid is not None)

        def health() -> tuple[int, dict[str, list[str]]]:
            report.write(tmp_path, {"configured": True, "database": "up", "journal": "up", "synced": True}, utc_now())
            runfile.write(tmp_path, told[-1], utc_now())
            answer = client.get("/healthz")
            return answer.status_code, answer.get_json()

        try:
            drive(supervisor, lambda: bool(told) and told[-1][0].pid is not None)
            assert health() == (200, {"ok": True, "problems": [], "lately": []})
            killed(1)
            code, said = health()
            assert (code, said["problems"]) == (200, []) and "ended by SIGKILL" in said["lately"][0]
            killed(2)
            code, said = health()
            assert (code, said["lately"]) == (503, []) and "keeps ending" in said["problems"][0]
            supervisor.step(time.monotonic() + STEADY_SECONDS)
            assert health()[0] == 200, "it has lived for a minute"
        finally:
            supervisor.end()


def test_a_program_that_cannot_be_started_does_not_stop_the_others(tmp_path: Path) -> None:
    record = tmp_path / "pids"
    missing = Program("missing", (str(tmp_path / "nothing here"),))
    supervisor = Supervisor([missing, Program("short", python(RECORD, str(record)))])
    try:
        drive(supervisor, lambda: bool(lines(record)))
    finally:
        supervisor.end()


def test_stopping_ends_children_and_grandchildren_even_if_they_ignore_sigterm(tmp_path: Path) -> None:
    record = tmp_path / "pids"
    stubborn = (
        "import os, signal, sys, time, subprocess\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(60)\n"
    )
    supervisor = Supervisor([Program("stubborn", python(stubborn, str(record)), stop_seconds=0.3)])

    def start_and_end() -> None:
        drive(supervisor, lambda: len(lines(record)) == 2)
        supervisor.end()

    runner = threading.Thread(target=start_and_end)
    runner.start()
    runner.join(30)
    assert not runner.is_alive()
    until(lambda: not any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in lines(record)))


def _is_zombie(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    record = tmp_path / "pids"
    code = (
        "import sys\n"
        "from stopbank.supervisor import Program, Supervisor\n"
        "child = 'import os, sys, time; open(sys.argv[1], \"w\").write(str(os.getpid())); time.sleep(60)'\n"
        "Supervisor([Program('child', (sys.executable, '-c', child, sys.argv[1]))]).run()\n"
    )
    with subprocess.Popen(python(code, str(record)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until(lambda: bool(lines(record)))
        process.kill()
    until(lambda: not Path(f"/proc/{lines(record)[0]}").exists() or _is_zombie(lines(record)[0]))


def test_a_pidfile_of_a_stranger_or_of_nobody_is_not_ours(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    assert running_pid(pidfile) is None
    pidfile.write_text("not a number")
    assert running_pid(pidfile) is None
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pidfile.write_text(str(stranger.pid))
        assert running_pid(pidfile) is None
        stranger.kill()
    pidfile.write_text(str(os.getpid()))
    assert (running_pid(pidfile) == os.getpid()) == (b"stopbank" in Path("/proc/self/cmdline").read_bytes())


def test_how_a_program_fares_is_told_when_it_changes_and_now_and_then(tmp_path: Path) -> None:
    told: list[tuple[Kept, ...]] = []
    failing = Program("failing", python("import sys; sys.exit(3)"))
    missing = Program("missing", ("/nonexistent/program",))
    supervisor = Supervisor([failing, missing], tell=told.append)
    try:
        drive(supervisor, lambda: bool(told) and told[-1][0].deaths >= 1)
        first, second = told[-1]
        assert first.status == 3 and first.ended is not None and first.since is not None
        assert (second.pid, second.deaths) == (None, 0) and "No such file" in second.problem
        drive(supervisor, lambda: told[-1][0].deaths >= 3 and told[-1][0].pid is None)
        for one in supervisor._children:
            one.restart_at = float("inf")
        now = time.monotonic()
        supervisor.step(now)
        count = len(told)
        supervisor.step(now)
        assert len(told) == count, "it is told although nothing has changed"
        supervisor.step(now + TELL_SECONDS)
        assert len(told) == count + 1
    finally:
        supervisor.end()
    runfile.write(tmp_path, told[-1], datetime.now(UTC))
    (line, other) = programs.troubles(app.read_dated(tmp_path / runfile.FILE), datetime.now(UTC))
    assert line.startswith("Failing: does not run (ended with exit status 3") and other.startswith("Missing: can't")
