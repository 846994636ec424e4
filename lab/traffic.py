"""Attack traffic, made from a seed: for each vector frames that look like it, addressed to a target.

Nothing here sends; frames become a capture file (`lab.frames.write_pcap`) or go to `lab.sender`. The sources are drawn
from addresses outside `lab.benign.CLIENTS`, so that a receiver tells the two apart for certain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

import numpy as np

from lab.frames import Addresses, Frames, Numbers, blank, hosts, pseudo_sum, write_ip
from lab.headers import ACK, FIN, ICMP, PUSH, RST, SYN, TCP, UDP, URG, at, folded, words
from lab.responses import RESPONSES, pieces, response
from rules.match import Family, Network
from rules.traffic import AMPLIFICATION_SERVICES, Vector

ANYWHERE: dict[Family, Network] = {Family.IPV4: IPv4Network("64.0.0.0/3"), Family.IPV6: IPv6Network("2600::/12")}
"""Where spoofed sources come from."""
REFLECTORS = 2_000
"""Distinct servers of a reflection."""
_PORTS = {name: port for port, name in AMPLIFICATION_SERVICES.items()}
_GRE, _ESP, _UDP, _TCP = 47, 50, 17, 6
_PROTOCOL_ICMP = {Family.IPV4: 1, Family.IPV6: 58}
_ECHO_REQUEST = {Family.IPV4: 8, Family.IPV6: 128}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made."""

    target: Network
    """One host, or a prefix whose hosts are all hit (carpet bombing)."""
    count: int
    """Packets; fragments count each."""
    random: np.random.Generator
    port: int = 443
    """The destination port, where the vector has one."""

    @property
    def family(self) -> Family:
        """Of the target."""
        return Family.of(self.target)

    def destinations(self) -> Addresses:
        """One for each packet."""
        return hosts(self.target, self.count, self.random)

    def spoofed(self) -> Addresses:
        """A source for each packet, from everywhere."""
        return hosts(ANYWHERE[self.family], self.count, self.random)

    def reflected(self) -> Addresses:
        """A source for each packet, from a fixed set of servers."""
        servers = hosts(ANYWHERE[self.family], REFLECTORS, self.random)
        return servers[self.random.integers(0, REFLECTORS, self.count)]

    def numbers(self, low: int, high: int) -> Numbers:
        """A number from `low` to below `high` for each packet."""
        return self.random.integers(low, high, self.count)

    def identifications(self) -> Numbers:
        """IPv4 identifications or IPv6 flow labels."""
        return self.numbers(0, 1 << 16)

    def ttls(self) -> Numbers:
        """As they arrive after some hops."""
        return self.numbers(40, 60)


def attack(vector: Vector, target: Network, count: int, seed: int, port: int = 443) -> Frames:
    """`count` packets of one vector towards a host or prefix; the same arguments give the same bytes."""
    order = Order(target, count, np.random.default_rng([seed, count]), port)
    if vector.kind == "udp_amp":
        return _amplified(order, vector.service or "")
    if vector.kind not in _MAKERS:
        raise ValueError(f"the lab makes no {vector}; it knows {', '.join(sorted(_MAKERS))} and udp_amp:<service>")
    return _MAKERS[vector.kind](order)


def kinds() -> tuple[Vector, ...]:
    """Every vector that `attack` can make."""
    return (*map(Vector, sorted(_MAKERS)), *(Vector("udp_amp", service) for service in sorted(RESPONSES)))


def _tcp(order: Order, flags: int, reflected: bool = False) -> Frames:
    payloads = np.full(order.count, TCP.itemsize, np.int64)
    block, lengths, start = blank(order.family, payloads)
    sources = order.reflected() if reflected else order.spoofed()
    write_ip(block, lengths, order.family, _TCP, sources, order.destinations(), order.identifications(), order.ttls())
    header = at(block, start, TCP)
    header["source_port"] = order.port if reflected else order.numbers(1024, 65536)
    header["destination_port"] = order.numbers(1024, 65536) if reflected else order.port
    header["sequence"] = order.numbers(0, 1 << 32)
    header["acknowledgement"] = order.numbers(0, 1 << 32) if flags & ACK else 0
    header["offset"], header["flags"], header["window"] = 5 << 4, flags, 64240
    header["checksum"] = folded(words(block, start, start + 20) + pseudo_sum(block, order.family, _TCP, payloads))
    return Frames(block, lengths)


