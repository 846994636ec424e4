"""What a tick costs with 100,000 known hosts of which 10,000 are active, and what they cost in memory.

The peer is this project's own way until version 0.1: a copy of every used row at each tick, kept below as a reference.
Both see the same packets in the same run. Processor time of the thread; means, since a few ticks learn for the others.
"""

import os
import statistics
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.result import TARGET, Result
from rules.zone import Zone
from sensors import walk
from sensors.baseline_limits import Learning
from sensors.engine import Engine
from sensors.headers import COLUMNS, HEADER, MAPPED, Column
from sensors.tables import ANY, Tables

HOSTS, ACTIVE, TICKS = 100_000, 10_000, 100
TICK_NS = 40_000_000
PROMISED_MILLISECONDS = 2.0
PEER = "a copy of the whole table at each tick"
ZONE = Zone("bench", (IPv4Network("10.0.0.0/8"),))


class WholeCopies:
    """Windows as differences of copies of all used rows: seven of them, of every column."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._copies: deque[NDArray[np.int64]] = deque(maxlen=7)
        self._spare = np.zeros((HOSTS + 1024, COLUMNS), np.int64)

    def tick(self) -> int:
        """Copies, and looks for rows that gained much against the oldest copies."""
        used = self._tables.used
        counts = self._tables.rows[:used, :COLUMNS]
        hot = np.zeros(used, bool)
        for copy in list(self._copies)[-3:]:
            for column in (Column.PACKETS, Column.BYTES):
                hot[: len(copy)] |= counts[: len(copy), column] - copy[:, column] >= 100_000
        snapshot = self._spare[:used].copy()
        snapshot[:] = counts
        self._copies.append(snapshot)
        return int(hot.sum())


def packets(first: int, count: int, each: int, when: int) -> ANY:
    """So many records to each of the hosts, every third of TCP."""
    out = np.zeros(count * each, HEADER)
    out["time"] = when
    out["destination_low"] = MAPPED | 0x0A000000 | (np.arange(count * each) % count + first)
    out["source_low"] = MAPPED | 0xC0000201
    out["protocol"] = np.where(np.arange(len(out)) % 3 == 0, 6, 17)
    out["tcp_flags"], out["length"], out["weight"] = 16, 400, 1
    out["source_port"], out["destination_port"] = 5_000, 443
    return out


def resident_megabytes() -> float:
    """What this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def run() -> Iterator[Result]:
    """Milliseconds a tick of both ways; bytes a host."""
    engine = Engine((ZONE,), lambda detection, attack: None, learning=Learning())
    engine.warm_up()
    tables, seen = engine.tables, datetime.now(UTC)
    engine.start(0)
    engine.tick(1, seen)
    before = resident_megabytes()
    now = TICK_NS
    for part in range(10):
        walk.tallies(*tables.arrays, walk.words(packets(part * HOSTS // 10, HOSTS // 10, 1, now)), 0, walk.NEVER)
    for _ in range(600):
        # Two rounds through all hosts, so that everything kept of them is there.
        now += TICK_NS
        engine.tick(now, seen)
    per_host = (resident_megabytes() - before) * (1 << 20) / HOSTS
    yield Result.against("tick_cost.bytes_per_host", per_host, "bytes", TARGET, 1_000, f"{tables.used} rows")
    whole, ours, theirs = WholeCopies(tables), list[float](), list[float]()
    for number in range(TICKS):
        now += TICK_NS
        entries = packets(number * 997 % (HOSTS - ACTIVE), ACTIVE, 2, now)
        walk.tallies(*tables.arrays, walk.words(entries), 0, walk.NEVER)
        began = time.thread_time()
        engine.tick(now, seen)
        between = time.thread_time()
        whole.tick()
        ours.append((between - began) * 1e3)
        theirs.append((time.thread_time() - between) * 1e3)
    mine, other = statistics.fmean(ours), statistics.fmean(theirs[7:])
    note = f"mean; {max(ours):.1f} at most; {ACTIVE} of {HOSTS} hosts active"
    yield Result.against("tick_cost.tick", mine, "ms", PEER, other, note)
    yield Result.against("tick_cost.tick_promised", mine, "ms", TARGET, PROMISED_MILLISECONDS)
