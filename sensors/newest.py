"""A target's newest remembered packets, found in the ring by compiled passes: live, nobody waits for copies of all of
it. And a few of all that came since the last look.

Each pass for a target goes backwards from the newest entry, and ends at the span's beginning or when it has enough.
"""

# mypy: disable-error-code="no-untyped-def,operator"

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from sensors.compiled import inlined, kernel
from sensors.headers import COLUMNS, HEADER, WORDS
from sensors.tables import ANY, RING_HEAD, UNSIGNED, Tables, in_order, masked

EVERY_KIND = (1 << COLUMNS) - 1


@inlined
def _lies_in(entry, network):
    return entry[3] & network[2] == network[0] and entry[4] & network[3] == network[1]


@inlined
def _reported(entry, others):
    found = False
    for number in range(len(others)):
        found |= _lies_in(entry, others[number])
    return found


@kernel
def collect(ring, head, begin_ns, end_ns, target, others, kinds, every, out):
    """Copies the newest entries to `target`, of these kinds (a bit for each) and to none of `others`, to the end of
    `out`: where they begin there. `every`: only each so many-th entry of the ring is looked at."""
    room, size = len(out), len(ring)
    for number in range(head - 1, max(head - size, 0) - 1, -every):
        entry = ring[number & (size - 1)]
        time = np.int64(entry[0])
        if room == 0 or time < begin_ns:
            break
        kind = np.int64(entry[6] >> np.uint64(40)) & 63
        if time <= end_ns and kinds >> kind & 1 and _lies_in(entry, target) and not _reported(entry, others):
            room -= 1
            for word in range(entry.shape[0]):
                out[room, word] = entry[word]
    return room


@kernel
def tally(ring, head, begin_ns, end_ns, target, counts):
    """Adds the weights of the entries to `target` by kind: the time of the oldest, 0 where there is none."""
    size, oldest = len(ring), np.int64(0)
    for number in range(head - 1, max(head - size, 0) - 1, -1):
        entry = ring[number & (size - 1)]
        time = np.int64(entry[0])
        if time < begin_ns:
            break
        if time <= end_ns and _lies_in(entry, target):
            oldest = time
            counts[np.int64(entry[6] >> np.uint64(40)) & 63] += np.int64(entry[7] & np.uint64(0xFFFFFFFF))
    return oldest


@kernel
def spread(ring, begin, step, out):
    """Copies every so many-th entry from number `begin` on to `out`."""
    for number in range(len(out)):
        entry = ring[begin + number * step & (len(ring) - 1)]
        for word in range(entry.shape[0]):
            out[number, word] = entry[word]


class Fresh:
    """Chooses evenly among the entries that came since it last did, of one ring."""

    def __init__(self, most: int) -> None:
        """At most so many at a time."""
        self._out = np.empty((most, WORDS), np.uint64)
        self._head, self._turn = 0, 0

    def take(self, tables: Tables) -> UNSIGNED:
        """Words of `headers.HEADER`, oldest first; what comes with the next call replaces them."""
        head, size = int(tables.state[RING_HEAD]), len(tables.ring)
        begin = max(self._head, head - size)
        self._head = head
        step = -(-(head - begin) // len(self._out)) or 1
        # Not always the first of so many: what comes at regular distances would be all or nothing.
        self._turn = (self._turn * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        first = begin + (self._turn >> 8) % step
        out = self._out[: max(0, -(-(head - first) // step))]
        spread(tables.ring, first, step, out)
        return out


def newest(
    tables: Tables,
    target: Network,
    begin_ns: int,
    end_ns: int,
    most: int,
    *,
    kinds: int = EVERY_KIND,
    beside: Iterable[Network] = (),
    every: int = 1,
) -> ANY:
    """At most so many of the newest entries of a span, both ends included, oldest first, as `headers.HEADER`. `kinds`:
    only those, a bit for each; `beside`: not those to these networks; `every`: of all that is remembered, only each so
    many-th is looked at."""
    others = np.array([*map(masked, beside)], np.uint64).reshape(-1, 4)
    parts = []
    for shard in tables.holding(target):
        out = np.empty((min(most, len(shard.ring)), WORDS), np.uint64)
        head = int(shard.state[RING_HEAD])
        begin = collect(shard.ring, head, begin_ns, end_ns, _as_array(target), others, kinds, every, out)
        parts.append(out[begin:].view(HEADER).reshape(-1))
    return in_order(parts)[-most:] if len(parts) > 1 else parts[0]


def rates_of(tables: Tables, target: Network, begin_ns: int, end_ns: int) -> tuple[NDArray[np.int64], int]:
    """Packets of each kind in a span, and when the first of them came, 0 without one."""
    counts = np.zeros(64, np.int64)
    firsts = [
        int(tally(shard.ring, int(shard.state[RING_HEAD]), begin_ns, end_ns, _as_array(target), counts))
        for shard in tables.holding(target)
    ]
    return counts[:COLUMNS], min((first for first in firsts if first), default=0)


def _as_array(network: Network) -> UNSIGNED:
    return np.array(masked(network), np.uint64)


def warm_up(tables: Tables) -> None:
    """Compiles, or loads, all passes."""
    target, others = np.zeros(4, np.uint64), np.zeros((0, 4), np.uint64)
    collect(tables.ring, 0, 0, 0, target, others, 0, 1, np.empty((1, WORDS), np.uint64))
    tally(tables.ring, 0, 0, 0, target, np.zeros(64, np.int64))
    spread(tables.ring, 0, 1, np.empty((0, WORDS), np.uint64))
