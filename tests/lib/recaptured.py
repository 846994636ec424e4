"""The same traffic as somebody else would have captured it: other snap lengths, link types, clocks, places, tunnels.

A record is (time in ns, frame, length on the wire). Frames are Ethernet with an IP packet right behind it. Pure.
"""

import random
import struct
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

Record = tuple[int, bytes, int]
Records = list[Record]
Change = Callable[[Records], Records]
SECOND = 1_000_000_000
_MACS = bytes.fromhex("020000000001020000000002")


def is_six(frame: bytes) -> bool:
    """Whether a frame holds IPv6."""
    return frame[12:14] == b"\x86\xdd"


def written(records: Iterable[Record], link: int = 1) -> bytes:
    """A classic capture file with nanosecond stamps."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, link)]
    for stamp, frame, wire in records:
        out.append(struct.pack("<IIII", stamp // SECOND, stamp % SECOND, len(frame), wire) + frame)
    return b"".join(out)


def blocks(records: Iterable[Record], *, order: str = "<") -> bytes:
    """A pcapng file of three interfaces that take turns, one of which counts microseconds."""

    def block(kind: int, body: bytes) -> bytes:
        length = struct.pack(f"{order}I", len(body) + (-len(body) % 4) + 12)
        return struct.pack(f"{order}I", kind) + length + body + bytes(-len(body) % 4) + length

    out = [block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))]
    for resolution in (9, 6, 9):
        option = struct.pack(f"{order}HHBxxxHH", 9, 1, resolution, 0, 0)
        out.append(block(1, struct.pack(f"{order}HHI", 1, 0, 0) + option))
    for number, (stamp, frame, wire) in enumerate(records):
        units = stamp // 1000 if number % 3 == 1 else stamp
        head = struct.pack(f"{order}IIIII", number % 3, units >> 32, units & 0xFFFFFFFF, len(frame), wire)
        out.append(block(6, head + frame))
    return b"".join(out)


def snapped(length: int, *, forgets: bool = False) -> Change:
    """Only so many bytes are kept; `forgets`: as if there had been no more."""

    def change(records: Records) -> Records:
        return [(stamp, frame[:length], min(length, wire) if forgets else wire) for stamp, frame, wire in records]

    return change


def behind(four: bytes, six: bytes | None = None) -> Change:
    """Each IP packet behind another header, one for IPv4 and one for IPv6."""

    def change(records: Records) -> Records:
        out = []
        for stamp, frame, wire in records:
            head = (four if six is None else six) if is_six(frame) else four
            out.append((stamp, head + frame[14:], wire - 14 + len(head)))
        return out

    return change


def tunnelled(protocol: int, between: Callable[[bytes, int], bytes], *, bare: bool = False) -> Change:
    """Each frame in a tunnel between two machines; `between`: what stands before it, of the frame and its length;
    `bare`: of the frame only the IP packet."""
    ends = ip_address("10.9.9.1").packed + ip_address("10.9.9.2").packed

    def change(records: Records) -> Records:
        out = []
        for stamp, frame, wire in records:
            skip = 14 if bare else 0
            number = 41 if protocol == 4 and is_six(frame) else protocol
            head = between(frame, wire - skip)
            length = 20 + len(head) + wire - skip
            outer = struct.pack(">BBHHHBBH", 0x45, 0, length, 7, 0, 64, number, 0) + ends
            out.append((stamp, _MACS + b"\x08\x00" + outer + head + frame[skip:], length + 14))
        return out

    return change


def vxlan(frame: bytes, length: int) -> bytes:
    """UDP and VXLAN headers before a frame."""
    return struct.pack(">HHHH", 49152 + sum(frame[26:34]) % 999, 4789, length + 16, 0) + b"\x08" + bytes(7)


def kind_of(frame: bytes) -> bytes:
    """A frame's EtherType."""
    return frame[12:14]


def timed(clock: Callable[[int], int]) -> Change:
    """Other times, of the nanoseconds since the beginning."""

    def change(records: Records) -> Records:
        first = records[0][0]
        return [(clock(stamp - first), frame, wire) for stamp, frame, wire in records]

    return change


def doubled(later_ns: int) -> Change:
    """Each packet twice, as a mirror of both directions of a link sees what is switched through."""

    def change(records: Records) -> Records:
        return sorted((stamp + add, frame, wire) for stamp, frame, wire in records for add in (0, later_ns))

    return change


def reordered(within_ns: int) -> Change:
    """In the order of times that are off by as much."""

    def change(records: Records) -> Records:
        draw = random.Random(3)
        return sorted(records, key=lambda record: record[0] + draw.randrange(within_ns))

    return change


def sampled(one_of: int) -> Change:
    """One in so many, drawn at random."""

    def change(records: Records) -> Records:
        draw = random.Random(5)
        return [record for record in records if draw.randrange(one_of) == 0]

    return change


def readdressed(four: Callable[[bytes], bytes], six: Callable[[bytes], bytes]) -> Change:
    """Other addresses on both sides."""

    def change(records: Records) -> Records:
        return [(stamp, _readdressed(frame, four, six), wire) for stamp, frame, wire in records]

    return change


def _readdressed(frame: bytes, four: Callable[[bytes], bytes], six: Callable[[bytes], bytes]) -> bytes:
    if is_six(frame):
        return frame[:22] + six(frame[22:38]) + six(frame[38:54]) + frame[54:]
    return frame[:26] + four(frame[26:30]) + four(frame[30:34]) + frame[34:]


def hops(draw: random.Random) -> Change:
    """Another hop limit in each packet, and no checksum, as where the card puts it in."""

    def change(records: Records) -> Records:
        out = []
        for stamp, frame, wire in records:
            at = 21 if is_six(frame) else 22
            frame = frame[:at] + bytes([draw.randrange(1, 255)]) + frame[at + 1 :]
            out.append((stamp, frame if is_six(frame) else frame[:24] + b"\0\0" + frame[26:], wire))
        return out

    return change


def going(records: Records, host: str, *, there: bool) -> Records:
    """Only what goes to a host, or what comes from it."""
    packed = ip_address(host).packed
    at = (38 if there else 22) if len(packed) == 16 else (30 if there else 26)
    return [record for record in records if record[1][at : at + len(packed)] == packed]


def cut(records: Records, begin_ns: int, end_ns: int) -> Records:
    """A part of it, times since the beginning."""
    first = records[0][0]
    return [record for record in records if begin_ns <= record[0] - first < end_ns]


def after(records: Records, more: Sequence[Record], pause_ns: int) -> Records:
    """One capture behind the other, in one file."""
    shift = records[-1][0] - more[0][0] + pause_ns
    return records + [(stamp + shift, frame, wire) for stamp, frame, wire in more]
