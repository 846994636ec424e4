"""Capture files as a source, whatever form they have: who reads it is told by its first bytes.

Classic pcap in every byte order and resolution and pcapng go straight into the kernel, old variants of pcap through
libpcap. A file cut off in the middle of a record gives everything before it; what can't be read at all is refused.
"""

from pathlib import Path
from typing import Protocol

from rules.errors import Refused
from sensors import walk
from sensors.framing import INSIDE, LINK_TYPES
from sensors.libpcapfile import LibpcapCapture
from sensors.linktypes import called
from sensors.pcapng import MAGIC, PcapngCapture
from sensors.source import Source
from sensors.stream import UNREADABLE, Buffered, Stream
from sensors.tables import Tables

_CLASSIC = {
    b"\xd4\xc3\xb2\xa1": (False, 1000),
    b"\xa1\xb2\xc3\xd4": (True, 1000),
    b"\x4d\x3c\xb2\xa1": (False, 1),
    b"\xa1\xb2\x3c\x4d": (True, 1),
}
"""Magic of a classic capture file: big-endian?, nanoseconds in one unit of its stamps."""
_KUZNETZOV = (b"\x34\xcd\xb2\xa1", b"\xa1\xb2\xcd\x34")
"""Records of patched libpcaps of long ago have eight bytes more."""
_RECORD_HEADER = 16


class CaptureFile(Source, Protocol):
    """A source that comes to an end."""

    stream: Stream

    def uncounted(self) -> dict[str, int]:
        """Records that were not counted as they stand, by reason, whose first word says what, for one; asked for when
        everything is read. Raises `Refused` when it turned out that nothing in the file can be counted."""


def open_capture(path: str | Path, weight: int = 1, *, inside: bool = False) -> CaptureFile:
    """The source for a capture file, or `-` for standard input; `inside`: what lies in tunnels is what counts. Raises
    `Refused` with one line when it can't be read."""
    stream = Stream(path)
    try:
        if stream.magic[:4] == MAGIC:
            return PcapngCapture(stream, weight, inside)
        if stream.magic[:4] in _KUZNETZOV:
            return LibpcapCapture(stream, weight)
        if stream.magic[:4] not in _CLASSIC:
            raise Refused("capture", path, "is no capture file: neither pcap nor pcapng")
        big, _ = _CLASSIC[stream.magic[:4]]
        # Before version 2.4, a record's two lengths had changed places; libpcap knows when.
        if len(stream.magic) == 8 and stream.magic[4:8] != (b"\0\x02\0\x04" if big else b"\x02\0\x04\0"):
            return LibpcapCapture(stream, weight)
        return ClassicCapture(stream, weight, inside)
    except UNREADABLE as error:
        stream.close()
        raise Refused("capture", path, f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    except Refused:
        stream.close()
        raise


class ClassicCapture(Buffered):
    """A classic pcap file or stream."""

    def __init__(self, stream: Stream, weight: int, inside: bool = False) -> None:
        """Raises `Refused` when it ends within its header, or for its link type."""
        super().__init__(stream, weight, walk.LARGEST_RECORD + _RECORD_HEADER)
        header = stream.file.read(24)
        if len(header) < 24:
            raise Refused("capture", stream.path, "ends within its file header")
        self._swapped, self._fraction = _CLASSIC[header[:4]]
        # The upper bits hold the length of a frame check sequence (draft-ietf-opsawg-pcap §4).
        self._link = int.from_bytes(header[20:24], "big" if self._swapped else "little") & 0xFFFF
        if self._link not in LINK_TYPES:
            raise Refused("capture", stream.path, f"has link type {called(self._link)}, which is not supported")
        self._link += INSIDE * inside

    def walk(self, tables: Tables, until_ns: int) -> tuple[int, int]:
        """As `Buffered.walk`."""
        at, why = walk.pcap(
            *tables.arrays, self._buffer, self._at, self._end, self._swapped, self._fraction, self._link,
            self._weight, until_ns,
        )  # fmt: skip
        return int(at), int(why)

    def uncounted(self) -> dict[str, int]:
        """As `CaptureFile.uncounted`."""
        return {}
