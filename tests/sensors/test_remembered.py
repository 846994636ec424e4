"""What is found of the remembered packets is what a pass over all of them finds."""

from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.match import Network
from sensors.headers import HEADER, MAPPED
from sensors.judge import both_ways
from sensors.remembered import CHUNK, Moment, thinned
from sensors.tables import ANY


@pytest.mark.parametrize("target", ["10.0.0.3/32", "10.0.0.0/30", "2001:db8::/48", "2001:db8::1/128"])
@given(seed=st.integers(0, 2**32), count=st.integers(0, 400))
def test_both_directions_are_found_as_by_looking_at_everything(target: str, seed: int, count: int) -> None:
    draw, wanted = np.random.default_rng(seed), ip_network(target)
    entries = np.zeros(count, HEADER)
    entries["time"] = np.sort(draw.integers(0, 1_000, count))
    for side in ("source", "destination"):
        short = draw.random(count) < 0.5
        entries[f"{side}_low"] = np.where(short, MAPPED | 0x0A000000, 0) + draw.integers(0, 8, count).astype(np.uint64)
        entries[f"{side}_high"] = np.where(short, np.uint64(0), np.uint64(0x20010DB800000000))
    begin, end = np.sort(draw.integers(0, 1_000, 2)).tolist()
    _same(wanted, entries, begin, end)


def _same(target: Network, entries: ANY, begin: int, end: int) -> None:
    moment = Moment(entries)
    span = moment.between(begin, end)
    inside = entries[(entries["time"] >= begin) & (entries["time"] <= end)]
    got, sent = both_ways(target, inside)
    assert (moment.got(target, span) == got).all() and len(moment.got(target, span)) == len(got)
    assert (moment.sent(target, span) == sent).all() and len(moment.sent(target, span)) == len(sent)


@given(count=st.integers(0, 60_000), most=st.integers(2_000, 40_000))
def test_thinned_packets_stand_for_about_as_many_and_are_never_too_many(count: int, most: int) -> None:
    entries = np.zeros(count, HEADER)
    entries["weight"], entries["time"] = 1, np.arange(count)
    kept = thinned(entries, most)
    assert len(kept) <= most + CHUNK
    assert abs(int(kept["weight"].sum()) - count) <= CHUNK * -(-count // most)
    assert (entries["weight"] == 1).all()
