"""Normal traffic, made from a seed: sessions of clients with a target, in the client's direction.

Every source lies in `CLIENTS`, and every packet carries its number modulo `SEQUENCE` (IPv4 identification, IPv6 flow
label), so that a receiver tells benign from attack packets and counts losses exactly. Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

import numpy as np
from numpy.typing import NDArray

from lab.frames import Addresses, Frames, Numbers, blank, hosts, pseudo_sum, write_ip
from lab.headers import ACK, FIN, ICMP, PUSH, SYN, TCP, UDP, at, folded, words
from rules.match import Family, Network

CLIENTS: dict[Family, Network] = {Family.IPV4: IPv4Network("198.18.0.0/16"), Family.IPV6: IPv6Network("2001:2::/48")}
"""The benchmarking networks (RFC 2544, RFC 5180)."""
SEQUENCE = 1 << 16
_TCP, _UDP = 6, 17
_QUERY = bytes.fromhex("0001 0100 0001 0000 0000 0000 03777777 076578616d706c65 03636f6d 00 0001 0001")
_NTP_CLIENT = bytes.fromhex("23 00 06 20")


@dataclass(frozen=True, slots=True)
class Share:
    """One kind of benign traffic."""

    name: str
    weight: float
    """Part of the packets."""
    flow_packets: int
    """Packets a session has on average."""
    make: Callable[[NDArray[np.uint8], int, "Flows"], None]
    """Writes the transport header and payload."""
    protocol: int
    lengths: tuple[int, int]
    """IP payload bytes, from and to below."""


@dataclass(frozen=True, slots=True)
class Flows:
    """To which session each packet belongs."""

    sources: Addresses
    ports: Numbers
    place: Numbers
    """The packet's place in its session, from 0."""
    is_last: NDArray[np.bool_]
    lengths: Numbers
    family: Family
    random: np.random.Generator


def benign(target: Network, count: int, seed: int, first: int = 0) -> Frames:
    """`count` packets of HTTPS-like TCP, QUIC, DNS queries, pings and NTP, interleaved; numbered from `first`."""
    random = np.random.default_rng([seed, count, 7])
    family = Family.of(target)
    weights = np.array([share.weight for share in SHARES])
    kinds = random.choice(len(SHARES), count, p=weights / weights.sum())
    numbers = np.arange(first, first + count) % SEQUENCE
    parts = [_part(share, target, family, numbers[kinds == index], random) for index, share in enumerate(SHARES)]
    width = max(part.block.shape[1] for part in parts)
    block, lengths = np.zeros((count, width), np.uint8), np.zeros(count, np.int64)
    for index, part in enumerate(parts):
        block[kinds == index, : part.block.shape[1]], lengths[kinds == index] = part.block, part.lengths
    return Frames(block, lengths)


def _part(share: Share, target: Network, family: Family, numbers: Numbers, random: np.random.Generator) -> Frames:
    count = len(numbers)
    flow_count = max(1, count // share.flow_packets)
    # Sessions run side by side: packet i belongs to session i mod flow_count.
    flow = np.arange(count) % flow_count
    flows = Flows(
        sources=hosts(CLIENTS[family], flow_count, random)[flow],
        ports=random.integers(32768, 61000, flow_count)[flow],
        place=np.arange(count) // flow_count,
        is_last=np.arange(count) + flow_count >= count,
        lengths=random.integers(*share.lengths, count),
        family=family,
        random=random,
    )
    if share.name == "https":
        flows.lengths[:] = np.where(_carries_data(flows), flows.lengths, TCP.itemsize)
    protocol = 58 if share.name == "ping" and family is Family.IPV6 else share.protocol
    block, lengths, start = blank(family, flows.lengths, width=100)
    write_ip(block, lengths, family, protocol, flows.sources, hosts(target, count, random), numbers, 57)
    share.make(block, start, flows)
    return Frames(block, lengths)


def _carries_data(flows: Flows) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = (flows.place >= 2) & (flows.place % 3 == 2) & ~flows.is_last
    return result


def _https(block: NDArray[np.uint8], start: int, flows: Flows) -> None:
    header = at(block, start, TCP)
    data = _carries_data(flows)
    header["source_port"], header["destination_port"] = flows.ports, 443
    header["sequence"] = (flows.ports.astype(np.uint64) * 7919 + flows.place.astype(np.uint64) * 400) & 0xFFFFFFFF
    header["acknowledgement"] = np.where(flows.place == 0, 0, flows.ports * 31 + flows.place * 1400)
    flags = np.where(data, PUSH | ACK, ACK)
    flags[flows.place == 0], flags[flows.is_last & (flows.place > 0)] = SYN, FIN | ACK
    header["offset"], header["flags"], header["window"] = 5 << 4, flags, 64240
    block[data, start + 20 : start + 25] = np.frombuffer(bytes.fromhex("1703030100"), np.uint8)
    total = words(block, start, start + 26) + pseudo_sum(block, flows.family, _TCP, flows.lengths)
    header["checksum"] = folded(total)


def _udp(block: NDArray[np.uint8], start: int, flows: Flows, port: int, payload: bytes) -> None:
    header = at(block, start, UDP)
    header["source_port"], header["destination_port"], header["length"] = flows.ports, port, flows.lengths
    even = payload + bytes(len(payload) % 2)
    block[:, start + 8 : start + 8 + len(even)] = np.frombuffer(even, np.uint8)
    total = words(block, start, start + 8 + len(even)) + pseudo_sum(block, flows.family, _UDP, flows.lengths)
    header["checksum"] = folded(total)


def _ping(block: NDArray[np.uint8], start: int, flows: Flows) -> None:
    header = at(block, start, ICMP)
    header["type"] = 128 if flows.family is Family.IPV6 else 8
    header["identification"], header["sequence"] = flows.ports, flows.place
    total = words(block, start, start + 8)
    if flows.family is Family.IPV6:
        total = total + pseudo_sum(block, flows.family, 58, flows.lengths)
    header["checksum"] = folded(total)


SHARES = (
    Share("https", 0.6, 24, _https, _TCP, (180, 900)),
    Share("quic", 0.15, 30, lambda b, s, f: _udp(b, s, f, 443, bytes.fromhex("40aabbccdd")), _UDP, (60, 1260)),
    Share("dns", 0.15, 1, lambda b, s, f: _udp(b, s, f, 53, _QUERY), _UDP, (8 + len(_QUERY), 9 + len(_QUERY))),
    Share("ping", 0.05, 10, _ping, 1, (64, 65)),
    Share("ntp", 0.05, 2, lambda b, s, f: _udp(b, s, f, 123, _NTP_CLIENT), _UDP, (56, 57)),
)
