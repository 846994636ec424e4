"""The kill switch from outside: it sets the flag, makes sure that the speaker obeys, and says what came of it.

`throw` works with web, intake and database dead: it tells the speaker, and kills one that does not answer; ExaBGP
starts its successor, which sees the flag and clears everything. It never claims what it wasn't told.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rules.errors import Refused
from rules.messages import Accepted, Answer, Declined, Kill, KillMode, StatusQuery, parse_answer, render_request
from speaker import kill_flag

PID = "speaker.pid"
SOCKET = "speaker.sock"
SUPERVISOR = "run.pid"
CONFIGURATION = "exabgp.conf"

ANSWER_SECONDS = 2.0
"""A speaker that takes longer is killed, unless it is seen to work: then it only has little of a busy machine."""
BUSY_SECONDS = 10.0
"""How much longer such a one may take: killed at work it can cost all sessions (`speaker.rollcall`)."""
CLEAR_SECONDS = 60.0
"""How long to wait until everything is withdrawn: ExaBGP clears about a thousand routes a second."""
ABSENT_SECONDS = 3.0
"""Without speaker, ExaBGP and supervisor for so long, nobody will come who could withdraw anything."""
_POLL_SECONDS = 0.2
_ANSWER_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a throw."""

    mode: KillMode
    clear: int
    """Neighbours that hold nothing any more, as far as ExaBGP knows."""
    neighbours: int
    was_killed: bool
    """The speaker did not answer and was killed."""
    problem: str = ""
    """Why it can't be said that it worked; empty: it worked."""
    note: str = ""
    """What else a person should know; nothing went wrong."""


# ---------------------------------------------------------------------------------------------------- the process


def write_pid(state: Path) -> None:
    """Leaves word of who this speaker is: its process id, and the command line that proves it."""
    text = json.dumps({"pid": os.getpid(), "command": _command(os.getpid()), "started": _started(os.getpid())})
    draft = state / f".{PID}.draft"
    draft.write_text(text)
    draft.replace(state / PID)


