"""Learned limits beside the zones' own: one baseline for hosts, one for whole /24 and /48, one for zones.

A limit of a zone always holds; what was learned only lowers it. What is under attack teaches nothing, nor do hosts
inside a prefix that is, nor what such a prefix lies in.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from rules.zone import Zone
from sensors.baseline import Baseline
from sensors.baseline_limits import Learning
from sensors.baseline_rhythm import LEAST, LEAST_OF_ONE, hour_of
from sensors.covering import Covering
from sensors.limits import FLOATS, Measures
from sensors.tables import (
    HOSTS,
    KEY_HIGH,
    KEY_LOW,
    LINE,
    MOST_ZONES,
    PARENT,
    WHOLE_24,
    WHOLE_48,
    WHOLE_ZONE,
    ZONE,
    ZONES_AT,
    Tables,
)
from sensors.watch import ROWS

ZONE_SCALE = 16.0
"""How many times a host's floors a whole zone must reach before its learned limits are judged."""


class LearnedLimits:
    """What is learned of every target that has a row; parts of divided prefixes learn nothing."""

    def __init__(
        self, tables: Tables, measures: Measures, zones: Sequence[Zone], settings: Learning | None = None
    ) -> None:
        self.settings = settings or Learning()
        self._tables, self._measures = tables, len(measures.names)
        self._zones = _names(zones)
        keys, wanted = tables.rows[:, KEY_HIGH : KEY_LOW + 1], [zone.learned for zone in zones]
        # Rows of zones have no keys of their own, and a zone keeps neither its number nor its row.
        self._zone_keys = np.zeros((len(tables.rows), 2), np.int64)
        self._name_zones()
        self._asked: tuple[object, ...] = ()
        self._answer: FLOATS = np.zeros((0, self._measures))
        hosts, least = int(tables.state[HOSTS]), 1 << 10
        self.parts = tuple(
            Baseline(
                keys, measures.names, measures.sums, limits,
                learned=wanted, settings=self.settings, scale=scale, kept=kept, quietest=quietest,
            )
            for keys, limits, scale, kept, quietest in zip(
                (keys, keys, self._zone_keys), _static(measures), _scales(zones),
                (max(hosts, least), max(hosts // 4, least), least), (LEAST_OF_ONE, LEAST_OF_ONE, LEAST), strict=True,
            )
        )  # fmt: skip
        """For hosts, prefixes and zones."""

    @property
    def zones(self) -> tuple[str, ...]:
        """Their names, by number."""
        return self._zones

    def protect(self, measures: Measures, zones: Sequence[Zone]) -> None:
        """Other zones from now on; those that stay keep what was learned of them."""
        wanted, before = [zone.learned for zone in zones], self._zones
        # Prefixes and zones get other rows, and are known by their keys.
        for part in self.parts[1:]:
            part.forget(np.arange(len(self._tables.rows)))
        self._zones = _names(zones)
        self._name_zones()
        self._asked = ()
        stay = [(before.index(name), number) for number, name in enumerate(self._zones) if name in before]
        for part, limits, scale in zip(self.parts, _static(measures), _scales(zones), strict=True):
            rhythm, typical, count = part.rhythm, part.typical, part.typical_count
            part.protect(limits, wanted, scale)
            for old, new in stay:
                part.rhythm.logs[new], part.rhythm.samples[new] = rhythm.logs[old], rhythm.samples[old]
                part.typical[new], part.typical_count[new] = typical[old], count[old]

    def _rows_of_zones(self) -> ROWS:
        first = int(self._tables.state[ZONES_AT])
        return np.arange(first, first + min(len(self._zones), MOST_ZONES))

    def _name_zones(self) -> None:
        for row, name in zip(self._rows_of_zones(), self._zones, strict=False):
            digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
            self._zone_keys[row] = np.frombuffer(digest, "<i8")

    def floors(self) -> FLOATS:
        """For each measure the rate below which nothing learned is ever judged."""
        return self.parts[0].least()

    def limits(self, rows: ROWS, when: datetime) -> FLOATS:
        """Row by measure, per second; infinite where nothing is learned."""
        # The same targets are busy tick after tick, and between two observations nothing is learned.
        lines, zones = self._tables.rows[rows, LINE], self._tables.rows[rows, ZONE]
        asked = (rows.tobytes(), lines.tobytes(), zones.tobytes(), hour_of(when))
        if asked != self._asked:
            self._asked, self._answer = asked, np.full((len(rows), self._measures), np.inf)
            for part, chosen in self._sorted(lines, zones):
                self._answer[chosen] = part.limits(rows[chosen], zones[chosen], when)
        return self._answer.copy()

    def observe(
        self, rows: ROWS, rates: FLOATS, frozen: NDArray[np.bool_], seconds: NDArray[np.float64], when: datetime
    ) -> None:
        """Learns from mean rates over so many seconds each."""
        self._asked = ()
        lines, zones = self._tables.rows[rows, LINE], self._tables.rows[rows, ZONE]
        for part, chosen in self._sorted(lines, zones):
            part.observe(rows, rates, zones, frozen, seconds, when, chosen)

    def forget(self, rows: ROWS) -> None:
        """These rows belong to other targets now."""
        self._asked = ()
        for part in self.parts if len(rows) else ():
            part.forget(rows)

    def _sorted(self, lines: ROWS, zones: ROWS) -> list[tuple[Baseline, NDArray[np.int64]]]:
        # Prefixes of earlier zones are nobody's: what was learned of them is for the row that they have now.
        prefixes = ((lines == WHOLE_24) | (lines == WHOLE_48)) & (zones < len(self._zones))
        groups = (lines == 0, prefixes, lines == WHOLE_ZONE)
        return [(part, np.flatnonzero(group)) for part, group in zip(self.parts, groups, strict=True) if group.any()]


def _names(zones: Sequence[Zone]) -> tuple[str, ...]:
    return tuple(zone.name for zone in zones)


def _scales(zones: Sequence[Zone]) -> tuple[float, float, float]:
    """How many hosts' floors hosts, prefixes and zones get."""
    return 1.0, max((zone.prefix_factor for zone in zones), default=1.0), ZONE_SCALE


def _static(measures: Measures) -> tuple[FLOATS, FLOATS, FLOATS]:
    return measures.limits, measures.lines[:, WHOLE_24], measures.lines[:, WHOLE_ZONE]


def frozen(tables: Tables, covering: Covering, rows: ROWS, attacked: Iterable[int]) -> NDArray[np.bool_]:
    """Which rows must not be learned from: under attack themselves, or part of what is, or what that lies in."""
    own, prefixes, zones = set[int](), set[int](), set[int]()
    for row in attacked:
        above = [*covering.above(row)]
        own.update((row, *above))
        if tables.rows[row, LINE] == WHOLE_ZONE:
            zones.add(int(tables.rows[row, ZONE]))
        elif tables.rows[row, LINE]:
            prefixes.update(other for other in (row, *above) if other < covering.first_zone)
    if not own:
        return np.zeros(len(rows), bool)
    # Looked up, since there are thousands of rows: no parent (-1) is the last row, which is no prefix.
    is_own, is_prefix = np.zeros((2, len(tables.rows)), bool)
    is_own[[*own]], is_prefix[[*prefixes]] = True, True
    found: NDArray[np.bool_] = is_own[rows] | is_prefix[tables.rows[rows, PARENT]]
    return found | np.isin(tables.rows[rows, ZONE], tuple(zones)) if zones else found
