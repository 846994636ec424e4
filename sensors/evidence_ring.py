"""The bytes of recent packets, kept in memory for evidence: written by the capture thread, read by another.

Bounded by what it was given. When packets come faster than the ring could hold for `cover_seconds`, only some of them
are kept, chosen by chance, and each tells of how many it is one. Only packets to or from protected addresses are kept.
The writer never waits: a reader looks afterwards whether what it read was overwritten meanwhile.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

import numpy as np

from rules.match import Network
from sensors.evidence_kernel import (
    KEPT,
    OFFERED,
    SEGMENT,
    SEGMENT_WORDS,
    STATE_WORDS,
    STRIDE,
    WITHIN,
    keep_batch,
    keep_block,
    select,
)
from sensors.framing import ETHERNET
from sensors.tables import ANY, key

_SPARE_SEGMENTS = 2
"""The oldest ones are not read: the writer is about to come by."""
_MOST_WITHIN = 4
"""When fewer than one of so many is kept, whole blocks are passed over: to walk through a flood costs, too."""
_NOBODY = IPv4Network("0.0.0.0/32")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a look into the ring gave."""

    content: bytes
    """Records of a capture file."""
    matching: int
    """Records that matched, written or not."""
    packets: int
    first_ns: int
    last_ns: int
    one_of: int
    """Of how many packets the rarest one stands, where packets came too fast to keep all."""


class RecentBytes:
    """The ring."""

    def __init__(self, megabytes: int, cover_seconds: float) -> None:
        count = max(8, (megabytes << 20) // (SEGMENT_WORDS * 8))
        # Written to at once: its first flood would otherwise wait for memory, 8 ms for each 2 MB of a virtual machine.
        self._words = np.full(count * SEGMENT_WORDS, 0, np.int64)
        self._data = self._words.view(np.uint8)
        self._segments = np.zeros((count, 2), np.int64)
        self._segments[:, 0] = -1
        self._segments[0, 0] = 0
        self._state = np.zeros(STATE_WORDS, np.int64)
        self._state[STRIDE] = self._state[WITHIN] = 1
        self._chance = random.Random()
        self._bytes_per_second = count * SEGMENT_WORDS * 8 / cover_seconds
        self._paced = (0.0, 0)

    @property
    def arrays(self) -> tuple[ANY, ...]:
        """What the kernels take first."""
        return self._data, self._words, self._segments, self._state

    @property
    def kept(self) -> int:
        """Packets kept so far."""
        return int(self._state[KEPT])

    @property
    def one_of(self) -> int:
        """Of how many packets one is kept now."""
        return int(self._state[STRIDE])

    @property
    def used_bytes(self) -> int:
        """Filled so far; never more than the ring has."""
        return min(int(self._state[SEGMENT]) + 1, len(self._segments)) * SEGMENT_WORDS * 8

    def pace(self, now: float) -> None:
        """Chooses how many packets to keep, by how many came since the last call; `now` in seconds."""
        before, offered_before = self._paced
        offered = int(self._state[OFFERED])
        # Half a second evens out the clumps in which packets are handed over; a flood doesn't get that long.
        if now - before < 0.5 and offered - offered_before < self._words.nbytes / 16:
            return
        excess = (offered - offered_before) / max(now - before, 1e-3) / self._bytes_per_second
        stride = 1
        while stride < excess and stride < 1 << 15:
            stride *= 2
        self._state[STRIDE], self._state[WITHIN] = stride, min(stride, _MOST_WITHIN)
        self._paced = (now, offered)

    def wants_block(self) -> bool:
        """Whether anything of the next block or batch of packets is kept; to be asked before each."""
        every = int(self._state[STRIDE]) // int(self._state[WITHIN])
        return every <= 1 or self._chance.randrange(every) == 0

    @property
    def position(self) -> tuple[int, int]:
        """Where the writer is: segment and word; reading may go on from here later."""
        number = int(self._state[SEGMENT])
        return number, int(self._segments[number % len(self._segments), 1])

    @property
    def oldest(self) -> tuple[int, int]:
        """The first place that can be read."""
        return max(0, int(self._state[SEGMENT]) - len(self._segments) + 1 + _SPARE_SEGMENTS), 0

    def count(self, target: Network, span: tuple[tuple[int, int], tuple[int, int]], since_ns: int = 0) -> int:
        """How many records of a target lie between two positions."""
        return sum(one.matching for one in self._looks(target, span, since_ns, 0, False))

    def read(
        self, target: Network, span: tuple[tuple[int, int], tuple[int, int]], since_ns: int, every: int, bare: bool
    ) -> Iterator[Selection]:
        """The records of a target between two positions, a segment at a time; of those, every `every`-th."""
        return self._looks(target, span, since_ns, every, bare)

    def _looks(
        self, target: Network, span: tuple[tuple[int, int], tuple[int, int]], since_ns: int, every: int, bare: bool
    ) -> Iterator[Selection]:
        (number, word), (last, last_word) = max(span[0], self.oldest), span[1]
        low, top = key(_host(target, 0)), key(_host(target, -1))
        bounds = tuple(np.uint64(half) for half in (*low, *top))
        out = np.empty(SEGMENT_WORDS * 8 if every else 0, np.uint8)
        phase = 0
        while number <= last:
            slot = number % len(self._segments)
            base = slot * SEGMENT_WORDS
            used = last_word if number == last else int(self._segments[slot, 1])
            found = np.zeros(5, np.int64)
            wrote = select(
                self._data, self._words, base + word, base + used, *bounds, since_ns, every, phase, bare, out, found
            )  # fmt: skip
            matching, packets, first, latest, one_of = found.tolist()
            # Whoever wrote here meanwhile has changed the segment's number before anything else.
            if int(self._segments[slot, 0]) == number and matching:
                yield Selection(out[:wrote].tobytes(), matching, packets, first, latest, one_of)
                phase += matching
            number, word = number + 1, 0


def _host(network_: Network, which: int) -> Network:
    return type(network_)((network_[which], network_.max_prefixlen))


def warm_up() -> None:
    """Compiles, or loads, the kernels, so that the first packet waits for nothing."""
    ring, prefixes = RecentBytes(1, 1.0), np.zeros((0, 5), np.uint64)
    empty = np.zeros(64, np.uint8)
    keep_block(*ring.arrays, prefixes, empty, 0, 64, ETHERNET, False)
    keep_batch(*ring.arrays, prefixes, empty, np.zeros((0, 4), np.uint32), ETHERNET)
    list(ring.read(_NOBODY, ((0, 0), (0, 0)), 0, 1, False))
