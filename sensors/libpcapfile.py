"""Old and patched variants of classic capture files, by libpcap.

pcapy's batches give no length on the wire, so the kernel takes the IP header's; and they lose what stands before a
damaged record in the same batch, which is therefore read again, one by one.
"""

import struct
import tempfile
from contextlib import ExitStack

import pcapy

from rules.errors import Refused
from sensors import walk
from sensors.framing import LINK_TYPES
from sensors.linktypes import called
from sensors.source import Fed, Losses
from sensors.stream import PIECE, UNREADABLE, Stream
from sensors.tables import Tables

_BATCH = 256
LARGEST_COPY = 4 << 30
"""Bytes that may be unpacked into a file for libpcap: a small file can hold a thousand times as much."""


class LibpcapCapture:
    """A capture file that libpcap reads."""

    live = False

    def __init__(self, stream: Stream, weight: int) -> None:
        """Raises `Refused` when libpcap can't read it."""
        self.stream, self._weight = stream, weight
        self._opened = ExitStack()
        self._opened.callback(stream.close)
        self._losses = Losses()
        self._name = stream.path if stream.is_plain else self._copy()
        self._reader = self._open()
        self._link = self._reader.datalink()
        if self._link not in LINK_TYPES:
            raise Refused("capture", stream.path, f"has link type {called(self._link)}, which is not supported")
        self._read = 0
        self._one_by_one = self._ended = False
        self._take(b"", b"")

    def _copy(self) -> str:
        """libpcap reads files only; what comes through a pipe or packed goes into one that vanishes by itself."""
        copy = self._opened.enter_context(tempfile.NamedTemporaryFile(prefix="stopbank-"))  # noqa: SIM115
        while piece := self._piece():
            if copy.tell() >= LARGEST_COPY:
                self._opened.close()
                raise Refused("capture", self.stream.path, "is too long to be unpacked here: unpack it first")
            copy.write(piece)
        copy.flush()
        return copy.name

    def _piece(self) -> bytes:
        try:
            return self.stream.file.read(PIECE)
        except UNREADABLE:
            self._losses = Losses(damaged=1)
            return b""

    def _open(self) -> "pcapy.Reader":
        try:
            return pcapy.open_offline(self._name)
        except pcapy.PcapError as error:
            self._opened.close()
            why = f"is no capture file that libpcap can read: {error}"
            raise Refused("capture", self.stream.path, why) from None

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
        except pcapy.PcapError:
            header, self._losses = None, Losses(truncated=1)
        if header is None:
            self._ended = True
            return False
        seconds, microseconds = header.getts()
        if not (0 <= seconds < 1 << 32 and 0 <= microseconds < 1 << 32):
            # No clock ever said that: from here on the file is damaged.
            self._losses, self._ended = Losses(truncated=1), True
            return False
        return self._take(packet, struct.pack("=4I", seconds, microseconds, 0, len(packet)))

    def uncounted(self) -> dict[str, int]:
        """As `CaptureFile.uncounted`."""
        return {}

    def wait(self, seconds: float) -> None:
        """Nothing to wait for."""

    def losses(self) -> Losses:
        """As `Source.losses`."""
        return self._losses

    def close(self) -> None:
        """As `Source.close`."""
        self._reader.close()
        self._opened.close()
