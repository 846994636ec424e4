"""Bytes of packets, made from the field values of `packets.Packet`, and sockets that send and catch them."""

import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from packets import DONT_FRAGMENT, FIRST, LAST, LATER, Packet

from rules.match import Family

TCP, UDP, ICMP, ICMPV6, FRAGMENT, DESTINATION_OPTIONS = 6, 17, 1, 58, 44, 60
WALKED = frozenset((0, 43, 44, 51, 60))
"""IPv6 next headers that a receiver walks over: no upper-layer protocols."""


@dataclass(frozen=True, slots=True)
class Dressing:
    """What a packet has besides the fields FlowSpec asks about."""

    serial: int = 64
    """TTL or hop limit: tells packets apart."""
    ecn: int = 0
    options: int = 0
    """IPv4: words of options; IPv6: destination options headers of 8 bytes in front."""
    offset: int = 185
    """Of later fragments, in units of 8 bytes."""


def fitted(packet: Packet, dressing: Dressing) -> Packet:
    """The packet, made long enough for its headers and short enough for its family."""
    extra = dressing.options * (4 if packet.family is Family.IPV4 else 8)
    if packet.family is Family.IPV6:
        extra += 40 + (8 if packet.fragment else 0)
    else:
        extra += 20
    return replace(packet, length=max(packet.length, extra + len(_transport(packet))))


def ip_bytes(packet: Packet, dressing: Dressing = Dressing()) -> bytes:
    """The IP packet; its length is the one the packet says, which must have room for the headers."""
    return _ipv4(packet, dressing) if packet.family is Family.IPV4 else _ipv6(packet, dressing)


def _ipv4(packet: Packet, dressing: Dressing) -> bytes:
    header_length = 20 + 4 * dressing.options
    more = packet.fragment & FIRST or (packet.fragment & LATER and not packet.fragment & LAST)
    fragment = (0x4000 if packet.fragment & DONT_FRAGMENT else 0) | (0x2000 if more else 0)
    fragment |= dressing.offset if packet.fragment & LATER else 0
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | header_length // 4,
        packet.dscp << 2 | dressing.ecn,
        packet.length,
        dressing.serial,
        fragment,
        dressing.serial,
        packet.protocol,
        0,
        IPv4Address(packet.source).packed,
        IPv4Address(packet.destination).packed,
    )
    header += b"\x01" * (4 * dressing.options)  # no-operation options
    header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
    return header + _padded(_transport(packet), packet.length - header_length)


def _ipv6(packet: Packet, dressing: Dressing) -> bytes:
    first = 6 << 28 | packet.dscp << 22 | dressing.ecn << 20 | packet.flow_label
    chain, kinds = b"", [DESTINATION_OPTIONS] * dressing.options
    fragment_field = (dressing.offset << 3 if packet.fragment & LATER else 0) | (
        1 if packet.fragment & FIRST or (packet.fragment & LATER and not packet.fragment & LAST) else 0
    )
    # Options stand in front of the fragment header, in the part that every fragment repeats.
    following = [*kinds[1:], FRAGMENT if packet.fragment else packet.protocol] if kinds else []
    for after in following:
        chain += struct.pack(">BBBB4x", after, 0, 1, 4)  # one PadN of six bytes
    if packet.fragment:
        chain += struct.pack(">BBHI", packet.protocol, 0, fragment_field, 7)
    next_header = kinds[0] if kinds else FRAGMENT if packet.fragment else packet.protocol
    head = struct.pack(">IHBB", first, packet.length - 40, next_header, dressing.serial)
    addresses = IPv6Address(packet.source).packed + IPv6Address(packet.destination).packed
    return head + addresses + chain + _padded(_transport(packet), packet.length - 40 - len(chain))


def _transport(packet: Packet) -> bytes:
    if packet.fragment & LATER:
        # Looks like a header with ports 53 and 80 to whoever forgets the offset.
        return struct.pack(">HHIIHHHH", 53, 80, 0, 0, 0x5002, 0, 0, 0)
    ports = (packet.source_port or 0, packet.destination_port or 0)
    if packet.protocol == TCP:
        return struct.pack(">HHIIHHHH", *ports, 1, 1, 0x5000 | (packet.tcp_flags or 0), 8192, 0, 0)
    if packet.protocol == UDP:
        return struct.pack(">HHHH", *ports, 8, 0)
    if packet.protocol in (ICMP, ICMPV6):
        return struct.pack(">BBHI", packet.icmp_type or 0, packet.icmp_code or 0, 0, 0)
    return b""


def _padded(given: bytes, length: int) -> bytes:
    if length < len(given):
        raise ValueError(f"{length} bytes hold no {len(given)}: use fitted()")
    return given + bytes(length - len(given))


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def open_wire(interface: str) -> socket.socket:
    """A socket for whole frames on an interface of the calling thread's namespace."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind((interface, 0))
    wire.setblocking(False)
    return wire


def send(wire: socket.socket, packets: Iterable[bytes], to_hardware: bytes) -> None:
    """Send IP packets to a hardware address, all from one processor so that none overtakes another."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    wire.setblocking(True)
    try:
        for packet in packets:
            kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
            wire.send(to_hardware + b"\x02\0\0\0\0\1" + kind + packet)
    finally:
        wire.setblocking(False)
        os.sched_setaffinity(0, allowed)


def caught(wire: socket.socket) -> list[bytes]:
    """The IP packets that have arrived since the last call, without those the interface itself sent."""
    found: list[bytes] = []
    while True:
        try:
            frame, (_, _, direction, *_) = wire.recvfrom(70_000)
        except BlockingIOError:
            return found
        if direction != socket.PACKET_OUTGOING and frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
            found.append(frame[14:])
