"""Floods that stand alone packet by packet, as rows: UDP, ICMP, TCP flags, fragments, tunnels. Pure.

Each maker varies what a detector must not hang on: ports, lengths, payloads, options of the tools that are around.
"""

from collections.abc import Callable

import numpy as np

from lab.headers import ACK, FIN, PUSH, RST, SYN, URG
from lab.packets import MORE_FRAGMENTS, Packets, content
from lab.responses import RESPONSES, pieces
from lab.scenario_order import Order
from rules.match import Family
from rules.traffic import AMPLIFICATION_SERVICES

_PORTS = {name: port for port, name in AMPLIFICATION_SERVICES.items()}
_TCP, _UDP, _GRE, _ESP = 6, 17, 47, 50
_IP = {Family.IPV4: 20, Family.IPV6: 40}
_WEB = (80, 443, 443, 22, 25565, 8080, 3389)
_JUNK = (bytes(24), b"\xff" * 24, b"AAAAAAAAAAAAAAAAAAAAAAAA", b"\x13\x37\xca\xfe", b"\0")


def amplified(order: Order, service: str) -> Packets:
    """Answers of some reflectors of a service, in fragments where they are long."""
    plan = pieces(service, order.family, order.count, order.random)
    reflectors = int(np.exp(order.random.uniform(np.log(30), np.log(6000))))
    rows = order.rows(_UDP, sources=reflectors)
    # All pieces of an answer come from the same server to the same host.
    first = np.searchsorted(plan.datagrams, plan.datagrams)
    for name in ("source", "destination", "ttl", "datagram"):
        rows[name] = rows[name][first]
    split = plan.offsets != 0
    rows["length"] = plan.lengths + _IP[order.family] + (8 * split if order.family is Family.IPV6 else 0)
    rows["fragment"] = plan.offsets
    whole = plan.offsets & 0x1FFF == 0
    port: object = order.pick(80, 443, 53) if order.chance(0.3) else order.each(1024, 65536)
    ports = np.broadcast_to(np.asarray(port), order.count)[first]
    rows["source_port"], rows["destination_port"] = np.where(whole, _PORTS[service], 0), np.where(whole, ports, 0)
    rows["content"] = np.where(whole, content(RESPONSES[service][1]), content(b"A" * 40))
    return rows


def tcp(order: Order, flags: int) -> Packets:
    """Packets with these flags and nothing that they belong to."""
    rows = order.rows(_TCP)
    rows["flags"] = flags
    rows["destination_port"] = order.each(1, 65536) if order.chance(0.2) else order.pick(*_WEB)
    rows["source_port"] = order.ports()
    data = order.pick(0, 0, 0, 512, 900) if not flags & (RST | FIN) else 0
    options = order.pick(0, 4, 20) if flags & SYN else 0
    if options:
        rows["length"] = _IP[order.family] + 20 + options
    else:
        rows["length"] = _IP[order.family] + 20 + (order.each(0, data) if data else 0)
    if data:
        rows["content"] = content(_JUNK[order.draw(0, len(_JUNK))])
    return rows


def ack(order: Order) -> Packets:
    """ACKs, with PUSH in some of the tools."""
    return tcp(order, ACK | PUSH if order.chance(0.3) else ACK)


def reflected_syn(order: Order) -> Packets:
    """SYN-ACKs of real servers that were sent SYNs in the victim's name; closed ports answer with RST."""
    rows = order.rows(_TCP, sources=order.draw(500, 8000))
    closed = order.random.random(order.count) < (order.pick(0, 15, 30) / 100)
    rows["flags"] = np.where(closed, RST | ACK, SYN | ACK)
    one = order.pick(80, 443)
    rows["source_port"] = one if order.chance(0.5) else order.random.choice((80, 443, 22, 25, 8080), order.count)
    rows["destination_port"] = order.each(1024, 65536)
    rows["length"] = _IP[order.family] + np.where(closed, 20, order.pick(24, 40))
    return rows


def middleboxes(order: Order) -> Packets:
    """Pages and resets of firewalls that were sent a request for something forbidden in the victim's name; they answer
    in the servers' names, each with its own page, some with a few packets, some with resets alone."""
    rows = order.rows(_TCP, sources=order.draw(300, 4000))
    _, box = np.unique(rows["source"][:, 0] * np.uint64(31) ^ rows["source"][:, 1], return_inverse=True)
    count = int(box.max()) + 1 if len(box) else 0
    pages, has_page = order.random.integers(120, 1461, count), order.random.random(count) < order.pick(55, 80, 95) / 100
    ends = order.random.random(count) < order.pick(10, 60) / 100
    # A page in two packets begins with a full one; some send a reset behind their page.
    turn = order.each(0, 4)
    resets = ~has_page[box] | ((turn == 3) & ends[box])
    data = np.where(
        resets,
        0,
        np.where((turn == 2) & (pages[box] > 900), 1460 - 20 * (order.family is Family.IPV6), pages[box] - 20),
    )
    rows["flags"] = np.where(resets, RST | ACK, np.where(ends[box] & (turn == 1), FIN | PUSH | ACK, PUSH | ACK))
    rows["length"] = _IP[order.family] + 20 + np.where(data > 1, data - 20, 0)
    rows["content"] = np.where(resets, content(b""), content(b"HTTP/1.1 403 Forbidden\r\nConnection: close"))
    rows["source_port"] = np.where(order.random.random(count)[box] < 0.85, 80, 443)
    rows["destination_port"] = order.draw(1024, 65536) if order.chance(0.4) else order.each(1024, 65536)
    return rows


