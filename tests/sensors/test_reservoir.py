"""What busy targets usually get: enough of each, spread over time, and nothing of an attack."""

from datetime import UTC, datetime
from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.match import Network
from rules.traffic import Detection
from rules.zone import Zone
from sensors import tables, walk
from sensors.engine import Engine
from sensors.headers import HEADER, MAPPED
from sensors.newest import Fresh
from sensors.reservoir import DOUBTFUL_NS, ENTRIES, FULL, HOURS_NS, PLACES, Reservoir
from sensors.settings import Memory
from sensors.tables import ANY, RING_HEAD

SECOND = 1_000_000_000
SEEN = datetime(2026, 1, 1, tzinfo=UTC)


def host(number: int) -> Network:
    return ip_network((0x0A000000 + number, 32))


def keys(numbers: np.ndarray) -> np.ndarray:
    out = np.zeros((len(numbers), 2), np.int64)
    out[:, 1] = (MAPPED | 0x0A000000) + numbers
    return out


def to(numbers: np.ndarray, times: np.ndarray) -> ANY:
    """Words of one packet for each, to these hosts."""
    out = np.zeros(len(numbers), HEADER)
    out["time"], out["weight"], out["length"], out["protocol"] = times, 1, 500, 17
    out["destination_low"] = keys(numbers)[:, 1].astype(np.uint64)
    return walk.words(out)


def watched(rates: np.ndarray) -> Reservoir:
    """Hosts from 0 on that came in with these rates."""
    out = Reservoir()
    for begin in range(0, len(rates), 16):
        out.consider(keys(np.arange(begin, min(begin + 16, len(rates)))), rates[begin : begin + 16], SECOND)
    return out


@pytest.mark.parametrize(("hosts", "minutes"), [(500, 1), (5_000, 6)])
def test_busy_hosts_have_hundreds_of_packets_after_minutes(hosts: int, minutes: int) -> None:
    draw, kept = np.random.default_rng(1), watched(np.full(hosts, 100.0))
    for tick in range(minutes * 60 * 25):
        times = np.arange(256) * 100_000 + tick * 40_000_000
        kept.fill(to(draw.integers(0, hosts, 256), times))
    amounts = np.array([len(kept.of(host(number))) for number in range(hosts)])
    print(f"{hosts} hosts: {len(kept)} kept, {amounts[amounts > 0].min()} packets and more")
    assert len(kept) == min(hosts, PLACES)
    assert (amounts[amounts > 0] >= FULL).all()
    assert (amounts > 0).sum() == len(kept)


@given(seed=st.integers(0, 2**32), hours=st.floats(0.1, 3.0))
def test_what_is_kept_lies_evenly_over_the_time_that_passed(seed: int, hours: float) -> None:
    kept, end = watched(np.ones(1)), int(hours * 3600 * SECOND)
    times = np.sort(np.random.default_rng(seed).integers(SECOND, end, 20_000))
    kept.fill(to(np.zeros(len(times), int), times))
    found = np.sort(kept.of(host(0))["time"] / end)
    assert len(found) == ENTRIES
    # Kolmogorov and Smirnov's distance, which chance makes larger once in ten thousand times.
    assert np.abs(found - (np.arange(ENTRIES) + 0.5) / ENTRIES).max() < 2.3 / ENTRIES**0.5


def test_after_days_the_mean_age_is_hours() -> None:
    kept, end = watched(np.ones(1)), 16 * HOURS_NS
    times = np.arange(SECOND, end, 5 * SECOND)
    kept.fill(to(np.zeros(len(times), int), times))
    ages = (end - kept.of(host(0))["time"]) / HOURS_NS
    assert 0.8 < ages.mean() < 1.2
    assert np.quantile(ages, 0.1) < 0.25


def test_a_suspected_target_adds_nothing_and_loses_the_last_moment() -> None:
    kept, times = watched(np.ones(2)), np.arange(50) * SECOND // 10
    kept.fill(to(np.arange(50) % 2, times))
    kept.block(keys(np.array([1])))
    kept.fill(to(np.ones(50, int), times + 5 * SECOND))
    left = kept.of(host(1))["time"]
    assert len(kept.of(host(0))) == 25
    assert left.tolist() == [time for time in times[1::2] if time < times[49] - DOUBTFUL_NS]
    kept.block(keys(np.array([], int)), [ip_network("10.0.0.0/24")])
    kept.fill(to(np.zeros(50, int), times + 10 * SECOND))
    assert kept.of(host(0))["time"].max() < 5 * SECOND
    kept.block(keys(np.array([], int)))
    kept.fill(to(np.arange(50) % 2, times + 15 * SECOND))
    assert [kept.of(host(number))["time"].max() > 15 * SECOND for number in range(2)] == [True, True]


def test_who_comes_in_while_its_prefix_is_suspected_adds_nothing() -> None:
    kept, suspected = watched(np.ones(2)), [ip_network("10.0.0.0/24")]
    none = keys(np.array([], int))
    kept.block(none, suspected)
    kept.consider(keys(np.array([7])), np.array([50.0]), 2 * SECOND)
    kept.block(none, suspected)
    kept.fill(to(np.full(20, 7), np.arange(20) * SECOND))
    assert len(kept.of(host(7))) == 0
    kept.block(none)
    kept.fill(to(np.full(20, 7), np.arange(20) * SECOND))
    assert len(kept.of(host(7))) == 20


