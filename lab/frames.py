"""Blocks of ready Ethernet frames: built, checksummed, tagged, merged in time, written as pcap. Pure but for the file.

Rows are as wide as the longest frame; `lengths` says where each really ends, and bytes behind that mean nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.headers import ETHERNET, FRAGMENT, IPV4, IPV6, VLAN, Bytes, at, folded, words
from rules.match import Family, Network

Numbers = NDArray[np.int64]
Addresses = NDArray[np.uint32] | NDArray[np.uint64]
"""IPv4: one number each; IPv6: two 64-bit halves each."""

ETHERNET_BYTES = 14
IP_BYTES = {Family.IPV4: 20, Family.IPV6: 40}
ETHER_TYPE = {Family.IPV4: 0x0800, Family.IPV6: 0x86DD}
_ROUTER_MAC, _SENDER_MAC = (2, 0, 0, 0, 0, 1), (2, 0, 0, 0, 0, 2)
_PCAP_NANOSECONDS, _LINK_ETHERNET = 0xA1B23C4D, 1


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames in the order they are sent."""

    block: Bytes
    lengths: Numbers
    """Bytes of each frame, without the frame check sequence."""
    stamps: Numbers | None = None
    """Nanoseconds since the start; None where the sender paces."""

    def __len__(self) -> int:
        return len(self.block)

    def paced(self, packets_per_second: float, start_seconds: float = 0.0) -> "Frames":
        """The same frames at even distances from `start_seconds` on."""
        stamps = (start_seconds + np.arange(len(self)) / packets_per_second) * 1e9
        return replace(self, stamps=stamps.astype(np.int64))

    def tagged(self, *vlans: int) -> "Frames":
        """The same frames with VLAN tags, the outermost first (two of them: QinQ, 802.1ad)."""
        width = 4 * len(vlans)
        block = np.zeros((len(self), self.block.shape[1] + width), np.uint8)
        block[:, :12], block[:, 12 + width :] = self.block[:, :12], self.block[:, 12:]
        for place, vlan in enumerate(vlans):
            tag = at(block, 12 + 4 * place, VLAN)
            tag["type"] = 0x88A8 if len(vlans) > 1 and place == 0 else 0x8100
            tag["control"] = vlan
        return replace(self, block=block, lengths=self.lengths + width)

    def addressed(self, destination: bytes, source: bytes) -> "Frames":
        """The same frames between two MAC addresses."""
        block = self.block.copy()
        block[:, :12] = np.frombuffer(destination + source, np.uint8)
        return replace(self, block=block)

    def frame(self, index: int) -> bytes:
        """One frame's bytes."""
        return self.block[index, : self.lengths[index]].tobytes()


def merged(parts: Sequence[Frames]) -> Frames:
    """Several timed streams as one, in the order of their stamps."""
    width = max(part.block.shape[1] for part in parts)
    blocks = [np.pad(part.block, ((0, 0), (0, width - part.block.shape[1]))) for part in parts]
    stamps = np.concatenate([part.stamps for part in parts if part.stamps is not None])
    order = np.argsort(stamps, kind="stable")
    lengths = np.concatenate([part.lengths for part in parts])
    return Frames(np.concatenate(blocks)[order], lengths[order], stamps[order])


