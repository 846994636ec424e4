"""The limits that rates are held against, as the compiled passes of a tick take them: who must be looked at more
closely, and what its rates are to its limits. Pure.
"""

import numpy as np

from sensors import window_kernel as kernel
from sensors.headers import BYTE_COLUMNS, COLUMNS
from sensors.limits import FLOATS, Measures
from sensors.readings import LONG, MIDDLE, SHORT, Judgement
from sensors.tables import LENGTHS

DEVIATIONS = 3.0
"""By so many standard deviations of a Poisson count must a window exceed its limit: at 80 packets by a third, at 8,000
by a thirtieth."""
LARGEST_BITS = 12_000
"""Of a packet: so few packets may a window hold that holds so many bits."""
DIVIDED_AT = 0.6
"""The share of the least limit of a part at which a prefix is divided, so that its parts are known in time."""
COOL = np.where(np.isin(LENGTHS, (24, 48, 52, 56, 60, 0)), DIVIDED_AT, 1.0) * 0.999
"""For each line the share of the least limits below which nothing needs to be read: what has parts is read sooner."""


class Yardstick:
    """Of all zones."""

    def __init__(
        self,
        measures: Measures,
        seconds: tuple[float, float, float],
        minimum: int,
        *,
        long_only: bool = False,
        floors: FLOATS | None = None,
        sampled: int = 1,
    ) -> None:
        """As `Windows` has it."""
        self.limits = measures.lines
        """Zone by line by measure."""
        self.screen = measures.screen(seconds[SHORT] / 2, floors)
        """For the counting kernel."""
        self._minimum, self._long_only = minimum, long_only
        # The windows by name, and the short one as it is.
        self._seconds = np.array((*seconds, 0.0))
        in_bits = measures.sums[list(BYTE_COLUMNS)].any(axis=0)
        self.units = np.where(in_bits, LARGEST_BITS, 1.0) * sampled
        """What chance counts in, by measure."""
        limits = self.limits.min(axis=(0, 1))
        if floors is not None:
            limits = np.minimum(limits, floors)
        # A sum reaches its limit only where one of its terms reaches its share.
        terms = np.maximum((measures.sums > 0).sum(axis=0), 1)
        shares = np.where(measures.sums > 0, limits / terms / np.maximum(measures.sums, 1e-9), np.inf)
        self.least = (
            float(limits[~in_bits].min(initial=np.inf)),
            float(limits[in_bits].min(initial=np.inf)),
            shares.min(axis=1),
            COOL,
        )
        """What is too little to be looked at: packets, bits, by column, and the share of that by line."""
        self._terms = np.ascontiguousarray(np.argwhere(measures.sums.T))
        self._weights = np.ascontiguousarray(measures.sums.T[tuple(self._terms.T)], np.float64)

    def judge(
        self, rates: tuple[FLOATS, FLOATS, FLOATS], limits: FLOATS, learned: FLOATS, short_seconds: float
    ) -> Judgement:
        """What rates are to the zones' limits and to learned ones."""
        severity, fast = np.empty(limits.shape), np.empty(limits.shape)
        crossed, loud = np.empty(limits.shape, np.uint8), np.empty(len(limits), np.uint8)
        self._seconds[-1] = short_seconds
        kernel.judge(
            rates[SHORT], rates[MIDDLE], rates[LONG], self._terms, self._weights, limits, learned, self.units,
            self._seconds, self._minimum, self._minimum - 0.5, self._long_only, DEVIATIONS,
            severity, fast, crossed, loud,
        )  # fmt: skip
        return Judgement(severity, fast, crossed, loud)

    def warm_up(self) -> None:
        """Compiles, or loads, what judging needs."""
        nobody, nothing = np.zeros((0, COLUMNS)), np.zeros((0, len(self.units)))
        self.judge((nobody, nobody, nobody), nothing, nothing, 1.0)
