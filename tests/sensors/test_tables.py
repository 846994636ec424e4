"""The host table and the prefixes: bounded memory, no mix-up of hosts, the most specific zone."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import A, B, counted
from rawframes import SYN, ethernet, ip, tcp, udp

from rules.match import Network
from rules.traffic import AMPLIFICATION_SERVICES
from sensors import tables, walk
from sensors.headers import HEADER, Column, Total
from sensors.prefixes import intervals
from sensors.tables import PINNED


def scan(where: tables.Tables, first: int, count: int) -> None:
    """One UDP packet to each of many hosts."""
    frame = np.frombuffer(ethernet(ip(A, B, udp(1, 2))), np.uint8)
    block = np.tile(frame, (count, 1))
    hosts = np.arange(first, first + count, dtype=">u4").view(np.uint8).reshape(-1, 4)
    block[:, 30:34] = hosts
    meta = np.zeros((count, 4), np.uint32)
    meta[:, 0] = 1000
    meta[:, 1] = np.arange(count) % 1_000_000
    meta[:, 2], meta[:, 3] = np.arange(count) * len(frame), len(frame)
    walk.batch(*where.arrays, *walk.pcapy_batch(block.tobytes(), meta.tobytes()), 1, 1, 0, walk.NEVER)


def test_a_million_destinations_neither_break_the_table_nor_lose_a_packet() -> None:
    where = tables.make(rows=4096, ring=1024, normal=1024)
    for part in range(10):
        scan(where, 0x0A000000 + part * 100_000, 100_000)
    totals = where.totals
    assert totals[Total.PACKETS] == 1_000_000
    assert where.used == 4096
    assert totals[Total.RECLAIMED] == 1_000_000 - 4096
    # Every row holds one host with its one packet, and the index leads to it.
    assert (where.rows[:4096, Column.PACKETS] == 1).all()
    assert len({where.host(row) for row in range(4096)}) == 4096
    before = int(where.rows[:4096, Column.PACKETS].sum())
    known = where.host(17)
    counted(ethernet(ip(A, str(known.network_address), udp(1, 2))), where=where)
    assert int(where.rows[17, Column.PACKETS]) == 2
    assert int(where.rows[:4096, Column.PACKETS].sum()) == before + 1


def test_hosts_under_attack_are_never_reclaimed() -> None:
    where = tables.make(rows=64, ring=64, normal=64)
    counted(ethernet(ip(A, B, tcp(1, 2, SYN))), where=where)
    where.rows[0, PINNED] = 1
    scan(where, 0x0A000000, 10_000)
    assert where.host(0) == ip_network(B)
    assert where.rows[0, Column.PACKETS] == 1


def test_a_table_full_of_attacked_hosts_overflows_and_says_so() -> None:
    where = tables.make(rows=64, ring=64, normal=64)
    # A full bucket gives a row to another host before the table is full: a few more hosts than rows are needed.
    scan(where, 0x0A000000, 10_000)
    assert where.used == 64
    where.rows[:, PINNED] = 1
    scan(where, 0x0B000000, 100)
    assert where.totals[Total.OVERFLOW] == 100


def test_only_protected_destinations_get_rows() -> None:
    zones: list[tuple[Network, int]] = [(IPv4Network("198.51.100.0/24"), 3), (IPv6Network("2001:db8::/32"), 4)]
    where = tables.make(zones, rows=64, ring=64, normal=64)
    counted(
        ethernet(ip(A, B, udp(1, 2))), ethernet(ip(B, A, udp(2, 1))),
        ethernet(ip("2001:db9::1", "2001:db8::9", udp(1, 2))),
        where=where,
    )  # fmt: skip
    assert [str(where.host(row)) for row in range(where.used)] == ["198.51.100.7/32", "2001:db8::9/128"]
    assert where.rows[:2, tables.ZONE].tolist() == [3, 4]
    assert (where.totals[Total.UNPROTECTED], where.totals[Total.OUTGOING]) == (0, 1)
    assert len(where.since(0)) == 2


def test_what_a_protected_host_sends_is_remembered_where_that_is_asked_for() -> None:
    where = tables.make([(IPv4Network("198.51.100.0/24"), 0)], rows=64, ring=64, normal=64, keep_outgoing=True)
    counted(ethernet(ip(A, B, udp(1, 2))), ethernet(ip(B, A, udp(2, 1))), where=where)
    assert where.used == 1
    assert where.since(0)["row"].tolist() == [0, -1]


def test_the_normal_history_takes_a_host_only_now_and_then() -> None:
    where = tables.make(rows=64, ring=64, normal=64, sample_gap_ns=10_000_000)
    counted(*[ethernet(ip(A, B, udp(1, 2)))] * 100, where=where, gap_ns=1_000_000)
    assert len(where.history()) == 9


def networks(version: int) -> st.SearchStrategy[Network]:
    """Prefixes close together, so that they nest."""
    low = 16 if version == 4 else 32
    base = 0x0A000000 if version == 4 else 0x20010DB8 << 96
    bits = 32 if version == 4 else 128
    kind = IPv4Network if version == 4 else IPv6Network

    def make(length: int, host: int) -> Network:
        return kind((base | host << (bits - low - 8), length), strict=False)

    return st.builds(make, st.integers(low, low + 8), st.integers(0, 255))


@given(
    prefixes=st.lists(st.one_of(networks(4), networks(6)), max_size=12, unique=True),
    host=st.integers(0x0A000000 - 2**14, 0x0A000000 + 2**24),
)
def test_the_most_specific_prefix_decides(prefixes: list[Network], host: int) -> None:
    protected = [(prefix, number) for number, prefix in enumerate(prefixes)]
    address = IPv4Address(host)
    holding = [(prefix.prefixlen, number) for prefix, number in protected if prefix.version == 4 and address in prefix]
    spans = intervals(protected)
    key = 0xFFFF << 32 | host
    found = [zone for first, last, zone in spans if first <= key <= last]
    assert found == ([max(holding)[1]] if holding else [])
    assert all(one[1] < other[0] for one, other in pairwise(spans))
    if prefixes:
        where = tables.make(protected, rows=64, ring=64, normal=64)
        counted(ethernet(ip("192.0.2.9", str(address), udp(1, 2))), where=where)
        assert where.rows[: where.used, tables.ZONE].tolist() == found


@pytest.mark.parametrize("host", ["0.0.0.0/32", "255.255.255.255/32", "::/128", "::1/128", "2001:db8::7/128"])
def test_a_key_and_its_address_are_one_to_one(host: str) -> None:
    assert tables.address(*tables.key(ip_network(host))) == ip_network(host)


def test_time_never_runs_backwards_and_survives_a_step_of_the_clock() -> None:
    frame = ethernet(ip(A, B, udp(1, 2)))
    where = tables.make(rows=64, ring=64, normal=64)
    stamps = ((100, 0), (99, 900_000), (50, 0), (50, 500_000))
    meta = np.array([(*stamp, 0, len(frame)) for stamp in stamps], np.uint32)
    walk.batch(*where.arrays, *walk.pcapy_batch(frame, meta.tobytes()), 1, 1, 0, walk.NEVER)
    seconds = (where.since(0)["time"] / 1e9).tolist()
    assert seconds == [100.0, 100.0, 100.0, 100.5]
    assert where.totals[Total.CLOCK_STEPS] == 1
    assert where.totals[Total.BACKWARDS] == 2


def test_the_normal_history_keeps_a_share_from_hours_ago() -> None:
    where = tables.make(rows=64, ring=64, normal=256, sample_gap_ns=0)
    # One host, a packet each second for nine hours.
    entries = np.zeros(9 * 3600, HEADER)
    entries["time"] = np.arange(len(entries)) * 1_000_000_000
    entries["destination_low"], entries["weight"] = tables.key(IPv4Network("198.51.100.7/32"))[1], 1
    walk.tallies(*where.arrays, walk.words(entries), 0, walk.NEVER)
    hours = (int(entries["time"][-1]) - where.history()["time"]) / 3.6e12
    assert len(hours) == 256
    assert (hours < 128 / 3600).sum() == 128
    assert 30 < (hours > 2).sum() < 120
    assert hours.max() > 4


def test_what_every_packet_needs_lies_in_large_pages() -> None:
    made = tables.make()
    for array in (made.index, made.rows, made.ring, made.normal, made.state):
        assert array.ctypes.data % tables.LARGE_PAGE == 0
    assert tables.make(rows=64, ring=64, normal=64).index.ctypes.data % 64 == 0, "a cache line"


def test_each_port_of_a_reflector_has_its_own_bit() -> None:
    bits = tables.reflector_ports(conversations=True)
    found = [port for port in range(65_536) if bits[port >> 3] >> (port & 7) & 1]
    assert found == sorted(AMPLIFICATION_SERVICES)
