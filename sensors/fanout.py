"""The tables of several shards, each written by one processor, as those of one sensor.

All rows are in one array, so that whoever looks at targets need not know of shards: first the hosts and prefixes of
each shard, then blocks of parts, then zones, then what each shard counted for zones. Steering puts a target's packets
into one shard; only zones get some in several, and are summed up before each tick. Nothing here may be asked while a
shard counts.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from rules.match import Network
from sensors import tables
from sensors.headers import COLUMNS, TOTALS, WORDS, Total
from sensors.steering import shard_of
from sensors.tables import (
    ANY,
    BASES_AT,
    BLOCK_ROWS,
    BLOCKS,
    CLOCK_STEP,
    COVERING,
    EPOCH,
    FIRST_ROW,
    MOST_WARM,
    MOST_ZONES,
    PINNED,
    ROW_WORDS,
    SCREEN_AT,
    SEED,
    SIGNED,
    TOTALS_AT,
    UNSIGNED,
    UNWATCHED_AT,
    WARM,
    WARM_AT,
    ZONES_AT,
    Tables,
    in_order,
)


@dataclass(frozen=True, slots=True)
class Fanned(Tables):
    """What the engine sees. `index`, `ring` and `normal` are empty: each of the `parts` has its own; `state` is the
    engine's."""

    parts: tuple[Tables, ...] = ()

    @property
    def arrays(self) -> tuple[ANY, ...]:
        """Nobody counts into all of it."""
        raise TypeError("packets are counted into a shard's tables")

    @property
    def shards(self) -> tuple[Tables, ...]:
        """As `Tables.shards`."""
        return self.parts

    def holding(self, target: Network) -> tuple[Tables, ...]:
        """As `Tables.holding`: one shard for all but wide prefixes."""
        number = shard_of(target, len(self.parts))
        return self.parts if number is None else (self.parts[number],)

    @property
    def used(self) -> int:
        """As `Tables.used`."""
        return sum(part.used for part in self.parts)

    def in_use(self, begin: int, end: int) -> SIGNED:
        """As `Tables.in_use`, one shard behind the other. Where one grows meanwhile, a few rows come again."""
        out, before = [], 0
        for part in self.parts:
            first = max(begin - before, 0)
            rows = np.arange(first, max(first, min(end - before, part.used)))
            out.append(rows + int(part.state[FIRST_ROW]))
            before += part.used
        return np.concatenate(out)

    @property
    def reach(self) -> int:
        """As `Tables.reach`."""
        return int(self.parts[-1].state[FIRST_ROW]) + self.parts[-1].used

    @property
    def remembers(self) -> int:
        """As `Tables.remembers`."""
        return sum(len(part.ring) for part in self.parts)

    @property
    def totals(self) -> SIGNED:
        """As `Tables.totals`, but a copy."""
        own = self.state[TOTALS_AT : TOTALS_AT + TOTALS]
        out: SIGNED = own + np.sum([part.totals for part in self.parts], axis=0)
        # Of one step of the clock each shard tells.
        out[Total.CLOCK_STEPS] = max(int(part.totals[Total.CLOCK_STEPS]) for part in self.parts)
        return out

    @property
    def clock_ns(self) -> int:
        """As `Tables.clock_ns`."""
        return max(part.clock_ns for part in self.parts)

    def since(self, moment_ns: int) -> ANY:
        """As `Tables.since`."""
        return in_order([part.since(moment_ns) for part in self.parts])

    def count_since(self, moment_ns: int) -> int:
        """As `Tables.count_since`."""
        return sum(part.count_since(moment_ns) for part in self.parts)

    def history(self) -> ANY:
        """As `Tables.history`, but a copy."""
        return np.concatenate([part.history() for part in self.parts])

    def protecting(self, prefixes: UNSIGNED) -> Tables:
        """As `Tables.protecting`."""
        parts = tuple(part.protecting(prefixes) for part in self.parts)
        return replace(self, prefixes=prefixes, parts=parts)

    def gather(self) -> None:
        """Zones are summed up, lists of warm rows put together, clocks that were set are moved alike."""
        step = max(int(part.state[CLOCK_STEP]) for part in self.parts)
        for part in self.parts:
            part.state[CLOCK_STEP] = step
            self._take_warm(part.state)
        first = int(self.state[ZONES_AT])
        zones = min(int(self.prefixes[:, 4].max(initial=0)) + 1, MOST_ZONES)
        each = self.rows[first + MOST_ZONES :].reshape(len(self.parts), MOST_ZONES, ROW_WORDS)
        self.rows[first : first + zones, :PINNED] = each[:, :zones, :PINNED].sum(axis=0)

    def _take_warm(self, state: SIGNED) -> None:
        at, found = int(self.state[WARM]), int(state[WARM])
        taken = min(found, MOST_WARM - at)
        self.state[WARM_AT + at : WARM_AT + at + taken] = state[WARM_AT : WARM_AT + taken]
        bases, size = BASES_AT + at * COLUMNS, taken * COLUMNS
        self.state[bases : bases + size] = state[BASES_AT : BASES_AT + size]
        self.state[UNWATCHED_AT] += found - taken
        self.state[WARM], state[WARM] = at + taken, 0

    def spread(self, *, limits: bool = False) -> None:
        """As `Tables.spread`."""
        for part in self.parts:
            part.state[EPOCH], part.state[COVERING] = self.state[EPOCH], self.state[COVERING]
            if limits:
                part.state[SCREEN_AT:WARM_AT] = self.state[SCREEN_AT:WARM_AT]


def make(
    protected: Iterable[tuple[Network, int]] = (),
    *,
    shards: int = 1,
    rows: int = 131_072,
    ring: int = 131_072,
    normal: int = 65_536,
    keep_outgoing: bool = False,
    conversations: bool = False,
) -> Tables:
    """As `tables.make`, for so many shards: each gets its part of what is asked for, rounded down to a power of two."""
    if shards == 1:
        return tables.make(
            protected, rows=rows, ring=ring, normal=normal, keep_outgoing=keep_outgoing, conversations=conversations
        )
    hosts, ring, normal = (part_of(whole, shards) for whole in (rows, ring, normal))
    zones_at = shards * hosts + BLOCKS * BLOCK_ROWS
    every = tables.aligned((zones_at + (1 + shards) * MOST_ZONES, ROW_WORDS), np.int64)
    prefixes, reflectors = tables.prefix_table(protected), tables.reflector_ports(conversations)
    seed = secrets.randbits(63)

    def shard(number: int) -> Tables:
        state = tables.new_state(hosts, zones_at + (1 + number) * MOST_ZONES, keep_outgoing=keep_outgoing)
        state[FIRST_ROW], state[SEED] = number * hosts, seed
        return Tables(
            index=tables.new_index(hosts),
            rows=every,
            ring=tables.aligned((ring, WORDS), np.uint64),
            normal=tables.aligned((normal, WORDS), np.uint64),
            state=state,
            prefixes=prefixes,
            reflectors=reflectors,
        )

    whole = tables.new_state(shards * hosts, zones_at, keep_outgoing=keep_outgoing)
    whole[SEED] = seed
    nothing = np.zeros((0, WORDS), np.uint64)
    return Fanned(
        index=nothing.reshape(-1),
        rows=every,
        ring=nothing,
        normal=nothing,
        state=whole,
        prefixes=prefixes,
        reflectors=reflectors,
        parts=tuple(map(shard, range(shards))),
    )


def part_of(whole: int, shards: int) -> int:
    """The largest power of two that is there for each shard."""
    return 1 << max(6, (whole // shards).bit_length() - 1)
