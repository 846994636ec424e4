"""Keys to rows, compiled by Numba: a host's row, and those of the prefixes that it lies in.

A bucket of the index is one cache line, and the row itself says whether its tag is right. A full table gives the row of
who was silent longest to a new target; never one that is under attack.
"""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from sensors.compiled import fetch_ahead, inlined, kernel
from sensors.headers import MAPPED, Total
from sensors.tables import (
    BLOCK,
    BORN,
    EPOCH,
    FIRST_ROW,
    HAND,
    HOSTS,
    KEY_HIGH,
    KEY_LOW,
    LAST_SEEN,
    LINE,
    NEXT_SAMPLE,
    PARENT,
    PINNED,
    REBORN,
    SAMPLE_GAP,
    SEED,
    SHIFT,
    SLOT,
    TOTALS_AT,
    USED,
    WATCH,
    WAYS,
    WHOLE_24,
    WHOLE_48,
    ZONE,
)

T_RECLAIMED = TOTALS_AT + int(Total.RECLAIMED)
NO_ROW, NO_ROOM = -1, -2
"""Instead of a row: the address is unprotected, the table is full."""


@kernel
def zone_of(prefixes, high, low):
    """The zone of an address, -1 outside all of them."""
    above = np.int64(len(prefixes))
    if above == 0:
        return np.int64(0)
    below = np.int64(0)
    while below < above:
        middle = (below + above) >> 1
        first = prefixes[middle, 0]
        if first < high or (first == high and prefixes[middle, 1] <= low):
            below = middle + 1
        else:
            above = middle
    at = below - 1
    if at < 0:
        return np.int64(-1)
    last = prefixes[at, 2]
    if high < last or (high == last and low <= prefixes[at, 3]):
        return np.int64(prefixes[at, 4])
    return np.int64(-1)


@inlined
def _mixed(state, high, low, prefix):
    """A number that depends on every bit of a key; `prefix`: 0 for hosts, else the zone's number and more."""
    mixed = (low ^ np.uint64(state[SEED])) * np.uint64(0x9E3779B97F4A7C15) ^ (
        (high ^ np.uint64(prefix)) * np.uint64(0xC2B2AE3D27D4EB4F)
    )
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    return mixed


@inlined
def _bucket(index, mixed):
    """The first slot of a key's bucket."""
    return np.int64(mixed & np.uint64(len(index) - WAYS)) & -WAYS


@inlined
def _tag(mixed):
    return mixed >> np.uint64(32)


@inlined
def _entry_row(entry):
    return np.int64(entry & np.uint64(0xFFFFFFFF)) - 1


@inlined
def _better(rows, row, best):
    """Whether a row is given away rather than the best so far: never one that must stay, and one that is watched only
    where all are, then by silence."""
    if rows[row, PINNED] != 0:
        return False
    if best < 0:
        return True
    watched, other = rows[row, WATCH] != 0, rows[best, WATCH] != 0
    return other if watched != other else rows[row, LAST_SEEN] < rows[best, LAST_SEEN]


@kernel
def _longest_silent(rows, state):
    """Of the next eight rows behind the hand, the one to give away; -1: all are under attack."""
    hand = state[HAND]
    best = np.int64(-1)
    for step in range(WAYS):
        row = state[FIRST_ROW] + ((hand + step) & (state[HOSTS] - 1))
        if _better(rows, row, best):
            best = row
    state[HAND] = (hand + WAYS) & (state[HOSTS] - 1)
    return best


@kernel
def _silent_in_bucket(index, rows, base):
    """The same of a full bucket's rows."""
    best = np.int64(-1)
    for slot in range(base, base + WAYS):
        row = _entry_row(index[slot])
        if _better(rows, row, best):
            best = row
    return best


@kernel
def _room(index, rows, state, base):
    """A row and a slot for a target that has none: fresh ones while there are, else those of one silent for long.
    Row -1: no room."""
    slot = np.int64(-1)
    for way in range(base, base + WAYS):
        if index[way] == 0:
            slot = np.int64(way)
            break
    if slot >= 0 and state[USED] < state[HOSTS]:
        state[USED] += 1
        return state[FIRST_ROW] + state[USED] - 1, slot
    row = _longest_silent(rows, state) if slot >= 0 else _silent_in_bucket(index, rows, base)
    if row >= 0:
        state[T_RECLAIMED] += 1
        index[rows[row, SLOT]] = np.uint64(0)
        if slot < 0:
            slot = rows[row, SLOT]
    return row, slot


@kernel
def _new_row(index, rows, state, mixed, high, low, zone, line, now):
    row, slot = _room(index, rows, state, _bucket(index, mixed))
    if row < 0:
        return np.int64(NO_ROOM)
    index[slot] = _tag(mixed) << np.uint64(32) | np.uint64(row + 1)
    for column in range(rows.shape[1]):
        rows[row, column] = 0
    rows[row, KEY_HIGH], rows[row, KEY_LOW] = np.int64(high), np.int64(low)
    rows[row, SLOT], rows[row, ZONE], rows[row, REBORN], rows[row, LINE] = slot, zone, 1, line
    rows[row, PARENT], rows[row, BORN] = -1, state[EPOCH] + 1
    # A host's first packet is never a sample, so that a scan of many addresses doesn't flush the normal history.
    rows[row, NEXT_SAMPLE] = now + state[SAMPLE_GAP]
    return row


