"""Reading a capture's bytes: files, pipes and packed ones, forward only, through one buffer of fixed size.

So a file of any size needs the same memory, pipes work, and a file that shrinks meanwhile does no harm.
"""

import bz2
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rules.errors import Refused
from sensors import walk
from sensors.headers import Total
from sensors.source import Fed, Losses
from sensors.tables import Tables

PIECE = 1 << 18
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What a stream may raise: the file system, and every packer."""
_PACKED: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_FOREIGN = {
    b"\x28\xb5\x2f\xfd": "is packed with zstd: unpack it first (zstd -d)",
    b"\x04\x22\x4d\x18": "is packed with lz4: unpack it first (lz4 -d)",
    b"PK\x03\x04": "is a zip archive: unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"snoop\0\0\0": "is a snoop file: convert it first (editcap -F pcapng)",
    b"GMBU": "is a Network Monitor file: convert it first (editcap -F pcapng)",
}


class Stream:
    """An open capture, unpacked while it is read."""

    def __init__(self, path: str | Path, field: str = "capture") -> None:
        """`-`: standard input; `field`: what it is called where it is refused. Raises `Refused` with one line when it
        can't be read at all."""
        self.path, self.field = str(path), field
        self._opened = ExitStack()
        try:
            name = Path("/dev/stdin" if self.path == "-" else path)
            self._raw: BinaryIO = self._opened.enter_context(name.open("rb"))
            self.file = self._raw
            self.magic = self._peek()
            for packed, unpacked in _PACKED.items():
                if self.magic.startswith(packed):
                    self.file = self._opened.enter_context(unpacked(self._raw))
                    self.magic = self._peek()
                    break
            for foreign, why in _FOREIGN.items():
                if self.magic.startswith(foreign):
                    raise Refused(field, path, why)
            if not self.magic:
                raise Refused(field, path, "is empty")
        except UNREADABLE as error:
            self.close()
            raise Refused(field, path, f"can't be read: {getattr(error, 'strerror', None) or error}") from None
        except Refused:
            self.close()
            raise

    def _peek(self) -> bytes:
        return bytes(self.file.peek(8)[:8])

    @property
    def is_plain(self) -> bool:
        """An ordinary file, not packed: one that others can open, too."""
        return self.file is self._raw and self.path != "-" and self.size() is not None

    def size(self) -> int | None:
        """Bytes in the file, packed as they are; None for what has no size."""
        status = os.fstat(self._raw.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def position(self) -> int:
        """How many of them are read."""
        return self._raw.tell()

    def close(self) -> None:
        """Lets go of the file."""
        self._opened.close()


class Buffered:
    """What all captures that are walked in a buffer share: filling it, and telling what was lost."""

    live = False

    def __init__(self, stream: Stream, weight: int, largest: int) -> None:
        """`largest`: of one record with its header."""
        self.stream, self._weight = stream, weight
        self._buffer = np.zeros(PIECE + largest, np.uint8)
        self._at = self._end = 0
        self._ended = False
        self._losses = Losses()

    def walk(self, tables: Tables, until_ns: int) -> tuple[int, int]:
        """Counts what the buffer holds: where to go on, which may lie behind its end, and why it stopped."""
        raise NotImplementedError

    def feed(self, tables: Tables, until_ns: int) -> Fed:
        """As `Source.feed`."""
        while True:
            self._at, why = self.walk(tables, until_ns)
            if why == walk.REACHED:
                return Fed(reached=True)
            if why == walk.DAMAGED:
                self._losses, self._ended = Losses(damaged=1), True
            if self._ended or not self.fill():
                return Fed(ended=True)

    def glance(self, tables: Tables, records: int) -> None:
        """Counts a file's first records, about so many; then the capture is to be opened anew."""
        while int(tables.totals[Total.RECORDS]) < records:
            self._at, why = self.walk(tables, walk.NEVER)
            if why != walk.MORE or self._ended or not self.fill():
                return

    def fill(self) -> bool:
        """Moves the rest to the front and reads on; False at the end."""
        while self._at > self._end:  # skipped beyond what was read
            skip = min(self._at - self._end, PIECE)
            self._at, self._end = self._at - self._end, 0
            self._end = self._read(0, skip)
            if not self._end:
                self._losses = Losses(truncated=1)
                return False
        rest = self._end - self._at
        self._buffer[:rest] = self._buffer[self._at : self._end].copy()
        self._at, self._end = 0, rest
        read = self._read(rest, PIECE)
        if not read and rest and not self._losses.damaged:
            self._losses = Losses(truncated=1)
        self._end += read
        return bool(read)

    def _read(self, at: int, most: int) -> int:
        try:
            read = int(self.stream.file.readinto1(memoryview(self._buffer.data)[at : at + most]))
        except UNREADABLE:
            self._losses, read = Losses(damaged=1), 0
        self._ended = not read
        return read

    def wait(self, seconds: float) -> None:
        """Nothing to wait for."""

    def losses(self) -> Losses:
        """As `Source.losses`."""
        return self._losses

    def close(self) -> None:
        """As `Source.close`."""
        self.stream.close()
