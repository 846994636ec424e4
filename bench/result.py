"""What a benchmark hands back: one figure with what it is compared with. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

TARGET = "target"
"""The peer of figures that are held against what we promise, not against another program."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure."""

    metric: str
    """`benchmark.what`, stable from run to run."""
    value: float
    unit: str
    peer: str
    """What it is compared with: another program measured in the same run, or `target`."""
    peer_value: float
    ratio: float
    """How it compares with the peer; how to read it is said where it is made, `against` for most."""
    note: str = ""
    """What a reader must know: how it was observed, how many were lost."""

    @classmethod
    def against(cls, metric: str, value: float, unit: str, peer: str, peer_value: float, note: str = "") -> "Result":
        """A figure of which less is better: the ratio is ours over the peer's, and at most 1 meets a target.

        0 of 0, such as no route lost where none may be, is a ratio of 0.
        """
        ratio = value / peer_value if peer_value else (math.inf if value else 0.0)
        return cls(metric, value, unit, peer, peer_value, ratio, note)

    def as_json(self) -> dict[str, object]:
        """The object of `--json`; a ratio without bound is null, since JSON knows no infinity."""
        document: dict[str, object] = {
            "metric": self.metric,
            "value": round(self.value, 4),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": round(self.peer_value, 4),
            "ratio": round(self.ratio, 3) if math.isfinite(self.ratio) else None,
        }
        return document | ({"note": self.note} if self.note else {})


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values: nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
