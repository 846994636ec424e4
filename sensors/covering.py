"""Prefixes that cover hosts: divided where something is going on, freed of what is reported inside them, and the
narrowest one found that explains an attack.

The kernel counts every /24 and /48, and a zone as a whole. The lengths between are counted only below those whose total
comes near the least limit that a part could have: no part can be above its limit while the whole is below it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rules.zone import Zone
from sensors import covering_kernel as kernel
from sensors.limits import FLOATS
from sensors.readings import SHORT, Readings
from sensors.tables import (
    BLOCK,
    BLOCK_ROWS,
    BLOCKS,
    DIVIDED,
    HOSTS,
    KEY_HIGH,
    KEY_LOW,
    LENGTHS,
    LINE,
    LINES,
    MOST_ZONES,
    PARENT,
    PINNED,
    REBORN,
    SHIFT,
    WHOLE_24,
    WHOLE_48,
    WHOLE_ZONE,
    ZONE,
    ZONES_AT,
    Tables,
)
from sensors.watch import NOBODY, ROWS
from sensors.yardstick import DIVIDED_AT

DIVIDED_NS = 10_000_000_000
"""How long a prefix stays divided after it was last that busy."""
EXPLAINS = 0.95
"""The share of an attack that a part must hold to be called its target."""
_FINEST_24, _FINEST_48 = 1, 7
"""The lines of /29 and /64."""


@dataclass(slots=True)
class Block:
    """The rows of one divided prefix."""

    first: int
    owner: int
    last_busy: int = 0


class Covering:
    """Which prefixes are divided, and how targets lie in each other."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        first = int(tables.state[HOSTS])
        self._free = [first + number * BLOCK_ROWS for number in range(BLOCKS)]
        self._blocks: dict[int, Block] = {}
        self.watched: ROWS = NOBODY
        """Every part there is."""
        self._firsts: ROWS = NOBODY

    def reset(self) -> None:
        """Other zones: nothing is divided any more."""
        for owner in tuple(self._blocks):
            if owner in self._blocks:
                self._undivide(owner)
        zones = self.first_zone
        self._tables.rows[zones:] = 0
        self._tables.rows[zones:, LINE] = WHOLE_ZONE
        # Behind them each shard has its own.
        self._tables.rows[zones:, ZONE] = np.arange(len(self._tables.rows) - zones) % MOST_ZONES
        # Who counts what came since the last look must not take the new beginning for traffic.
        self._tables.rows[zones:, REBORN] = 1

    @property
    def first_zone(self) -> int:
        """The row of the first zone; those from here on are zones."""
        return int(self._tables.state[ZONES_AT])

    def zone_rows(self, zones: int) -> range:
        """The rows of so many zones."""
        return range(self.first_zone, self.first_zone + min(zones, MOST_ZONES))

    def parts(self, owner: int) -> range:
        """The rows of a divided prefix's parts; none where it isn't divided."""
        block = int(self._tables.rows[owner, BLOCK])
        if not block:
            return range(0)
        return range(block + 2, block + 64) if self._tables.rows[owner, LINE] == WHOLE_24 else range(block, block + 16)

    def _list(self) -> None:
        """What each tick needs of what is divided."""
        rows, blocks = self._tables.rows, self._blocks.values()
        self.watched = np.array([part for owner in self._blocks for part in self.parts(owner)], np.int64)
        self._firsts = np.array([one.first for one in blocks if rows[one.owner, LINE] == WHOLE_24], np.int64)

    def add_up(self) -> None:
        """Sums what the kernel counted for each /29 into the wider parts."""
        if len(self._firsts):
            kernel.add_up(self._tables.rows, self._firsts)

    def warm_up(self) -> None:
        """Compiles, or loads, what adding up needs."""
        kernel.add_up(self._tables.rows, np.zeros(0, np.int64))

    def divide(self, readings: Readings, lines: FLOATS, sums: FLOATS, now: int) -> None:
        """Divides the busy prefixes among those read, and undivides those that are no more."""
        there = np.bincount(readings.lines, minlength=LINES)
        for line in (WHOLE_24, *range(_FINEST_48 + 1, WHOLE_48 + 1)):
            if not there[line]:
                continue
            at = np.flatnonzero(readings.lines == line)
            finest = lines[readings.zones[at], _FINEST_24 if line == WHOLE_24 else _FINEST_48]
            busy = (readings.rates[SHORT][at] @ sums >= DIVIDED_AT * finest).any(axis=1)
            for row in readings.rows[at[busy]].tolist():
                if block := self._blocks.get(row) or self._divided(row):
                    block.last_busy = now
        for owner, block in tuple(self._blocks.items()):
            if now - block.last_busy > DIVIDED_NS and not self._holds_attack(owner):
                self._undivide(owner)

    def _holds_attack(self, owner: int) -> bool:
        parts = self.parts(owner)
        return bool(
            self._tables.rows[parts.start : parts.stop, PINNED].any()
            or self._tables.rows[parts.start : parts.stop, BLOCK].any()
        )

    def _divided(self, owner: int) -> Block | None:
        rows = self._tables.rows
        if not self._free:
            return None
        first = self._free.pop()
        line, high, low = (int(rows[owner, column]) for column in (LINE, KEY_HIGH, KEY_LOW))
        block = self._blocks[owner] = Block(first, owner)
        rows[first : first + BLOCK_ROWS] = 0
        for row in _part_rows(first, line):
            part_line, number = _place(row - first, line)
            rows[row, LINE], rows[row, ZONE], rows[row, PARENT] = part_line, rows[owner, ZONE], owner
            rows[row, KEY_HIGH], rows[row, KEY_LOW] = high, low
            if line == WHOLE_24:
                rows[row, KEY_LOW] = low | number << (32 - LENGTHS[part_line])
            else:
                bits = high | number << (64 - LENGTHS[part_line])
                rows[row, KEY_HIGH] = bits - (1 << 64) if bits >= 1 << 63 else bits
        rows[owner, SHIFT] = 0 if line == WHOLE_24 else 64 - LENGTHS[line - 1]
        rows[owner, BLOCK] = first
        # Never reclaimed: its parts hang on it.
        rows[owner, PINNED] |= DIVIDED
        self._list()
        return block

    def _undivide(self, owner: int) -> None:
        for part in self.parts(owner):
            if part in self._blocks:
                self._undivide(part)
        block = self._blocks.pop(owner)
        rows = self._tables.rows
        rows[owner, BLOCK] = 0
        rows[owner, PINNED] &= ~DIVIDED
        rows[block.first : block.first + BLOCK_ROWS] = 0
        self._free.append(block.first)
        self._list()

    def above(self, row: int) -> Iterator[int]:
        """What a row lies in, narrowest first, its zone last."""
        rows = self._tables.rows
        line, zone = int(rows[row, LINE]), int(rows[row, ZONE])
        if line == WHOLE_ZONE:
            return
        yield from reversed([*self._inside(row, line)])
        if zone < MOST_ZONES:
            yield self.first_zone + zone

    def _inside(self, row: int, line: int) -> Iterator[int]:
        """Widest first."""
        rows = self._tables.rows
        if line in (WHOLE_24, WHOLE_48):
            return
        at = int(rows[row, PARENT])
        if line and (block := int(rows[at, BLOCK])) and rows[at, LINE] == WHOLE_24:
            number = row - block
            yield at
            yield from (block + (number >> up) for up in range(number.bit_length() - 2, 0, -1))
            return
        if line:
            yield from self._inside(at, int(rows[at, LINE]))
            yield at
            return
        while at >= 0:
            yield at
            block = int(rows[at, BLOCK])
            if not block:
                return
            if rows[at, LINE] == WHOLE_24:
                leaf = 32 + (int(rows[row, KEY_LOW]) >> 3 & 31)
                yield from (block + (leaf >> up) for up in (4, 3, 2, 1, 0))
                return
            at = block + (int(rows[row, KEY_HIGH]) >> int(rows[at, SHIFT]) & 15)

    def around(self, rows: list[int]) -> Iterator[int]:
        """What all of these lie in or are, narrowest first, without zones."""
        first, *others = (dict.fromkeys((one, *self.above(one))) for one in rows)
        for row in first:
            if row < self.first_zone and all(row in other for other in others):
                yield row

    def narrowest(self, row: int, rates: dict[int, float], zone: Zone) -> tuple[int | None, bool]:
        """The narrowest part that explains what the prefix gets, of those that the zone holds, None where it holds
        none; and whether its own parts are known, so that it is the narrowest indeed. `rates`: of each part, in what
        was crossed."""
        at = row
        while True:
            parts = self._halves(at)
            heaviest = max(parts, key=lambda part: rates.get(part, 0.0), default=None)
            whole = sum(rates.get(part, 0.0) for part in parts)
            held = zone.holds(self._tables.host(at))
            known = whole > 0 or int(self._tables.rows[at, LINE]) in (_FINEST_24, _FINEST_48)
            if heaviest is None or (held and (not known or rates.get(heaviest, 0.0) < EXPLAINS * whole)):
                return (at if held else None), known
            at = heaviest

    def begin_parts(self, row: int, now: int) -> bool:
        """Divides a prefix at once, so that its parts will be known; whether there is room."""
        owner = row
        if 0 < int(self._tables.rows[row, LINE]) < WHOLE_24:
            owner = int(self._tables.rows[row, PARENT])
        block = self._blocks.get(owner) or self._divided(owner)
        if block:
            block.last_busy = now
        return block is not None

    def _halves(self, row: int) -> range:
        """The parts of a prefix one step narrower."""
        rows = self._tables.rows
        line = int(rows[row, LINE])
        if line == WHOLE_24 or line >= _FINEST_48:
            parts = self.parts(row)
            return range(parts.start, parts.start + 2) if parts and line == WHOLE_24 else parts
        if 0 < line < WHOLE_24:
            block = int(rows[rows[row, PARENT], BLOCK])
            number = row - block
            return range(block + 2 * number, block + 2 * number + 2) if 0 < number < 32 else range(0)
        return range(0)

    def covers(self, wide: int, narrow: int) -> bool:
        """Whether one row's target lies in the other's."""
        return wide in self.above(narrow)


def _part_rows(first: int, line: int) -> range:
    return range(first + 2, first + 64) if line == WHOLE_24 else range(first, first + 16)


def _place(number: int, line: int) -> tuple[int, int]:
    """The line of a part, and its number among those of the same length."""
    if line == WHOLE_24:
        depth = number.bit_length() - 1
        return WHOLE_24 - depth, number - (1 << depth)
    return line - 1, number
