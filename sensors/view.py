"""What came to a target in a while, as a closer look takes it, and what that look says. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensors import ordinary
from sensors.floors import DIFFUSE_SOURCES, Floor
from sensors.headers import Kind
from sensors.origins import folded
from sensors.tables import ANY
from sensors.unwanted import refused

BOOLS = NDArray[np.bool_]

SHORTEST = Floor(0.02, 0.1)
"""Seconds over which packets are spread at least: a window of less tells no rate, and one sender's burst is short."""
ASKED = (Kind.UDP, Kind.AMPLIFICATION)
"""Questions and answers."""
_GOING_ON = (Kind.ACK, Kind.SYN_ACK, Kind.FIN)
"""What follows where connections are made; an RST takes a handshake back."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What remains of a host's incoming packets."""

    attack: NDArray[np.bool_]
    """Which entries of the sample are the attack."""
    rate: float
    """Of the attack, packets per second."""
    sessions: NDArray[np.bool_]
    """Which of them come over completed connections."""

    @property
    def guilty(self) -> bool:
        """Whether anything is."""
        return bool(self.attack.any())


def nothing(count: int) -> Verdict:
    """Not guilty, of so many packets."""
    none = np.zeros(count, bool)
    return Verdict(none, 0.0, none)


@dataclass(frozen=True, slots=True)
class View:
    """A host's incoming packets, and over how long they came."""

    incoming: ANY
    sources: NDArray[np.uint64]
    weights: NDArray[np.float64]
    seconds: float
    sends: bool
    """Whether it is seen what the host sends, if anything."""
    refused: BOOLS
    """Which of them the host refuses."""

    @classmethod
    def of(cls, incoming: ANY, outgoing: ANY, seconds: float) -> "View":
        weights = incoming["weight"].astype(np.float64)
        turned_away = refused(incoming, outgoing, seconds)
        return cls(incoming, folded(incoming, "source"), weights, seconds, len(outgoing) > 0, turned_away)

    def above(self, part: BOOLS, floors: Floor) -> bool:
        """Whether some of them are more than what floors allow."""
        is_diffuse = self.is_diffuse(part)
        least = SHORTEST.diffuse if is_diffuse else SHORTEST.concentrated
        limit = floors.diffuse if is_diffuse else floors.concentrated
        return bool(self.weights[part].sum() >= limit * max(self.seconds, least))

    def is_diffuse(self, part: BOOLS) -> bool:
        """Whether many send them."""
        found, places = np.unique(self.sources[part], return_inverse=True)
        if len(found) < DIFFUSE_SOURCES:
            return False
        per_source = np.bincount(places, self.weights[part])
        return bool(per_source.max() <= 0.5 * per_source.sum())

    def streams(self, part: BOOLS) -> BOOLS:
        """Those of a part that are streams."""
        out = part.copy()
        out[part] = ordinary.streams(self.incoming[part], self.weights[part], self.seconds)
        return out

    def modest(self, part: BOOLS) -> BOOLS:
        """Those of a part that are questions or answers as anybody may send and get them."""
        out = part.copy()
        out[part] = ordinary.modest(self.incoming[part], self.weights[part])
        return out

    def goes_nowhere(self, syns: BOOLS) -> bool:
        """Whether SYNs are most of what comes over TCP: lost answers and sampling leave single ones behind, too."""
        others = self.weights[np.isin(self.incoming["kind"], _GOING_ON)].sum()
        return bool(others < self.weights[syns].sum())
