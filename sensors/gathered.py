"""The remembered packets that may belong to a slow attack, gathered at each tick for who follows connections.

TCP to a web port, and of that all packets of some connections only when there are too many: which ones a keyed hash of
addresses and ports says, so that a flood costs no more than a busy hour and nobody can choose to be left out. Each
connection that is kept then stands for `one_of`. Where a capture shows what servers send, a little of that is kept
beside: whether they acknowledge, answer and end.
"""

# mypy: disable-error-code="no-untyped-def,operator"

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensors.compiled import inlined, kernel
from sensors.headers import HAS_PAYLOAD, HAS_PORTS, HEADER, WORDS, Kind
from sensors.tables import ANY, RING_HEAD, SEED, Tables

MOST = 8_192
"""Packets between two looks; more, and fewer connections are followed. Live half as many, for half the time."""
_RARELY = 1 << 20
_TOLD = 1 << 16
"""Of so many things that servers sent it is known that they were kept already; a power of two."""
FIN, RST = int(Kind.FIN), int(Kind.RST)


@dataclass(frozen=True, slots=True)
class Handed:
    """What came between two looks."""

    entries: ANY
    """As `headers.HEADER`, in the order in which they came."""
    lots: NDArray[np.uint32]
    """Of each packet's connection: kept are those whose lot is a multiple of `one_of`."""
    one_of: int = 1
    """A power of two: of so many connections one is here, with all of its packets."""

    @classmethod
    def all(cls, entries: ANY) -> "Handed":
        """Every connection."""
        return cls(entries, np.zeros(len(entries), np.uint32))


@inlined
def _lot(entry, seed, is_answer):
    """The same for both directions of a connection."""
    client, high, ports = entry[2], entry[1], entry[5] & np.uint64(0xFFFFFFFF)
    server = entry[4]
    if is_answer:
        client, high, server = entry[4], entry[3], entry[2]
        ports = ports >> np.uint64(16) | (ports & np.uint64(0xFFFF)) << np.uint64(16)
    mixed = (client ^ np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15) ^ server ^ high << np.uint64(1)
    mixed = (mixed ^ mixed >> np.uint64(29) ^ ports) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed ^ mixed >> np.uint64(31)) & np.uint64(0xFFFFFFFF)


@inlined
def _is_news(told, entry, lot):
    """Whether a server's packet says what none has said since the last look: that it hears, answers or ends."""
    kind = np.int64(entry[6] >> np.uint64(40)) & 0xFF
    what = np.uint64(1)
    if kind in (FIN, RST):
        what = np.uint64(3)
    elif entry[6] >> np.uint64(48) & np.uint64(HAS_PAYLOAD) != 0:
        what = np.uint64(2)
    word = lot << np.uint64(2) | what
    place = np.int64((lot ^ what << np.uint64(13)) & np.uint64(_TOLD - 1))
    if told[place] == word:
        return False
    told[place] = word
    return True


@kernel
def gather(ring, begin, end, ports, seed, one_of, told, out, lots, at):
    """Copies what matters of the ring's entries `begin` to `end`, as long as there is room behind `at`: where to go on
    in the ring, and in `out`. `told`: what servers sent since the last look; empty where that isn't wanted."""
    size = len(ring) - 1
    for number in range(begin, end):
        entry = ring[number & size]
        fields = entry[6]
        is_tcp, is_later = fields & np.uint64(0xFF) == 6, fields >> np.uint64(32) & np.uint64(2) != 0
        has_ports = fields >> np.uint64(48) & np.uint64(HAS_PORTS) != 0
        if not is_tcp or is_later or not has_ports:
            continue
        is_answer = ports[np.int64(entry[5] >> np.uint64(16)) & 0xFFFF] == 0
        if is_answer and (len(told) == 0 or ports[np.int64(entry[5]) & 0xFFFF] == 0):
            continue
        lot = _lot(entry, seed, is_answer)
        if np.int64(lot) & (one_of - 1):
            continue
        if at >= len(out):
            return number, at
        if is_answer and not _is_news(told, entry, lot):
            continue
        for word in range(entry.shape[0]):
            out[at, word] = entry[word]
        lots[at] = lot
        at += 1
    return end, at


class Gathering:
    """What came since somebody last took it."""

    def __init__(self, tables: Tables, ports: Iterable[int], answers: bool = False) -> None:
        """`answers`: a little of what servers send, too."""
        self._told = np.zeros(_TOLD if answers else 0, np.uint64)
        self._ports = np.zeros(65_536, np.uint8)
        self._ports[list(ports)] = 1
        self._most = MOST if answers else MOST // 2
        self._out, self._lots = np.zeros((self._most, WORDS), np.uint64), np.zeros(self._most, np.uint32)
        self._read, self._count, self.one_of = [int(shard.state[RING_HEAD]) for shard in tables.shards], 0, 1

    def feed(self, tables: Tables) -> None:
        """Takes what was remembered since the last time, in some 3 ns for each packet."""
        for number, shard in enumerate(tables.shards):
            end = int(shard.state[RING_HEAD])
            begin, self._read[number] = max(self._read[number], end - len(shard.ring)), end
            self._feed(shard, begin, end)

    def _feed(self, tables: Tables, begin: int, end: int) -> None:
        while True:
            begin, self._count = gather(
                tables.ring, begin, end, self._ports, int(tables.state[SEED]), self.one_of, self._told, self._out,
                self._lots, self._count,
            )  # fmt: skip
            if begin >= end or self.one_of >= _RARELY:
                return
            self.one_of *= 2
            self._thin()

    def _thin(self) -> None:
        kept = np.flatnonzero(self._lots[: self._count] & np.uint32(self.one_of - 1) == 0)
        self._count = len(kept)
        self._out[: len(kept)], self._lots[: len(kept)] = self._out[kept], self._lots[kept]

    def __len__(self) -> int:
        return self._count

    def take(self) -> Handed:
        """All of it, as copies; the next ones follow more connections where there is room for them."""
        count, one_of = self._count, self.one_of
        self._count = 0
        self._told[:] = 0
        if count < self._most // 4:
            self.one_of = max(1, one_of // 2)
        entries, lots = self._out[:count].copy().view(HEADER).reshape(-1), self._lots[:count].copy()
        if len(self._read) > 1:
            order = np.argsort(entries["time"], kind="stable")
            entries, lots = entries[order], lots[order]
        return Handed(entries, lots, one_of)


def warm_up(tables: Tables) -> None:
    """Compiles, or loads, what gathering needs."""
    ports, told = np.zeros(65_536, np.uint8), np.zeros(0, np.uint64)
    out, lots = np.zeros((1, WORDS), np.uint64), np.zeros(1, np.uint32)
    gather(tables.ring, 0, 0, ports, 0, 1, told, out, lots, 0)
