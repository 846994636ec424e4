"""The week of a zone: what share of its busy hours' traffic each hour usually brings, for each class.

Learned from the sum over a zone's targets, which an attack on one of them moves little; a quiet hour lowers limits
only so far, and an hour never seen lowers them not at all. Hours are UTC. Pure.
"""

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

HOURS = 168
"""In a week, from Monday 0:00 UTC."""
LEAST, LEAST_OF_ONE = 0.25, 0.75
"""No hour counts as less of the busy ones: for a zone, and for a host or a prefix in it. A sum follows its week, but a
crowd comes to one of them at any hour, and may be five times the busiest."""
_MEMORY = 240
"""Samples after which an hour's old ones fade: four weeks of those that an hour gets."""
_KNOWN = 10
"""Samples that an hour needs."""
_BUSY = 0.9
"""Which of the known hours, in ascending order, counts as busy: one hour of attack must not make the others quiet."""

LOGS = NDArray[np.float32]


class Rhythm:
    """Of all zones; the last line is for targets outside every zone and stays empty."""

    def __init__(self, zones: int, classes: int, least: float = LEAST) -> None:
        """`least`: no hour counts as less than this share."""
        self._least = least
        self.logs: LOGS = np.zeros((zones, HOURS, classes), np.float32)
        """Mean logarithm (base 2) of one and the zone's rate."""
        self.samples: NDArray[np.uint8] = np.zeros((zones, HOURS, classes), np.uint8)
        self._hour = -1
        self._shape: LOGS = np.ones((zones, classes), np.float32)

    def learn(self, sums: NDArray[np.float64], when: datetime) -> None:
        """Takes the zones' rates by class, per second, over the last minute."""
        hour = hour_of(when)
        samples = self.samples[:, hour]
        found = np.log2(1 + sums).astype(np.float32)
        pull = 1 / (1 + samples.astype(np.float32))
        self.logs[:, hour] += (found - self.logs[:, hour]) * pull
        self.samples[:, hour] = np.minimum(samples + 1, _MEMORY)

    def shape(self, when: datetime) -> LOGS:
        """Zone by class: the share of the busy hours' rate that is usual now, from the least to 1."""
        if (hour := hour_of(when)) != self._hour:
            self._hour, self._shape = hour, self._shape_at(hour)
        return self._shape

    def _shape_at(self, hour: int) -> LOGS:
        known = self.samples >= _KNOWN
        logs = np.where(known, self.logs, np.nan)
        busy = _busy(logs)
        # Clocks change and evenings begin early: what the neighbours allow, this hour allows.
        near = np.stack([_usual(logs, (hour + step) % HOURS) for step in (-1, 0, 1)])
        share = 2 ** (near.max(axis=0) - busy)
        return np.where(np.isnan(share), 1, np.clip(share, self._least, 1)).astype(np.float32)


def hour_of(when: datetime) -> int:
    """The hour of the week, UTC; `when` is aware."""
    offset = when.utcoffset()
    moment = when - offset if offset else when
    return moment.weekday() * 24 + moment.hour


def _usual(logs: LOGS, hour: int) -> LOGS:
    """Zone by class: that hour's logarithm; of other days' same hour the greatest, where it was never seen; else no
    number."""
    days = logs[:, hour % 24 :: 24]
    greatest = np.where(np.isnan(days), -np.inf, days).max(axis=1)
    other: LOGS = np.where(np.isfinite(greatest), greatest, np.nan)
    return np.where(np.isnan(logs[:, hour]), other, logs[:, hour])


def _busy(logs: LOGS) -> LOGS:
    """Zone by class: the logarithm of busy hours; no number before a day is known."""
    count = (~np.isnan(logs)).sum(axis=1)
    # Unknown hours sort last.
    ordered = np.sort(logs, axis=1)
    place = np.maximum(np.ceil(_BUSY * count).astype(np.int64) - 1, 0)
    found = np.take_along_axis(ordered, place[:, None, :], axis=1)[:, 0]
    return np.where(count >= 24, found, np.nan).astype(np.float32)
