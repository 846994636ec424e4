"""Builder of pcapng files, block by block, in either byte order (draft-ietf-opsawg-pcapng)."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of one byte order."""

    order: str = "<"

    def block(self, kind: int, body: bytes) -> bytes:
        """Any block."""
        body += bytes(-len(body) % 4)
        return self._pack("II", kind, len(body) + 12) + body + self._pack("I", len(body) + 12)

    def section(self, major: int = 1) -> bytes:
        """A section header of unknown length."""
        return self.block(
            0x0A0D0D0A, self._pack("IHHq", 0x1A2B3C4D, major, 0, -1) + self._option(4, b"made up") + bytes(4)
        )

    def interface(
        self, link: int = 1, resolution: int | None = None, offset: int | None = None, snap: int = 0
    ) -> bytes:
        """An interface description."""
        options = self._option(2, b"eth0")
        options += b"" if resolution is None else self._option(9, bytes([resolution]))
        options += b"" if offset is None else self._option(14, self._pack("q", offset))
        return self.block(1, self._pack("HHI", link, 0, snap) + options + bytes(4))

    def enhanced(self, units: int, frame: bytes, number: int = 0, length: int | None = None) -> bytes:
        """A packet; `length`: what it says of its length."""
        size = len(frame) if length is None else length
        head = self._pack("IIIII", number, units >> 32, units & 0xFFFFFFFF, size, size)
        return self.block(6, head + frame + bytes(-len(frame) % 4) + self._option(1, b"a comment") + bytes(4))

    def simple(self, frame: bytes, length: int | None = None) -> bytes:
        """A packet without a time."""
        return self.block(3, self._pack("I", len(frame) if length is None else length) + frame)

    def old(self, units: int, frame: bytes, number: int = 0) -> bytes:
        """A packet in the form of old."""
        head = self._pack("HHIIII", number, 7, units >> 32, units & 0xFFFFFFFF, len(frame), len(frame))
        return self.block(2, head + frame)

    def _option(self, code: int, value: bytes) -> bytes:
        return self._pack("HH", code, len(value)) + value + bytes(-len(value) % 4)

    def _pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self.order + form, *values)
