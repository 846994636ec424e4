"""Slow reads, told by how their client is asked again and again whether it takes more yet. Pure.

Whoever opens no window makes the server's stack probe it, after ever double the time (RFC 1122 §4.2.2.17), and answers
each probe with a bare ACK. Events that trickle, keep-alives and downloads come at other times.
"""

import numpy as np
from numpy.typing import NDArray

from sensors.tables import ANY

DOUBLED = 2
"""Times in a row that the gap between a client's bare ACKs must double."""
_TWICE = (1.8, 2.25)
_LEAST_NS = 800_000_000
"""The gap that is doubled. Below, stacks answer not every probe (Linux leaves 500 ms between such ACKs)."""
_MOST = 4
"""More bare ACKs of a connection between two looks are no answers to probes."""


def follow(lines: ANY, at: NDArray[np.int64], times: NDArray[np.int64]) -> None:
    """Takes bare ACKs, in the order of time, of the lines `at`: counts in `doubled` how often the gap between them
    doubled in a row, and keeps the last one's time in `unheard` and the gap before it in `gap`."""
    order = np.argsort(at, kind="stable")
    at, times = at[order], times[order]
    firsts = np.concatenate([[True], at[1:] != at[:-1]]) if len(at) else np.zeros(0, bool)
    starts = np.flatnonzero(firsts)
    counts = np.diff(np.append(starts, len(at)))
    working = counts > _MOST
    ends = starts + counts - 1
    lines["doubled"][at[starts[working]]] = lines["gap"][at[starts[working]]] = 0
    lines["unheard"][at[starts[working]]] = times[ends[working]]
    for rank in range(_MOST):
        some = starts[~working & (counts > rank)] + rank
        _take(lines, at[some], times[some])


def _take(lines: ANY, at: NDArray[np.int64], times: NDArray[np.int64]) -> None:
    """One bare ACK of each of these lines."""
    gap, before = times - lines["unheard"][at], lines["gap"][at]
    gap[lines["unheard"][at] == 0] = 0
    twice = (before >= _LEAST_NS) & (gap >= _TWICE[0] * before) & (gap <= _TWICE[1] * before)
    lines["doubled"][at] = np.where(twice, lines["doubled"][at] + 1, 0)
    lines["gap"][at], lines["unheard"][at] = gap, times
