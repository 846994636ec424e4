"""How an attack's rate goes over time: when each packet comes, for a rate, a begin and an end. Pure."""

from collections.abc import Callable

import numpy as np

from lab.frames import Numbers
from lab.scenario_order import even

Shape = Callable[[float, float, float, np.random.Generator], Numbers]
"""Rate in packets a second, begin and end in seconds, what is drawn from -> times in ns, ascending."""


def pulses(rate: float, begin: float, end: float, random: np.random.Generator) -> Numbers:
    """A second at full rate, a second of silence, over and over."""
    parts = [even(rate, at, min(at + 1.0, end), random) for at in np.arange(begin, end, 2.0).tolist()]
    return np.concatenate(parts)


def stairs(rate: float, begin: float, end: float, random: np.random.Generator) -> Numbers:
    """A fifth of the rate more each step; the last two steps are above a limit that the full rate exceeds by 1.4."""
    edges = np.linspace(begin, end, 6).tolist()
    steps = zip(edges[:-1], edges[1:], range(1, 6), strict=True)
    return np.concatenate([even(rate * number / 5, low, high, random) for low, high, number in steps])


def microbursts(rate: float, begin: float, end: float, random: np.random.Generator) -> Numbers:
    """Bursts of 40 ms, ten times as fast, four a second: one and a half times the rate on average."""
    starts = np.arange(begin, end - 0.05, 0.25) + random.uniform(0, 0.1)
    return np.concatenate([even(rate * 9, at, at + 0.04, random) for at in starts.tolist()])


SHAPES: dict[str, Shape] = {
    "steady": even,
    "pulses": pulses,
    "stairs": stairs,
    "microbursts": microbursts,
    "in a peak": lambda *order: even(*order),
}
