"""Records without bytes count as the packets that they stand for."""

from ipaddress import ip_network

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import A6, B6, A, B, columns_of, counted
from rawframes import Fragment, ethernet, icmp, ip, tcp, udp

from sensors import tables, walk
from sensors.headers import COLUMNS, HEADER, Total
from sensors.tables import ANY, Tables

PACKETS = st.builds(
    lambda six, upper, later: ip(
        A6 if six else A, B6 if six else B, upper(6 if six else 4), fragment=Fragment(185, True) if later else None
    ),
    st.booleans(),
    st.one_of(
        st.builds(lambda flags, port: lambda _: tcp(port, 80, flags), st.integers(0, 255), st.integers(0, 65_535)),
        st.builds(
            lambda port, size: lambda _: udp(port, 80, bytes(size)), st.sampled_from([53, 9]), st.integers(0, 99)
        ),
        st.builds(lambda kind: lambda version: icmp(kind, 0, version=version), st.integers(0, 255)),
        st.just(lambda _: (47, bytes(8))),
    ),
    st.booleans(),
)


def fed(entries: ANY, until: int = walk.NEVER) -> Tables:
    """New tables after these entries."""
    where = tables.make(rows=64, ring=256, normal=64)
    walk.tallies(*where.arrays, walk.words(entries), 0, until)
    return where


@given(st.lists(PACKETS, min_size=1, max_size=20))
def test_remembered_packets_counted_again_give_the_same_numbers_and_entries(packets: list[bytes]) -> None:
    first = counted(*map(ethernet, packets), where=tables.make(rows=64, ring=256, normal=64))
    again = fed(first.since(0))
    assert again.rows[0].tolist()[:COLUMNS] == first.rows[0].tolist()[:COLUMNS]
    assert again.since(0).tolist() == first.since(0).tolist()
    assert again.totals.tolist() == first.totals.tolist()


def test_an_entry_counts_as_many_times_as_it_weighs() -> None:
    entry = np.zeros(1, HEADER)
    entry["destination_low"], entry["source_low"] = tables.key(ip_network(B))[1], tables.key(ip_network(A))[1]
    entry["protocol"], entry["source_port"], entry["length"], entry["weight"] = 17, 123, 468, 1_000
    where = fed(entry)
    assert columns_of(where, B) == {
        "PACKETS": 1_000, "BYTES": 468_000, "UDP": 1_000, "UDP_BYTES": 468_000, "AMPLIFICATION": 1_000,
    }  # fmt: skip
    assert where.totals[Total.RECORDS] == 1
    assert where.since(0)["weight"].tolist() == [1_000]
    assert where.host(0) == ip_network(B)


def test_a_walk_stops_before_its_time_and_goes_on_there() -> None:
    entries = np.zeros(10, HEADER)
    entries["time"], entries["destination_low"], entries["weight"] = (
        np.arange(10) * 100,
        tables.key(ip_network(B))[1],
        1,
    )
    where = tables.make(rows=64, ring=64, normal=64)
    at = walk.tallies(*where.arrays, walk.words(entries), 0, 450)
    assert (at, where.state[tables.NEXT_TIME], where.totals[Total.PACKETS]) == (5, 500, 5)
    assert walk.tallies(*where.arrays, walk.words(entries), at, walk.NEVER) == 10
    assert where.totals[Total.PACKETS] == 10
