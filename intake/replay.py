"""Telling what was passed on before, as IPsec does it (RFC 4303 §3.4.3): the highest number and a bit for those below.

A number that has fallen out of the window counts as seen: better one late-comer lost than one message acted on twice.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

WIDTH = 1024
"""Numbers remembered below the highest one: at an update a second, seventeen minutes."""
_FULL = (1 << WIDTH) - 1


@dataclass(frozen=True, slots=True)
class ReplayWindow:
    """The numbers of one attack that were passed on."""

    highest: int
    bits: int = 1
    """Bit n stands for `highest - n`; bit 0 is always set."""

    def has(self, number: int) -> bool:
        """Whether the number was seen, or is too old to tell."""
        distance = self.highest - number
        return distance >= WIDTH or (distance >= 0 and bool(self.bits >> distance & 1))

    def union(self, other: "ReplayWindow") -> "ReplayWindow":
        """What either has seen."""
        high, low = (self, other) if self.highest >= other.highest else (other, self)
        distance = high.highest - low.highest
        # A distance of a whole window shifts everything out; computing it would cost memory a sender decides on.
        shifted = (low.bits << distance) & _FULL if distance < WIDTH else 0
        return ReplayWindow(high.highest, high.bits | shifted)


@dataclass(slots=True)
class ReplayMemory:
    """The windows of one sensor's latest attacks."""

    limit: int
    """Attacks remembered; the one longest untouched is forgotten first."""
    _windows: OrderedDict[str, ReplayWindow] = field(init=False, default_factory=OrderedDict)

    def has(self, attack: str, sequence: int) -> bool:
        """Whether this message was passed on before."""
        window = self._windows.get(attack)
        return window is not None and window.has(sequence)

    def add(self, attack: str, window: ReplayWindow) -> None:
        """Remember what the window has seen; `ReplayWindow(sequence)` for one message."""
        known = self._windows.pop(attack, None)
        self._windows[attack] = window if known is None else known.union(window)
        if len(self._windows) > self.limit:
            self._windows.popitem(last=False)

    def __iter__(self) -> Iterator[tuple[str, ReplayWindow]]:
        return iter(self._windows.items())

    def __len__(self) -> int:
        return len(self._windows)
