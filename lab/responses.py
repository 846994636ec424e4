"""What reflectors answer: for each amplification service plausible sizes and how the answer starts. Pure.

Sizes are of the UDP payload; what exceeds a packet comes in fragments, as the reflectors' kernels send it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.frames import Numbers
from rules.match import Family

RESPONSES: dict[str, tuple[tuple[int, ...], bytes]] = {
    "qotd": ((140, 460), b'"We have nothing to fear'),
    "chargen": ((1022, 2920), b" !\"#$%&'()*+,-./0123456789:;<=>?"),
    "dns": ((3010, 3250, 1210), bytes.fromhex("1a2b 8180 0001 0016 0000 0001")),
    "tftp": ((516,), bytes.fromhex("0003 0001")),
    "portmap": ((500, 1350), bytes.fromhex("00000000 00000001 00000000 00000000")),
    "ntp": ((440,), bytes.fromhex("d700 032a 0006 0048")),
    "netbios": ((157, 229), bytes.fromhex("0000 8400 0000 0001 0000 0000")),
    "snmp": ((1450, 2900), bytes.fromhex("308205a6 020101 0406 7075626c6963 a2")),
    "cldap": ((1457, 2890, 3030), bytes.fromhex("3084 00000b5c 020107 6484")),
    "quic": ((1200, 1252), bytes.fromhex("cd 00000001 08")),
    "ike": ((430,), bytes.fromhex("00112233 44556677 8899aabb ccddeeff 01100200")),
    "rip": ((504,), bytes.fromhex("0202 0000 0002 0000")),
    "openvpn": ((52, 64), bytes.fromhex("40")),
    "mssql": ((620, 880), b"\x05\x6a\x02ServerName;"),
    "l2tp": ((150,), bytes.fromhex("c802 0096 0000 0000")),
    "ssdp": ((290, 320, 350), b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nST: upnp:rootdevice\r\n"),
    "ard": ((1006,), bytes.fromhex("0001 03ea 0001 0000")),
    "stun": ((92, 116), bytes.fromhex("0101 0044 2112a442")),
    "wsd": ((1300, 2100), b'<?xml version="1.0" encoding="utf-8"?><SOAP-ENV:Envelope'),
    "sip": ((580, 760), b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP "),
    "mdns": ((260, 410), bytes.fromhex("0000 8400 0000 0006 0000 0000")),
    "coap": ((700, 1050), bytes.fromhex("6145 1234 c128 ff")),
    "ubnt": ((176, 206), bytes.fromhex("0100 00ac")),
    "memcached": ((1400,), bytes.fromhex("0000 0000 0001 0000") + b"VALUE a 0 1048576\r\n"),
    "valve": ((178, 1248), bytes.fromhex("ffffffff") + b"I\x11Server\x00de_dust2\x00"),
    "dahua": ((630, 800), bytes.fromhex("20000000 44484950")),
    "bacnet": ((480, 1400), bytes.fromhex("810a 01e0 0100 30")),
}

FILL = 0x41
_HEADER = 8
_PIECE = {Family.IPV4: 1480, Family.IPV6: 1448}
"""IP payload bytes of a full fragment on an Ethernet of 1500."""


@dataclass(frozen=True, slots=True)
class Content:
    """An answer's bytes."""

    body: NDArray[np.uint8]
    fill: int
    """What every byte behind the start is."""
    sums: NDArray[np.uint64]
    """By payload length: the sum of the 16-bit words of that much of the body."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Packets of a run of answers, one entry for each."""

    datagrams: Numbers
    """Which answer it belongs to."""
    lengths: Numbers
    """IP payload bytes of this packet."""
    offsets: Numbers
    """IPv4's flags-and-offset field."""
    totals: Numbers
    """UDP length of the whole answer."""
    is_fragmented: bool
    """Whether any of the service's answers is longer than a packet."""
    content_limit: int
    """The longest payload."""


def response(service: str, size: int) -> Content:
    """The service's answer, `size` bytes of it."""
    start = np.frombuffer(RESPONSES[service][1], np.uint8)
    body = np.full(size, FILL, np.uint8)
    body[: len(start)] = start[:size]
    weights = np.where(np.arange(size) % 2 == 0, 256, 1).astype(np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(body.astype(np.uint64) * weights, dtype=np.uint64)])
    return Content(body, FILL, sums)


def pieces(service: str, family: Family, count: int, random: np.random.Generator) -> Pieces:
    """`count` packets of answers of the service's sizes, in order; the last answer may be cut short."""
    sizes = np.array(RESPONSES[service][0]) + _HEADER
    full = _PIECE[family]
    drawn = random.integers(0, len(sizes), count)
    needed = -(-sizes // full)
    datagrams = np.repeat(np.arange(count), needed[drawn])[:count]
    totals = sizes[drawn][datagrams]
    starts = np.concatenate([[0], np.cumsum(needed[drawn])])
    place = np.arange(count) - starts[datagrams]
    lengths = np.minimum(totals - place * full, full)
    more = (place + 1) * full < totals
    offsets = (place * full // 8) | np.where(more, 0x2000, 0)
    return Pieces(datagrams, lengths, offsets, totals, bool((needed > 1).any()), int(sizes.max()) - _HEADER)
