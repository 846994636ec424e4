"""Distinct sources of an attack: within the error that was promised, over its whole life, and only its own."""

from ipaddress import ip_network

import numpy as np
import pytest

from sensors import tables, walk
from sensors.headers import HEADER, MAPPED, Kind
from sensors.sources import REGISTERS, Sources, estimate
from sensors.tables import ANY, Tables

VICTIM = MAPPED | 0xC6336407
UDP_ONLY = 1 << Kind.UDP


def made() -> Tables:
    return tables.make(rows=64, ring=8192, normal=64)


def packets(sources: ANY, destination: int = VICTIM, protocol: int = 17) -> ANY:
    out = np.zeros(len(sources), HEADER)
    out["source_low"], out["destination_low"], out["protocol"], out["weight"] = sources, destination, protocol, 1
    return out


def count(where: Tables, sources: Sources, distinct: ANY) -> None:
    for part in np.array_split(distinct, max(1, len(distinct) // 4096)):
        walk.tallies(*where.arrays, walk.words(packets(part)), 0, walk.NEVER)
        sources.feed(where)


@pytest.mark.parametrize("distinct", [1, 50, 1_000, 8_000, 15_000, 100_000])
def test_the_error_is_as_promised_over_many_seeds(distinct: int) -> None:
    errors = []
    for seed in range(20):
        where = made()
        where.state[tables.SEED] = seed * 7919
        sources = Sources(where)
        walk.tallies(*where.arrays, walk.words(packets(np.zeros(1, np.uint64))), 0, walk.NEVER)
        sources.open(where, 0, ip_network("198.51.100.7/32"), UDP_ONLY, 1 << 62)
        count(where, sources, np.arange(distinct, dtype=np.uint64) * 3 + seed)
        errors.append(sources.count(0) / distinct - 1)
    # Standard error 1.04 / sqrt(4096), and of twenty means a fifth of it.
    assert abs(float(np.mean(errors))) < 0.0163 if distinct > 100 else max(map(abs, errors)) < 0.05
    assert max(map(abs, errors)) < 4 * 0.0163 + 1 / distinct


def test_sources_that_come_again_count_once_and_those_of_other_traffic_not_at_all() -> None:
    where = made()
    sources = Sources(where)
    walk.tallies(*where.arrays, walk.words(packets(np.arange(100, dtype=np.uint64))), 0, walk.NEVER)
    sources.open(where, 0, ip_network("198.51.100.7/32"), UDP_ONLY, 0)
    for _ in range(5):
        count(where, sources, np.arange(100, dtype=np.uint64))
    other = np.arange(1_000, 3_000, dtype=np.uint64)
    walk.tallies(*where.arrays, walk.words(packets(other, protocol=6)), 0, walk.NEVER)
    walk.tallies(*where.arrays, walk.words(packets(other, destination=VICTIM + 1)), 0, walk.NEVER)
    sources.feed(where)
    assert sources.count(0) == pytest.approx(100, abs=3)
    sources.close(0)
    assert sources.count(0) == 0


def test_a_prefix_counts_the_sources_of_all_its_hosts() -> None:
    where = made()
    sources = Sources(where)
    for host in range(4):
        mine = np.arange(500, dtype=np.uint64) + 500 * host
        walk.tallies(*where.arrays, walk.words(packets(mine, destination=VICTIM + host)), 0, walk.NEVER)
    sources.open(where, 40, ip_network("198.51.100.0/24"), UDP_ONLY, 0)
    assert sources.count(40) == pytest.approx(2_000, rel=0.065)


def test_empty_registers_are_no_source() -> None:
    assert estimate(np.zeros(REGISTERS, np.uint8)) == 0


def plainly(where: Tables, values: ANY) -> ANY:
    """The registers, value by value: each has the highest rank that a source of its place had."""
    out, mask = np.zeros(REGISTERS, np.uint8), (1 << 64) - 1
    for source in values.tolist():
        mixed = (source ^ int(where.state[tables.SEED])) * 0x9E3779B97F4A7C15 & mask
        mixed = (mixed ^ mixed >> 31) * 0xBF58476D1CE4E5B9 & mask
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
        mixed ^= mixed >> 31
        rest = mixed << 12 & mask
        out[mixed >> 52] = max(out[mixed >> 52], min(64 - rest.bit_length(), 52) + 1)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_what_is_passed_over_would_have_changed_nothing(seed: int) -> None:
    where = made()
    where.state[tables.SEED] = seed * 104_729
    sources = Sources(where)
    values = np.random.default_rng(seed).integers(0, 1 << 48, 20_000).astype(np.uint64)
    values = np.concatenate((values, values[::3]))
    walk.tallies(*where.arrays, walk.words(packets(values[:1])), 0, walk.NEVER)
    sources.open(where, 0, ip_network("198.51.100.7/32"), UDP_ONLY, 0)
    count(where, sources, values)
    assert (sources._registers[sources._rows[0]] == plainly(where, values)).all()
