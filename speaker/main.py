"""Start-up of the speaker as ExaBGP's child. It never exits for a bad configuration, a lost database or a busy socket.

Six deaths within 64 seconds end ExaBGP and with it every session: so whatever is wrong is reported and tried again,
while stdin is drained, deadlines are kept and the kill switch works.
"""

import contextlib
import gc
import logging
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from speaker import killswitch, log, pipe, sole
from speaker.clock import Clock
from speaker.events import Configured, Inbox, Said
from speaker.loop import Loop
from speaker.settings import Settings
from speaker.socket import Server

RETRY_SECONDS = 5.0
ENDING_SECONDS, LOOK_SECONDS = 2.0, 0.05
"""What a predecessor may take to end before it is told of, and how often to look whether it has: routers wait."""
SWITCH_SECONDS = 0.0005
"""How long a thread that computes keeps others waiting: at Python's 5 ms the database thread would hold up each command
that goes out, and each answer."""

Loader = Callable[[], Settings]
"""Reads the configuration; raises `Refused` (or `OSError`) when it is bad."""


def run(load: Loader, state: Path) -> None:
    """Be ExaBGP's child until it ends. `state` is the state directory, known without the configuration file."""
    # A successor makes 100,000 values that stay before it can say anything; `beginning.collect_rarely` ends this.
    gc.disable()
    descriptors = pipe.seize()
    sys.setswitchinterval(SWITCH_SECONDS)
    clock = Clock()
    inbox: Inbox = queue.SimpleQueue()
    reader = pipe.Reader(descriptors.replies, lambda reply: inbox.put(Said(reply)), clock.now)
    reader.start()
    # Whatever libraries log; we ourselves write with `speaker.log`.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    pipe.die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: inbox.put(Said(None)))
    _prepare(state, inbox)
    settings = _Configuration(load, lambda event: inbox.put(event))
    loop = _started(state, inbox, pipe.Writer(descriptors.commands), clock, settings.again)
    server = Server(state / killswitch.SOCKET, loop.hand_over, _complain)
    settings.start()
    server.start()
    try:
        loop.run()
    except BrokenPipeError:
        log.info("ExaBGP has closed the pipe")
    server.stop()
    loop.stop()


def _prepare(state: Path, inbox: Inbox) -> None:
    """The state directory for this speaker alone, tried until it works; and its process id there."""
    told_at = time.monotonic() + ENDING_SECONDS
    while True:
        try:
            state.mkdir(mode=0o2770, parents=True, exist_ok=True)
            is_ours = sole.claim(state) is not None
        except OSError as error:
            _wait(inbox, f"the state directory {state} cannot be used: {error}")
            continue
        if is_ours:
            break
        if is_time := time.monotonic() >= told_at:
            told_at = time.monotonic() + 60
        problem = f"another speaker works with {state}: this one says nothing to routers until that one has ended"
        _wait(inbox, problem if is_time else "", LOOK_SECONDS)
    try:
        killswitch.write_pid(state)
    except OSError as error:
        # Deadlines are worth more than a kill switch that could kill.
        log.warning("the process id cannot be written", why=str(error))


def _started(state: Path, inbox: Inbox, writer: pipe.Writer, clock: Clock, reload: Callable[[], None]) -> Loop:
    while True:
        loop = Loop(state, inbox, writer, clock, reload)
        try:
            loop.start()
        except OSError as error:
            _wait(inbox, f"the journal in {state} cannot be used: {error}")
        else:
            return loop


def _wait(inbox: Inbox, problem: str, seconds: float = RETRY_SECONDS) -> None:
    """Report, wait, and notice when ExaBGP ends meanwhile."""
    if problem:
        log.error(problem)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            if inbox.get(timeout=left) == Said(None):
                sys.exit(0)


def _complain(problem: str) -> None:
    log.warning(problem)


class _Configuration:
    """Reads the settings in a thread of its own, again and again until they are good, and whenever asked."""

    def __init__(self, load: Loader, tell: Callable[[Configured], None]) -> None:
        self._load, self._tell = load, tell
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="configuration", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def again(self) -> None:
        """Read it once more."""
        self._asked.set()

    def _run(self) -> None:
        while True:
            self._asked.clear()
            is_good = self._read()
            self._asked.wait(None if is_good else RETRY_SECONDS)

    def _read(self) -> bool:
        try:
            settings = self._load()
        except (ValueError, OSError) as error:
            # `Refused`, and whatever else is wrong with a value, such as a NUL in a path: this thread reads it again.
            self._tell(Configured(None, str(error)))
            return False
        self._tell(Configured(settings))
        return True
