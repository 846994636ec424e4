"""What the speaker hasn't taken yet, on disk: appended lines, rewritten when there is too much of what was settled.

A line is `+ID CRC PAYLOAD` or `-ID`, the latter when the message is settled. A torn or damaged line is left out on
reading, never guessed at. The spool is bounded: when it is full the oldest messages go, counted, and detection never
waits for it. While the disk fails messages are kept in memory, and written when there is room again.
"""

import os
import re
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from sensors import files

_ADDED = re.compile(rb"\+(\d{1,16}) ([0-9a-f]{8}) ([^\n]*)")
_SETTLED = re.compile(rb"-(\d{1,16})")
_SEGMENT = re.compile(r"(\d{8})\.spool")
_TIDY_BYTES = 1 << 20
"""An empty spool whose file is larger than this starts a new file."""
_TRY_AGAIN = 16
"""Writes that are left out before a disk that failed is tried again."""


class Spool:
    """Messages by number, oldest first; appended to from one thread, `sync` may run in another."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        files.private_directory(directory)
        self._directory, self._limit = directory, limit_bytes
        self._payloads: dict[int, bytes] = {}
        self._live_bytes = 0
        self.damaged = 0
        """Lines left out on reading."""
        self.dropped = 0
        """Messages given up because the spool was full."""
        self.failures = 0
        """Writes that the disk didn't take."""
        self.trouble = ""
        """Why the last one failed; empty when the disk has everything."""
        self._left_out = 0
        self._swap = threading.Lock()
        self._descriptor = -1
        self._size = 0
        segments = sorted(path for path in directory.iterdir() if _SEGMENT.fullmatch(path.name))
        for path in segments:
            self._replay(path)
        self._number = int(segments[-1].name[:8]) if segments else 0
        self._next = max(self._payloads, default=0) + 1
        self._drop_down_to(limit_bytes)
        # What was read is written anew: a torn last line must not be appended to.
        self._try(self._rewrite)

    def __len__(self) -> int:
        return len(self._payloads)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._size

    def pending(self) -> tuple[int, ...]:
        """Numbers of the messages not settled, oldest first."""
        return tuple(self._payloads)

    def payload(self, number: int) -> bytes:
        """One message."""
        return self._payloads[number]

    def append(self, payload: bytes) -> tuple[int, tuple[int, ...]]:
        """Keep a message (no line end in it); gives its number, and those of messages given up to make room.

        The message survives a crash of this process at once, and a power failure after `sync`; where the disk fails
        (`trouble`) neither.
        """
        if b"\n" in payload:
            raise AssertionError("a message is one line")
        number = self._next
        self._next += 1
        line = _line(number, payload)
        given_up = self._make_room(len(line))
        self._payloads[number] = payload
        self._live_bytes += len(line)
        self._put(line)
        return number, given_up

    def settle(self, numbers: Iterable[int]) -> None:
        """Forget messages: the speaker has them, or will never want them."""
        lines = []
        for number in numbers:
            if self._forget(number):
                lines.append(b"-%d\n" % number)
        if lines:
            self._put(b"".join(lines))
        if not self._payloads and self._size > min(_TIDY_BYTES, self._limit // 2):
            self._try(self._rewrite)

    def sync(self) -> None:
        """Make everything appended so far survive a power failure."""
        with self._swap:
            if self._descriptor >= 0:
                os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync()
        finally:
            with self._swap:
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                self._descriptor = -1

    def _make_room(self, count: int) -> tuple[int, ...]:
        # While the disk fails the file doesn't grow, but memory does.
        if max(self._size, self._live_bytes) + count <= self._limit:
            return ()
        given_up = self._drop_down_to(max(0, self._limit // 2 - count))
        self._try(self._rewrite)
        return given_up

    def _drop_down_to(self, size: int) -> tuple[int, ...]:
        given_up = []
        while self._live_bytes > size and self._payloads:
            oldest = next(iter(self._payloads))
            self._forget(oldest)
            given_up.append(oldest)
        self.dropped += len(given_up)
        return tuple(given_up)

    def _forget(self, number: int) -> bool:
        payload = self._payloads.pop(number, None)
        if payload is not None:
            self._live_bytes -= len(_line(number, payload))
        return payload is not None

    def _put(self, lines: bytes) -> None:
        """Appends lines; behind a line that was torn nothing is appended, but everything written anew."""
        if not self.trouble:
            self._try(lambda: self._write(lines))
            return
        self._left_out += 1
        if self._left_out % _TRY_AGAIN == 0:
            self._try(self._rewrite)
        else:
            self.failures += 1

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
            self.trouble = ""
        except OSError as error:
            self.failures += 1
            self.trouble = error.strerror or str(error)

    def _write(self, lines: bytes) -> None:
        self._size += len(lines)
        view = memoryview(lines)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _rewrite(self) -> None:
        """Start a new segment with what is live, then remove the earlier ones; a crash in between leaves both, which
        read the same."""
        number = self._number + 1
        path = self._directory / f"{number:08}.spool"
        content = b"".join(_line(number, payload) for number, payload in self._payloads.items())
        files.write(path, content)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        with self._swap:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor, self._number, self._size = descriptor, number, len(content)
        for old in self._directory.iterdir():
            if (parts := _SEGMENT.fullmatch(old.name)) and int(parts.group(1)) < number:
                old.unlink()

    def _replay(self, path: Path) -> None:
        lines = path.read_bytes().split(b"\n")
        # What stands behind the last line end was torn by a crash, even if it looks whole.
        self.damaged += bool(lines.pop())
        for line in lines:
            if (added := _ADDED.fullmatch(line)) and int(added.group(2), 16) == zlib.crc32(added.group(3)):
                number, payload = int(added.group(1)), added.group(3)
                self._forget(number)
                self._payloads[number] = payload
                self._live_bytes += len(_line(number, payload))
            elif settled := _SETTLED.fullmatch(line):
                self._forget(int(settled.group(1)))
            else:
                self.damaged += 1


def _line(number: int, payload: bytes) -> bytes:
    return b"+%d %08x %s\n" % (number, zlib.crc32(payload), payload)
