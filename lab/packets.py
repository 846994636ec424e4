"""Labelled packets as columns: what a scenario is made of, and what its judge reads. Pure but for the file.

A row says everything that a header says, and which stream of the scenario it belongs to. `capture` turns rows into
frames as a sensor with a snap length of `SNAP` would see them: behind what a payload begins with come zeros.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.frames import Addresses, Frames, Numbers, hosts, pseudo_sum, write_ip, write_pcap
from lab.headers import ICMP, SYN, TCP, UDP, Records, at, folded, words
from rules.match import Family, Network

PACKET = np.dtype(
    [
        ("time", "<i8"), ("source", "<u8", 2), ("destination", "<u8", 2), ("length", "<u2"), ("protocol", "u1"),
        ("ttl", "u1"), ("source_port", "<u2"), ("destination_port", "<u2"), ("flags", "u1"), ("icmp_type", "u1"),
        ("icmp_code", "u1"), ("content", "u1"), ("fragment", "<u2"), ("datagram", "<u2"), ("label", "<i2"),
    ]
)  # fmt: skip
"""`time`: ns since the scenario began. Addresses: halves, IPv4 mapped. `length`: of the IP packet. `fragment`: IPv4's
flags and offset. `content`: number of a payload in `CONTENTS`. `label`: number of the attack stream, or `BENIGN`."""
Packets = NDArray[Any]

BENIGN = -1
SNAP = 112
MAPPED = 0xFFFF << 32
MORE_FRAGMENTS, OFFSET = 0x2000, 0x1FFF
_CONTENT = 40
_ICMP, _TCP, _UDP, _ICMPV6, _GRE = 1, 6, 17, 58, 47
CONTENTS: list[bytes] = [b""]
"""How payloads begin; `content` adds one."""


def content(start: bytes) -> int:
    """The number of a payload that begins like this, at most 40 bytes of it."""
    start = start[:_CONTENT]
    if start not in CONTENTS:
        if len(CONTENTS) == 256:
            raise ValueError("256 contents are as many as a byte can tell apart")
        CONTENTS.append(start)
    return CONTENTS.index(start)


def blank(count: int, label: int = BENIGN) -> Packets:
    """Rows to be filled in."""
    rows = np.zeros(count, PACKET)
    rows["label"], rows["ttl"] = label, 57
    return rows


def halves(addresses: Addresses) -> NDArray[np.uint64]:
    """Addresses of `lab.frames` as rows hold them."""
    if addresses.ndim == 2:
        return addresses.astype(np.uint64)
    out = np.zeros((len(addresses), 2), np.uint64)
    out[:, 1] = addresses.astype(np.uint64) | np.uint64(MAPPED)
    return out


def drawn(network: Network, count: int, random: np.random.Generator) -> NDArray[np.uint64]:
    """`count` addresses of a prefix, as rows hold them."""
    return halves(hosts(network, count, random))


def merged(parts: Sequence[Packets]) -> Packets:
    """All of them in the order of time."""
    rows = np.concatenate(parts) if parts else blank(0)
    return rows[np.argsort(rows["time"], kind="stable")]


def is_ipv4(rows: Packets, side: str = "destination") -> NDArray[np.bool_]:
    """Which rows are IPv4."""
    out: NDArray[np.bool_] = (rows[side][:, 0] == 0) & (rows[side][:, 1] >> np.uint64(32) == 0xFFFF)
    return out


def inside(rows: Packets, network: Network, side: str = "destination") -> NDArray[np.bool_]:
    """Which rows go to (or, with `side`, come from) a prefix."""
    shift = network.max_prefixlen - network.prefixlen
    number, low = int(network.network_address), rows[side][:, 1]
    if network.version == 4:
        same: NDArray[np.bool_] = (low & np.uint64(0xFFFFFFFF)) >> np.uint64(shift) == number >> shift
        return same & is_ipv4(rows, side)
    high = rows[side][:, 0]
    if shift >= 64:
        return np.asarray(high >> np.uint64(min(shift - 64, 63)) == number >> shift)
    first = np.asarray(high == number >> 64)
    same = np.asarray(low >> np.uint64(shift) == (number & (1 << 64) - 1) >> shift)
    return np.asarray(first & same)


def frames(rows: Packets) -> Frames:
    """The rows as Ethernet frames, the first `SNAP` bytes of each; lengths are those on the wire."""
    block = np.zeros((len(rows), SNAP), np.uint8)
    lengths = rows["length"].astype(np.int64) + 14
    table = np.zeros((len(CONTENTS), _CONTENT), np.uint8)
    for number, start in enumerate(CONTENTS):
        table[number, : len(start)] = np.frombuffer(start, np.uint8)
    four = is_ipv4(rows)
    for family, member in ((Family.IPV4, four), (Family.IPV6, ~four)):
        for protocol in np.unique(rows["protocol"][member]).tolist():
            for split in (False, True):
                chosen = np.flatnonzero(member & (rows["protocol"] == protocol) & ((rows["fragment"] != 0) == split))
                if len(chosen):
                    block[chosen] = _block(rows[chosen], lengths[chosen], family, protocol, split, table)
    return Frames(block, lengths, rows["time"].astype(np.int64))


def capture(path: Path, rows: Packets) -> None:
    """A pcap file of them."""
    write_pcap(path, frames(rows), snap=SNAP)


def _block(
    rows: Packets, lengths: Numbers, family: Family, protocol: int, split: bool, table: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    block = np.zeros((len(rows), SNAP), np.uint8)
    start = 34 if family is Family.IPV4 else 62 if split else 54
    sources, destinations = rows["source"], rows["destination"]
    if family is Family.IPV4:
        sources, destinations = (side[:, 1].astype(np.uint32) for side in (sources, destinations))
    offsets = rows["fragment"].astype(np.int64) if split else None
    identifications = rows["datagram"].astype(np.int64)
    write_ip(block, lengths, family, protocol, sources, destinations, identifications, rows["ttl"], offsets)
    later = rows["fragment"] & OFFSET != 0
    bodies = table[rows["content"]]
    header, head = _transport(block, rows, start, protocol)
    room = min(SNAP - start - head, _CONTENT)
    block[:, start + head : start + head + room] = bodies[:, :room]
    block[np.arange(SNAP) >= lengths[:, None]] = 0
    if header is not None:
        _write_checksum(block, header, start, family, protocol, lengths - start)
    if later.any():
        block[later, start : start + _CONTENT] = bodies[later]
        block[later, start + _CONTENT :] = 0
    return block


def _write_checksum(
    block: NDArray[np.uint8], header: Records, start: int, family: Family, protocol: int, payloads: Numbers
) -> None:
    """Over what the block holds: all else is zeros, and adds nothing. Of a fragmented datagram nobody can check it."""
    total = words(block, start, SNAP)
    if protocol != _ICMP:
        total = total + pseudo_sum(block, family, protocol, payloads)
    checksum = folded(total)
    # RFC 768: a sum of zero is sent as all ones, since zero says that there is none.
    header["checksum"] = np.where(checksum == 0, 0xFFFF, checksum) if protocol == _UDP else checksum


def _transport(block: NDArray[np.uint8], rows: Packets, start: int, protocol: int) -> tuple[Records | None, int]:
    """Writes the header behind IP's without its checksum; gives it, and how long it is."""
    payload = rows["length"].astype(np.int64) + 14 - start
    if protocol == _TCP:
        header = at(block, start, TCP)
        header["source_port"], header["destination_port"] = rows["source_port"], rows["destination_port"]
        header["sequence"] = rows["datagram"].astype(np.uint32) * np.uint32(65521) + np.uint32(1)
        # What a SYN is longer by is options: nobody sends data with it.
        options = np.where((rows["flags"] & SYN != 0) & (rows["content"] == 0), np.clip(payload - 20, 0, 40) // 4, 0)
        header["offset"], header["flags"], header["window"] = 5 + options << 4, rows["flags"], 64240
        return header, TCP.itemsize
    if protocol == _UDP:
        header = at(block, start, UDP)
        header["source_port"], header["destination_port"] = rows["source_port"], rows["destination_port"]
        header["length"] = np.where(rows["fragment"] == 0, payload, 4000)
        return header, UDP.itemsize
    if protocol in (_ICMP, _ICMPV6):
        header = at(block, start, ICMP)
        header["type"], header["code"], header["sequence"] = rows["icmp_type"], rows["icmp_code"], rows["datagram"]
        return header, ICMP.itemsize
    return None, 0
