"""How many distinct sources an attack has had since it began: a HyperLogLog for each target under attack.

Fed from the ring of remembered headers at each tick, off the path of a packet, and only while there are attacks. 4,096
registers give a standard error of 1.6 %. The estimator is Ertl's (arXiv:1702.01284, algorithm 6), which has no bias at
any size and needs no tables.
"""

# mypy: disable-error-code="no-untyped-def"

import math

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from sensors.compiled import inlined, kernel
from sensors.tables import RING_HEAD, SEED, Tables, masked

PRECISION = 12
REGISTERS = 1 << PRECISION
_VALUES = 64 - PRECISION
MOST = 512
"""Attacks that are counted at a time, 4 KB each; others have to do with what is remembered."""


@inlined
def _note(registers, slot, place, rest):
    """Most sources say nothing new: there is a one among as many first bits as the register knows to be zero."""
    known = np.uint64(registers[slot, place])
    if known > np.uint64(0) and rest >> (np.uint64(64) - known) != np.uint64(0):
        return
    rank = 1
    while rank <= 52 and rest >> np.uint64(63) == 0:
        rest <<= np.uint64(1)
        rank += 1
    registers[slot, place] = max(registers[slot, place], np.uint8(rank))


@kernel
def feed(ring, begin, end, seed, slots, wide, wide_slots, kinds, registers):
    """Takes the ring's entries number `begin` to `end`. `slots`: row -> slot plus one; `wide`: prefixes as high, low
    and their masks, whose slots are `wide_slots`; `kinds`: by slot, a bit for each kind of packet that counts."""
    for number in range(begin, end):
        entry = ring[number & (len(ring) - 1)]
        row = np.int64(entry[7] >> np.uint64(32))
        if row >= len(slots):
            continue
        slot = np.int64(slots[row]) - 1
        if slot < 0 and len(wide) == 0:
            continue
        kind = np.int64(entry[6] >> np.uint64(40)) & 63
        mixed = (entry[2] ^ np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ mixed >> np.uint64(31) ^ entry[1]) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        place, rest = np.int64(mixed >> np.uint64(64 - 12)), mixed << np.uint64(12)
        if slot >= 0 and kinds[slot] >> kind & 1:
            _note(registers, slot, place, rest)
        for at in range(len(wide)):
            slot = wide_slots[at]
            if (entry[3] & wide[at, 2] == wide[at, 0] and entry[4] & wide[at, 3] == wide[at, 1]
                    and kinds[slot] >> kind & 1):  # fmt: skip
                _note(registers, slot, place, rest)


def estimate(registers: NDArray[np.uint8]) -> float:
    """How many distinct values filled the registers."""
    counts = np.bincount(registers, minlength=_VALUES + 2)
    total = float(len(registers))
    z = total * _tau(1 - counts[_VALUES + 1] / total)
    for value in range(_VALUES, 0, -1):
        z = 0.5 * (z + counts[value])
    z += total * _sigma(counts[0] / total)
    return 0.0 if math.isinf(z) else total * total / (2 * math.log(2) * z)


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    power, total, before = 1.0, x, -1.0
    while total != before:
        before, x = total, x * x
        total, power = total + x * power, power * 2
    return total


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    power, total, before = 1.0, 1 - x, -1.0
    while total != before:
        before, x, power = total, math.sqrt(x), power / 2
        total -= (1 - x) ** 2 * power
    return total / 3


class Sources:
    """The registers of every attack. `repeatable`: the same packets give the same estimate, of a capture that is read
    again; live, a seed that nobody knows keeps forged sources from being chosen so that they count as few."""

    def __init__(self, tables: Tables, repeatable: bool = False) -> None:
        self._seed = 0 if repeatable else int(tables.state[SEED])
        self._slots = np.zeros(len(tables.rows), np.int16)
        self._wide: dict[int, tuple[int, int, int, int]] = {}
        self._rows: dict[int, int] = {}
        self._free = list(range(MOST - 1, -1, -1))
        self._kinds = np.zeros(MOST, np.int64)
        self._registers = np.zeros((MOST, REGISTERS), np.uint8)
        self._read = [0] * len(tables.shards)

    def open(self, tables: Tables, row: int, target: Network, kinds: int, first_ns: int) -> None:
        """Counts a target's sources among packets of these kinds (a bit for each), from that analysis time on."""
        if row in self._rows:
            self._kinds[self._rows[row]] |= kinds
            return
        if not self._free:
            return
        self.feed(tables)
        slot = self._rows[row] = self._free.pop()
        self._kinds[slot], self._registers[slot] = kinds, 0
        mine = np.zeros(len(self._slots), np.int16)
        wide: dict[int, tuple[int, int, int, int]] = {}
        if target.prefixlen == target.max_prefixlen:
            self._slots[row] = mine[row] = slot + 1
        else:
            wide = {slot: masked(target)}
            self._wide |= wide
        begin = [read - shard.count_since(first_ns) for read, shard in zip(self._read, tables.shards, strict=True)]
        self._feed(tables, begin, mine, wide)

    def close(self, row: int) -> None:
        """The attack is over."""
        slot = self._rows.pop(row, None)
        if slot is not None:
            self._slots[row] = 0
            self._wide.pop(slot, None)
            self._free.append(slot)

    def feed(self, tables: Tables) -> None:
        """Takes what came since the last time."""
        begin, self._read = self._read, [int(shard.state[RING_HEAD]) for shard in tables.shards]
        if self._rows:
            self._feed(tables, begin, self._slots, self._wide)

    def _feed(
        self, tables: Tables, begin: list[int], slots: NDArray[np.int16], wide: dict[int, tuple[int, int, int, int]]
    ) -> None:
        prefixes = np.array(list(wide.values()), np.uint64).reshape(-1, 4)
        where = np.array(list(wide), np.int64)
        for shard, first, end in zip(tables.shards, begin, self._read, strict=True):
            first = max(first, end - len(shard.ring), 0)
            feed(shard.ring, first, end, self._seed, slots, prefixes, where, self._kinds, self._registers)

    def count(self, row: int) -> int:
        """So many so far; 0 for a target that isn't counted."""
        slot = self._rows.get(row)
        return 0 if slot is None else round(estimate(self._registers[slot]))


def warm_up(tables: Tables) -> None:
    """Compiles, or loads, what feeds the registers."""
    none = np.zeros((0, 4), np.uint64)
    registers = np.zeros((1, REGISTERS), np.uint8)
    kinds, slots = np.zeros(1, np.int64), np.zeros(1, np.int16)
    feed(tables.ring, 0, 0, 0, slots, none, np.zeros(0, np.int64), kinds, registers)
