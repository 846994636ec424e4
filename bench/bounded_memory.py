"""Does memory stay bounded, and an attack found as fast, while a million sources flood 100,000 protected hosts?

Records go through the engine as the kernel counts them, at the ticks of the live loop, on a simulated clock; a real
attack begins in the midst of it. The same attack without the flood says how fast it is found then. Nothing but the
tables' size may decide what the process holds: they are given half the hosts that come, so that rows must be taken
from silent ones.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

import numpy as np

from bench.result import TARGET, Result
from bench.tick_cost import TICK_NS, resident_megabytes
from rules.traffic import Detection
from rules.zone import DEFAULT_LIMITS, Metric, Zone
from sensors import walk
from sensors.baseline_limits import Learning
from sensors.engine import Engine
from sensors.headers import HEADER, MAPPED, Total
from sensors.settings import HOST_BYTES, PROCESS_MEGABYTES, Memory
from sensors.tables import ANY

HOSTS, SOURCES = 100_000, 1_000_000
MEMORY = Memory(hosts=65_536, recent_packets=131_072, normal_packets=65_536)
PER_TICK, TICKS, BEGIN = 20_000, 600, 300
"""Spoofed packets a tick of 40 ms (500,000/s), ticks, and the one in which the attack begins."""
VICTIM = IPv4Address("10.0.200.9")
ZONE = Zone("bench", (IPv4Network("10.0.0.0/8"),))
RATE = 3 * dict(DEFAULT_LIMITS)[Metric.UDP_PACKETS]
"""Of the attack, packets a second."""
ALLOWED_DELAY_SECONDS = 2 * TICK_NS / 1e9
"""Later than without a flood."""
_WARM = 450
"""The tick at which everything is there that is kept of a flood and of the attack within."""


def run() -> Iterator[Result]:
    """Megabytes after and during, and seconds to the detection."""
    quiet, _, _, _ = played(flooded=False)
    seconds, grown, lost, reclaimed = played(flooded=True)
    told = f"{SOURCES:,} sources, {HOSTS:,} hosts in {MEMORY.hosts:,} rows, {reclaimed:,} rows taken from silent hosts"
    most = PROCESS_MEGABYTES + MEMORY.hosts * HOST_BYTES / (1 << 20)
    yield Result.against("bounded_memory.resident", resident_megabytes(), "MB", TARGET, most, told)
    yield Result.against("bounded_memory.growth", grown, "MB", TARGET, 16, "in six seconds of flood and attack")
    yield Result.against("bounded_memory.uncounted", lost, "packets", TARGET, 0, "because the table was full")
    yield Result.against("bounded_memory.missed", int(seconds is None), "attacks", TARGET, 0, told)
    if seconds is not None and quiet is not None:
        allowed = quiet + ALLOWED_DELAY_SECONDS
        note = f"{quiet:.3f} s without the flood; two ticks more are allowed"
        yield Result.against("bounded_memory.time_to_detect", seconds, "s", TARGET, allowed, note)


def played(flooded: bool) -> tuple[float | None, float, int, int]:
    """Seconds from the attack's first packet to its detection, megabytes gained when all was full, packets not counted,
    rows taken from silent hosts."""
    heard: list[Detection] = []
    engine = Engine((ZONE,), lambda one, attack: heard.append(one), memory=MEMORY, learning=Learning())
    engine.warm_up()
    random, begun = np.random.default_rng(4), datetime.now(UTC)
    engine.start(0)
    before = resident_megabytes()
    for tick in range(1, TICKS + 1):
        now = tick * TICK_NS
        parts = [_flood(tick, now, random)] if flooded else []
        if tick > BEGIN:
            parts.append(_attack(now, random))
        if parts:
            entries = np.concatenate(parts)
            entries.sort(order="time", kind="stable")
            walk.tallies(*engine.tables.arrays, walk.words(entries), 0, walk.NEVER)
        engine.tick(now, begun + timedelta(seconds=now / 1e9))
        if tick == _WARM:
            before = resident_megabytes()
    victim = [one for one in heard if one.confirmed and one.target.network_address == VICTIM]
    first = (victim[0].seen - begun).total_seconds() - BEGIN * TICK_NS / 1e9 if victim else None
    totals = engine.tables.totals
    return first, resident_megabytes() - before, int(totals[Total.OVERFLOW]), int(totals[Total.RECLAIMED])


def _flood(tick: int, now: int, random: np.random.Generator) -> ANY:
    """A part of the hosts in turns, each packet from the next source."""
    out = _records(PER_TICK, now, random)
    number = np.arange(PER_TICK) + tick * PER_TICK
    out["destination_low"] = MAPPED | (int(IPv4Address("10.0.0.0")) + number % HOSTS)
    # Steps that share no factor with the number of sources go through all of them.
    out["source_low"] = MAPPED | (0x40000000 + number * 7_919 % SOURCES)
    return out


def _attack(now: int, random: np.random.Generator) -> ANY:
    out = _records(int(RATE * TICK_NS / 1e9), now, random)
    out["destination_low"] = MAPPED | int(VICTIM)
    out["source_low"] = MAPPED | random.integers(0xC0000000, 0xC0001000, len(out))
    return out


def _records(count: int, now: int, random: np.random.Generator) -> ANY:
    out = np.zeros(count, HEADER)
    out["time"] = now - TICK_NS + np.sort(random.integers(0, TICK_NS, count))
    out["protocol"], out["length"], out["weight"] = 17, 480, 1
    out["source_port"], out["destination_port"] = random.integers(1024, 65536, count), 9_987
    return out
