"""Small builder of raw Ethernet frames with IPv4 and IPv6 in them, and of capture files: seeded by whoever calls it."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

SYN, ACK, RST, FIN, PUSH, URG, ECE, CWR = 0x02, 0x10, 0x04, 0x01, 0x08, 0x20, 0x40, 0x80


@dataclass(frozen=True, slots=True)
class Fragment:
    """Where in its datagram a packet stands."""

    offset: int = 0
    """In units of 8 bytes."""
    more: bool = False


def tcp(source_port: int, destination_port: int, flags: int, payload: bytes = b"") -> tuple[int, bytes]:
    """Protocol number and bytes of a TCP segment."""
    return 6, struct.pack(">HHIIBBHHH", source_port, destination_port, 1, 2, 0x50, flags & 0xFF, 512, 0, 0) + payload


def udp(source_port: int, destination_port: int, payload: bytes = b"") -> tuple[int, bytes]:
    """Protocol number and bytes of a UDP datagram."""
    return 17, struct.pack(">HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def icmp(kind: int, code: int, payload: bytes = b"", version: int = 4) -> tuple[int, bytes]:
    """Protocol number and bytes of an ICMP or ICMPv6 message."""
    return (1 if version == 4 else 58), struct.pack(">BBHI", kind, code, 0, 0) + payload


def ip(
    source: str, destination: str, upper: tuple[int, bytes], *, ttl: int = 64, fragment: Fragment | None = None,
    extensions: Iterable[tuple[int, bytes]] = (),
) -> bytes:  # fmt: skip
    """An IP packet. IPv6 extension headers are given as (number, body without the next-header byte)."""
    protocol, payload = upper
    if ip_address(source).version == 4:
        word = 0 if fragment is None else fragment.offset | (0x2000 if fragment.more else 0)
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 7, word, ttl, protocol, 0)
        return head + ip_address(source).packed + ip_address(destination).packed + payload
    chain = list(extensions)
    if fragment is not None:
        word = fragment.offset << 3 | fragment.more
        chain.append((44, struct.pack(">BHI", 0, word, 99)))
    body = payload
    following = protocol
    for number, rest in reversed(chain):
        body = bytes([following]) + rest + body
        following = number
    head = struct.pack(">IHBB", 6 << 28, len(body), following, ttl)
    return head + ip_address(source).packed + ip_address(destination).packed + body


def ethernet(packet: bytes, *tags: tuple[int, int]) -> bytes:
    """An Ethernet frame, with VLAN tags as (TPID, TCI)."""
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    middle = b"".join(struct.pack(">HH", *tag) for tag in tags)
    return b"\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02" + middle + kind + packet


def pcap(
    records: Iterable[tuple[float, bytes]], *, link: int = 1, big_endian: bool = False, nanoseconds: bool = False
) -> bytes:
    """A classic capture file of (seconds, frame)."""
    order = ">" if big_endian else "<"
    unit = 1_000_000_000 if nanoseconds else 1_000_000
    out = [struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)]
    for stamp, frame in records:
        whole = int(stamp)
        out.append(struct.pack(f"{order}IIII", whole, round((stamp - whole) * unit) % unit, len(frame), len(frame)))
        out.append(frame)
    return b"".join(out)


def pcapng(records: Iterable[tuple[float, bytes]], link: int = 1) -> bytes:
    """A pcapng file with one interface and microsecond stamps."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    out = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)), block(1, struct.pack("<HHI", link, 0, 65535))]
    for stamp, frame in records:
        microseconds = round(stamp * 1e6)
        head = struct.pack("<IIIII", 0, microseconds >> 32, microseconds & 0xFFFFFFFF, len(frame), len(frame))
        out.append(block(6, head + frame))
    return b"".join(out)
