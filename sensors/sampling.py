"""What sampled packets say about all packets, and how surely. Pure.

Each of `c` packets stands for N. Chance alone moves the count by its square root, so that the true rate lies within
196/√c % of the estimate in 95 of 100 cases (the normal approximation; RFC 5475 §3, sFlow's "packet sampling theory").
Below a few dozen packets that says nothing, which is why nothing is decided on fewer than `Sampling.least`.
"""

from dataclasses import dataclass
from math import inf, sqrt

Z95 = 1.96
"""Standard deviations on either side that hold 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """One packet of `one_of` is seen."""

    one_of: int = 1
    least: int = 50
    """No attack is declared on fewer sampled packets: 50 are good for 28 %."""

    def interval_percent(self, packets: float) -> float:
        """Half the width of the 95 % interval around a rate that so many packets (as counted, weights included) gave;
        0 when every packet is seen, infinite when there were none."""
        if self.one_of == 1:
            return 0.0
        return 100 * Z95 / sqrt(packets / self.one_of) if packets > 0 else inf

    @property
    def least_packets(self) -> int:
        """As counted, weights included: what a window must hold."""
        return self.least * self.one_of

    def long_seconds(self, least_limit: float, nominal: float) -> float:
        """How long the longest window must be for the smallest limit (packets per second) to be judged on enough
        packets; at most a minute: what would need longer can't be told at this sampling rate."""
        if self.one_of == 1 or least_limit <= 0:
            return nominal
        return min(60.0, max(nominal, self.least_packets / least_limit))
