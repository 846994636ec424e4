"""Tables of several shards: what the engine finds in them is what it finds in one."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from steering_model import end_of

from rules.errors import Refused
from rules.match import Network
from rules.traffic import Detection, State
from rules.zone import Metric, Zone
from sensors import fanout, tables, walk
from sensors.baseline_limits import Learning
from sensors.engine import Engine
from sensors.gathered import Gathering
from sensors.headers import COLUMNS, HEADER, Column, Total
from sensors.newest import newest, rates_of
from sensors.ready import take_place
from sensors.settings import Capturing, Detecting, Memory, SensorSettings
from sensors.tables import ANY, CLOCK_STEP, FIRST_ROW, LINE, MOST_WARM, UNWATCHED_AT, WARM, Tables, address, key

MILLISECOND = 1_000_000
V4, V6 = ip_network("198.51.100.0/22"), ip_network("2001:db8::/44")
LIMITS = ((Metric.PACKETS, 10_000), (Metric.UDP_PACKETS, 5_000))


def divided(entries: ANY, shards: int) -> list[ANY]:
    """Entries as steering divides them."""
    keys, places = np.unique(entries[["destination_high", "destination_low"]], return_inverse=True)
    ends = [str(address(int(high), int(low)).network_address) for high, low in keys.tolist()]
    of = np.array([end_of(end, shards) for end in ends], np.int64)[places]
    return [entries[of == shard] for shard in range(shards)]


def feed(into: Tables, entries: ANY) -> None:
    for shard, part in zip(into.shards, divided(entries, len(into.shards)), strict=True):
        walk.tallies(*shard.arrays, walk.words(part), 0, walk.NEVER)


def packets(draw: np.random.Generator, now: int, host: Network, hosts: int, rate: float, step: int = 1) -> ANY:
    """Half of a tick's packets to each of so many hosts from this one on, in two records."""
    out = np.zeros(2 * hosts, HEADER)
    high, low = key(host)
    out["time"] = now + np.sort(draw.integers(0, 40 * MILLISECOND, 2 * hosts))
    out["destination_high"] = high
    out["destination_low"] = low + np.repeat(np.arange(hosts), 2) * step
    out["source_low"] = key(ip_network("192.0.2.0"))[1] + draw.integers(0, 99, 2 * hosts)
    out["protocol"], out["source_port"], out["destination_port"] = 17, 4_000, 9
    out["length"], out["weight"] = 500, max(1, round(rate * 0.02))
    return out


class Both:
    """Engines with one shard and with several that get the same."""

    def __init__(self, shards: int, *zones: Zone) -> None:
        self.said: tuple[list[Detection], list[Detection]] = ([], [])
        self.engines = tuple(
            Engine(zones, self._emit(number), detecting=Detecting(quiet_seconds=0.5),
                   memory=Memory(8192, 16_384, 1024), learning=Learning(), shards=count)
            for number, count in enumerate((1, shards))
        )  # fmt: skip
        self.now, self.draw = 0, np.random.default_rng(7)
        for engine in self.engines:
            engine.start(0)

    def _emit(self, number: int) -> Callable[[Detection, object], None]:
        return lambda detection, attack: self.said[number].append(detection)

    def run(self, seconds: float, *floods: tuple[str, int, float]) -> None:
        for _ in range(round(seconds / 0.04)):
            entries = [packets(self.draw, self.now, ip_network(host), *rest) for host, *rest in floods]  # type: ignore[arg-type]
            self.now += 40 * MILLISECOND
            for engine in self.engines:
                if entries:
                    together = np.concatenate(entries)
                    feed(engine.tables, together[np.argsort(together["time"], kind="stable")])
                engine.tick(self.now, datetime(2026, 1, 1, tzinfo=UTC))

    def told(self) -> list[tuple[str, str]]:
        """What both said, which must be the same."""
        found = [[(str(one.target), one.state.value) for one in said if one.state is not State.ONGOING]
                 for said in self.said]  # fmt: skip
        # Of two that begin in the same tick either may come first.
        assert sorted(found[0]) == sorted(found[1])
        return found[0]


def of_hosts(where: Tables) -> dict[Network, list[int]]:
    """What is counted for each host; flows apart, which are told by chance."""
    rows = where.in_use(0, where.used)
    hosts = rows[where.rows[rows, LINE] == 0].tolist()
    out = {where.host(row): where.rows[row, : Column.FLOWS].tolist() for row in hosts}
    assert len(out) == len(hosts), "a host has two rows"
    return out


