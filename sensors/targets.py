"""Which hosts get most right now, for people to look at. Reads the counters that the kernel writes, and changes
nothing; a number torn by a writer shows for a second and decides nothing."""

import math

import numpy as np
from numpy.typing import NDArray

from rules.zone import Zone
from sensors.headers import COLUMNS, METRIC_COLUMNS, Column
from sensors.sampling import Sampling
from sensors.tables import KEY_LOW, LINE, WATCH, ZONE, Tables

SHOWN, WATCHED = 20, 400
"""Hosts told of, and looked at whole: those with most packets, and as many of those near a limit."""


class TargetRates:
    """Counters of now minus counters of the last look.

    Of all targets only packets and bytes are kept from one look to the next: a copy of everything a hundred thousand
    hosts have counted costs more than to watch them. Those near their limits and those that get most are looked at
    whole, from the second look on.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._counts = np.zeros((0, 2), np.int64)
        self._then = 0.0
        self._closer: dict[tuple[int, int], NDArray[np.int64]] = {}
        """What those looked at whole had counted, by row and key."""

    def look(self, tables: Tables, zones: tuple[Zone, ...], now: float) -> list[dict[str, object]]:
        """The hosts with the highest rates and severities since the last look; `now` in seconds."""
        used = tables.reach
        counts = tables.rows[:used, Column.PACKETS : Column.BYTES + 1].copy()
        common = min(len(self._counts), used)
        fresh = counts.copy()
        fresh[:common] -= self._counts[:common]
        # A row that changed hands began at zero.
        fresh = np.where(fresh < 0, counts, fresh)
        seconds, first = max(now - self._then, 1e-3), self._then == 0.0
        chosen = _interesting(tables, fresh[:, 0])
        rates = np.maximum(self._gained(tables, chosen, fresh), 0) / seconds
        self._counts, self._then = counts, now
        if first or not used:
            return []
        severity = _severity(rates, tables.rows[chosen, ZONE], zones)
        packets = np.round(rates[:, Column.PACKETS])
        order = np.lexsort((-packets, -severity))
        order = order[packets[order] > 0][:SHOWN]
        return [
            self._line(tables, zones, int(chosen[at]), rates[at], float(severity[at]), seconds) for at in order.tolist()
        ]

    def _gained(self, tables: Tables, rows: NDArray[np.int64], fresh: NDArray[np.int64]) -> NDArray[np.int64]:
        """What each of these rows counted since the last look; of those not looked at whole then, packets and bytes."""
        whole = tables.rows[rows, :COLUMNS]
        out = np.zeros_like(whole)
        out[:, : Column.BYTES + 1] = fresh[rows]
        names = list(zip(rows.tolist(), tables.rows[rows, KEY_LOW].tolist(), strict=True))
        for at, name in enumerate(names):
            if (before := self._closer.get(name)) is not None:
                out[at] = whole[at] - before
        self._closer = {name: whole[at] for at, name in enumerate(names)}
        return out

    def _line(
        self,
        tables: Tables,
        zones: tuple[Zone, ...],
        row: int,
        rates: NDArray[np.float64],
        severity: float,
        seconds: float,
    ) -> dict[str, object]:
        zone = int(tables.rows[row, ZONE])
        packets = float(rates[Column.PACKETS])
        interval = self._sampling.interval_percent(packets * seconds)
        host = tables.host(row)
        return {
            "target": str(host.network_address),
            "zone": zones[zone].name if zone < len(zones) else None,
            "packets_per_second": round(packets),
            "bits_per_second": round(float(rates[Column.BYTES]) * 8),
            "severity": round(severity, 3),
            "interval_percent": round(interval, 1) if math.isfinite(interval) else None,
        }


def _interesting(tables: Tables, fresh: NDArray[np.int64]) -> NDArray[np.int64]:
    """The hosts that gained most packets, and those that the engine watches; prefixes are counted beside their hosts
    and not shown."""
    active = np.flatnonzero(fresh)
    most = active[np.argsort(-fresh[active])]
    near = most[tables.rows[most, WATCH] != 0][:WATCHED]
    most = most[:WATCHED]
    rows = np.unique(np.concatenate((most, near)))
    hosts: NDArray[np.int64] = rows[tables.rows[rows, LINE] == 0]
    return hosts


def _severity(rates: NDArray[np.float64], zone_of: NDArray[np.int64], zones: tuple[Zone, ...]) -> NDArray[np.float64]:
    """Each host's highest rate over its zone's limit; 0 outside every zone."""
    out = np.zeros(len(rates))
    for number, zone in enumerate(zones):
        member = zone_of == number
        if not member.any():
            continue
        for metric, limit in zone.limits:
            columns = METRIC_COLUMNS.get(metric, ())
            bits = 8 if any(column in (Column.BYTES, Column.UDP_BYTES) for column in columns) else 1
            total = sum((rates[member, column] for column in columns), np.zeros(int(member.sum())))
            out[member] = np.maximum(out[member], total * bits / limit)
    return out
