"""What sampled packets say about all packets, and how surely. Pure.

Each of `c` packets stands for N. Chance alone moves the count by its square root, so that the true rate lies within
196/√c % of the estimate in 95 of 100 cases (the normal approximation, as
with sFlow: www.sflow.org/packetSamplingBasics).
Below a few dozen packets that says little, so no window is judged that can't hold `Sampling.least` of them at the
limit: windows are widened instead, and limits that would need more than a minute are raised.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf, sqrt

from rules.zone import Metric, Zone
from sensors.settings import Detecting

Z95 = 1.96
"""Standard deviations on either side that hold 95 % of a normal distribution."""
LONGEST_SECONDS = 60.0
"""The widest window."""
_LARGEST_BITS = 12_000
"""Of a packet: windows that judge bits must hold enough packets even if all are large."""
_IN_BITS = frozenset({Metric.BITS, Metric.UDP_BITS, Metric.OUTGOING_BITS})


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

    def lowest(self, metric: Metric) -> int:
        """The smallest limit that can be judged at all, in the metric's unit per second."""
        unit = _LARGEST_BITS if metric in _IN_BITS else 1
        return int(self.least_packets * unit / LONGEST_SECONDS) + 1

    def zones(self, zones: Iterable[Zone]) -> tuple[Zone, ...]:
        """The zones as they can be judged: limits that are too low raised, and nothing learned from so few packets."""
        if self.one_of == 1:
            return tuple(zones)
        return tuple(
            replace(
                zone,
                limits=self._raised(zone.limits),
                total_limits=self._raised(zone.total_limits),
                learned=False,
            )
            for zone in zones
        )

    def raised(self, zones: Iterable[Zone]) -> tuple[str, ...]:
        """A line for each limit that is too low for this sampling rate."""
        if self.one_of == 1:
            return ()
        return tuple(
            f"zone {zone.name}: limit {metric.value}={limit} is judged as {self.lowest(metric)}: "
            f"one packet of {self.one_of} says no more within a minute"
            for zone in zones
            for metric, limit in (*zone.limits, *zone.total_limits)
            if limit < self.lowest(metric)
        )

    def detecting(self, plain: Detecting, zones: Iterable[Zone]) -> Detecting:
        """Windows wide enough for the limits of these zones, as `zones` gave them."""
        if self.one_of == 1:
            return plain
        limits = [one for zone in zones for one in (*zone.limits, *zone.total_limits)]
        least_bits = min((limit for metric, limit in limits if metric in _IN_BITS), default=inf)
        least_packets = min((limit for metric, limit in limits if metric not in _IN_BITS), default=inf)
        short = max(plain.short_seconds, self.least_packets * _LARGEST_BITS / least_bits)
        long = max(plain.long_seconds, short, self.least_packets / least_packets)
        return replace(
            plain,
            tick_seconds=min(0.5, max(plain.tick_seconds, short / 2)),
            short_seconds=short,
            # In between by ratio: how many snapshots are kept grows with long over middle.
            middle_seconds=min(long, max(plain.middle_seconds, sqrt(short * long))),
            long_seconds=long,
            hold_seconds=max(plain.hold_seconds, short),
            minimum_packets=self.least_packets,
            sampled=self.one_of,
        )

    @staticmethod
    def muted(zones: Iterable[Zone]) -> tuple[Zone, ...]:
        """The zones without limits: until the widest window is full, few packets would be divided by little time."""
        return tuple(replace(zone, limits=(), total_limits=()) for zone in zones)

    def _raised(self, limits: tuple[tuple[Metric, int], ...]) -> tuple[tuple[Metric, int], ...]:
        return tuple((metric, max(limit, self.lowest(metric))) for metric, limit in limits)