@pytest.mark.parametrize("shards", [2, 3])
def test_an_attack_on_a_host_is_found_as_with_one(shards: int) -> None:
    both = Both(shards, Zone("z", (V4,), limits=LIMITS), Zone("s", (V6,), limits=LIMITS))
    quiet = (("198.51.100.0", 40, 60), ("198.51.101.0", 40, 60), ("2001:db8:3::", 40, 60))
    both.run(1.5, *quiet)
    both.run(1.5, *quiet, ("198.51.101.7", 1, 30_000), ("2001:db8:4::9", 1, 20_000))
    both.run(2, *quiet)
    assert sorted(both.told()) == sorted(
        (target, state) for target in ("198.51.101.7/32", "2001:db8:4::9/128") for state in ("started", "over")
    )
    ordered = [sorted(said, key=lambda one: (str(one.target), one.sequence)) for said in both.said]
    for one, other in zip(*ordered, strict=True):
        assert (one.vector, one.metric, one.zone) == (other.vector, other.metric, other.zone)
        assert other.peak.packets_per_second == pytest.approx(one.peak.packets_per_second)
        assert other.sources == pytest.approx(one.sources, rel=0.1, abs=2) and bool(one.signatures) == bool(
            other.signatures
        )
    first, second = (engine.tables for engine in both.engines)
    assert of_hosts(first) == of_hosts(second)
    assert first.totals.tolist() == second.totals.tolist() and first.clock_ns == second.clock_ns


@pytest.mark.parametrize("shards", [2, 4])
def test_a_carpet_over_a_24_and_one_over_a_whole_zone_are_one_attack_each(shards: int) -> None:
    total = ((Metric.UDP_PACKETS, 120_000),)
    both = Both(shards, Zone("z", (V4,), limits=LIMITS, prefix_factor=8.0, total_limits=total))
    both.run(1, ("198.51.100.0", 1024, 20))
    both.run(1, ("198.51.100.0", 1024, 20), ("198.51.102.0", 256, 200))
    both.run(2, ("198.51.100.0", 1024, 20))
    assert both.told() == [("198.51.102.0/24", "started"), ("198.51.102.0/24", "over")]
    both.run(1.5, ("198.51.100.0", 1024, 150))
    assert both.told()[2:] == [("198.51.100.0/22", "started")]


def test_new_zones_keep_targets_where_they_are() -> None:
    both = Both(2, Zone("z", (V4,), limits=LIMITS))
    both.run(1, ("198.51.100.0", 1024, 20))
    for engine in both.engines:
        engine.protect([Zone("other", (ip_network("198.51.102.0/23"), V6), limits=LIMITS)])
    both.run(1, ("198.51.100.0", 1024, 20))
    both.run(1, ("198.51.100.0", 1024, 20), ("198.51.103.9", 1, 30_000), ("198.51.100.9", 1, 30_000))
    assert both.told() == [("198.51.103.9/32", "started")]
    assert of_hosts(both.engines[0].tables) == of_hosts(both.engines[1].tables)


@given(seed=st.integers(0, 999), shards=st.integers(2, 4))
def test_what_is_remembered_of_a_target_is_the_same(seed: int, shards: int) -> None:
    draw = np.random.default_rng(seed)
    entries = np.concatenate([packets(draw, 0, ip_network(host), 8, 50) for host in
                              ("198.51.100.1", "198.51.101.1", "198.51.103.1", "198.51.100.1")])  # fmt: skip
    entries = entries[np.argsort(entries["time"], kind="stable")]
    entries["time"] += np.arange(len(entries))
    one, several = (fanout.make(rows=1024, ring=1024, normal=256, shards=count) for count in (1, shards))
    for into in (one, several):
        feed(into, entries)
    fields = [name for name in HEADER.names or () if name != "row"]
    for text in ("198.51.100.3", "198.51.101.0/24", "198.51.100.0/22", "198.51.96.0/20", "203.0.113.1"):
        target, begin = ip_network(text), int(entries["time"][20])
        for most in (3, 1000):
            first, second = (newest(into, target, begin, 1 << 62, most)[fields] for into in (one, several))
            assert first.tolist() == second.tolist()
        rates = [rates_of(into, target, begin, 1 << 62) for into in (one, several)]
        assert rates[0][0].tolist() == rates[1][0].tolist() and rates[0][1] == rates[1][1]
    assert one.since(begin)[fields].tolist() == several.since(begin)[fields].tolist()
    assert one.count_since(begin) == several.count_since(begin)
    assert sorted(one.history()[fields].tolist()) == sorted(several.history()[fields].tolist())


