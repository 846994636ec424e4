"""What is found of the remembered packets is what a pass over all of them finds; of very many, an even part."""

from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.match import Network
from sensors import chains, tables, walk
from sensors.chains import Chains
from sensors.headers import HEADER, MAPPED
from sensors.remembered import CHUNK, Samples, thinned
from sensors.tables import ANY, Tables
from sensors.within import both_ways

RING = 512


def remembered(where: Tables, entries: ANY) -> None:
    """As if the kernel had written them."""
    places = (int(where.state[tables.RING_HEAD]) + np.arange(len(entries))) % len(where.ring)
    where.ring[places] = walk.words(entries)
    where.state[tables.RING_HEAD] += len(entries)


def anything(draw: np.random.Generator, count: int) -> ANY:
    entries = np.zeros(count, HEADER)
    entries["time"] = np.sort(draw.integers(0, 1_000, count))
    for side in ("source", "destination"):
        short = draw.random(count) < 0.5
        entries[f"{side}_low"] = np.where(short, MAPPED | 0x0A000000, 0) + draw.integers(0, 8, count).astype(np.uint64)
        entries[f"{side}_high"] = np.where(short, np.uint64(0), np.uint64(0x20010DB800000000))
        entries[f"{side}_port"] = draw.integers(0, 4, count)
    entries["weight"] = 1
    return entries


@pytest.mark.parametrize("target", ["10.0.0.3/32", "10.0.0.0/30", "2001:db8::/48", "2001:db8::1/128"])
@given(seed=st.integers(0, 2**32), parts=st.lists(st.integers(0, 400), max_size=4))
def test_both_directions_are_found_as_by_looking_at_everything(target: str, seed: int, parts: list[int]) -> None:
    draw, wanted, where = np.random.default_rng(seed), ip_network(target), tables.make(rows=64, ring=RING, normal=64)
    whole, known = anything(draw, sum(parts)), Chains()
    begin, end = np.sort(draw.integers(0, 1_000, 2)).tolist()
    at = 0
    for count in parts:
        remembered(where, whole[at : at + count])
        at += count
        _same(known, where, wanted, whole[max(0, at - RING) : at], begin, end)


def _same(known: Chains, where: Tables, target: Network, entries: ANY, begin: int, end: int) -> None:
    got, sent = both_ways(target, entries[(entries["time"] >= begin) & (entries["time"] <= end)])
    found, answered, one_of = known.both(where, target, begin, end)
    assert (found.tobytes(), answered.tobytes(), one_of) == (got.tobytes(), sent.tobytes(), 1)
    later, _ = both_ways(target, entries[entries["time"] >= begin])
    assert known.first(where, target, begin) == (int(later["time"][0]) if len(later) else None)


HOST = ip_network("10.0.0.3/32")


def talks(draw: np.random.Generator, sizes: list[int]) -> ANY:
    """Conversations of a host with others, of so many packets each, evenly over a second."""
    count = sum(sizes)
    peer = draw.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.uint64)
    out, back = anything(draw, count), draw.random(count) < 0.5
    for side, is_mine in (("source", back), ("destination", ~back)):
        out[f"{side}_low"], out[f"{side}_high"] = MAPPED | np.where(is_mine, 0x0A000003, 0x0B000000 + peer), 0
        out[f"{side}_port"] = np.where(is_mine, 80, 1_024)
    out["time"] = np.sort(draw.integers(0, 10**9, count))
    return out


@pytest.mark.parametrize(
    "sizes",
    [[1] * 40_000, [4] * 10_000, [40_000], [20_000, *[5] * 4_000], [100] * 400],
    ids=lambda sizes: str(len(sizes)),
)
def test_of_very_many_packets_an_even_part_is_kept_with_whole_conversations(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "MOST", 8_000)
    draw, where = np.random.default_rng(len(sizes)), tables.make(rows=64, ring=65_536, normal=64)
    entries = talks(draw, sizes)
    remembered(where, entries)
    got, sent, one_of = Chains().both(where, HOST, 0, 1 << 62)
    assert one_of == -(-len(entries) // 8_000)
    assert len(got) + len(sent) <= 1.2 * 8_000
    whole_got, whole_sent = both_ways(HOST, entries)
    for part, whole in ((got, whole_got), (sent, whole_sent)):
        assert int(part["weight"].sum()) == pytest.approx(len(whole), rel=0.15)
        assert set(part["weight"]) == {one_of}
        assert (np.diff(part["time"]) >= 0).all()
    if max(sizes) < 5:
        # Nothing is answered in part only.
        peers = np.concatenate([got["source_low"], sent["destination_low"]])
        kept, counts = np.unique(peers, return_counts=True)
        assert (counts == max(sizes)).all()
        assert len(kept) == pytest.approx(len(sizes) / one_of, rel=0.15)


@given(seed=st.integers(0, 2**32), target=st.sampled_from(["10.0.0.3/32", "10.0.0.0/30", "2001:db8::/48"]))
def test_samples_of_a_target_are_found(seed: int, target: str) -> None:
    entries, wanted = anything(np.random.default_rng(seed), 300), ip_network(target)
    assert Samples(entries).got(wanted).tobytes() == both_ways(wanted, entries)[0].tobytes()


@given(count=st.integers(0, 60_000), most=st.integers(2_000, 40_000))
def test_thinned_packets_stand_for_about_as_many_and_are_never_too_many(count: int, most: int) -> None:
    entries = np.zeros(count, HEADER)
    entries["weight"], entries["time"] = 1, np.arange(count)
    kept = thinned(entries, most)
    assert len(kept) <= most + CHUNK
    assert abs(int(kept["weight"].sum()) - count) <= CHUNK * -(-count // most)
    assert (entries["weight"] == 1).all()
