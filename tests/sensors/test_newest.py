"""A target's newest packets are what a look at all of them finds."""

from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.zone import Metric
from sensors import tables, walk
from sensors.attack import Attack
from sensors.describe import Describer
from sensors.headers import COLUMNS, HEADER, MAPPED, Kind
from sensors.newest import EVERY_KIND, newest, rates_of
from sensors.settings import Detecting
from sensors.tables import CLOCK, RING_HEAD, Tables
from sensors.within import inside

SIZE = 256


def filled(seed: int, count: int) -> Tables:
    """A ring with so many entries written, of a few hosts and times."""
    draw, out = np.random.default_rng(seed), tables.make(rows=64, ring=SIZE, normal=64)
    entries = np.zeros(count, HEADER)
    entries["time"] = 1 + np.sort(draw.integers(0, 1_000, count))
    short = draw.random(count) < 0.5
    entries["destination_low"] = np.where(short, MAPPED | 0x0A000000, 0) + draw.integers(0, 8, count).astype(np.uint64)
    entries["destination_high"] = np.where(short, np.uint64(0), np.uint64(0x20010DB800000000))
    entries["kind"], entries["weight"] = draw.integers(0, COLUMNS, count), draw.integers(1, 5, count)
    for number, words in enumerate(walk.words(entries)):
        out.ring[number % SIZE] = words
    out.state[RING_HEAD] = count
    return out


@pytest.mark.parametrize("target", ["10.0.0.3/32", "10.0.0.0/30", "2001:db8::/48", "2001:db8::1/128"])
@given(
    seed=st.integers(0, 2**32), count=st.integers(0, 600), most=st.integers(1, 300), kinds=st.integers(0, EVERY_KIND)
)
def test_the_newest_of_a_span_and_how_many_of_each_kind(
    target: str, seed: int, count: int, most: int, kinds: int
) -> None:
    where, wanted, other = filled(seed, count), ip_network(target), ip_network("10.0.0.2/31")
    begin, end = np.sort(np.random.default_rng(seed).integers(0, 1_002, 2)).tolist()
    span = [one for one in np.split(where.since(0), 1)[0] if begin <= one["time"] <= end]
    mine = np.array(span, HEADER)
    mine = mine[inside(wanted, mine, "destination")]
    counts, first = rates_of(where, wanted, begin, end)
    assert counts.tolist() == np.bincount(mine["kind"], mine["weight"], minlength=COLUMNS).tolist()
    assert first == (mine["time"][0] if len(mine) else 0)
    chosen = mine[(kinds >> mine["kind"].astype(np.int64) & 1 == 1) & ~inside(other, mine, "destination")]
    found = newest(where, wanted, begin, end, most, kinds=kinds, beside=[other])
    assert found.tobytes() == chosen[-most:].tobytes()


@given(seed=st.integers(0, 2**32), count=st.integers(0, 600), every=st.integers(1, 40))
def test_each_so_many_th_entry_is_looked_at_over_the_whole_span(seed: int, count: int, every: int) -> None:
    where, wanted = filled(seed, count), ip_network("10.0.0.0/30")
    found = newest(where, wanted, 0, 2_000, SIZE, every=every)
    some = where.since(0)[::-1][::every][::-1]
    assert found.tobytes() == some[inside(wanted, some, "destination")].tobytes()


def test_a_flood_that_comes_in_bursts_of_two_kinds_is_no_news() -> None:
    where = tables.make(rows=64, ring=65_536, normal=64)
    entries = np.zeros(48_000, HEADER)
    entries["time"], entries["weight"] = 1 + np.arange(len(entries)) * 2_500, 1
    entries["destination_low"] = MAPPED | 0x0A000001
    # 1,000 of one, 1,000 of the other: 2.5 ms each at 400,000 packets/s.
    entries["kind"] = np.where(np.arange(len(entries)) // 1_000 % 2, Kind.SYN, Kind.UDP)
    where.ring[: len(entries)] = walk.words(entries)
    attack = Attack(
        id="a", target=ip_network("10.0.0.1/32"), zone="z", metric=Metric.PACKETS, before=np.zeros(COLUMNS, np.int64),
        first_ns=1, last_ns=0,
    )  # fmt: skip
    looks = []
    for head in (40_100, 44_600, 48_000):
        where.state[RING_HEAD], attack.last_ns = head, int(entries["time"][head - 1])
        where.state[CLOCK] = attack.last_ns
        looks.append(Describer(Detecting(), False, None).look(where, attack))
    assert not any(one.differs(looks[0], 30.0) for one in looks)
    assert all(abs(one.shares[Kind.SYN] - 0.5) < 0.03 and one.packets > 1_000 for one in looks)
