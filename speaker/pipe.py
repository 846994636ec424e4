"""The two pipes to ExaBGP: a thread that never stops reading, and one writer.

ExaBGP writes to our stdin blocking: a process that does not read freezes the whole daemon, keepalives included. So the
reader is the first thing started and the last thing stopped, and its queue has no limit. Nothing but commands may ever
be written to stdout: `seize` takes both descriptors away from everybody else.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rules.neighbour import Address
from speaker import replies
from speaker.replies import Reply, UpdateReceived

T = TypeVar("T")

WINDOW = 128
"""Commands in flight: from 20 on ExaBGP is at its fastest; more bridge the time a busy machine takes us away."""

WINDOW_BYTES = 48 * 1024
"""A pipe holds 64 KiB: so much in flight never makes a write block."""

GATHERING_SECONDS = 0.003
"""How long answers may gather: ExaBGP writes each by itself, and waking the loop for one costs more than taking it."""

_PR_SET_PDEATHSIG = 1
_READ = 1 << 16


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Private copies of stdin and stdout."""

    commands: int
    replies: int


def seize() -> Descriptors:
    """Take stdin and stdout for ExaBGP alone; whoever prints from now on prints to stderr."""
    # ExaBGP gives its children 0137, under which the state directory could not be used.
    os.umask(0o007)
    replies_fd, commands_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Descriptors(commands_fd, replies_fd)


def die_with_parent() -> None:
    """ExaBGP's child outlives a killed ExaBGP and would keep its socket: ask the kernel for SIGTERM then."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Reader:
    """The reading thread; delivers every reply, and None once ExaBGP has closed the pipe."""

    def __init__(self, descriptor: int, deliver: Callable[[Reply | None], None], now: Callable[[], float]) -> None:
        self._descriptor, self._deliver, self._now = descriptor, deliver, now
        self._alarmed: dict[Address, float] = {}
        self.dropped = 0
        """Received updates that were not delivered, because one a second and peer is enough for an alarm."""
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Start reading; it ends with the pipe."""
        self._thread.start()

    def _run(self) -> None:
        rest = b""
        while True:
            try:
                block = os.read(self._descriptor, _READ)
            except InterruptedError:
                continue
            except OSError:
                block = b""
            if not block:
                self._deliver(None)
                return
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._take(line.rstrip(b"\r"))
            if lines and lines[-1] == b"done":
                # The pipe holds thousands of answers meanwhile: ExaBGP is never kept from writing.
                time.sleep(GATHERING_SECONDS)

    def _take(self, line: bytes) -> None:
        reply = replies.parse(line)
        if isinstance(reply, UpdateReceived):
            # A neighbour that sends its full table must not fill our memory.
            now = self._now()
            if now - self._alarmed.get(reply.peer, -60.0) < 1.0:
                self.dropped += 1
                return
            self._alarmed[reply.peer] = now
        self._deliver(reply)


@dataclass(frozen=True, slots=True)
class Sent(Generic[T]):
    """A command in flight."""

    ticket: T
    size: int
    at: float


class Window(Generic[T]):
    """Commands in flight, oldest first; ExaBGP answers in this order and says nothing else about which."""

    def __init__(self, limit: int = WINDOW, bytes_limit: int = WINDOW_BYTES) -> None:
        self._limit, self._bytes_limit = limit, bytes_limit
        self._flight: deque[Sent[T]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._flight)

    def has_room(self) -> bool:
        """Whether another command may go out; a long one may always go alone."""
        return len(self._flight) < self._limit and self._bytes < self._bytes_limit

    def is_half_empty(self) -> bool:
        """Whether it is time to fill it up: ExaBGP and we do less for each command that comes in company."""
        return 2 * len(self._flight) <= self._limit and 2 * self._bytes <= self._bytes_limit

    def sent(self, ticket: T, size: int, now: float) -> None:
        """A command was written, or is about to be."""
        self._flight.append(Sent(ticket, size, now))
        self._bytes += size

    def answered(self) -> T | None:
        """The command that the next answer belongs to; None for an answer nobody waits for."""
        if not self._flight:
            return None
        oldest = self._flight.popleft()
        self._bytes -= oldest.size
        return oldest.ticket

    def waiting_seconds(self, now: float) -> float:
        """How long the oldest has been waiting."""
        return now - self._flight[0].at if self._flight else 0.0

    def abandon(self) -> tuple[T, ...]:
        """Forget all of them: their answers will not be told apart any more."""
        abandoned = tuple(one.ticket for one in self._flight)
        self._flight.clear()
        self._bytes = 0
        return abandoned


class Writer:
    """The only writer of commands."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.lines = 0

    def write(self, *lines: str) -> None:
        """Commands, in one turn of the system. Raises `BrokenPipeError` when ExaBGP is gone."""
        left = memoryview("".join(f"{line}\n" for line in lines).encode("ascii"))
        while left:
            left = left[os.write(self._descriptor, left) :]
        self.lines += len(lines)
