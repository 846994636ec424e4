"""Who lost what: benign packets by host, by port and by flow, apart from those that the rules name. Pure.

A total hides it when one host or one service loses everything, so each is judged for itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np
from numpy.typing import NDArray

from lab.benign import SEQUENCE
from lab.frames import ETHERNET_BYTES, Frames
from lab.sender import Stream
from rules.match import Match
from sensors.headers import HAS_FLAGS, HAS_ICMP, HAS_PORTS, HEADER, MAPPED
from sensors.matching import selected
from sensors.tables import ANY

LIMIT = 0.01
LEAST_SENT, LEAST_LOST = 20, 3
"""A bucket with fewer packets sent says nothing, and two lost ones may be chance: a rule that hits takes a share."""
_ICMP, _TCP, _UDP = 1, 6, 17
_PROTOCOLS = {_ICMP: "icmp", _TCP: "tcp", _UDP: "udp"}
_PAYLOAD = ETHERNET_BYTES + 20

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """One host, port or flow."""

    name: str
    sent: int
    lost: int

    @property
    def is_hurt(self) -> bool:
        """Whether it lost more than it may, and enough to be sure."""
        return self.lost >= LEAST_LOST and self.lost > self.sent * LIMIT


@dataclass(frozen=True, slots=True)
class Loss:
    """What became of one benign stream."""

    named: Bucket
    """The packets that a rule names: it was made to drop them, however benign."""
    buckets: dict[str, tuple[Bucket, ...]]
    """The others, by kind; only those with enough packets."""

    @property
    def hurt(self) -> tuple[str, ...]:
        """Every bucket that lost too much, in words."""
        return tuple(
            f"{kind} {one.name} lost {one.lost} of {one.sent} benign packets outside the rules"
            for kind, buckets in self.buckets.items()
            for one in buckets
            if one.is_hurt
        )


def loss(stream: Stream, sent: int, arrived: Numbers, rules: Iterable[Match]) -> Loss:
    """The loss of a benign IPv4 stream of which `sent` packets went out; `arrived` counts packets by number."""
    frames = stream.frames()
    rounds, rest = divmod(sent, len(frames))
    out = np.full(len(frames), rounds, np.int64) + (np.arange(len(frames)) < rest)
    lost = np.maximum(0, out - arrived[(stream.first + np.arange(len(frames))) % SEQUENCE])
    entries = headers(frames)
    named = np.zeros(len(frames), bool)
    for match in rules:
        named |= selected(match, entries)
    free = ~named
    has_ports = np.isin(entries["protocol"], (_TCP, _UDP)) & free
    kinds = {
        "host": (free, _host, _host_name),
        "port": (has_ports, _port, _port_name),
        "flow": (has_ports, _flow, _flow_name),
    }
    return Loss(
        Bucket("named by a rule", int(out[named].sum()), int(lost[named].sum())),
        {kind: _buckets(entries[of], out[of], lost[of], key, name) for kind, (of, key, name) in kinds.items()},
    )


def headers(frames: Frames) -> ANY:
    """IPv4 frames as the sensor remembers packets, so that its matching serves here too."""
    block = frames.block.astype(np.int64)
    entries = np.zeros(len(frames), HEADER)

    def word(place: int, size: int) -> Numbers:
        total = np.zeros(len(frames), np.int64)
        for column in range(place, place + size):
            total = total << 8 | block[:, column]
        return total

    entries["traffic_class"], entries["length"] = word(ETHERNET_BYTES + 1, 1), word(ETHERNET_BYTES + 2, 2)
    entries["ttl"], entries["protocol"] = word(ETHERNET_BYTES + 8, 1), word(ETHERNET_BYTES + 9, 1)
    entries["source_low"] = word(ETHERNET_BYTES + 12, 4) | MAPPED
    entries["destination_low"] = word(ETHERNET_BYTES + 16, 4) | MAPPED
    has_ports, is_tcp = np.isin(entries["protocol"], (_TCP, _UDP)), entries["protocol"] == _TCP
    is_icmp = entries["protocol"] == _ICMP
    entries["source_port"] = np.where(has_ports, word(_PAYLOAD, 2), 0)
    entries["destination_port"] = np.where(has_ports, word(_PAYLOAD + 2, 2), 0)
    entries["tcp_flags"] = np.where(is_tcp, word(_PAYLOAD + 12, 2) & 0xFFF, 0)
    entries["icmp_type"] = np.where(is_icmp, word(_PAYLOAD, 1), 0)
    entries["icmp_code"] = np.where(is_icmp, word(_PAYLOAD + 1, 1), 0)
    entries["marks"] = has_ports * HAS_PORTS | is_tcp * HAS_FLAGS | is_icmp * HAS_ICMP
    return entries


def _buckets(
    entries: ANY, out: Numbers, lost: Numbers, key: Callable[[ANY], ANY], name: Callable[[ANY], str]
) -> tuple[Bucket, ...]:
    _, first, places = np.unique(key(entries), return_index=True, return_inverse=True)
    sums = [np.bincount(places, weights, len(first)).astype(np.int64) for weights in (out, lost)]
    return tuple(
        Bucket(name(entries[index]), int(sent), int(gone))
        for index, sent, gone in zip(first, *sums, strict=True)
        if sent >= LEAST_SENT
    )


def _host(entries: ANY) -> ANY:
    addresses: ANY = entries["destination_low"]
    return addresses


def _port(entries: ANY) -> ANY:
    key: ANY = entries["protocol"].astype(np.uint64) << 16 | entries["destination_port"]
    return key


def _flow(entries: ANY) -> ANY:
    """One number each: the client's low 24 address bits (they all lie in one /16), both ports, the protocol."""
    client = (entries["source_low"] & 0xFFFFFF) << 40 | entries["source_port"].astype(np.uint64) << 24
    key: ANY = client | _port(entries)
    return key


def _address(low: ANY) -> IPv4Address:
    return IPv4Address(int(low) & 0xFFFFFFFF)


def _host_name(entry: ANY) -> str:
    return str(_address(entry["destination_low"]))


def _port_name(entry: ANY) -> str:
    return f"{_PROTOCOLS[int(entry['protocol'])]}/{entry['destination_port']}"


def _flow_name(entry: ANY) -> str:
    return f"{_address(entry['source_low'])}:{entry['source_port']} to {_port_name(entry)}"
