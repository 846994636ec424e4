"""The speaker's door for local processes: one JSON request a line, one answer a line, over a Unix socket.

Only root, the speaker's own user and members of the state directory's group get in, as the socket's mode says.
Requests are handed to the loop typed, and the loop never waits for a client.
"""

import os
import queue
import socket
import stat
import struct
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from rules.errors import Refused
from rules.messages import LINE_LIMIT, Answer, Declined, SpeakerRequest, parse_request, render_answer

Answering = Callable[[Answer], None]
"""Call once, from any thread."""

CLIENTS = 32
ANSWER_SECONDS = 30.0
"""Longer than anything the loop does to a request."""
IDLE_SECONDS = 600.0
HANGING_UP_SECONDS = 1.0
_BLOCK = 1 << 16
_RETRY_SECONDS = 1.0


class Server:
    """Accepting thread and a thread for each client."""

    def __init__(
        self,
        path: Path,
        hand_over: Callable[[SpeakerRequest, Answering], None],
        report: Callable[[str], None],
    ) -> None:
        self._path, self._hand_over, self._report = path, hand_over, report
        self._slots = threading.BoundedSemaphore(CLIENTS)
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="socket", daemon=True)

    def start(self) -> None:
        """Start listening; a busy or forbidden path is retried for ever."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and remove the socket."""
        self._stopping.set()
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listener = self._bind()
            except OSError as error:
                self._report(f"cannot listen on {self._path}: {error}")
                self._stopping.wait(_RETRY_SECONDS)
                continue
            self._accept(self._listener)

    def _bind(self) -> socket.socket:
        if self._path.exists() and _is_served(self._path):
            raise OSError("another speaker answers there")
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o660)
            listener.listen(CLIENTS)
        except OSError:
            listener.close()
            raise
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            self._slots.acquire()
            try:
                connection, _ = listener.accept()
            except OSError as error:
                self._slots.release()
                if not self._stopping.is_set():
                    self._report(f"cannot accept on {self._path}: {error}")
                    self._stopping.wait(_RETRY_SECONDS)
                return
            threading.Thread(target=self._serve, args=(connection,), name="client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(IDLE_SECONDS)
                if _is_allowed(connection, self._path.parent):
                    self._converse(connection)
                else:
                    # Heard first: closing on an unread request would reset the connection before the answer is read.
                    connection.recv(1 << 16)
                    connection.sendall(render_answer(_NOT_ALLOWED))
        except OSError:
            # The client went away: nobody is left to tell.
            return
        finally:
            self._slots.release()

    def _converse(self, connection: socket.socket) -> None:
        rest = b""
        while True:
            while b"\n" not in rest:
                if len(rest) > LINE_LIMIT:
                    _hang_up(connection, _TOO_LONG)
                    return
                block = connection.recv(_BLOCK)
                if not block:
                    return
                rest += block
            line, rest = rest.split(b"\n", 1)
            connection.sendall(render_answer(self._answer(line)))

    def _answer(self, line: bytes) -> Answer:
        try:
            request = parse_request(line)
        except Refused as refused:
            return Declined.of(refused)
        box: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._hand_over(request, box.put)
        try:
            return box.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            return Declined.of(Refused("speaker", "", f"is busy: no answer in {ANSWER_SECONDS:.0f} s"), retry=True)


_NOT_ALLOWED = Declined.of(
    Refused("user", "", "only root, the user Stopbank runs as and members of the state directory's group may ask")
)
_TOO_LONG = Declined.of(Refused("request", "", f"is longer than {LINE_LIMIT} bytes"))


def _hang_up(connection: socket.socket, answer: Answer) -> None:
    """Answer, and hear some of what still comes: closing on it would reset the connection before the answer is read."""
    connection.sendall(render_answer(answer))
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(HANGING_UP_SECONDS)
    for _ in range(LINE_LIMIT // _BLOCK):
        if not connection.recv(_BLOCK):
            return


def _is_allowed(connection: socket.socket, directory: Path) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, group = struct.unpack("3i", raw)
    return is_admitted(user, {group, *_further_groups(process)}, directory)


def is_admitted(user: int, groups: Collection[int], directory: Path) -> bool:
    """Whether a user with these groups may ask: root, ourselves, or the group that the state directory lets write."""
    if user in (0, os.getuid()):
        return True
    state = directory.stat()
    return bool(state.st_mode & stat.S_IWGRP) and state.st_gid in groups


def _further_groups(process: int) -> frozenset[int]:
    """Supplementary groups of a process, which SO_PEERCRED does not tell; none when it has ended."""
    try:
        text = (Path("/proc") / str(process) / "status").read_text()
    except OSError:
        return frozenset()
    line = next((one for one in text.splitlines() if one.startswith("Groups:")), "")
    return frozenset(map(int, line.split()[1:]))


def _is_served(path: Path) -> bool:
    """Whether somebody listens there; a socket file that a crash left behind refuses connections."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
