"""Keeps the processes of one machine running: starts them, restarts what dies, stops them in order.

It knows nothing of BGP or packets. A child that keeps dying is restarted ever more slowly and never given up: a machine
that stopped trying is worse than one that says every half minute what is wrong.
"""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

log = structlog.get_logger()

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 30.0
"""From the second death in a short time on; after the first one, no time is lost: routers keep routes for so long only.
"""
STEADY_SECONDS = 60.0
"""A child that lived this long starts again at the first delay."""
TELL_SECONDS = 5.0
"""How often what is kept running is told of although nothing has changed: whoever reads it must know it to be new."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Program:
    """What to run."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own."""
    stop_seconds: float = 5.0
    """How long it may take to end after SIGTERM before it is killed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How a program fares."""

    name: str
    pid: int | None
    """None while it does not run."""
    since: datetime | None
    """When it was last started."""
    deaths: int
    """How often it ended by itself."""
    ended: datetime | None
    """When it last did."""
    status: int | None
    """And how: its exit status; minus the number of the signal that killed it."""
    problem: str = ""
    """Why it can't be started."""
    is_steady: bool = True
    """False from its second death in a row until it has lived for a minute."""


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restart_at: float = 0.0
    delay: float = 0.0
    since: datetime | None = None
    deaths: int = 0
    ended: datetime | None = None
    status: int | None = None
    problem: str = ""

    def kept(self, now: float) -> Kept:
        pid = self.process.pid if self.process is not None else None
        is_steady = self.delay <= FIRST_DELAY_SECONDS or (pid is not None and now - self.started >= STEADY_SECONDS)
        return Kept(self.program.name, pid, self.since, self.deaths, self.ended, self.status, self.problem, is_steady)


class Supervisor:
    """Runs programs until told to stop; `on_reload` is called in the main loop for each SIGHUP, `tell` with how all of
    them fare whenever that changes, and every few seconds."""

    def __init__(
        self,
        programs: Iterable[Program],
        on_reload: Callable[["Supervisor"], None] | None = None,
        tell: Callable[[tuple[Kept, ...]], None] | None = None,
    ) -> None:
        self._children = [_Child(program) for program in programs]
        self._on_reload, self._tell = on_reload, tell
        self._told: tuple[Kept, ...] = ()
        self._told_at = -1e9
        self._wake = threading.Event()
        self._stopping = False
        self._reload = False

    def run(self) -> None:
        """Blocks until SIGTERM, SIGINT or `stop()`; leaves no child behind."""
        previous = {
            number: signal.signal(number, self._signalled)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        }
        try:
            while not self._stopping:
                self.step(time.monotonic())
                self._wake.wait(0.1)
                self._wake.clear()
        finally:
            self.end()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Makes `run` return; callable from any thread."""
        self._stopping = True
        self._wake.set()

    def signal(self, name: str, number: int) -> bool:
        """Sends a signal to the child of that name; False when it isn't running."""
        for child in self._children:
            if child.program.name == name and child.process and child.process.poll() is None:
                child.process.send_signal(number)
                return True
        return False

    def step(self, now: float) -> None:
        """Starts what should run and doesn't, and obeys a pending reload."""
        if self._reload and self._on_reload:
            self._reload = False
            self._on_reload(self)
        for child in self._children:
            if child.process is not None and (code := child.process.poll()) is not None:
                self._died(child, code, now)
            if child.process is None and now >= child.restart_at:
                self._start(child, now)
        kept = tuple(child.kept(now) for child in self._children)
        if self._tell is not None and (kept != self._told or now - self._told_at >= TELL_SECONDS):
            self._told, self._told_at = kept, now
            self._tell(kept)

    def end(self) -> None:
        """Ends the children in reverse order of their start: SIGTERM, then SIGKILL to the whole group."""
        for child in reversed(self._children):
            _end(child)

    def replace(self, programs: Sequence[Program], anew: frozenset[str]) -> None:
        """Runs these programs from now on: ends those that are not among them, and starts those named in `anew` again.

        Programs are told apart by their names; the others go on as they are.
        """
        known = {child.program.name: child for child in self._children}
        children = [known.pop(one.name) if one.name in known else _Child(one) for one in programs]
        for child in reversed(tuple(known.values())):
            log.info("not wanted any more", program=child.program.name)
            _end(child)
        for child, program in zip(children, programs, strict=True):
            child.program = program
            if program.name in anew:
                _end(child)
                child.restart_at, child.delay = 0.0, 0.0
        self._children = children

    def _start(self, child: _Child, now: float) -> None:
        program = child.program
        try:
            child.process = subprocess.Popen(
                program.argv,
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            log.error("can't be started", program=program.name, argv=program.argv[0], why=error.strerror)
            child.problem = error.strerror or str(error)
            self._again(child, now)
            return
        child.started, child.since, child.problem = now, datetime.now(UTC), ""
        log.info("started", program=program.name, pid=child.process.pid)

    def _died(self, child: _Child, code: int, now: float) -> None:
        if child.process is not None:
            _kill_group(child.process.pid)
        if now - child.started >= STEADY_SECONDS:
            child.delay = 0.0
        child.deaths += 1
        child.ended, child.status = datetime.now(UTC), code
        log.error("ended", program=child.program.name, code=code, restart_in_seconds=child.delay, deaths=child.deaths)
        self._again(child, now)

    def _again(self, child: _Child, now: float) -> None:
        child.process = None
        child.restart_at = now + child.delay
        child.delay = min(max(child.delay * 2, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS)

    def _signalled(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        elif number != signal.SIGCHLD:
            self._stopping = True
        self._wake.set()


def _end(child: _Child) -> None:
    """SIGTERM, then SIGKILL to the whole group."""
    process = child.process
    if process is None:
        return
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(child.program.stop_seconds)
        except subprocess.TimeoutExpired:
            log.warning("killed: it did not end in time", program=child.program.name)
    _kill_group(process.pid)
    process.wait()
    child.process = None


def _kill_group(pid: int) -> None:
    """What a dead child left running: ExaBGP's child outlives a killed ExaBGP and keeps its port."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _die_with_parent() -> None:
    """A supervisor that is killed must not leave processes that its successor would start a second time."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def running_pid(pidfile: Path) -> int | None:
    """The pid in the file when that process lives and is ours, else None."""
    try:
        pid = int(pidfile.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"stopbank" in command else None