def test_connections_are_gathered_from_all_shards_in_order() -> None:
    into = fanout.make(shards=3, rows=4096, ring=4096, normal=256)
    gathering = Gathering(into, [80])
    entries = packets(np.random.default_rng(1), 0, V4, 1024, 50)
    entries["protocol"], entries["destination_port"] = 6, 80
    entries["marks"] = 1
    feed(into, entries[:400])
    gathering.feed(into)
    feed(into, entries[400:700])
    gathering.feed(into)
    found = gathering.take().entries
    assert found["time"].tolist() == entries["time"][:700].tolist()


def test_rows_in_use_are_those_of_all_shards() -> None:
    into = fanout.make(shards=3, rows=16_384, ring=1024, normal=256)
    feed(into, packets(np.random.default_rng(1), 0, V4, 700, 50))
    every = into.in_use(0, into.used)
    assert into.used == 700 and len(set(every.tolist())) == 700 and into.reach == every[-1] + 1
    assert (into.rows[every, Column.PACKETS] == 2).all()
    for cut in (0, 1, 250, 256, 257, 511, 699, 700):
        assert np.concatenate((into.in_use(0, cut), into.in_use(cut, 700))).tolist() == every.tolist()


def test_each_shard_gives_its_own_rows_away_when_it_is_full() -> None:
    into = fanout.make(shards=2, rows=128, ring=64, normal=64)
    for block in range(100, 104):
        feed(into, packets(np.random.default_rng(1), block * MILLISECOND, ip_network(f"198.51.{block}.0"), 200, 50))
    assert into.used == 128 and into.totals[Total.RECLAIMED] == 800 - 128
    for number, shard in enumerate(into.shards):
        first = int(shard.state[FIRST_ROW])
        assert {end_of(str(into.host(row).network_address), 2) for row in range(first, first + 64)} == {number}


def test_a_step_of_the_clock_moves_all_shards_alike() -> None:
    into = fanout.make(shards=2, rows=128, ring=64, normal=64)
    second = 1_000_000_000

    for block, at in ((100, 90), (101, 100), (101, 50), (100, 51), (101, 52)):
        feed(into, packets(np.random.default_rng(1), at * second, ip_network(f"198.51.{block}.0"), 1, 50)[:1])
        into.gather()
    assert {int(shard.state[CLOCK_STEP]) // second for shard in into.shards} == {50}
    assert into.since(0)["time"].tolist() == sorted(into.since(0)["time"].tolist())
    assert into.totals[Total.CLOCK_STEPS] == 1 and into.clock_ns // second == 102


def test_more_warm_rows_than_there_is_room_for_are_told() -> None:
    into = fanout.make(shards=2, rows=128, ring=64, normal=64)
    for number, shard in enumerate(into.shards):
        shard.state[WARM] = MOST_WARM - 100 * number
    into.gather()
    assert into.state[WARM] == MOST_WARM and into.state[UNWATCHED_AT] == MOST_WARM - 100
    assert not any(shard.state[WARM] for shard in into.shards)


@pytest.mark.parametrize("shards", [2, 3, 8])
def test_several_shards_take_no_more_memory_than_one(shards: int) -> None:
    one, several = tables.make(), fanout.make(shards=shards)
    for name in ("index", "ring", "normal"):
        assert sum(getattr(shard, name).nbytes for shard in several.shards) <= getattr(one, name).nbytes
    hosts = int(several.state[tables.HOSTS])
    assert hosts <= int(one.state[tables.HOSTS]) and several.rows.shape[1] >= COLUMNS
    assert several.rows.nbytes <= one.rows.nbytes + shards * tables.MOST_ZONES * tables.ROW_WORDS * 8


def test_nobody_counts_into_all_of_it() -> None:
    with pytest.raises(TypeError, match="shard"):
        _ = fanout.make(shards=2).arrays


def test_more_threads_than_processors_are_refused() -> None:
    there = len(os.sched_getaffinity(0))
    with pytest.raises(Refused, match=rf"sensor\.fanout.*may use {there} processors"):
        take_place(SensorSettings("s", Capturing(("lo",), fanout=there + 1), ()))


def test_what_several_shards_need_comes_out_of_the_same_memory() -> None:
    assert Memory.within(512, 1) == Memory.within(512)
    assert Memory.within(256, 8).hosts < Memory.within(256).hosts
