"""pcapng files as a source: several sections, interfaces of different link types and clocks, all three kinds of packet
blocks.

Packets of a link type that isn't supported are counted by it and passed over; a file that has no other kind is refused.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np

from rules.errors import Refused
from sensors import walk
from sensors.framing import INSIDE, LINK_TYPES
from sensors.linktypes import called
from sensors.stream import Buffered, Stream
from sensors.tables import Tables
from sensors.walk_pcapng import (
    BINARY,
    FACTOR,
    HEADER,
    LARGEST_BLOCK,
    LINK,
    NO_INTERFACE,
    NO_TIME,
    ODD_TIME,
    OFFSET,
    SECTION,
    SNAP,
    UNCOUNTED,
    pcapng,
)

MAGIC = b"\x0a\x0d\x0d\x0a"
MOST_INTERFACES, MOST_OPTIONS = 65_536, 64
"""Looked at, of a section and of an interface; there are some fifteen kinds of options."""
_LITTLE, _BIG = b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"
_RESOLUTION, _OFFSET = 9, 14
_SECONDS_LIMIT = 1 << 33


class PcapngCapture(Buffered):
    """A pcapng file or stream."""

    def __init__(self, stream: Stream, weight: int, inside: bool = False) -> None:
        """Raises `Refused` when it ends within its first header."""
        super().__init__(stream, weight, LARGEST_BLOCK)
        self._inside = INSIDE * inside
        self._order = "<"
        self._links: list[int] = []
        self._interfaces = np.zeros((8, 6), np.int64)
        self._odd = np.zeros(3, np.int64)
        self._passed: Counter[int] = Counter()
        self._found: set[bool] = set()
        self.fill()
        if not self._section():
            raise Refused("capture", stream.path, "ends within its file header, or is no capture file")

    def walk(self, tables: Tables, until_ns: int) -> tuple[int, int]:
        """As `Buffered.walk`; headers stand at any place."""
        while True:
            self._at, why = pcapng(
                *tables.arrays, self._buffer, self._at, self._end, self._order == ">", self._interfaces,
                len(self._links), self._odd, self._weight, until_ns,
            )  # fmt: skip
            if why != HEADER:
                return self._at, why
            if self._end - self._at < 16:
                return self._at, walk.MORE
            kind, length = self._numbers("II", self._at)
            if kind == SECTION:
                order = {_LITTLE: "<", _BIG: ">"}.get(self._bytes(self._at + 8, 4), self._order)
                length = struct.unpack(f"{order}I", self._bytes(self._at + 4, 4))[0]
            if not 12 <= length <= LARGEST_BLOCK:
                return self._at, walk.DAMAGED
            if self._at + length > self._end:
                return self._at, walk.MORE
            if not (self._section() if kind == SECTION else self._interface(length)):
                return self._at, walk.DAMAGED

    def _bytes(self, at: int, count: int) -> bytes:
        return self._buffer[at : at + count].tobytes()

    def _numbers(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack(self._order + form, self._bytes(at, struct.calcsize("=" + form)))

    def _section(self) -> bool:
        """Takes a section header; whether it is one. Interfaces are numbered anew in each section."""
        if self._end - self._at < 28:
            return False
        magic = self._bytes(self._at + 8, 4)
        if magic not in (_LITTLE, _BIG):
            return False
        self._order = "<" if magic == _LITTLE else ">"
        _, length, _, major = self._numbers("IIIH", self._at)
        if major != 1 or not 28 <= length <= LARGEST_BLOCK:
            return False
        self._tally()
        self._links.clear()
        self._at += length
        return True

    def _interface(self, length: int) -> bool:
        if length < 20 or len(self._links) >= MOST_INTERFACES:
            return False
        link, _, snap = self._numbers("HHI", self._at + 8)
        if len(self._links) == len(self._interfaces):
            self._interfaces = np.concatenate((self._interfaces, np.zeros_like(self._interfaces)))
        line = self._interfaces[len(self._links)]
        line[LINK], line[SNAP], line[UNCOUNTED] = link + self._inside if link in LINK_TYPES else -1, snap, 0
        line[BINARY], line[FACTOR], line[OFFSET] = 0, 1000, 0
        for code, value in islice(self._options(self._at + 16, self._at + length - 4), MOST_OPTIONS):
            if code == _RESOLUTION and len(value) >= 1:
                line[BINARY], line[FACTOR] = _factor(value[0])
            elif code == _OFFSET and len(value) >= 8:
                seconds = int.from_bytes(value[:8], "little" if self._order == "<" else "big", signed=True)
                line[OFFSET] = max(-_SECONDS_LIMIT, min(seconds, _SECONDS_LIMIT)) * 1_000_000_000
        self._links.append(link)
        self._found.add(link in LINK_TYPES)
        self._at += length
        return True

    def _options(self, at: int, end: int) -> Iterator[tuple[int, bytes]]:
        while at + 4 <= end:
            code, size = self._numbers("HH", at)
            if code == 0 or at + 4 + size > end:
                return
            yield code, self._bytes(at + 4, size)
            at += 4 + (size + 3 & ~3)

    def _tally(self) -> None:
        """Takes what the walker passed over out of the interfaces' lines."""
        for number, link in enumerate(self._links):
            self._passed[link] += int(self._interfaces[number, UNCOUNTED])
            self._interfaces[number, UNCOUNTED] = 0

    def uncounted(self) -> dict[str, int]:
        """As `CaptureFile.uncounted`; raises `Refused` when no link type is supported."""
        self._tally()
        passed = {link: count for link, count in self._passed.items() if count}
        if passed and True not in self._found:
            names = ", ".join(called(link) for link in sorted(passed))
            raise Refused("capture", self.stream.path, f"has link type {names}, which is not supported")
        reasons = {
            f"record of link type {called(link)}, which is not supported": count
            for link, count in sorted(passed.items())
        }
        odd = {
            "record of an interface that the file doesn't describe": NO_INTERFACE,
            "record without a time: counted at the time of the one before": NO_TIME,
            "record with an impossible time: counted at the time of the one before": ODD_TIME,
        }
        return reasons | {reason: int(self._odd[place]) for reason, place in odd.items() if self._odd[place]}


def _factor(resolution: int) -> tuple[int, int]:
    """`BINARY` and `FACTOR` for an interface's if_tsresol."""
    exponent = resolution & 0x7F
    if resolution & 0x80:
        return 1, exponent
    # Beyond ten to the minus 27, every time that fits into 64 bits is within the first nanosecond.
    return 0, int(10 ** (9 - exponent)) if exponent <= 9 else -(10 ** min(exponent - 9, 18))
