"""Rates as 16-bit levels: 1,024 steps to an octave, so that what a host usually gets needs two bytes for each class.

A level is kept in memory and on disk; comparing it with a rate needs no logarithm, only a table. Pure.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = NDArray[np.uint16]

STEPS = 1024
"""Levels to a doubling."""
LOWEST = 2.0**-4
"""The rate of level 0, per second; far below anything that is judged."""
VALUES: NDArray[np.float32] = (LOWEST * 2.0 ** (np.arange(65_536) / STEPS)).astype(np.float32)
"""The rate of each level, per second; the last is beyond 2^59."""


def level_of(rates: NDArray[Any]) -> LEVELS:
    """The nearest levels of rates per second; what is lower or higher than any level gets the first or the last."""
    steps = np.log2(np.maximum(np.asarray(rates, np.float64), LOWEST) / LOWEST) * STEPS
    levels: LEVELS = np.minimum(np.rint(steps), 65_535).astype(np.uint16)
    return levels
