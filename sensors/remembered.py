"""The remembered packets as they stand at one moment, put in order once and found by target.

The ring is copied once for all targets that are described in a tick, and their packets are found in columns that lie
together: a pass over whole entries costs ten times as much.
"""

from bisect import bisect_left, bisect_right
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from sensors.judge import inside
from sensors.tables import ANY, FIRST_ROW, KEPT, NORMAL_HEAD, RING_HEAD, Tables, key

_ALL = (1 << 64) - 1
CHUNK = 1_024
"""Packets in a row that `thinned` keeps together, so that flows are still seen as such."""


class Moment:
    """Entries in the order of time."""

    def __init__(self, entries: ANY) -> None:
        self._entries = entries

    @cached_property
    def _times(self) -> NDArray[np.int64]:
        return np.ascontiguousarray(self._entries["time"])

    @cached_property
    def _to(self) -> NDArray[np.uint64]:
        return np.ascontiguousarray(self._entries["destination_low"])

    @cached_property
    def _from(self) -> NDArray[np.uint64]:
        return np.ascontiguousarray(self._entries["source_low"])

    def between(self, begin_ns: int, end_ns: int) -> slice:
        """The entries of a span, both ends included."""
        return slice(bisect_left(self._times, begin_ns), bisect_right(self._times, end_ns))

    def got(self, target: Network, span: slice) -> ANY:
        """What a target got."""
        return self._found(target, span, "destination", self._to)

    def sent(self, target: Network, span: slice) -> ANY:
        """What a target sent elsewhere."""
        found = self._found(target, span, "source", self._from)
        return found[~inside(target, found, "destination")]

    def _found(self, target: Network, span: slice, side: str, lows: NDArray[np.uint64]) -> ANY:
        _, low = key(target)
        mask = np.uint64(~((1 << target.max_prefixlen - target.prefixlen) - 1) & _ALL)
        part = self._entries[span][np.flatnonzero((lows[span] & mask) == np.uint64(low))]
        return part[inside(target, part, side)]


class Remembered:
    """What the tables remember: looked through again only when something has come."""

    def __init__(self) -> None:
        self._head, self._begin = -1, 0
        self._recent = Moment(np.zeros(0))
        self._histories: dict[int, tuple[tuple[int, int], Moment]] = {}

    def recent(self, tables: Tables, begin_ns: int) -> Moment:
        """The packets of the ring, at least those from then on."""
        head = int(tables.state[RING_HEAD])
        if head != self._head or begin_ns < self._begin:
            self._head, self._begin = head, begin_ns
            self._recent = Moment(tables.since(begin_ns))
        return self._recent

    def history(self, tables: Tables, target: Network) -> ANY:
        """The samples of a target's normal traffic; not in the order of time."""
        found = [self._samples(shard).got(target, slice(None)) for shard in tables.holding(target)]
        return np.concatenate(found) if len(found) > 1 else found[0]

    def _samples(self, shard: Tables) -> Moment:
        kept, number = (int(shard.state[NORMAL_HEAD]), int(shard.state[KEPT])), int(shard.state[FIRST_ROW])
        known, samples = self._histories.get(number, ((-1, -1), self._recent))
        if kept != known:
            samples = Moment(shard.history())
            self._histories[number] = kept, samples
        return samples


def thinned(entries: ANY, most: int) -> ANY:
    """At most so many entries (and a chunk), evenly over time, each standing for as many packets as it has to."""
    one_of = -(-len(entries) // most)
    if one_of <= 1:
        return entries
    kept = entries[np.flatnonzero(np.arange(len(entries)) // CHUNK % one_of == 0)]
    kept["weight"] *= np.uint32(one_of)
    return kept