def udp(order: Order) -> Packets:
    """Datagrams of one length or many, to one port or all."""
    rows = order.rows(_UDP)
    rows["source_port"] = order.ports()
    # A source port of a reflecting service would say that it is one.
    rows["source_port"][np.isin(rows["source_port"], list(AMPLIFICATION_SERVICES))] = 40_001
    rows["destination_port"] = order.each(1, 65536) if order.chance(0.4) else order.pick(53, 80, 443, 9987, 30120, 7777)
    low, high = ((28, 29), (60, 61), (46, 540), (900, 1420), (1428, 1429))[order.draw(0, 5)]
    rows["length"] = order.each(low, high) + _IP[order.family] - 20
    rows["content"] = content(_JUNK[order.draw(0, len(_JUNK))])
    return rows


def icmp(order: Order) -> Packets:
    """Echo requests, mostly; also unreachable messages for datagrams that nobody sent."""
    six = order.family is Family.IPV6
    rows = order.rows(58 if six else 1)
    # Time exceeded and echo replies come back from spoofed or reflected pings.
    rows["icmp_type"] = order.pick(*((128, 128, 129) if six else (8, 8, 0, 11)))
    rows["length"] = _IP[order.family] + (order.each(8, 1400) if order.chance(0.3) else order.pick(8, 64, 1008, 1408))
    return rows


def fragments(order: Order) -> Packets:
    """Pieces that never become a datagram: of UDP, sometimes of TCP."""
    rows = order.rows(order.pick(_UDP, _UDP, _TCP))
    more = MORE_FRAGMENTS if order.chance(0.7) else 0
    rows["fragment"] = order.each(1, 180) | more
    size = order.pick(500, 1000, 1440) // 8 * 8
    rows["length"] = _IP[order.family] + size + (8 if order.family is Family.IPV6 else 0)
    rows["content"] = content(b"Z" * 40)
    return rows


def tunnel(order: Order, protocol: int) -> Packets:
    """GRE or ESP without a tunnel, as the Mirai family sends it."""
    rows = order.rows(protocol)
    start = bytes.fromhex("0000080045000214") if protocol == _GRE else b"\xde\xad\xbe\xef\x00\x00\x00\x01"
    rows["content"] = content(start)
    rows["length"] = _IP[order.family] + (order.each(60, 1400) if order.chance(0.4) else order.pick(100, 536, 1200))
    return rows


def odd_protocol(order: Order) -> Packets:
    """Packets of protocols that hardly anybody uses, one or a handful of them."""
    protocols = (4, 94, 103, 132, 254) if order.chance(0.3) else (order.pick(4, 97, 103, 132, 240, 254),)
    rows = order.rows(0)
    rows["protocol"] = order.random.choice(protocols, order.count)
    rows["length"] = _IP[order.family] + order.pick(40, 200, 900)
    return rows


def backscatter(rows: Packets, share: float, random: np.random.Generator) -> Packets:
    """The victim's answers to a part of an attack, as a mirror of both directions sees them too."""
    answered = rows[(random.random(len(rows)) < share) & (rows["fragment"] == 0)]
    answered = answered[np.isin(answered["protocol"], (_TCP, _UDP))]
    out: Packets = answered.copy()
    out["source"], out["destination"] = answered["destination"], answered["source"]
    out["source_port"], out["destination_port"] = answered["destination_port"], answered["source_port"]
    out["time"] += 200_000
    out["ttl"], out["label"], out["content"] = 64, -1, 0
    is_tcp = out["protocol"] == _TCP
    syn = is_tcp & (answered["flags"] == SYN)
    out["flags"] = np.where(syn, SYN | ACK, np.where(is_tcp, RST | ACK, 0))
    six = out["source"][:, 0] != 0
    # For datagrams: port unreachable, with the start of what it answers.
    out["protocol"] = np.where(is_tcp, _TCP, np.where(six, 58, 1))
    out["icmp_type"], out["icmp_code"] = np.where(six, 1, 3), np.where(six, 4, 3)
    out["length"] = np.where(six, 60, 40) + np.where(is_tcp, 0, 16)
    return out


MAKERS: dict[str, Callable[[Order], Packets]] = {
    "syn_flood": lambda order: tcp(order, SYN),
    "ack_flood": ack,
    "rst_flood": lambda order: tcp(order, RST if order.chance(0.5) else RST | ACK),
    "fin_flood": lambda order: tcp(order, FIN if order.chance(0.5) else FIN | ACK),
    "tcp_null": lambda order: tcp(order, 0),
    "tcp_xmas": lambda order: tcp(order, FIN | PUSH | URG),
    "synack_reflection": reflected_syn,
    "tcp_middlebox_reflection": middleboxes,
    "udp_flood": udp,
    "icmp_flood": icmp,
    "ip_fragment_flood": fragments,
    "gre_flood": lambda order: tunnel(order, _GRE),
    "esp_flood": lambda order: tunnel(order, _ESP),
    "ip_proto_flood": odd_protocol,
}
