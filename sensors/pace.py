"""When an attack that goes on is described again: when a cheap look tells something new, else in growing pauses.

A description costs the capture thread tens of milliseconds, and of a flood that stays the same it says the same. All
of them together keep to a share of the processor, counted in packets described. Reads no clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from rules.zone import Metric

PAUSES_NS = tuple(seconds * 1_000_000_000 for seconds in (1, 3, 10, 30))
"""Between descriptions of what looks the same."""
PER_SECOND, SAVED = 10_000.0, 320_000.0
"""Packets that may be described in a second on average, some 2.5 % of a processor, and as many as may be saved for the
moment in which many attacks begin."""
LEAST, LOOK = 1_000.0, 100.0
"""What a description costs even with few packets, and what a look costs, in the same unit."""
MOVED = 0.06
"""The change of a share of the packets that is news, beside what chance makes of a sample."""
LEAKS = 0.5
"""The part of a limit that gets past the rules in force, from which on it is news."""
_EARLY_NS = 200_000_000
"""Messages come at ticks, a little early or late."""


@dataclass(frozen=True, slots=True)
class Look:
    """What an attack's newest packets are made of, at a glance."""

    packets: int
    shares: NDArray[np.float64]
    """By kind, of the packets."""
    caught: float
    """The share that the rules take which were told last."""

    def differs(self, before: "Look", severity: float) -> bool:
        """Whether it tells something new; `severity`: how many times the limit is crossed."""
        fewest = min(self.packets, before.packets)
        if fewest < 20:
            return False
        moved = float(np.abs(self.shares - before.shares).max())
        missed = before.caught - self.caught
        # Chance, generously: in both samples, where one packet may be missing of a share that is whole.
        share = (before.caught + self.caught) / 2
        spread = sqrt(2 * (share * (1 - share) + 1 / fewest) / fewest)
        return moved > MOVED + 2 / sqrt(fewest) or (missed > 4 * spread and missed * severity > LEAKS)


@dataclass(slots=True)
class _Told:
    at: int
    pause: int
    """Which one comes next; -1: there was news."""
    crossed: frozenset[Metric]
    look: Look


class Pace:
    """Of all attacks under way."""

    def __init__(self) -> None:
        self._told: dict[int, _Told] = {}
        self._saved, self._then = SAVED, 0

    def _earn(self, now: int) -> None:
        self._saved = min(SAVED, self._saved + PER_SECOND * max(0, now - self._then) / 1e9)
        self._then = now

    def can(self, now: int) -> bool:
        """Whether there is something left for a description; `now` in ns."""
        self._earn(now)
        return self._saved > 0

    def is_due(self, row: int, crossed: frozenset[Metric], severity: float, now: int, look: Callable[[], Look]) -> bool:
        """Whether to describe a row's attack again, if there is something left for it."""
        told = self._told.get(row)
        if told is None or not self.can(now):
            return told is None
        if now - told.at >= PAUSES_NS[told.pause] - _EARLY_NS:
            return True
        self._saved -= LOOK
        if not crossed - told.crossed and not look().differs(told.look, severity):
            return False
        told.pause = -1
        return True

    def described(self, row: int, crossed: frozenset[Metric], packets: int, now: int, look: Look) -> None:
        """It was described, by so many packets."""
        before = self._told.get(row)
        self._saved -= max(LEAST, packets)
        pause = min(before.pause + 1, len(PAUSES_NS) - 1) if before else 0
        self._told[row] = _Told(now, pause, crossed | (before.crossed if before else frozenset()), look)

    def forget(self, row: int) -> None:
        """The attack is over."""
        self._told.pop(row, None)