@inlined
def host_row(index, rows, state, prefixes, high, low, now):
    """The row of a protected host; NO_ROW: unprotected, NO_ROOM: the table is full."""
    mixed = _mixed(state, high, low, 0)
    base, tag = _bucket(index, mixed), _tag(mixed)
    for slot in range(base, base + WAYS):
        entry = index[slot]
        if entry >> np.uint64(32) == tag and entry != 0:
            row = _entry_row(entry)
            if (rows[row, KEY_LOW] == np.int64(low) and rows[row, KEY_HIGH] == np.int64(high)
                    and rows[row, LINE] == 0):  # fmt: skip
                return row
    zone = zone_of(prefixes, high, low)
    if zone < 0:
        return np.int64(NO_ROW)
    return _new_row(index, rows, state, mixed, high, low, zone, 0, now)


@inlined
def expect_bucket(index, state, low):
    """Soon the row of an IPv4 host will be looked for."""
    fetch_ahead(index, (_bucket(index, _mixed(state, np.uint64(0), low, 0)),))


@inlined
def expect_row(index, rows, state, low):
    """The same a little later, when its bucket has come: soon that row will be counted in."""
    mixed = _mixed(state, np.uint64(0), low, 0)
    base, tag = _bucket(index, mixed), _tag(mixed)
    for slot in range(base, base + WAYS):
        entry = index[slot]
        if entry >> np.uint64(32) == tag and entry != 0:
            row = _entry_row(entry)
            fetch_ahead(rows, (row, 0))
            fetch_ahead(rows, (row, 2 * WAYS))
            fetch_ahead(rows, (row, PINNED))
            fetch_ahead(rows, (row, KEY_HIGH))
            break


@inlined
def expect_parent(rows, row):
    """A packet for this host is being counted: what it lies in is next."""
    parent = rows[row, PARENT]
    if parent >= 0:
        fetch_ahead(rows, (parent, 0))
        fetch_ahead(rows, (parent, BLOCK))
        fetch_ahead(rows, (parent, KEY_HIGH))


@kernel
def source_row(index, rows, state, prefixes, high, low, now):
    return host_row(index, rows, state, prefixes, high, low, now)


@inlined
def _is_mapped(high, low):
    return high == 0 and low >> 32 == MAPPED >> 32


@kernel
def _found_parent(index, rows, state, row, now):
    """The row of a host's /24 or /48 in its zone, made when there is none; NO_ROOM without room."""
    high, low, zone = rows[row, KEY_HIGH], rows[row, KEY_LOW], rows[row, ZONE]
    if _is_mapped(high, low):
        line, low = WHOLE_24, low & ~0xFF
    else:
        line, high, low = WHOLE_48, high & ~0xFFFF, 0
    mixed = _mixed(state, np.uint64(high), np.uint64(low), (zone + 1) * 16 + line)
    base, tag = _bucket(index, mixed), _tag(mixed)
    for slot in range(base, base + WAYS):
        entry = index[slot]
        if entry >> np.uint64(32) == tag and entry != 0:
            parent = _entry_row(entry)
            if (rows[parent, KEY_LOW] == low and rows[parent, KEY_HIGH] == high and rows[parent, LINE] == line
                    and rows[parent, ZONE] == zone):  # fmt: skip
                return parent
    return _new_row(index, rows, state, mixed, np.uint64(high), np.uint64(low), zone, line, now)


@inlined
def parent_row(index, rows, state, row, now):
    """The same, by the link that the host's row keeps as long as it is right."""
    parent = rows[row, PARENT]
    if parent >= 0 and rows[parent, ZONE] == rows[row, ZONE]:
        low, high = rows[row, KEY_LOW], rows[row, KEY_HIGH]
        if rows[parent, LINE] == WHOLE_24:
            if rows[parent, KEY_LOW] == low & ~0xFF and high == 0:
                return parent
        elif rows[parent, LINE] == WHOLE_48 and rows[parent, KEY_HIGH] == high & ~0xFFFF:
            return parent
    rows[row, LAST_SEEN] = now
    parent = _found_parent(index, rows, state, row, now)
    rows[row, PARENT] = parent
    return parent


@inlined
def part_row(rows, row, high, low):
    """The row of the part of a divided prefix that an address lies in."""
    if rows[row, LINE] == WHOLE_24:
        return rows[row, BLOCK] + 32 + (np.int64(low) >> 3 & 31)
    return rows[row, BLOCK] + (np.int64(high) >> rows[row, SHIFT] & 15)
