"""What busy targets usually get: a few hundred packets of each of them, spread over hours.

Rules are held against it. It is filled on the tick from evenly chosen new packets, never from those of a target that is
suspected or under attack. Packets of a target's first three hours are spread evenly over them; later, three hours is
their mean age. Targets are told by their address, so neither zones that change nor rows that are given away matter.
10.5 MB, of which the pages of targets that never come are never touched.
"""

# mypy: disable-error-code="no-untyped-def,operator"

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from rules.zone import Zone
from sensors.compiled import inlined, kernel
from sensors.headers import HEADER, WORDS
from sensors.limits import FLOATS
from sensors.tables import ANY, KEY_HIGH, KEY_LOW, LINE, SIGNED, UNSIGNED, WHOLE_ZONE, ZONE, Tables, key, masked

PLACES, ENTRIES = 512, 320
"""Targets, and packets of each."""
FULL = 300
"""So many packets of a target say what is normal for it, without any others."""
HOURS_NS = 3 * 3_600_000_000_000
LEAST_RATE = 1.0
"""Packets per second from which on a target may come in."""
BUSIER = 2.0
"""By how much a newcomer must be busier than whom it displaces, whose rate counts half after each `HALF_LIFE_NS`."""
HALF_LIFE_NS = 3_600_000_000_000
NEWCOMERS = 16
"""In one tick."""
DOUBTFUL_NS = 1_000_000_000
"""What came so shortly before a target was suspected is no longer called normal."""

_BEGUN, _DUE, _COUNT, _EVER = range(4)
_FINEST = 4
"""What the least busy of a prefix's targets weighs, so that others may weigh parts of that more."""


@inlined
def _place(high, low, order, places, keys):
    """Where a target is kept, -1: nowhere. `order`: ascending numbers of the keys, `places`: of whom each is."""
    wanted = high * np.uint64(0x9E3779B97F4A7C15) ^ low
    first, last = 0, len(order)
    while first < last:
        middle = (first + last) >> 1
        if order[middle] < wanted:
            first = middle + 1
        else:
            last = middle
    while first < len(order) and order[first] == wanted:
        place = places[first]
        if keys[place, 0] == high and keys[place, 1] == low:
            return np.int64(place)
        first += 1
    return np.int64(-1)


@kernel
def keep(fresh, order, places, keys, blocked, marks, kept):
    """Puts those of the entries `fresh` whose turn it is among what is kept of their targets."""
    for number in range(len(fresh)):
        entry = fresh[number]
        place = _place(entry[3], entry[4], order, places, keys)
        if place < 0 or blocked[place]:
            continue
        time = np.int64(entry[0])
        if marks[place, _EVER] == 0:
            marks[place, _BEGUN] = time
        elif time < marks[place, _DUE]:
            continue
        at = marks[place, _COUNT]
        if at < kept.shape[1]:
            marks[place, _COUNT] = at + 1
        else:
            # Whichever goes, what came at any time is as likely to stay.
            mixed = np.uint64(marks[place, _EVER] * 1024 + place) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ mixed >> np.uint64(31)) * np.uint64(0xBF58476D1CE4E5B9)
            at = np.int64(mixed >> np.uint64(33)) % kept.shape[1]
            marks[place, _DUE] = time + min(time - marks[place, _BEGUN], HOURS_NS) // kept.shape[1]
        marks[place, _EVER] += 1
        for word in range(entry.shape[0]):
            kept[place, at, word] = entry[word]


