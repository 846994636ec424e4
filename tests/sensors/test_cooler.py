"""Whom a tick leaves out: only what is above no limit."""

from ipaddress import ip_network

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rules.zone import DEFAULT_LIMITS, Zone
from sensors import tables, walk
from sensors.engine import zone_measures
from sensors.headers import BYTE_COLUMNS, HEADER, MAPPED
from sensors.window import Windows

SECONDS = (0.08, 0.4, 1.0)
PACKETS = st.tuples(
    st.integers(0, 7),  # host
    st.sampled_from([(6, 0x02), (6, 0x10), (6, 0x12), (6, 0x29), (6, 0), (17, 0), (1, 0), (47, 0), (50, 0), (99, 0)]),
    st.integers(20, 1500),
    st.integers(1, 20_000),
    st.sampled_from([0, 2]),  # fragment
)


@given(st.lists(PACKETS, min_size=1, max_size=30), st.floats(0.01, 1))
def test_whatever_is_above_a_limit_comes_out(
    packets: list[tuple[int, tuple[int, int], int, int, int]], share: float
) -> None:
    limits = tuple((metric, 1 + int(limit * share)) for metric, limit in DEFAULT_LIMITS)
    measures = zone_measures([Zone("z", (ip_network("198.51.100.0/24"),), limits=limits)])
    made = tables.make(rows=64, ring=64, normal=64)
    windows = Windows(made, measures, SECONDS, 50)
    windows.start(0)
    entries = np.zeros(len(packets), HEADER)
    for entry, (host, (protocol, flags), length, weight, fragment) in zip(entries, packets, strict=True):
        entry["destination_low"], entry["protocol"], entry["tcp_flags"] = MAPPED | host, protocol, flags
        entry["length"], entry["weight"], entry["fragment"] = length, weight, fragment
    walk.tallies(*made.arrays, walk.words(entries), 0, walk.NEVER)
    readings = windows.tick(int(0.08e9))
    counted = made.rows[: made.used, : len(measures.sums)]
    # All of it came in the short window, and nothing before.
    above = (counted / 0.08 @ measures.sums >= measures.limits[0]).any(axis=1)
    assert set(np.flatnonzero(above).tolist()) <= set(readings.rows.tolist())
    assert (readings.severity.max(axis=1) > 0).all()
    cold = counted[:, [column for column in range(counted.shape[1]) if column not in BYTE_COLUMNS]].max(axis=1) == 0
    assert not set(np.flatnonzero(cold).tolist()) & set(readings.rows.tolist())


def test_many_packets_of_many_kinds_below_every_limit_cost_no_look() -> None:
    measures = zone_measures([Zone("z", (ip_network("198.51.100.0/24"),))])
    made = tables.make(rows=64, ring=64, normal=64)
    windows = Windows(made, measures, SECONDS, 50)
    windows.start(0)
    entry = np.zeros(1, HEADER)
    entry["destination_low"], entry["protocol"], entry["tcp_flags"] = MAPPED | 1, 6, 0x10
    # 62,500 a second: more than any limit on handshakes, less than the one on packets.
    entry["length"], entry["weight"] = 60, 5_000
    walk.tallies(*made.arrays, walk.words(entry), 0, walk.NEVER)
    assert not len(windows.tick(int(0.08e9)).rows)
