"""What was learned of targets that have no row now: those that were silent when their row was needed, and those of the
last run. Bounded: where two want one place, the older stays.

Only arrays, eight places to a bucket, since a Python object for each target would take ten times the memory.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensors.baseline_levels import LEVELS

KEYS = NDArray[np.int64]
"""Two words for each target: the halves of its address, as in `sensors.tables`."""
AGES = NDArray[np.uint16]

WAYS = 8
_MIX = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class Targets:
    """What was learned of some targets, one line for each."""

    keys: KEYS
    levels: LEVELS
    """Target by class."""
    ages: AGES
    """Observations of ten seconds; 65,535 means so many or more."""

    def __getitem__(self, which: NDArray[Any]) -> "Targets":
        return Targets(self.keys[which], self.levels[which], self.ages[which])

    def __len__(self) -> int:
        return len(self.keys)


class Kept:
    """A store of `places` targets, a power of two, at least `WAYS`."""

    def __init__(self, places: int, classes: int) -> None:
        self._buckets = max(1, places // WAYS)
        self._keys = np.zeros((self._buckets, WAYS, 2), np.int64)
        self._levels = np.zeros((self._buckets, WAYS, classes), np.uint16)
        self._ages = np.zeros((self._buckets, WAYS), np.uint16)
        # Nobody shall choose addresses that share a bucket.
        self._seed = np.uint64(secrets.randbits(63))
        self._is_empty = True
        """As long as nothing was ever kept."""

    def __len__(self) -> int:
        return int(np.count_nonzero(self._ages))

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return self._keys.nbytes + self._levels.nbytes + self._ages.nbytes

    def put(self, targets: Targets) -> None:
        """Keeps targets; those without age are nothing to keep. Two with one key: the later one stays."""
        waiting = targets[targets.ages > 0]
        self._is_empty &= not len(waiting)
        while len(waiting):
            # One for each bucket at a time, so that no two take the same place.
            buckets = self._bucket(waiting.keys)
            _, turn = np.unique(buckets, return_index=True)
            self._put(buckets[turn], waiting[turn])
            rest = np.ones(len(waiting), bool)
            rest[turn] = False
            waiting = waiting[rest]

    def _put(self, buckets: NDArray[np.int64], targets: Targets) -> None:
        known = self._same(buckets, targets.keys)
        ways = np.where(known.any(axis=1), known.argmax(axis=1), self._ages[buckets].argmin(axis=1))
        better = known.any(axis=1) | (targets.ages >= self._ages[buckets, ways])
        places = buckets[better], ways[better]
        self._keys[places] = targets.keys[better]
        self._levels[places] = targets.levels[better]
        self._ages[places] = targets.ages[better]

    def take(self, keys: KEYS) -> Targets:
        """What is known of these targets, one line for each key; age 0 where nothing is. They are kept no longer."""
        if self._is_empty:
            return Targets(
                keys, np.zeros((len(keys), self._levels.shape[2]), np.uint16), np.zeros(len(keys), np.uint16)
            )
        buckets = self._bucket(keys)
        known = self._same(buckets, keys)
        ways = known.argmax(axis=1)
        ages = np.where(known.any(axis=1), self._ages[buckets, ways], np.uint16(0))
        found = Targets(keys, self._levels[buckets, ways], ages)
        self._ages[buckets[ages > 0], ways[ages > 0]] = 0
        return found

    def all(self) -> Targets:
        """Everything kept."""
        full = self._ages > 0
        return Targets(self._keys[full], self._levels[full], self._ages[full])

    def _same(self, buckets: NDArray[np.int64], keys: KEYS) -> NDArray[np.bool_]:
        """Target by way: where its key is."""
        same: NDArray[np.bool_] = (self._keys[buckets] == keys[:, None, :]).all(axis=2) & (self._ages[buckets] > 0)
        return same

    def _bucket(self, keys: KEYS) -> NDArray[np.int64]:
        words = keys.view(np.uint64) if keys.flags.c_contiguous else np.ascontiguousarray(keys).view(np.uint64)
        mixed = (words[:, 0] ^ self._seed) * _MIX
        mixed = (mixed ^ mixed >> np.uint64(32) ^ words[:, 1]) * _MIX
        found: NDArray[np.int64] = ((mixed ^ mixed >> np.uint64(32)) % np.uint64(self._buckets)).astype(np.int64)
        return found