class Reservoir:
    """Of the busiest targets."""

    def __init__(self, places: int = PLACES, entries: int = ENTRIES) -> None:
        self._kept = np.zeros((places, entries, WORDS), np.uint64)
        self._marks = np.zeros((places, 4), np.int64)
        self._keys = np.zeros((places, 2), np.uint64)
        self._is_taken, self._blocked = np.zeros(places, bool), np.zeros(places, bool)
        self._worth, self._seen = np.zeros(places), np.zeros(places, np.int64)
        self._order, self._places = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._told: tuple[bytes, tuple[Network, ...], UNSIGNED] = (b"", (), self._order)
        """What is blocked, and among whom."""

    def __len__(self) -> int:
        """Targets that are kept."""
        return len(self._order)

    def fill(self, fresh: UNSIGNED) -> None:
        """Takes new entries, as words of `headers.HEADER`, in the order of time."""
        if len(self._order):
            keep(fresh, self._order, self._places, self._keys, self._blocked, self._marks, self._kept)

    def consider(self, keys: SIGNED, rates: FLOATS, now: int) -> None:
        """Targets and what each got per second lately; busy ones come in. `keys`: high and low half as signed numbers;
        `now` in ns."""
        busy = rates >= LEAST_RATE
        targets, rates = keys[busy].astype(np.uint64), rates[busy]
        places = self._found(targets)
        known = places[places >= 0]
        self._worth[known] = np.maximum(self._worth_of(known, now), rates[places >= 0])
        self._seen[known] = now
        others = np.flatnonzero(places < 0)
        if not len(others):
            return
        worth = np.where(self._is_taken, self._worth_of(slice(None), now), 0.0)
        others = others[rates[others] >= BUSIER * worth.min()]
        for number in others[np.argsort(-rates[others], kind="stable")][:NEWCOMERS].tolist():
            place = int(np.argmin(worth))
            if rates[number] < BUSIER * worth[place]:
                break
            worth[place] = rates[number]
            self._give(place, targets[number], float(rates[number]), now)
        if len(others):
            self._sort()

    def block(self, keys: SIGNED, networks: Collection[Network] = ()) -> None:
        """Takes nothing of these targets until told otherwise, nor of any in these networks; and drops what it took of
        them a moment ago."""
        # The same attacks go on tick after tick.
        told = (keys.tobytes(), tuple(networks), self._order)
        if told[:2] == self._told[:2] and told[2] is self._told[2]:
            return
        self._told = told
        before, self._blocked = self._blocked, np.zeros_like(self._blocked)
        places = self._found(keys.astype(np.uint64))
        self._blocked[places[places >= 0]] = True
        for network in networks:
            self._blocked |= self._inside(network)
        for place in np.flatnonzero(self._blocked & ~before).tolist():
            self._forget_newest(place)

    def of(self, target: Network) -> ANY:
        """What is kept of a target, as `headers.HEADER`, in no order; of a prefix, what is kept in it, each packet with
        the weight that its own target's rate gives it."""
        if target.prefixlen == target.max_prefixlen:
            places = self._found(np.array([key(target)], np.uint64))
            return self._entries(int(places[0])) if places[0] >= 0 else self._entries(0)[:0]
        inside = np.flatnonzero(self._inside(target) & (self._marks[:, _COUNT] > 0))
        if not len(inside):
            return self._entries(0)[:0]
        amounts = self._worth[inside] / self._marks[inside, _COUNT]
        parts = [self._entries(place).copy() for place in inside.tolist()]
        for part, times in zip(parts, np.rint(_FINEST * amounts / amounts.min()), strict=True):
            part["weight"] *= np.uint32(min(times, 1 << 16))
        return np.concatenate(parts)

    def without(self, entries: ANY) -> ANY:
        """Those of the entries whose targets aren't kept."""
        return entries[self._found(np.stack((entries["destination_high"], entries["destination_low"]), axis=1)) < 0]

    def warm_up(self) -> None:
        """Compiles, or loads, what `fill` needs."""
        nothing = np.zeros((0, WORDS), np.uint64)
        keep(nothing, self._order, self._places, self._keys, self._blocked, self._marks, self._kept)

    def _worth_of(self, places: SIGNED | slice, now: int) -> FLOATS:
        """Rates, worth less the longer ago they were seen."""
        out: FLOATS = self._worth[places] * 0.5 ** ((now - self._seen[places]) / HALF_LIFE_NS)
        return out

    def _entries(self, place: int) -> ANY:
        return self._kept[place, : self._marks[place, _COUNT]].view(HEADER).reshape(-1)

    def _found(self, keys: UNSIGNED) -> SIGNED:
        """The place of each, -1: none."""
        out = np.full(len(keys), -1, np.int64)
        if len(keys) and len(self._order):
            at = np.minimum(np.searchsorted(self._order, _folded(keys)), len(self._order) - 1)
            places = self._places[at]
            same = (self._keys[places] == keys).all(axis=1)
            out[same] = places[same]
        return out

    def _inside(self, network: Network) -> NDArray[np.bool_]:
        high, low, high_mask, low_mask = map(np.uint64, masked(network))
        out: NDArray[np.bool_] = (self._keys[:, 0] & high_mask == high) & (self._keys[:, 1] & low_mask == low)
        return out & self._is_taken

    def _give(self, place: int, target: UNSIGNED, rate: float, now: int) -> None:
        self._keys[place], self._is_taken[place], self._blocked[place] = target, True, False
        self._worth[place], self._seen[place] = rate, now
        self._marks[place] = 0

    def _sort(self) -> None:
        taken = np.flatnonzero(self._is_taken)
        folded = _folded(self._keys[taken])
        order = np.argsort(folded, kind="stable")
        self._order, self._places = folded[order], taken[order]

    def _forget_newest(self, place: int) -> None:
        entries = self._entries(place)
        if not len(entries):
            return
        stays = entries[entries["time"] < entries["time"].max() - DOUBTFUL_NS]
        self._kept[place, : len(stays)] = stays.view(np.uint64).reshape(-1, WORDS)
        self._marks[place, _COUNT] = len(stays)


def keys_of(tables: Tables, rows: SIGNED) -> SIGNED:
    """The keys of rows, as `Reservoir.consider` takes them."""
    return tables.rows[rows, KEY_HIGH : KEY_LOW + 1]


def doubtful(tables: Tables, rows: Collection[int], zones: Sequence[Zone]) -> tuple[SIGNED, list[Network]]:
    """The keys of those of the rows that are hosts, and the prefixes that the others count: what `Reservoir.block`
    takes."""
    every = np.fromiter(rows, np.int64, len(rows))
    lines = tables.rows[every, LINE]
    networks: list[Network] = []
    for row in every[lines != 0].tolist():
        if tables.rows[row, LINE] != WHOLE_ZONE:
            networks.append(tables.host(row))
        elif tables.rows[row, ZONE] < len(zones):
            networks.extend(zones[int(tables.rows[row, ZONE])].prefixes)
    return keys_of(tables, every[lines == 0]), networks


def _folded(keys: UNSIGNED) -> UNSIGNED:
    out: UNSIGNED = keys[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ keys[:, 1]
    return out
