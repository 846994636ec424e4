"""What targets usually get, moved on at each tick: averages, learned limits, kept packets of normal times.

What is under attack or suspected teaches nothing. A capture file tells what came before its attacks by itself, so of
one nothing is kept.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from rules.zone import Zone
from sensors.attack import Attack
from sensors.baseline_limits import Learning
from sensors.covering import Covering
from sensors.headers import Column
from sensors.learned import LearnedLimits, frozen
from sensors.limits import Measures
from sensors.newest import Fresh
from sensors.reservoir import Reservoir, doubtful, keys_of
from sensors.tables import LINE, REBORN, Tables
from sensors.usual import BATCH_NS, Usual

FRESH, FRESH_TICKS = 1_024, 4
"""New packets looked at for what targets usually get, and once in how many ticks."""


class Habits:
    """Of all targets."""

    def __init__(
        self,
        tables: Tables,
        covering: Covering,
        measures: Measures,
        zones: Sequence[Zone],
        learning: Learning | None,
        *,
        judging: bool,
    ) -> None:
        """`learning`: learn further limits for the zones that want them; `judging`: of a capture file."""
        self._covering, self._judging, self._ticks = covering, judging, 0
        self.learned = LearnedLimits(tables, measures, zones, learning) if learning else None
        self.usual = Usual(tables, 0 if judging else BATCH_NS)
        self.reservoir = Reservoir(places=1) if judging else Reservoir()
        shards = len(tables.shards)
        self._fresh = [Fresh(FRESH // shards) for _ in range(shards)]

    def protect(self, measures: Measures, zones: Sequence[Zone]) -> None:
        """Other zones from now on."""
        if self.learned:
            self.learned.protect(measures, zones)

    def warm_up(self) -> None:
        """Compiles, or loads, what all this needs."""
        self.reservoir.warm_up()
        self.usual.warm_up()

    def learn(self, tables: Tables, zone_rows: range, attacks: Mapping[int, Attack], now: int, seen: datetime) -> None:
        """From those whose turn it is: what they got since the last time."""
        due = self.usual.due(now, zone_rows)
        if not len(due):
            return
        if self.learned:
            self.learned.forget(due[tables.rows[due, REBORN] != 0])
        rows, rates, seconds = self.usual.visit(due, now)
        if not len(rows):
            return
        still = frozen(tables, self._covering, rows, attacks)
        if self.learned:
            self.learned.observe(rows, rates, still, seconds, seen)
        if not self._judging:
            hosts = ~still & (tables.rows[rows, LINE] == 0)
            self.reservoir.consider(keys_of(tables, rows[hosts]), rates[hosts, Column.PACKETS], now)

    def keep(self, tables: Tables, zones: Sequence[Zone], suspects: Collection[int]) -> None:
        """Some of what came since the last time is normal: where nothing is suspected."""
        self._ticks += 1
        if self._judging or self._ticks % FRESH_TICKS:
            return
        self.reservoir.block(*doubtful(tables, suspects, zones))
        for fresh, shard in zip(self._fresh, tables.shards, strict=True):
            self.reservoir.fill(fresh.take(shard))
