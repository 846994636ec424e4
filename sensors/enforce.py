"""`enforce`: FlowSpec received over BGP, enforced by this machine's kernel; a process hosted by ExaBGP.

Takes rules from named speakers only, refuses what would touch protected packets, and drops a session's rules with the
session. Must never block ExaBGP (a thread empties stdin from first to last), never write anything but commands to
stdout, never leave rules behind when it ends, and never die of a rule.
"""

import logging
import os
import queue
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from typing import NoReturn

import structlog

from rules.errors import Refused
from rules.match import Match
from rules.neighbour import SessionFamily
from sensors import enforce_config, enforce_status
from sensors.enforce_kernel import Kernel, NftFailed, own_loopbacks
from sensors.enforce_settings import EnforceSettings
from sensors.enforce_tables import Tables
from sensors.enforce_update import parse_event

log = structlog.get_logger("enforce")

STATUS_SECONDS = 1.0
RETRY_SECONDS = 1.0
"""Between two tries to load what the kernel did not take."""

Inbox = queue.SimpleQueue[bytes | None]
"""Lines from ExaBGP; None: the end."""


def serve(settings: EnforceSettings) -> NoReturn:
    """Write ExaBGP's configuration and become ExaBGP, which starts the enforcing process."""
    path = settings.state / "enforce.conf"
    draft = path.with_name(f".enforce.conf.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)  # it holds MD5 keys, and the draft of an older run may stand there
        file.write(enforce_config.render(settings))
    draft.replace(path)
    # `env` sets the dotted names, which shells and systemd refuse.
    variables = [f"{name}={value}" for name, value in enforce_config.environment(settings).items()]
    os.execv("/usr/bin/env", ["env", *variables, str(settings.exabgp), "server", str(path)])


def run(settings: EnforceSettings) -> None:
    """The process that ExaBGP hosts: returns when told to stop, or when ExaBGP is gone, with the table removed."""
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(inbox,), name="stdin", daemon=True).start()
    commands = _take_stdout()
    os.umask(0o007)  # ExaBGP leaves us 0137
    _log_to_stderr()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inbox.put(None))
    _ask_again(settings, commands)
    Enforcer(settings, Kernel(settings.nft), inbox).run()


class Enforcer:
    """The loop between the inbox and the kernel."""

    def __init__(self, settings: EnforceSettings, kernel: Kernel, inbox: Inbox) -> None:
        self._settings, self._kernel, self._inbox = settings, kernel, inbox
        loopbacks = tuple(Match(destination=prefix) for prefix in own_loopbacks())
        self._tables = Tables(
            (source.address for source in settings.sources), settings.untouchable + loopbacks, settings.maximum_rules
        )
        self._changed = True  # an empty table replaces what a predecessor left
        self._retry_at = 0.0
        self._status_at = 0.0
        self._trouble = ""
        self._load_seconds = 0.0
        self._ended = False

    def run(self) -> None:
        """Until the inbox ends."""
        try:
            while self._gather():
                now = time.monotonic()
                if self._changed and now >= self._retry_at:
                    self._load()
                if now >= self._status_at:
                    self._report()
        finally:
            self._remove()

    def _gather(self) -> bool:
        """Wait for something to do, take in what came; False at the end."""
        due = min(self._status_at, self._retry_at) if self._changed else self._status_at
        if self._wait(due - time.monotonic()) and self._changed:
            self._gather_followers(time.monotonic())
        return not self._ended

    def _gather_followers(self, now: float) -> None:
        """One change seldom comes alone: those that follow at once go into the same transaction, and as long as they
        keep coming, as many as arrive while a few transactions would take."""
        end = now + self._settings.batch_seconds
        latest = end + 4 * self._load_seconds
        while not self._ended:
            now = time.monotonic()
            if now >= latest or (not self._wait(end - now) and now >= end):
                return

    def _wait(self, seconds: float) -> bool:
        """Take one line in; False when none came in time, or the end did."""
        try:
            line = self._inbox.get(timeout=seconds) if seconds > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return False
        if line is None:
            self._ended = True
            return False
        self._take(line)
        return True

    def _take(self, line: bytes) -> None:
        try:
            event = parse_event(line)
        except Refused as refused:
            log.error("unreadable event", reason=str(refused))
            return
        if event is None:
            return
        for rejected in self._tables.apply(event):
            log.warning("not enforced", speaker=str(event.peer), rule=rejected.text, reason=rejected.reason)
        self._changed = True

    def _load(self) -> None:
        began = time.monotonic()
        rules = self._tables.enforced()
        try:
            self._kernel.load(rules)
        except NftFailed as failed:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._trouble = str(failed)
            log.error("the kernel does not take the rules", reason=str(failed), rules=len(rules))
            self._leave_out_culprits(str(failed))
            return
        self._changed, self._trouble = False, ""
        self._load_seconds = time.monotonic() - began

    def _leave_out_culprits(self, reason: str) -> None:
        rules = self._tables.enforced()
        culprits = self._kernel.culprits(rules) if self._kernel.takes(()) else ()
        if culprits:
            self._tables.refuse(culprits, f"the kernel refuses it: {reason}")
            self._retry_at = 0.0

    def _report(self) -> None:
        began = time.monotonic()
        tallies = {}
        try:
            tallies = self._kernel.tallies()
        except NftFailed as failed:
            self._trouble = str(failed)
            self._kernel.forget()
            self._changed = True
        status = enforce_status.render(self._tables, tallies, self._trouble, self._load_seconds, datetime.now(UTC))
        try:
            enforce_status.write(self._settings.state, status)
        except OSError as failed:
            log.error("the status can't be written", reason=str(failed))
        # Reading thousands of counters takes long: never spend more than a tenth of the time on it.
        spent = time.monotonic() - began
        self._status_at = began + max(STATUS_SECONDS, 10 * spent)

    def _remove(self) -> None:
        try:
            self._kernel.remove()
        except NftFailed as failed:
            log.error("the table stays behind", reason=str(failed))


def _listen(inbox: Inbox) -> None:
    """Empty stdin until it ends. Reads the descriptor itself: a buffered stdin can't be left by a daemon thread."""
    pending = b""
    while chunk := os.read(0, 1 << 16):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            inbox.put(line)
    inbox.put(None)


def _take_stdout() -> int:
    """A descriptor for commands; whatever else is written to stdout goes to stderr from now on."""
    commands = os.dup(1)
    os.dup2(2, 1)
    return commands


def _ask_again(settings: EnforceSettings, commands: int) -> None:
    """Have sessions that are already up say everything again: a predecessor that died took what it knew along."""
    lines = [
        f"neighbor {source.address} announce route-refresh {family.value}\n"
        for source in settings.sources
        for family in SessionFamily
        if family in source.families
    ]
    os.write(commands, "".join(lines).encode())


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
