"""Conversations in both directions, as rows: handshakes, requests, answers, ends. Normal traffic and floods of the
application layer are made of them. Pure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.frames import Numbers
from lab.headers import ACK, FIN, PUSH, SYN
from lab.packets import BENIGN, MORE_FRAGMENTS, Packets, blank, content

TCP, UDP = 6, 17


@dataclass(frozen=True, slots=True)
class Talk:
    """How a kind of conversation goes. Sizes are of the transport's payload, of which each packet draws one."""

    protocol: int
    port: int
    """The server's."""
    packets: int
    """In a conversation, on average; 2 is a question and its answer, always."""
    seconds: float
    """How long one lasts, on average."""
    asking: float
    """Part of the packets that the client sends."""
    request_bytes: tuple[int, ...] = (0, 0, 300)
    answer_bytes: tuple[int, ...] = (0, 1400, 1400)
    opening: bytes = b""
    """How the client's payload begins."""
    client_port: int = 0
    """0: another one for each conversation."""
    repeats: bool = False
    """Whether each request begins like the first."""
    steady: bool = False
    """Whether conversations are under way all the time, instead of beginning with a handshake when they are seen."""
    split: bool = False
    """Whether payloads come as three fragments."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Who talks: an address for each conversation and side, as rows hold them, and the hop limits they arrive with."""

    clients: NDArray[np.uint64]
    servers: NDArray[np.uint64]
    client_ttls: Numbers
    server_ttls: Numbers

    def __len__(self) -> int:
        return len(self.clients)


def conversations(
    talk: Talk, ends: Ends, begin: float, end: float, random: np.random.Generator, label: int = BENIGN
) -> Packets:
    """Rows of one conversation for each pair of ends, between `begin` and `end` (s), not in the order of time. Only
    what clients send gets the label."""
    flows, least = len(ends), 1 if talk.protocol != TCP else 4
    is_query = talk.packets == 2
    sizes = np.full(flows, 2) if is_query else np.maximum(random.geometric(1 / talk.packets, flows), least)
    # Each at its own pace, which never is a burst.
    durations = sizes * (talk.seconds / talk.packets) * random.uniform(0.7, 1.4, flows)
    starts = random.uniform(begin - durations * talk.steady, end, flows)
    flow = np.repeat(np.arange(flows), sizes)
    place = np.arange(len(flow)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # A handshake is over in a few milliseconds, the rest spreads over the conversation.
    inside = (place + random.random(len(flow)) * 0.9) / sizes[flow] * durations[flow]
    early = (place < 4) & (talk.protocol == TCP and not talk.steady)
    times = starts[flow] + np.where(early, place * 0.004, inside + 0.016)
    keep = (times >= begin) & (times < end)
    flow, place, times = flow[keep], place[keep], times[keep]
    asks = random.random(len(flow)) < talk.asking
    asks = np.where((place == 0) | is_query, place == 0, asks)
    if talk.protocol == TCP and not talk.steady:
        asks = np.where(place == 1, False, np.where((place == 2) | (place == 3), True, asks))
    rows = _addressed(talk, ends, flow, asks, random)
    rows["time"], rows["label"] = (times * 1e9).astype(np.int64), np.where(asks, label, BENIGN)
    _write_sizes(talk, rows, asks, place, place == sizes[flow] - 1, random)
    return _split(rows) if talk.split else rows


def _addressed(talk: Talk, ends: Ends, flow: Numbers, asks: NDArray[np.bool_], random: np.random.Generator) -> Packets:
    rows = blank(len(flow))
    way = asks[:, None]
    clients, servers = ends.clients[flow], ends.servers[flow]
    rows["source"], rows["destination"] = np.where(way, clients, servers), np.where(way, servers, clients)
    own = (
        random.integers(32768, 61000, len(ends))[flow] if not talk.client_port else np.full(len(flow), talk.client_port)
    )
    if talk.port:
        rows["source_port"], rows["destination_port"] = np.where(asks, own, talk.port), np.where(asks, talk.port, own)
    rows["ttl"] = np.where(asks, ends.client_ttls[flow], ends.server_ttls[flow])
    rows["protocol"], rows["datagram"] = talk.protocol, random.integers(0, 65536, len(flow))
    return rows


def _write_sizes(
    talk: Talk, rows: Packets, asks: NDArray[np.bool_], place: Numbers, last: NDArray[np.bool_],
    random: np.random.Generator,
) -> None:  # fmt: skip
    payload = np.where(asks, random.choice(talk.request_bytes, len(rows)), random.choice(talk.answer_bytes, len(rows)))
    opening = content(talk.opening)
    first = asks & (place <= 3)
    if talk.protocol == TCP:
        if not talk.steady:
            payload[place < 3] = 0
            greets = place == 3
            payload[greets] = np.maximum(payload[greets], max(len(talk.opening), max(talk.request_bytes)))
        flags = np.where(payload > 0, ACK | PUSH, ACK)
        if not talk.steady:
            flags = np.where(place == 0, SYN, np.where(place == 1, SYN | ACK, flags))
            flags = np.where(last & (place > 3), FIN | ACK, flags)
        rows["flags"] = flags
    has_opening = (payload > 0) & (asks if talk.repeats else first)
    rows["content"] = np.where(has_opening, opening, 0)
    head = {TCP: 20, UDP: 8}.get(talk.protocol, 0)
    six = rows["destination"][:, 0] != 0
    rows["length"] = np.minimum(payload + head + np.where(six, 40, 20), 1500)


def _split(rows: Packets) -> Packets:
    """Each row as the first of three fragments, the others behind it."""
    parts = []
    for number in range(3):
        part = rows.copy()
        part["time"] += number * 12_000
        part["length"] = 1500 - (1500 - np.where(rows["destination"][:, 0] != 0, 48, 20)) % 8
        part["fragment"] = number * (1448 // 8) | (MORE_FRAGMENTS if number < 2 else 0)
        if number:
            part["source_port"], part["destination_port"], part["content"] = 0, 0, 0
        parts.append(part)
    return np.concatenate(parts)
