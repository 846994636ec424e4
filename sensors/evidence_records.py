"""The records of a capture file: where they are, and their order of time.

Several interfaces and several rings hand over blocks of packets; a block may hold packets older than the last of the
one before it.
"""

import struct

import numpy as np

HEADER, RECORD = struct.Struct("=IHHiIII"), struct.Struct("=IIII")
"""Of a file (libpcap's pcap-savefile(5)) and of each packet, in this machine's byte order."""
LONGEST = 262_144
"""Bytes of a packet."""


def in_order(content: bytes) -> tuple[bytes | bytearray, list[int]]:
    """A capture file with nanoseconds in the order of time, without a record that is cut off; and its times (ns).

    `content` itself where nothing is to be done; records of one time stay as they stood.
    """
    starts, stamps = _whole_records(content)
    end = starts[-1]
    order = np.argsort(np.array(stamps, np.int64), kind="stable").tolist()
    if order == list(range(len(stamps))):
        return (content if end == len(content) else content[:end]), stamps
    source, out, at = memoryview(content), bytearray(end), starts[0]
    out[:at] = source[:at]
    # Record by record, not joined at once, which would hold up every other thread for tens of milliseconds.
    for number in order:
        record = source[starts[number] : starts[number + 1]]
        out[at : at + len(record)] = record
        at += len(record)
    return out, [stamps[number] for number in order]


def _whole_records(content: bytes) -> tuple[list[int], list[int]]:
    """Where each record begins, then where the last whole one ends; and the records' times (ns)."""
    at = min(HEADER.size, len(content))
    starts, stamps = [at], []
    while at + RECORD.size <= len(content):
        seconds, nanoseconds, length, _ = RECORD.unpack_from(content, at)
        at += RECORD.size + length
        if length > LONGEST or at > len(content):
            break
        stamps.append(seconds * 10**9 + nanoseconds)
        starts.append(at)
    return starts, stamps
