"""What a rule takes of an attack and of normal traffic, and whether it may drop what it takes. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rules.action import RateLimit
from rules.components import Numeric
from rules.match import FRAGMENT_BITS, TCP, TCP_FLAG_BITS, UDP, Match
from rules.traffic import AMPLIFICATION_SERVICES, CONVERSATIONS, Signature
from sensors.harm import Mask, Normal
from sensors.matching import selected
from sensors.ordinary import are_trains
from sensors.refine import BEARABLE, Scale
from sensors.tables import ANY

_OF_VISITORS = (TCP_FLAG_BITS["syn"], TCP_FLAG_BITS["ack"], TCP_FLAG_BITS["ack"] | TCP_FLAG_BITS["push"])
"""Flags without which no TCP service is reached."""
_CARRIERS = (TCP, UDP, 4, 41, 47, 50, 51, 115, 132)
"""Protocols that carry services, tunnels among them (IP in IP, GRE, ESP, AH, L2TP, SCTP)."""
_REFLECTORS = frozenset(port for port, name in AMPLIFICATION_SERVICES.items() if name not in CONVERSATIONS)
_ANY_FRAGMENT = FRAGMENT_BITS["is-fragment"] | FRAGMENT_BITS["first-fragment"]
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
        hit, normal_hit = selected(match, self.sample), selected(match, self.normal.entries)
        coverage, harm = self.scale.kept(hit, normal_hit), self.normal.harm(normal_hit)
        # Few packets don't say that a rule hurts nobody; that it does, one may say.
        hurts = harm > BEARABLE or not (self.normal.tells or self.is_telling(match, hit))
        limit = self.limit(match) if hurts or _is_service(match) else None
        return Signature(match, coverage, self.normal.told(harm) if self.normal.tells else None, limit)

    def is_telling(self, match: Match, hit: Mask) -> bool:
        """Whether it names what hardly any service's packets have, so that it may drop what it hits while nobody knows
        what is normal. `hit`: the entries of the sample that it selects."""
        if match.source is not None or match.fragment is not None:
            return match.source is not None or not self._are_datagrams()
        if match.protocol == Numeric.only(TCP):
            return match.tcp_flags is not None and not any(match.tcp_flags.holds(flags) for flags in _visitors(match))
        if match.protocol == Numeric.only(UDP):
            return match.source_port is not None and self._is_ones_own(match.source_port, hit)
        protocols = match.protocol.spans(255) if match.protocol is not None else ((0, 255),)
        return not any(low <= carrier <= high for low, high in protocols for carrier in _CARRIERS)

    def _is_ones_own(self, ports: Numeric, hit: Mask) -> bool:
        """Whether a flood keeps to source ports that clients of a service wouldn't have: reflectors', or few that are
        not the service's too."""
        spans = ports.spans(65_535)
        if any(high > low for low, high in spans):
            return False
        part = self.sample[hit]
        equal = float((part["source_port"] == part["destination_port"]).mean()) if len(part) else 0.0
        return equal < 0.5 or all(low in _REFLECTORS for low, _ in spans)

    def _are_datagrams(self) -> bool:
        """Whether the fragments are whole long datagrams, as those of file servers and tunnels, and no reflectors'."""
        pieces = self.sample[self.sample["fragment"] & _ANY_FRAGMENT != 0]
        begun = pieces[pieces["fragment"] & FRAGMENT_BITS["first-fragment"] != 0]
        if not are_trains(pieces, pieces["weight"].astype(np.float64)):
            return False
        return float(np.isin(begun["source_port"], [*_REFLECTORS]).mean()) < 0.5

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


def bare(match: Match) -> Numeric:
    """The length of a TCP header without options or data."""
    return Numeric.only(40 if match.ip_family.bits == 32 else 60)


def _visitors(match: Match) -> tuple[int, ...]:
    """Flags of packets without which no TCP service is reached; SYNs of today's systems carry options."""
    return _OF_VISITORS[1:] if match.packet_length == bare(match) else _OF_VISITORS


def _is_service(match: Match) -> bool:
    """Whether it names a TCP service and nothing that attack and visitors could differ in."""
    if match.protocol != Numeric.only(TCP):
        return False
    telling = (match.source, match.source_port, match.tcp_flags, match.packet_length, match.fragment)
    return all(value is None for value in telling)
