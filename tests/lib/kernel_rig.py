"""Frames into the kernel, and what it counted."""

from ipaddress import ip_network

import numpy as np

from sensors import tables, walk
from sensors.framing import ETHERNET
from sensors.headers import COLUMNS, Column
from sensors.tables import Tables

A, B, A6, B6 = "192.0.2.1", "198.51.100.7", "2001:db8::1", "2001:db8::7"


def counted(*frames: bytes, link: int = ETHERNET, where: Tables | None = None, gap_ns: int = 1_000) -> Tables:
    """The tables after these frames."""
    into = where or tables.make(rows=256, ring=256, normal=256)
    offsets = np.cumsum([0, *(len(frame) for frame in frames)])[:-1]
    stamps = (np.arange(len(frames)) * gap_ns // 1000).tolist()
    meta = [(1000, stamp, int(at), len(frame)) for at, stamp, frame in zip(offsets, stamps, frames, strict=True)]
    buffer, columns = walk.pcapy_batch(b"".join(frames), np.array(meta, np.uint32).tobytes())
    assert walk.batch(*into.arrays, buffer, columns, link, 1, 0, walk.NEVER) == len(frames)
    return into


def columns_of(where: Tables, host: str) -> dict[str, int]:
    """What isn't zero for a host; flows, which every packet of a test begins, are left out."""
    for row in range(where.used):
        if where.host(row) == ip_network(host):
            counts = where.rows[row, :COLUMNS].tolist()
            return {
                Column(number).name: count for number, count in enumerate(counts) if count and number != Column.FLOWS
            }
    return {}
