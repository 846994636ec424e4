"""Capture files as a source: classic pcap in every byte order and resolution straight into the kernel, the rest by
libpcap.

Reads forward only, in bounded pieces, so that pipes work and a file that shrinks meanwhile does no harm. gzip is
recognised by its magic. A file cut off in the middle of a record gives everything before it; what can't be read at
all is refused.
"""

import gzip
import struct
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pcapy

from rules.errors import Refused
from sensors import walk
from sensors.framing import LINK_TYPES
from sensors.source import Fed, Losses, Source
from sensors.tables import Tables

_GZIP = b"\x1f\x8b"
_CLASSIC = {
    b"\xd4\xc3\xb2\xa1": (False, 1000),
    b"\xa1\xb2\xc3\xd4": (True, 1000),
    b"\x4d\x3c\xb2\xa1": (False, 1),
    b"\xa1\xb2\x3c\x4d": (True, 1),
}
"""Magic of a classic capture file: big-endian?, nanoseconds in one unit of its stamps."""
_PIECE = 1 << 18
_BATCH = 256


def open_capture(path: str | Path, weight: int = 1) -> Source:
    """The source for a capture file, or `-` for standard input; raises `Refused` with one line when it can't be
    read."""
    opened = ExitStack()
    try:
        stream: BinaryIO = opened.enter_context(Path("/dev/stdin" if str(path) == "-" else path).open("rb"))  # noqa: SIM115
        magic = stream.peek(4)[:4]  # type: ignore[attr-defined]
        if magic[:2] == _GZIP:
            stream = opened.enter_context(gzip.open(stream))  # type: ignore[assignment]  # noqa: SIM115
            magic = stream.peek(4)[:4]  # type: ignore[attr-defined]
        kind = ClassicCapture if magic in _CLASSIC else LibpcapCapture
        return kind(stream, str(path), weight, opened)
    except (OSError, EOFError, zlib.error) as error:
        opened.close()
        raise Refused("capture", path, f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    except Refused:
        opened.close()
        raise


def _known(path: str, link: int) -> int:
    if link not in LINK_TYPES:
        raise Refused("capture", path, f"has link type {link}, which is not supported; Ethernet, raw IP and such are")
    return link


class ClassicCapture:
    """A classic pcap file or stream."""

    live = False

    def __init__(self, stream: BinaryIO, path: str, weight: int, opened: ExitStack) -> None:
        """`opened` is what to close in the end."""
        self._opened = opened
        self._stream, self._path, self._weight = stream, path, weight
        header = stream.read(24)
        if len(header) < 24:
            raise Refused("capture", path, "ends within its file header")
        self._swapped, self._fraction = _CLASSIC[header[:4]]
        order = "big" if self._swapped else "little"
        # The upper bits hold the length of a frame check sequence (draft-ietf-opsawg-pcap §4).
        self._link = _known(path, int.from_bytes(header[20:24], order) & 0xFFFF)  # type: ignore[arg-type]
        self._buffer = np.zeros(_PIECE + walk.LARGEST_RECORD + 16, np.uint8)
        self._at = self._end = 0
        self._ended = False
        self._losses = Losses()

    def feed(self, tables: Tables, until_ns: int) -> Fed:
        """As `Source.feed`."""
        while True:
            self._at, why = walk.pcap(
                *tables.arrays, self._buffer, self._at, self._end, self._swapped, self._fraction, self._link,
                self._weight, until_ns,
            )  # fmt: skip
            if why == walk.REACHED:
                return Fed(reached=True)
            if why == walk.DAMAGED:
                self._losses, self._ended = Losses(damaged=1), True
            if self._ended or not self._fill():
                return Fed(ended=True)

    def _fill(self) -> bool:
        """Moves the rest to the front and reads on; False at the end."""
        rest = self._end - self._at
        room = memoryview(self._buffer.data)[rest : rest + _PIECE]
        self._buffer[:rest] = self._buffer[self._at : self._end].copy()
        self._at, self._end = 0, rest
        try:
            read = self._stream.readinto(room)  # type: ignore[attr-defined]
        except (OSError, EOFError, zlib.error):
            self._losses, read = Losses(damaged=1), 0
        if not read:
            self._ended = True
            if rest and not self._losses.damaged:
                self._losses = Losses(truncated=1)
        self._end += read
        return bool(read)

    def wait(self, seconds: float) -> None:
        """Nothing to wait for."""

    def losses(self) -> Losses:
        """As `Source.losses`."""
        return self._losses

    def close(self) -> None:
        """As `Source.close`."""
        self._opened.close()


class LibpcapCapture:
    """Anything else that libpcap reads: pcapng, and older variants of pcap.

    pcapy's batches give no length on the wire, so the kernel takes the IP header's; and they lose what stands before a
    damaged record in the same batch, which is therefore read again, one by one.
    """

    live = False

    def __init__(self, stream: BinaryIO, path: str, weight: int, opened: ExitStack) -> None:
        """`opened` is what to close in the end."""
        self._path, self._weight = path, weight
        self._name = path
        self._opened = opened
        if path == "-" or isinstance(stream, gzip.GzipFile) or not Path(path).is_file():
            # libpcap reads files only; what comes through a pipe or packed goes into one that vanishes by itself.
            copy = opened.enter_context(tempfile.NamedTemporaryFile(prefix="stopbank-"))  # noqa: SIM115
            while piece := stream.read(_PIECE):
                copy.write(piece)
            copy.flush()
            self._name = copy.name
        self._reader = self._open()
        self._link = _known(path, self._reader.datalink())
        self._read = 0
        self._one_by_one = self._ended = False
        self._losses = Losses()
        self._take(b"", b"")

    def _open(self) -> "pcapy.Reader":
        try:
            return pcapy.open_offline(self._name)
        except pcapy.PcapError as error:
            raise Refused("capture", self._path, f"is no capture file that libpcap can read: {error}") from None

    def _take(self, packets: bytes, meta: bytes) -> bool:
        self._buffer, self._meta = walk.pcapy_batch(packets, meta)
        self._number = 0
        return bool(len(self._meta))

    def feed(self, tables: Tables, until_ns: int) -> Fed:
        """As `Source.feed`."""
        while True:
            self._number = walk.batch(
                *tables.arrays, self._buffer, self._meta, self._link, self._weight, self._number, until_ns
            )
            if self._number < len(self._meta):
                return Fed(reached=True)
            if self._ended or not self._next():
                return Fed(ended=True)

    def _next(self) -> bool:
        if self._one_by_one:
            return self._next_one()
        try:
            packets, meta = self._reader.next_batch(_BATCH)
        except pcapy.PcapError:
            self._reader = self._open()
            for _ in range(self._read):
                self._reader.next()
            self._one_by_one = True
            return self._next_one()
        self._ended = not self._take(packets, meta)
        self._read += len(self._meta)
        return not self._ended

    def _next_one(self) -> bool:
        try:
            header, packet = self._reader.next()
        except pcapy.PcapError as error:
            if "different" in str(error) and "link" in str(error):
                raise Refused("capture", self._path, "mixes link types in one file; split it by interface") from None
            self._losses, self._ended = Losses(truncated=1), True
            return False
        if header is None:
            self._ended = True
            return False
        seconds, microseconds = header.getts()
        if not (0 <= seconds < 1 << 32 and 0 <= microseconds < 1 << 32):
            # No clock ever said that: from here on the file is damaged.
            self._losses, self._ended = Losses(truncated=1), True
            return False
        return self._take(packet, struct.pack("=4I", seconds, microseconds, 0, len(packet)))

    def wait(self, seconds: float) -> None:
        """Nothing to wait for."""

    def losses(self) -> Losses:
        """As `Source.losses`."""
        return self._losses

    def close(self) -> None:
        """As `Source.close`."""
        self._reader.close()
        self._opened.close()