def kill_speaker(state: Path) -> bool:
    """SIGKILL for the process of `speaker.pid`, if it is still that very process; says whether it was killed.

    Raises `PermissionError` when it is somebody else's.
    """
    pid = _speaker(state)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _speaker(state: Path) -> int | None:
    """The process of `speaker.pid`, if it is still that very process."""
    try:
        value = json.loads((state / PID).read_text())
        pid, command, started = int(value["pid"]), str(value["command"]), str(value["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if command and (_command(pid), _started(pid)) == (command, started) else None


def _is_somebody_there(state: Path) -> bool:
    """Whether a speaker lives, or somebody who starts one: ExaBGP, or what supervises it."""
    return _speaker(state) is not None or _is_supervised(state) or _has_exabgp(state)


def _is_supervised(state: Path) -> bool:
    try:
        return "stopbank" in _command(int((state / SUPERVISOR).read_text()))
    except (OSError, ValueError):
        return False


def _has_exabgp(state: Path) -> bool:
    """Whether a process names our ExaBGP configuration in its command line."""
    wanted = str(state.resolve() / CONFIGURATION)
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return any(
        wanted in words and any("exabgp" in Path(word).name for word in words[:-1]) for words in map(_words, pids)
    )


def _words(pid: int) -> list[str]:
    return _command(pid).rstrip("\0").split("\0")


@dataclass(frozen=True, slots=True)
class _Work:
    """How far a process has come."""

    pid: int
    is_runnable: bool
    """It computes or waits for a processor or a disk, not for something to do."""
    ticks: int
    """Processor time it has had."""

    def goes_on(self, before: "_Work | None") -> bool:
        """Whether this is the same process, and not one that stands still."""
        return before is not None and before.pid == self.pid and (self.is_runnable or self.ticks > before.ticks)


def _work(state: Path) -> _Work | None:
    pid = _speaker(state)
    try:
        words = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return _Work(pid or 0, words[0] in "RD", int(words[11]) + int(words[12]))
    except (OSError, IndexError):
        return None


def _command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When the process began, in clock ticks since boot: the same id later is another process."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


# --------------------------------------------------------------------------------------------------- from outside


def throw(state: Path, mode: KillMode, by: str, now: datetime, patience_seconds: float = CLEAR_SECONDS) -> Report:
    """Throw (or lift) the switch and wait for what comes of it. Raises `OSError` when the flag can't be written."""
    kill_flag.write(state, mode, by, now)
    was_killed = False
    answer = _tell(state, render_request(Kill(mode, by)))
    if isinstance(answer, Declined) and not answer.retry:
        return Report(mode, 0, 0, was_killed, f"the flag is set, but the speaker declines: {_words_of(answer)}")
    if answer is None:
        try:
            was_killed = kill_speaker(state)
        except PermissionError:
            return Report(mode, 0, 0, was_killed, NOT_PERMITTED)
    return _wait(state, mode, was_killed, patience_seconds)


def _tell(state: Path, request: bytes) -> Answer | None:
    """The speaker's answer; None when there is no speaker, or one that stands still."""
    before, began = _work(state), time.monotonic()
    limit = ANSWER_SECONDS
    while (left := began + limit - time.monotonic()) > 0:
        answer = ask(state, request, left)
        work = _work(state)
        if answer is not None or work is None:
            return answer
        if work.goes_on(before):
            limit = ANSWER_SECONDS + BUSY_SECONDS
        if time.monotonic() < began + limit:
            # One that has just started has no socket yet.
            time.sleep(_POLL_SECONDS)
    return None


NOT_PERMITTED = (
    "the flag is set, but the speaker does not answer and killing it is not permitted; "
    "run as root or as the user Stopbank runs as"
)
ABSENT = "no speaker runs, so nothing was withdrawn: routers may still hold rules"
ABSENT_NOTE = "no speaker runs; the flag is what its next start obeys"


def _wait(state: Path, mode: KillMode, was_killed: bool, patience_seconds: float) -> Report:
    """Until the speaker has obeyed, or nobody is there to obey, or patience ends."""
    began = seen = time.monotonic()
    status: Answer | None = None
    while time.monotonic() - began < patience_seconds:
        status = ask(state, render_request(StatusQuery()), ANSWER_SECONDS)
        if isinstance(status, Accepted) and _has_obeyed(status, mode):
            return _report(mode, status, was_killed, "")
        if status is not None or _is_somebody_there(state):
            seen = time.monotonic()
        elif mode in (KillMode.NORMAL, KillMode.FREEZE):
            return Report(mode, 0, 0, was_killed, note=ABSENT_NOTE)
        elif time.monotonic() - seen > ABSENT_SECONDS:
            return Report(mode, 0, 0, was_killed, ABSENT)
        time.sleep(_POLL_SECONDS)
    if isinstance(status, Accepted):
        return _report(mode, status, was_killed, f"not done after {patience_seconds:.0f} s")
    return Report(mode, 0, 0, was_killed, "no speaker answers; routers may still hold rules")


def _words_of(declined: Declined) -> str:
    return "; ".join(map(str, declined.problems))


def ask(state: Path, request: bytes, within_seconds: float) -> Answer | None:
    """One request to the speaker's socket; None when it does not answer in time."""
    deadline = time.monotonic() + within_seconds
    received = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(within_seconds)
            connection.connect(str(state / SOCKET))
            connection.sendall(request if request.endswith(b"\n") else request + b"\n")
            while b"\n" not in received and len(received) < _ANSWER_LIMIT:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                block = connection.recv(1 << 16)
                if not block:
                    return None
                received += block
    except OSError:
        return None
    try:
        return parse_answer(received.split(b"\n", 1)[0])
    except Refused:
        return None


def _has_obeyed(status: Accepted, mode: KillMode) -> bool:
    kill = status.body.get("kill")
    if not isinstance(kill, dict) or kill.get("mode") != mode.value:
        return False
    return bool(kill.get("done"))


def _report(mode: KillMode, status: Accepted, was_killed: bool, problem: str) -> Report:
    kill = status.body.get("kill")
    counts = kill if isinstance(kill, dict) else {}
    note = untold(status.body) if mode in (KillMode.WITHDRAW_ALL, KillMode.WITHDRAW_AUTOMATIC) else ""
    return Report(mode, int(counts.get("clear", 0)), int(counts.get("neighbours", 0)), was_killed, problem, note)


def untold(status: Mapping[str, object]) -> str:
    """Which neighbours can't have heard of a withdrawal, for people; empty: none. `status`: a status answer's body."""
    neighbours = status.get("neighbours")
    given = [one for one in neighbours if isinstance(one, dict)] if isinstance(neighbours, list) else []
    names = [str(one.get("name")) for one in given if one.get("up") is not True]
    if not names:
        return ""
    return f"no session with {', '.join(names)}: a router may keep rules until its graceful restart time is over"