def test_a_prefix_gets_of_each_target_as_much_as_that_gets() -> None:
    rates = np.array([10.0, 40.0, 400.0])
    kept, times = watched(rates), np.arange(900) * SECOND
    kept.fill(to(np.arange(900) % 3, times))
    found = kept.of(ip_network("10.0.0.0/30"))
    weights = np.bincount(found["destination_low"].astype(np.int64) & 3, found["weight"])
    assert weights / weights.sum() == pytest.approx(rates / rates.sum(), rel=0.01)
    assert len(kept.of(ip_network("10.0.1.0/24"))) == len(kept.of(host(9))) == 0
    assert kept.without(to(np.arange(5), times[:5]).view(HEADER).reshape(-1))["time"].tolist() == times[3:5].tolist()


def test_who_is_idle_gives_way_to_who_is_busier() -> None:
    kept = watched(np.full(PLACES, 50.0))
    kept.consider(keys(np.array([9_000])), np.array([99.0]), 2 * SECOND)
    assert len(kept.of(host(9_000))) == 0
    kept.fill(to(np.array([9_000, 0]), np.array([3, 3]) * SECOND))
    assert (len(kept.of(host(9_000))), len(kept.of(host(0)))) == (0, 1)
    later = 3 * 3600 * SECOND
    for begin in range(1, PLACES, 16):
        kept.consider(keys(np.arange(begin, min(begin + 16, PLACES))), np.full(min(16, PLACES - begin), 50.0), later)
    kept.consider(keys(np.array([9_000])), np.array([99.0]), later)
    kept.fill(to(np.array([9_000, 0]), np.array([later, later])))
    assert (len(kept.of(host(9_000))), len(kept.of(host(0)))) == (1, 0)
    assert len(kept) == PLACES


@given(seed=st.integers(0, 2**32), amounts=st.lists(st.integers(0, 700), max_size=8))
def test_fresh_entries_are_new_few_and_evenly_chosen(seed: int, amounts: list[int]) -> None:
    where, fresh, head = tables.make(rows=64, ring=256, normal=64), Fresh(32), 0
    seen: list[int] = []
    for amount in amounts:
        numbers = np.arange(head, head + amount)
        where.ring[numbers[-256:] & 255, 0] = numbers[-256:]
        head += amount
        where.state[RING_HEAD] = head
        found = fresh.take(where)[:, 0].astype(int).tolist()
        left = min(amount, 256)
        assert len(found) <= 32 and len(found) >= min(left, 16)
        assert len(set(np.diff(found).tolist())) <= 1
        assert all(head - left <= number < head for number in found)
        seen += found
    assert seen == sorted(set(seen))


def traffic(begin: int, rates: dict[int, int], port: int) -> ANY:
    """A tenth of a second of packets to hosts."""
    numbers = np.repeat([*rates], [rate // 10 for rate in rates.values()])
    out = to(numbers, np.zeros(len(numbers), int)).view(HEADER).reshape(-1)
    out["destination_port"], out["source_port"] = port, 5_000
    out["time"] = begin + np.sort(np.random.default_rng(begin % 1_000).integers(0, SECOND // 10, len(out)))
    return walk.words(out)


def test_the_engine_keeps_what_hosts_usually_get_and_nothing_of_an_attack() -> None:
    zone = Zone("ours", (ip_network("10.0.0.0/24"),))
    engine = Engine((zone,), lambda detection, attack: None, memory=Memory(1_024, 65_536, 1_024))
    engine.warm_up()
    now = SECOND
    engine.start(now)
    for step in range(300):
        attacked = 200 <= step < 230
        walk.tallies(*engine.tables.arrays, traffic(now, {1: 500, 2: 500}, 443), 0, walk.NEVER)
        if attacked:
            walk.tallies(*engine.tables.arrays, traffic(now, {1: 150_000}, 9_999), 0, walk.NEVER)
        for _ in range(2):
            now += SECOND // 20
            engine.tick(now, SEEN)
        if step == 150:
            engine.protect((Zone("other", (ip_network("10.0.0.0/16"),)),))
    assert [attack.target for attack in engine.attacks.values()] == [host(1)]
    usual = [engine.reservoir.of(host(number)) for number in (1, 2)]
    assert [len(entries) >= FULL for entries in usual] == [True, True]
    assert all((entries["destination_port"] == 443).all() for entries in usual)


def test_an_attack_that_rises_slowly_is_told_from_hours_of_normal_traffic() -> None:
    """Seconds before its limit is crossed, most of what comes is the attack already."""
    said: list[Detection] = []
    zone = Zone("ours", (ip_network("10.0.0.0/24"),))
    engine = Engine((zone,), lambda detection, attack: said.append(detection), memory=Memory(1_024, 65_536, 1_024))
    engine.warm_up()
    now = SECOND
    engine.start(now)
    for _ in range(600):
        walk.tallies(*engine.tables.arrays, traffic(now, {1: 500}, 443), 0, walk.NEVER)
        now += 6 * SECOND
        engine.tick(now, SEEN)
    for step in range(40):
        rates = traffic(now, {1: 500}, 443), traffic(now, {1: 3_000 * (step + 1)}, 9_999)
        for some in rates:
            walk.tallies(*engine.tables.arrays, some, 0, walk.NEVER)
        now += SECOND // 10
        engine.tick(now, SEEN)
    assert said
    assert all(rule.separates for rule in said[-1].signatures)
    assert [rule.coverage > 0.95 for rule in said[-1].signatures] == [True]
