"""Packet headers as NumPy record layouts, and their checksums, computed for whole blocks of packets at once.

Pure: arrays in, arrays out. A block is a two-dimensional byte array, one row for each packet.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Records = NDArray[Any]
"""A structured view of some columns of a block."""

ETHERNET = np.dtype([("destination", "u1", 6), ("source", "u1", 6), ("type", ">u2")])
IPV4 = np.dtype(
    [
        ("version_length", "u1"), ("service", "u1"), ("length", ">u2"), ("identification", ">u2"),
        ("fragment", ">u2"), ("ttl", "u1"), ("protocol", "u1"), ("checksum", ">u2"),
        ("source", ">u4"), ("destination", ">u4"),
    ]
)  # fmt: skip
IPV6 = np.dtype(
    [
        ("version_class_label", ">u4"), ("length", ">u2"), ("protocol", "u1"), ("ttl", "u1"),
        ("source", ">u8", 2), ("destination", ">u8", 2),
    ]
)  # fmt: skip
FRAGMENT = np.dtype([("protocol", "u1"), ("reserved", "u1"), ("offset", ">u2"), ("identification", ">u4")])
TCP = np.dtype(
    [
        ("source_port", ">u2"), ("destination_port", ">u2"), ("sequence", ">u4"), ("acknowledgement", ">u4"),
        ("offset", "u1"), ("flags", "u1"), ("window", ">u2"), ("checksum", ">u2"), ("urgent", ">u2"),
    ]
)  # fmt: skip
UDP = np.dtype([("source_port", ">u2"), ("destination_port", ">u2"), ("length", ">u2"), ("checksum", ">u2")])
ICMP = np.dtype([("type", "u1"), ("code", "u1"), ("checksum", ">u2"), ("identification", ">u2"), ("sequence", ">u2")])
VLAN = np.dtype([("type", ">u2"), ("control", ">u2")])

FIN, SYN, RST, PUSH, ACK, URG = (1 << bit for bit in range(6))


def at(block: Bytes, start: int, layout: np.dtype[Any]) -> Records:
    """The columns from `start` on as records of a layout; writing to them writes the block."""
    return block[:, start : start + layout.itemsize].view(layout)[:, 0]


def folded(total: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The Internet checksum (RFC 1071) of a sum of 16-bit words."""
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return (~total & np.uint64(0xFFFF)).astype(np.uint16)


def words(block: Bytes, start: int, end: int) -> NDArray[np.uint64]:
    """For each packet the sum of the big-endian 16-bit words in columns `start` to `end`, an even number of bytes."""
    part = block[:, start:end].view(">u2")
    total = np.zeros(len(block), np.uint32)
    # Column by column: summing along the short axis is three times slower.
    for column in range(part.shape[1]):
        total += part[:, column]
    return total.astype(np.uint64)