def _udp_flood(order: Order) -> Frames:
    payloads = order.numbers(UDP.itemsize + 18, UDP.itemsize + 500)
    block, lengths, start = blank(order.family, payloads)
    write_ip(
        block, lengths, order.family, _UDP, order.spoofed(), order.destinations(), order.identifications(), order.ttls()
    )
    header = at(block, start, UDP)
    header["source_port"], header["destination_port"] = order.numbers(1024, 65536), order.port
    header["length"] = payloads
    header["checksum"] = folded(words(block, start, start + 8) + pseudo_sum(block, order.family, _UDP, payloads))
    return Frames(block, lengths)


def _amplified(order: Order, service: str) -> Frames:
    plan = pieces(service, order.family, order.count, order.random)
    is_first = plan.offsets & 0x1FFF == 0
    block, lengths, start = blank(order.family, plan.lengths, plan.is_fragmented)
    servers = hosts(ANYWHERE[order.family], REFLECTORS, order.random)
    chosen = order.numbers(0, REFLECTORS)[plan.datagrams]
    destinations = order.destinations()[plan.datagrams]
    offsets = plan.offsets if plan.is_fragmented else None
    identifications = order.identifications()[plan.datagrams]
    write_ip(block, lengths, order.family, _UDP, servers[chosen], destinations, identifications, order.ttls(), offsets)
    width = block.shape[1] - start - UDP.itemsize
    content = response(service, max(plan.content_limit, width))
    block[is_first, start + UDP.itemsize :] = content.body[:width]
    block[~is_first, start:] = content.fill
    header = np.zeros((order.count, UDP.itemsize), np.uint8)
    fields = at(header, 0, UDP)
    fields["source_port"], fields["destination_port"] = _PORTS[service], order.numbers(1024, 65536)
    fields["length"] = plan.totals
    total = words(header, 0, 8) + pseudo_sum(block, order.family, _UDP, plan.totals)
    fields["checksum"] = folded(total + content.sums[plan.totals - UDP.itemsize])
    block[is_first, start : start + UDP.itemsize] = header[is_first]
    return Frames(block, lengths)


def _icmp_flood(order: Order) -> Frames:
    protocol = _PROTOCOL_ICMP[order.family]
    payloads = np.full(order.count, 64, np.int64)
    block, lengths, start = blank(order.family, payloads)
    write_ip(
        block, lengths, order.family, protocol, order.spoofed(), order.destinations(), order.identifications(),
        order.ttls(),
    )  # fmt: skip
    header = at(block, start, ICMP)
    header["type"], header["identification"] = _ECHO_REQUEST[order.family], order.numbers(0, 65536)
    header["sequence"] = order.numbers(0, 65536)
    total = words(block, start, start + 8)
    if order.family is Family.IPV6:
        total = total + pseudo_sum(block, order.family, protocol, payloads)
    header["checksum"] = folded(total)
    return Frames(block, lengths)


def _fragments(order: Order) -> Frames:
    payloads = np.full(order.count, 640, np.int64)
    block, lengths, start = blank(order.family, payloads, fragments=True)
    offsets = order.numbers(1, 180) | 0x2000
    write_ip(
        block, lengths, order.family, _UDP, order.spoofed(), order.destinations(), order.identifications(),
        order.ttls(), offsets,
    )  # fmt: skip
    block[:, start:] = 0x5A
    return Frames(block, lengths)


def _opaque(order: Order, protocol: int, head: bytes, size: int) -> Frames:
    payloads = np.full(order.count, size, np.int64)
    block, lengths, start = blank(order.family, payloads)
    write_ip(
        block, lengths, order.family, protocol, order.spoofed(), order.destinations(), order.identifications(),
        order.ttls(),
    )  # fmt: skip
    block[:, start : start + len(head)] = np.frombuffer(head, np.uint8)
    return Frames(block, lengths)


_MAKERS: dict[str, Callable[[Order], Frames]] = {
    "syn_flood": lambda order: _tcp(order, SYN),
    "synack_reflection": lambda order: _tcp(order, SYN | ACK, reflected=True),
    "ack_flood": lambda order: _tcp(order, ACK),
    "rst_flood": lambda order: _tcp(order, RST),
    "fin_flood": lambda order: _tcp(order, FIN),
    "tcp_null": lambda order: _tcp(order, 0),
    "tcp_xmas": lambda order: _tcp(order, FIN | PUSH | URG),
    "udp_flood": _udp_flood,
    "icmp_flood": _icmp_flood,
    "icmpv6_flood": _icmp_flood,
    "ip_fragment_flood": _fragments,
    # GRE around an IPv4 header without meaning, as the Mirai family sends it.
    "gre_flood": lambda order: _opaque(order, _GRE, bytes.fromhex("00000800 45000214 00004000 40110000"), 536),
    "esp_flood": lambda order: _opaque(order, _ESP, bytes.fromhex("deadbeef 00000001"), 200),
    "carpet_bombing": _udp_flood,
}
