"""What a tick tells of the targets worth a look: their rates in three windows, and what those are to limits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensors.limits import FLOATS
from sensors.watch import ROWS

SHORT, MIDDLE, LONG = 0, 1, 2
"""The windows of a reading, shortest first."""
PLAIN = 3
"""Beside the windows, a bit of `Readings.crossed`: above the limit in the long window, be it by chance."""

BITS = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What rates are to limits, as in `Readings`."""

    severity: FLOATS
    fast: FLOATS
    crossed: BITS
    loud: BITS


@dataclass(frozen=True, slots=True)
class Readings:
    """Rates of the targets worth a look, one line for each."""

    rows: ROWS
    zones: ROWS
    lines: ROWS
    """What kind of target each is, as in `tables.LENGTHS`."""
    rates: tuple[FLOATS, FLOATS, FLOATS]
    """Per window: target by column, per second."""
    short_seconds: float
    long_seconds: float
    """How long the long window really is."""
    limits: FLOATS
    """Target by measure: of the zones."""
    learned: FLOATS
    """Target by measure: learned limits, judged in the long window only, so that a burst is none of their business."""
    severity: FLOATS
    """Target by measure: rate over limit, each in the shortest window that is long enough for the limit."""
    fast: FLOATS
    """The same in the short window, and 0 where too few packets say so."""
    crossed: BITS
    """Target by measure: a bit for each window in which a limit is crossed by more than chance, and `PLAIN`."""
    loud: BITS
    """For each target, what there is in the above at a glance: `window_kernel.CROSSED` and its like."""
    tracked: NDArray[np.bool_]
    """Which targets came out because they are tracked."""
    reborn: ROWS
    """Rows that belong to another target than last time."""
