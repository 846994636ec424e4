"""What a rule takes of an attack and of normal traffic, and whether it may drop what it takes. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rules.action import RateLimit
from rules.components import Numeric
from rules.match import TCP, UDP, Match
from rules.traffic import Signature
from sensors.harm import Normal
from sensors.matching import selected
from sensors.refine import BEARABLE, Scale
from sensors.tables import ANY

LOWEST_LIMIT = 12_500
"""Bytes per second, 100 kbit/s: routers police badly below some 10 kB/s."""
SMALLEST = 0.05
"""A vector or a vector's fragments below this share get no rule of their own."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What candidates are scored on."""

    sample: ANY
    """The attack, as classified."""
    normal: Normal
    scale: Scale
    """Of the sample: weights, and how much of it comes anyway."""
    severity: float
    """How many times the limit is crossed."""

    @classmethod
    def of(
        cls, sample: ANY, normal: ANY, severity: float = 1.0, background: NDArray[np.float64] | None = None
    ) -> "Evidence":
        """Of an attack as classified, and of the target's other traffic."""
        prepared = Normal.of(normal)
        return cls(sample, prepared, Scale.of(sample, prepared, background), severity)

    def score(self, match: Match) -> Signature:
        """What a match takes of the attack, and of normal traffic."""
        coverage = self.scale.kept(selected(match, self.sample), selected(match, self.normal.entries))
        collateral = self.normal.harm(selected(match, self.normal.entries)) if self.normal.tells else None
        hurts = collateral > BEARABLE if collateral is not None else _is_plain(match)
        limit = self.limit(match) if hurts or _is_service(match) else None
        return Signature(match, coverage, self.normal.told(collateral) if collateral is not None else None, limit)

    def is_worth(self, match: Match) -> bool:
        """Whether it takes enough, packets or bytes: a flood of short packets beside one of long ones saturates too."""
        return max(self.scale.shares(selected(match, self.sample), selected(match, self.normal.entries))) >= SMALLEST

    def limit(self, match: Match) -> int:
        """Bytes per second that bring what matches back to the limit that was crossed."""
        hit = selected(match, self.sample)
        times = self.sample["time"]
        seconds = max(float(times.max() - times.min()) / 1e9, 0.01)
        rate = float(self.scale.sizes[hit].sum()) / seconds / max(self.severity, 1.0)
        return min(max(int(rate), LOWEST_LIMIT), RateLimit.MAXIMUM)


def _is_plain(match: Match) -> bool:
    """Whether it takes all UDP or TCP: what everybody uses is not dropped unseen."""
    common_ones = match.protocol in (Numeric.only(UDP), Numeric.only(TCP))
    return common_ones and sum(1 for _ in match.components()) == 2


def _is_service(match: Match) -> bool:
    """Whether it names a TCP service and nothing that attack and visitors could differ in."""
    if match.protocol != Numeric.only(TCP):
        return False
    telling = (match.source, match.source_port, match.tcp_flags, match.packet_length, match.fragment)
    return all(value is None for value in telling)