def write_pcap(path: Path, frames: Frames, begin_seconds: int = 1_700_000_000, snap: int = 65535) -> None:
    """A libpcap file with nanosecond stamps; `begin_seconds` (Unix) is when the stamps start."""
    if frames.stamps is None:
        raise ValueError("frames have no stamps: use paced() first")
    head = np.array([_PCAP_NANOSECONDS, 0x00040002, 0, 0, snap, _LINK_ETHERNET], "<u4").tobytes()
    kept = np.minimum(frames.lengths, snap)
    stamps = frames.stamps + begin_seconds * 1_000_000_000
    records = np.stack([stamps // 1_000_000_000, stamps % 1_000_000_000, kept, frames.lengths], axis=1)
    rows = np.concatenate([records.astype("<u4").view(np.uint8), frames.block], axis=1)
    if (kept == kept[0]).all():
        body = np.ascontiguousarray(rows[:, : 16 + kept[0]])
    else:
        body = rows[np.arange(rows.shape[1]) < 16 + kept[:, None]]
    with path.open("wb") as file:
        file.write(head)
        file.write(body.data)


def blank(
    family: Family, payload_lengths: Numbers, fragments: bool = False, width: int = 60
) -> tuple[Bytes, Numbers, int]:
    """A zeroed block for these IP payloads, `width` bytes or more and even, its frame lengths, the payload's column."""
    start = ETHERNET_BYTES + IP_BYTES[family] + (8 if fragments and family is Family.IPV6 else 0)
    lengths = payload_lengths + start
    return np.zeros((len(lengths), max(width, int(lengths.max(initial=0)) + 1 & ~1)), np.uint8), lengths, start


def write_ip(
    block: Bytes,
    lengths: Numbers,
    family: Family,
    protocol: int,
    sources: Addresses,
    destinations: Addresses,
    identifications: Numbers,
    ttls: Numbers | int = 64,
    offsets: Numbers | None = None,
) -> None:
    """Ethernet and IP headers. `offsets`: the IPv4 flags-and-offset field, for IPv6 put into a fragment header."""
    ethernet = at(block, 0, ETHERNET)
    ethernet["destination"], ethernet["source"], ethernet["type"] = _ROUTER_MAC, _SENDER_MAC, ETHER_TYPE[family]
    header = at(block, ETHERNET_BYTES, IPV4 if family is Family.IPV4 else IPV6)
    header["ttl"], header["protocol"] = ttls, protocol
    header["source"], header["destination"] = sources, destinations
    if family is Family.IPV4:
        header["version_length"], header["length"] = 0x45, lengths - ETHERNET_BYTES
        header["identification"] = identifications
        header["fragment"] = 0 if offsets is None else offsets
        header["checksum"] = folded(words(block, ETHERNET_BYTES, ETHERNET_BYTES + 20))
        return
    header["version_class_label"] = 6 << 28 | (identifications & 0xFFFFF)
    header["length"] = lengths - ETHERNET_BYTES - 40
    if offsets is not None:
        header["protocol"] = 44
        fragment = at(block, ETHERNET_BYTES + 40, FRAGMENT)
        fragment["protocol"], fragment["identification"] = protocol, identifications
        # IPv4 counts offsets from bit 0 with flags on top, IPv6 shifts them by three with M at the bottom.
        fragment["offset"] = (offsets & 0x1FFF) << 3 | (offsets >> 13 & 1)


def pseudo_sum(block: Bytes, family: Family, protocol: int, payload_lengths: Numbers) -> NDArray[np.uint64]:
    """The checksum's pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1), as a sum of words."""
    first, last = (26, 34) if family is Family.IPV4 else (22, 54)
    return words(block, first, last) + payload_lengths.astype(np.uint64) + np.uint64(protocol)


def hosts(network: Network, count: int, random: np.random.Generator) -> Addresses:
    """`count` addresses of a prefix: the one it has, or evenly drawn."""
    spare = network.max_prefixlen - network.prefixlen
    drawn = random.integers(0, 1 << min(spare, 62), count, dtype=np.uint64) if spare else np.zeros(count, np.uint64)
    base = int(network.network_address)
    if isinstance(network, IPv4Network):
        return (np.uint64(base) + drawn).astype(np.uint32)
    halves = np.empty((count, 2), np.uint64)
    halves[:, 0], halves[:, 1] = base >> 64, np.uint64(base & (1 << 64) - 1) | drawn
    if spare > 64:
        halves[:, 0] |= random.integers(0, 1 << (spare - 64), count, dtype=np.uint64)
    return halves
