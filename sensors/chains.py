"""A target's remembered packets in a capture: a host's are found without a pass over all, since entries of hosts that
share a bucket are chained, newest first. And of very many packets an even part, conversations kept whole.

Each entry is chained once, when somebody first asks for a host after it came.
"""

# mypy: disable-error-code="no-untyped-def,operator"

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from sensors.compiled import inlined, kernel
from sensors.headers import HEADER, WORDS
from sensors.tables import ANY, RING_HEAD, Tables, key, masked

BUCKETS = 1 << 16
MOST = 16_384
"""Packets of a target, both ways, above which a part is enough: shares to a percent, as live."""
_UNITS, _UNIT = 8_192, 32
"""Nothing that stays together makes more of all packets than one in so many, nor needs to be smaller than so many
packets: chance moves a share by a few percent."""
_MIXER = 0x9E3779B97F4A7C15


@inlined
def _mixed(a, b):
    value = (a ^ b >> np.uint64(31)) * np.uint64(_MIXER)
    value = (value ^ value >> np.uint64(29) ^ b) * np.uint64(0xBF58476D1CE4E5B9)
    return value ^ value >> np.uint64(32)


@inlined
def _bucket(high, low):
    return np.int64(_mixed(high, low) & np.uint64(BUCKETS - 1))


@kernel
def link(ring, begin, end, heads, links):
    """Chains the entries number `begin` to `end` by destination and by source."""
    mask = len(ring) - 1
    for number in range(begin, end):
        place = number & mask
        entry = ring[place]
        to, came = _bucket(entry[3], entry[4]), _bucket(entry[1], entry[2])
        links[0, place], heads[0, to] = heads[0, to], number
        links[1, place], heads[1, came] = heads[1, came], number


@kernel
def find(ring, heads, links, side, oldest, high, low, begin_ns, end_ns, out):
    """Numbers of the entries to a host (`side` 0) or from it to another (1), newest first: how many."""
    mask, count = len(ring) - 1, 0
    number = heads[side, _bucket(high, low)]
    while number >= oldest:
        entry = ring[number & mask]
        time = np.int64(entry[0])
        if time < begin_ns:
            break
        is_to = entry[3] == high and entry[4] == low
        if time <= end_ns and (is_to if side == 0 else not is_to and entry[1] == high and entry[2] == low):
            out[count] = number
            count += 1
        number = links[side, number & mask]
    return count


@inlined
def _lies_in(entry, at, network):
    return entry[at] & network[2] == network[0] and entry[at + 1] & network[3] == network[1]


@kernel
def scan(ring, side, oldest, head, network, begin_ns, end_ns, out):
    """The same for a prefix, by a pass over all entries; what stays inside it was sent to it."""
    mask, count = len(ring) - 1, 0
    for number in range(head - 1, oldest - 1, -1):
        entry = ring[number & mask]
        time = np.int64(entry[0])
        if time < begin_ns:
            break
        is_to = _lies_in(entry, 3, network)
        if time <= end_ns and (is_to if side == 0 else not is_to and _lies_in(entry, 1, network)):
            out[count] = number
            count += 1
    return count


@inlined
def _pair(entry):
    """The same for both directions."""
    return _mixed(entry[1], entry[2]) + _mixed(entry[3], entry[4])


@inlined
def _flow(entry, pair):
    one, other = entry[5] & np.uint64(0xFFFF), entry[5] >> np.uint64(16) & np.uint64(0xFFFF)
    return _mixed(pair, one * other ^ (one + other) << np.uint64(40) ^ (entry[6] & np.uint64(0xFF)) << np.uint64(56))


@kernel
def tally(ring, numbers, counts):
    """Adds up the packets of each pair of hosts, and of each flow."""
    for number in numbers:
        entry = ring[number & (len(ring) - 1)]
        pair = _pair(entry)
        counts[0, np.int64(pair & np.uint64(BUCKETS - 1))] += 1
        counts[1, np.int64(_flow(entry, pair) & np.uint64(BUCKETS - 1))] += 1


@kernel
def sift(ring, numbers, counts, largest, one_of, first, span):
    """Keeps one in so many: whole pairs of hosts, where those are larger whole flows, where those are larger parts of a
    flow in a row, by the order in which packets came, since clocks stand still; moves them to the front: how many."""
    kept = 0
    for number in numbers:
        entry = ring[number & (len(ring) - 1)]
        lot = _pair(entry)
        if counts[0, np.int64(lot & np.uint64(BUCKETS - 1))] > largest:
            lot = _flow(entry, lot)
            count = counts[1, np.int64(lot & np.uint64(BUCKETS - 1))]
            if count > largest:
                part = np.float64(number - first) * count / largest / span
                lot = _mixed(lot, np.uint64(np.int64(part)))
        if np.int64(lot >> np.uint64(32)) % one_of == 0:
            numbers[kept] = number
            kept += 1
    return kept


