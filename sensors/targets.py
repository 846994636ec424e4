"""Which hosts get most right now, for people to look at. Reads the counters that the kernel writes, and changes
nothing; a number torn by a writer shows for a second and decides nothing."""

import math

import numpy as np
from numpy.typing import NDArray

from rules.zone import Zone
from sensors.headers import COLUMNS, METRIC_COLUMNS, Column
from sensors.sampling import Sampling
from sensors.tables import KEY_HIGH, KEY_LOW, ZONE, Tables

SHOWN = 20


class TargetRates:
    """Counters of now minus counters of the last look."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._counts = np.zeros((0, COLUMNS), np.int64)
        self._keys = np.zeros((0, 2), np.int64)
        self._then = 0.0

    def look(self, tables: Tables, zones: tuple[Zone, ...], now: float) -> list[dict[str, object]]:
        """The hosts with the highest rates and severities since the last look; `now` in seconds."""
        used = tables.used
        counts = tables.rows[:used, :COLUMNS].copy()
        keys = tables.rows[:used, [KEY_HIGH, KEY_LOW]]
        common = min(len(self._counts), used)
        fresh = counts.copy()
        # A row that changed hands began at zero.
        same = (keys[:common] == self._keys[:common]).all(axis=1)
        fresh[:common][same] -= self._counts[:common][same]
        seconds, first = max(now - self._then, 1e-3), self._then == 0.0
        self._counts, self._keys, self._then = counts, keys, now
        if first or not used:
            return []
        rates = np.maximum(fresh, 0) / seconds
        severity = _severity(rates, tables.rows[:used, ZONE], zones)
        # Prefixes are counted beside their hosts; here hosts alone are shown.
        by_rate, by_severity = (np.argsort(-column)[: 4 * SHOWN] for column in (rates[:, Column.PACKETS], severity))
        chosen = [row for row in dict.fromkeys([*by_severity.tolist(), *by_rate.tolist()]) if _is_host(tables, row)]
        lines = [self._line(tables, zones, row, rates[row], float(severity[row]), seconds) for row in chosen]
        lines = [line for line in lines if line["packets_per_second"]]
        return sorted(lines, key=_order)[:SHOWN]

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


def _is_host(tables: Tables, row: int) -> bool:
    host = tables.host(row)
    return host.prefixlen == host.max_prefixlen


def _order(line: dict[str, object]) -> tuple[float, float]:
    severity, packets = line["severity"], line["packets_per_second"]
    assert isinstance(severity, float) and isinstance(packets, int)
    return -severity, -packets


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
