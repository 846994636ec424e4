"""The remembered packets of one target: in a capture what it got and sent, and anywhere samples of its normal traffic.

Samples are found in columns that lie together: a pass over whole entries costs ten times as much.
"""

import numpy as np

from rules.match import Network
from sensors.chains import Chains
from sensors.tables import ANY, FIRST_ROW, KEPT, NORMAL_HEAD, Tables, key
from sensors.within import inside

_ALL = (1 << 64) - 1
CHUNK = 1_024
"""Packets in a row that `thinned` keeps together, so that flows are still seen as such."""


class Samples:
    """Entries in any order."""

    def __init__(self, entries: ANY) -> None:
        self._entries = entries
        self._to = np.ascontiguousarray(entries["destination_low"])

    def got(self, target: Network) -> ANY:
        """What a target got."""
        _, low = key(target)
        mask = np.uint64(~((1 << target.max_prefixlen - target.prefixlen) - 1) & _ALL)
        part = self._entries[np.flatnonzero((self._to & mask) == np.uint64(low))]
        return part[inside(target, part, "destination")]


class Remembered:
    """What the tables remember: put in order again only when something has come."""

    def __init__(self) -> None:
        self._chains = Chains()
        self._histories: dict[int, tuple[tuple[int, int], Samples]] = {}

    def both(self, tables: Tables, target: Network, begin_ns: int, end_ns: int) -> tuple[ANY, ANY]:
        """What a target got in a span, both ends included, and what it sent; of very much a part, in which each entry
        stands for more."""
        return self._chains.both(tables, target, begin_ns, end_ns)[:2]

    def first(self, tables: Tables, target: Network, begin_ns: int) -> int | None:
        """The time of the oldest packet that a target got from then on."""
        return self._chains.first(tables, target, begin_ns)

    def history(self, tables: Tables, target: Network) -> ANY:
        """The samples of a target's normal traffic; not in the order of time."""
        found = [self._samples(shard).got(target) for shard in tables.holding(target)]
        return np.concatenate(found) if len(found) > 1 else found[0]

    def _samples(self, shard: Tables) -> Samples:
        kept, number = (int(shard.state[NORMAL_HEAD]), int(shard.state[KEPT])), int(shard.state[FIRST_ROW])
        if number not in self._histories or self._histories[number][0] != kept:
            self._histories[number] = kept, Samples(shard.history())
        return self._histories[number][1]


def thinned(entries: ANY, most: int) -> ANY:
    """At most so many entries (and a chunk), evenly over time, each standing for as many packets as it has to."""
    one_of = -(-len(entries) // most)
    if one_of <= 1:
        return entries
    kept = entries[np.flatnonzero(np.arange(len(entries)) // CHUNK % one_of == 0)]
    kept["weight"] *= np.uint32(one_of)
    return kept
