"""The records of a capture file: where they are, and their order of time.

Several interfaces and several rings hand over blocks of packets; a block may hold packets older than the last of the
one before it. A file may have any size: only one of at most `LARGEST` bytes is ever held in memory.
"""

import hashlib
import os
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sensors import files

HEADER, RECORD = struct.Struct("=IHHiIII"), struct.Struct("=IIII")
"""Of a file (libpcap's pcap-savefile(5)) and of each packet, in this machine's byte order."""
LONGEST = 262_144
"""Bytes of a packet."""
LARGEST = 128 << 20
"""Bytes of a file that is sorted. That takes its size twice, and 32 bytes a packet: with packets of 60 bytes 300 MB,
where the process as a whole may have 2 GB. Four times the usual `evidence_file_megabytes`."""
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Records:
    """What a file holds."""

    packets: int
    end: int
    """Bytes up to the end of the last whole record; less than `HEADER.size` when even the header is not whole."""
    first_ns: int
    last_ns: int
    """The earliest and the latest time; 0 without packets."""
    ordered: bool
    """Whether none is older than the one before it."""


def look(path: Path) -> Records:
    """Go through a capture file with nanoseconds, holding one buffer of it. Raises `OSError`."""
    packets, first, last, ordered = 0, 0, 0, True
    with path.open("rb", buffering=_READ_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        end = file.seek(min(HEADER.size, size))
        while len(head := file.read(RECORD.size)) == RECORD.size:
            seconds, nanoseconds, length, _ = RECORD.unpack(head)
            behind = end + RECORD.size + length
            if length > LONGEST or behind > size:
                break
            stamp = seconds * 10**9 + nanoseconds
            # Up to here in order or not, `last` is the latest.
            ordered = ordered and stamp >= last
            first = min(first, stamp) if packets else stamp
            last = max(last, stamp)
            packets += 1
            end = file.seek(length, os.SEEK_CUR)
    return Records(packets, end, first, last, ordered)


def put_in_order(path: Path) -> str:
    """Put another file, in order and on disk, in the place of this one; else why it stays as it was. Never both."""
    before = path.stat()
    if before.st_size > LARGEST:
        return f"too large to sort: more than {LARGEST >> 20} MB"
    try:
        files.write(path, in_order(path.read_bytes()))
    except OSError as error:
        # The other file can have taken its place already: then only its name might not outlast a power failure.
        if os.path.samestat(before, path.stat()):
            return error.strerror or str(error)
    return ""


def in_order(content: bytes) -> bytes | bytearray:
    """A capture file with nanoseconds in the order of time, without a record that is cut off.

    `content` itself where nothing is to be done; records of one time stay as they stood.
    """
    starts, stamps = _whole_records(content)
    begin, end = starts[0], starts[-1]
    order = np.argsort(np.frombuffer(stamps, np.int64), kind="stable")
    if bool((order[1:] > order[:-1]).all()):
        return content if end == len(content) else content[:end]
    source, out, at = memoryview(content), bytearray(end), begin
    out[:at] = source[:at]
    # Record by record, not joined at once, which would hold up every other thread for tens of milliseconds.
    for number in order.data:
        record = source[starts[number] : starts[number + 1]]
        out[at : at + len(record)] = record
        at += len(record)
    return out


def _whole_records(content: bytes) -> tuple["array[int]", "array[int]"]:
    """Where each record begins, then where the last whole one ends; and the records' times (ns)."""
    at = min(HEADER.size, len(content))
    starts, stamps = array("q", [at]), array("q")
    while at + RECORD.size <= len(content):
        seconds, nanoseconds, length, _ = RECORD.unpack_from(content, at)
        at += RECORD.size + length
        if length > LONGEST or at > len(content):
            break
        stamps.append(seconds * 10**9 + nanoseconds)
        starts.append(at)
    return starts, stamps


def digest(path: Path) -> "hashlib._Hash":
    """SHA-256 of a file of any size. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")