@kernel
def take(ring, numbers, one_of, out):
    """Copies entries, oldest first; each stands for `one_of`."""
    last = len(numbers) - 1
    for at in range(len(numbers)):
        entry = ring[numbers[last - at] & (len(ring) - 1)]
        for word in range(entry.shape[0]):
            out[at, word] = entry[word]
        low = entry[7] & np.uint64(0xFFFFFFFF)
        out[at, 7] = entry[7] - low + min(low * np.uint64(one_of), np.uint64(0xFFFFFFFF))


class Chains:
    """Of one ring."""

    def __init__(self) -> None:
        self._heads = np.full((2, BUCKETS), -1, np.int64)
        self._links = self._numbers = np.zeros((2, 0), np.int64)
        self._counts = np.zeros((2, BUCKETS), np.int32)
        self._known = 0

    def both(self, tables: Tables, target: Network, begin_ns: int, end_ns: int) -> tuple[ANY, ANY, int]:
        """What a target got and what it sent elsewhere in a span, both ends included, oldest first; and how many
        packets each entry stands for, beside its weight."""
        found = [self._found(tables, target, side, begin_ns, end_ns) for side in (0, 1)]
        one_of = -(-sum(map(len, found)) // MOST) or 1
        if one_of > 1:
            found = self._sifted(tables.ring, found, one_of)
        got, sent = (_taken(tables.ring, numbers, one_of) for numbers in found)
        return got, sent, one_of

    def first(self, tables: Tables, target: Network, begin_ns: int) -> int | None:
        """The time of the oldest packet that a target got from then on."""
        numbers = self._found(tables, target, 0, begin_ns, (1 << 63) - 1)
        return int(tables.ring[numbers[-1] & len(tables.ring) - 1, 0]) if len(numbers) else None

    def _found(self, tables: Tables, target: Network, side: int, begin_ns: int, end_ns: int) -> NDArray[np.int64]:
        ring, head = tables.ring, int(tables.state[RING_HEAD])
        if len(self._links[0]) != len(ring):
            self._links, self._numbers = np.empty((2, len(ring)), np.int64), np.empty((2, len(ring)), np.int64)
        oldest = max(0, head - len(ring))
        numbers: NDArray[np.int64] = self._numbers[side]
        if target.prefixlen < target.max_prefixlen:
            network = np.array(masked(target), np.uint64)
            return numbers[: int(scan(ring, side, oldest, head, network, begin_ns, end_ns, numbers))]
        link(ring, max(self._known, oldest), head, self._heads, self._links)
        self._known = head
        high, low = map(np.uint64, key(target))
        count = find(ring, self._heads, self._links, side, oldest, high, low, begin_ns, end_ns, numbers)
        return numbers[: int(count)]

    def _sifted(self, ring: ANY, found: list[NDArray[np.int64]], one_of: int) -> list[NDArray[np.int64]]:
        self._counts[:] = 0
        for numbers in found:
            tally(ring, numbers, self._counts)
        ends = [int(number) for part in found if len(part) for number in (part[-1], part[0])]
        largest, first, span = max(_UNIT, sum(map(len, found)) // _UNITS), min(ends), max(ends) - min(ends) + 1
        return [numbers[: int(sift(ring, numbers, self._counts, largest, one_of, first, span))] for numbers in found]


def _taken(ring: ANY, numbers: NDArray[np.int64], one_of: int) -> ANY:
    out = np.empty((len(numbers), WORDS), np.uint64)
    take(ring, numbers, one_of, out)
    return out.view(HEADER).reshape(-1)


def warm_up(tables: Tables) -> None:
    """Compiles, or loads, all passes."""
    none, heads, links = np.zeros(0, np.int64), np.full((2, BUCKETS), -1, np.int64), np.zeros((2, 1), np.int64)
    link(tables.ring, 0, 0, heads, links)
    find(tables.ring, heads, links, 0, 0, np.uint64(0), np.uint64(0), 0, 0, none)
    scan(tables.ring, 0, 0, 0, np.zeros(4, np.uint64), 0, 0, none)
    counts = np.zeros((2, BUCKETS), np.int32)
    tally(tables.ring, none, counts)
    sift(tables.ring, none, counts, 1, 1, 0, 1)
    take(tables.ring, none, 1, np.zeros((0, WORDS), np.uint64))
