"""What is measured and from what rate on it matters, for hosts, for the prefixes that cover them, and for whole zones.

Pure. A prefix may get more than a host: the zone's factor at /24 and /48, and geometrically less at lengths between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rules.zone import Metric, Zone
from sensors.headers import BYTE_COLUMNS, COLUMNS, METRIC_COLUMNS, Column, Kind
from sensors.tables import (
    HOT,
    LENGTHS,
    LINES,
    MOST_ZONES,
    SCREEN_BYTES,
    SCREEN_OUTGOING_BYTES,
    SCREEN_WORDS,
    SIGNED,
    WHOLE_24,
    WHOLE_48,
    WHOLE_ZONE,
)

FLOATS = NDArray[np.float64]

WARM_SHARE = 1 / 8
"""The share of a limit from which on a target is watched; what it got before is not known to the windows, so a limit
just above is found later by at most this share of a tick."""

_TCP_KINDS = {Kind.SYN, Kind.ACK, Kind.SYN_ACK, Kind.RST, Kind.FIN, Kind.TCP_NULL, Kind.TCP_XMAS, Kind.TCP_OTHER}


@dataclass(frozen=True)
class Measures:
    """What is measured and from what rate on it matters, for each zone."""

    names: tuple[str, ...]
    """`rules.zone.Metric` values, one for each measure."""
    sums: FLOATS
    """Column by measure: what each column adds to each measure; bytes count eightfold where bits are meant."""
    limits: FLOATS
    """Zone by measure, per second and host; infinite where there is no limit."""
    factors: FLOATS | None = None
    """For each zone, how many times that a whole /24 or /48 may get; None: prefixes are not looked at."""
    totals: FLOATS | None = None
    """Zone by measure, for all of the zone together."""
    wide: FLOATS | None = None
    """Zone by measure: what the limits of prefixes are made from; None: from those of hosts."""

    @cached_property
    def lines(self) -> FLOATS:
        """Zone by line (`tables.LENGTHS`) by measure."""
        out = np.full((len(self.limits), LINES, len(self.names)), np.inf)
        out[:, 0] = self.limits
        if self.factors is not None:
            base = self.limits if self.wide is None else self.wide
            for line in range(1, WHOLE_ZONE):
                out[:, line] = base * (self.factors ** reach(line))[:, None]
        if self.totals is not None:
            out[:, WHOLE_ZONE] = self.totals
        return out

    def screen(self, tick_seconds: float, floors: FLOATS | None = None) -> SIGNED:
        """What `sensors.heat` adds for each packet: zone by line by kind. `floors`: for each measure a rate from which
        on something else than these limits may matter."""
        limits = self.lines if floors is None else np.minimum(self.lines, floors)
        per_unit = (self.sums / limits[:, :, None, :]).max(axis=3)
        heat = np.zeros((*per_unit.shape[:2], SCREEN_WORDS))
        for kind in Kind:
            heat[:, :, kind] = per_unit[:, :, sorted(columns_of(kind))].max(axis=2)
        for column in (Column.HTTP, Column.TLS, Column.FLOWS, Column.OUTGOING):
            heat[:, :, column] = per_unit[:, :, column]
        heat[:, :, SCREEN_BYTES] = per_unit[:, :, [Column.BYTES, Column.UDP_BYTES]].max(axis=2)
        heat[:, :, SCREEN_OUTGOING_BYTES] = per_unit[:, :, Column.OUTGOING_BYTES]
        cost = np.minimum(np.ceil(heat * HOT / (WARM_SHARE * tick_seconds)), HOT).astype(np.int64)
        out = np.zeros((MOST_ZONES + 1, LINES, SCREEN_WORDS), np.int64)
        out[: min(len(cost), MOST_ZONES)] = cost[:MOST_ZONES]
        if len(cost) > MOST_ZONES:
            out[MOST_ZONES] = cost[MOST_ZONES:].max(axis=0)
        return out


def reach(line: int) -> float:
    """The exponent of the zone's factor at a line's prefix length: 0 for a host, 1 for /24 and /48."""
    length = LENGTHS[line]
    return (32 - length) / 8 if line <= WHOLE_24 else (128 - length) / (128 - LENGTHS[WHOLE_48])


def columns_of(kind: Kind) -> set[int]:
    """Every column that a packet of the kind may count in, bytes aside."""
    out = {int(Column.PACKETS), int(kind)}
    if kind in _TCP_KINDS or kind is Kind.FRAGMENT:
        out.add(int(Column.TCP))
    if kind in (Kind.UDP, Kind.AMPLIFICATION, Kind.FRAGMENT):
        out.add(int(Column.UDP))
    if kind is Kind.AMPLIFICATION:
        out.add(int(Column.FRAGMENTS))
    return out


def zone_measures(zones: Sequence[Zone]) -> Measures:
    """The limits of the zones, one measure for each metric."""
    metrics = tuple(Metric)
    sums = np.zeros((COLUMNS, len(metrics)))
    for number, metric in enumerate(metrics):
        for column in METRIC_COLUMNS[metric]:
            sums[column, number] = 8 if column in BYTE_COLUMNS else 1
    # The last line is for targets outside every zone: no limit is theirs.
    limits, totals = np.full((2, len(zones) + 1, len(metrics)), np.inf)
    for number, zone in enumerate(zones):
        for where, given in ((limits, zone.limits), (totals, zone.total_limits)):
            for metric, limit in given:
                where[number, metrics.index(metric)] = limit
    factors = np.array([*(zone.prefix_factor for zone in zones), np.inf])
    return Measures(tuple(metric.value for metric in metrics), sums, limits, factors, totals)
