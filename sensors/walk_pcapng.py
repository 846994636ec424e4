"""The walker over the blocks of a pcapng file (draft-ietf-opsawg-pcapng), compiled like those in `sensors.walk`.

It handles what there is millions of, packet blocks of all three kinds, and skips what it doesn't know. Section and
interface blocks, few and full of options, are handed back to `sensors.pcapng`.
"""

# mypy: disable-error-code="no-untyped-def,operator"

import numpy as np

from sensors.compiled import inlined, kernel
from sensors.count import moment, record
from sensors.framing import ETHERNET
from sensors.tables import CLOCK, NEXT_TIME, Tables
from sensors.walk import DAMAGED, LARGEST_RECORD, MORE, NEVER, REACHED

HEADER = 3
"""Besides `walk`'s reasons to stop: a section or interface block stands here."""
SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
LARGEST_BLOCK = 1 << 20
"""Of a packet, its options included."""

LINK, BINARY, FACTOR, OFFSET, SNAP, UNCOUNTED = range(6)
"""Columns of an interface: link type (-1: not supported); whether stamps count in powers of two of a second; the power
of two, or nanoseconds in one unit (negative: units in one nanosecond); nanoseconds to add; the snapshot length (0: no
limit); records not counted because of the link type."""
NO_INTERFACE, NO_TIME, ODD_TIME = range(3)
"""Places in `odd`: records of interfaces that don't exist, records without a stamp, records from a time that no clock
has ever shown; the latter two count at the time of the record before."""
_LATEST = (1 << 32) * 1_000_000_000
"""2106: where classic captures end, and beyond every clock."""


@inlined
def _u32(buffer, at, swapped):
    a, b, c, d = np.int64(buffer[at]), np.int64(buffer[at + 1]), np.int64(buffer[at + 2]), np.int64(buffer[at + 3])
    if swapped:
        return a << 24 | b << 16 | c << 8 | d
    return d << 24 | c << 16 | b << 8 | a


@kernel
def stamp(high, low, binary, factor, offset):
    """A record's time in ns since 1970; -1 where no clock has ever shown it."""
    if high >= 1 << 31:
        return np.int64(-1)
    units = high << 32 | low
    if binary:
        whole = units >> min(factor, 63)
        rest = units - (whole << factor) if factor < 63 else units
        if factor > 30:
            rest = rest >> min(factor - 30, 63)
        if whole > 1 << 33:
            return np.int64(-1)
        time = whole * 1_000_000_000 + (rest * 1_000_000_000 >> min(factor, 30))
    elif factor < 0:
        time = units // -factor
    elif units > 2 * _LATEST // factor:
        return np.int64(-1)
    else:
        time = units * factor
    # The offset may be as odd as the rest; a sum that wraps around is negative.
    time += offset
    return time if 0 <= time < _LATEST else np.int64(-1)


@inlined
def _place(buffer, at, kind, length, swapped, interfaces, known):
    """Of a packet block: its interface, where its bytes start, how many there are, how many there were."""
    if kind == SIMPLE_PACKET:
        wire = _u32(buffer, at + 8, swapped)
        snap = interfaces[0, SNAP] if known else np.int64(0)
        return np.int64(0), at + 12, min(wire if snap == 0 else min(wire, snap), length - 16), wire
    number = _u32(buffer, at + 8, swapped)
    if kind == OLD_PACKET:  # two 16-bit numbers: the interface, and how many were dropped before
        first = np.int64(buffer[at + 8])
        number = first << 8 | np.int64(buffer[at + 9]) if swapped else np.int64(buffer[at + 9]) << 8 | first
    return number, at + 28, min(_u32(buffer, at + 20, swapped), length - 32), _u32(buffer, at + 24, swapped)


@inlined
def _time(state, odd, buffer, at, kind, swapped, interfaces, number):
    if kind == SIMPLE_PACKET:
        odd[NO_TIME] += 1
        return state[CLOCK]
    found = stamp(
        _u32(buffer, at + 12, swapped), _u32(buffer, at + 16, swapped), interfaces[number, BINARY] != 0,
        interfaces[number, FACTOR], interfaces[number, OFFSET],
    )  # fmt: skip
    if found < 0:
        odd[ODD_TIME] += 1
        return state[CLOCK]
    return moment(state, found)


@kernel
def pcapng(index, rows, ring, normal, state, prefixes, reflectors,
           buffer, at, end, swapped, interfaces, known, odd, weight, until):  # fmt: skip
    """Blocks in `buffer[at:end]`: where to go on, possibly behind `end`, and why it stopped there. `interfaces` has one
    line for each of the `known` ones."""
    while at + 12 <= end:
        kind, length = _u32(buffer, at, swapped), _u32(buffer, at + 4, swapped)
        if kind in (SECTION, INTERFACE):
            return at, HEADER
        if length < 12:
            return at, DAMAGED
        if kind in (ENHANCED_PACKET, OLD_PACKET, SIMPLE_PACKET):
            if length > LARGEST_BLOCK or length < (16 if kind == SIMPLE_PACKET else 32):
                return at, DAMAGED
            if at + length > end:
                return at, MORE
            if _u32(buffer, at + length - 4, swapped) != length:
                return at, DAMAGED
            number, start, size, wire = _place(buffer, at, kind, length, swapped, interfaces, known)
            if size > LARGEST_RECORD:
                return at, DAMAGED
            if number >= known:
                odd[NO_INTERFACE] += 1
            elif interfaces[number, LINK] < 0:
                interfaces[number, UNCOUNTED] += 1
            else:
                now = _time(state, odd, buffer, at, kind, swapped, interfaces, number)
                if now >= until:
                    state[NEXT_TIME] = now
                    return at, REACHED
                record(index, rows, ring, normal, state, prefixes, reflectors,
                       buffer, start, start + size, wire, now, interfaces[number, LINK], weight, 0)  # fmt: skip
        at += length
    return at, MORE


def warm_up(tables: Tables) -> None:
    """Compiles the walker, or loads it."""
    interfaces, odd = np.zeros((1, 6), np.int64), np.zeros(3, np.int64)
    interfaces[0, LINK] = ETHERNET
    pcapng(*tables.arrays, np.zeros(64, np.uint8), 0, 0, False, interfaces, 0, odd, 1, NEVER)
