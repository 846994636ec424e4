"""Prefixes and zones as targets: carpets, what is reported inside, and that every length is counted exactly."""

from ipaddress import IPv6Network, ip_network

import numpy as np
import pytest
from flooded import LIMITS, V4, V6, Stage, zone

from rules.traffic import State
from rules.zone import Metric, Zone
from sensors.covering_kernel import add_up
from sensors.headers import Column
from sensors.tables import LINE, LINES, PINNED, ROW_WORDS


def test_a_carpet_over_a_24_is_one_attack_on_the_24() -> None:
    stage = Stage(zone(V4))
    stage.run(1, (ip_network("198.51.100.0/32"), 256, 50))
    stage.run(2, (ip_network("198.51.101.0/32"), 256, 1_000), (ip_network("198.51.100.0/32"), 256, 50))
    assert stage.told() == ["198.51.101.0/24"]
    first = stage.said[0]
    assert (first.metric, str(first.vector)) == ("udp_packets", "udp_flood")
    assert "carpet_bombing" in [share.vector.kind for share in first.vectors]
    assert first.signatures
    assert all(str(signature.match.destination) == "198.51.101.0/24" for signature in first.signatures)
    stage.run(3)
    assert stage.told(State.OVER) == ["198.51.101.0/24"]


@pytest.mark.parametrize(
    ("first", "hosts", "target"),
    [
        ("198.51.101.0/32", 128, "198.51.101.0/25"), ("198.51.101.64/32", 64, "198.51.101.64/26"),
        ("198.51.101.32/32", 32, "198.51.101.32/27"), ("198.51.101.16/32", 16, "198.51.101.16/28"),
        ("198.51.101.8/32", 8, "198.51.101.8/29"), ("198.51.101.4/32", 8, "198.51.101.0/28"),
    ],
)  # fmt: skip
def test_the_target_is_the_narrowest_prefix_that_explains_the_attack(first: str, hosts: int, target: str) -> None:
    stage = Stage(zone(V4))
    stage.run(1.5, (ip_network(first), hosts, 4_000))
    assert stage.told() == [target]


def test_a_carpet_in_ipv6_is_found_at_its_64() -> None:
    stage = Stage(zone(V6))
    stage.run(2, (ip_network("2001:db8:7:15::/128"), 100, 2_500))
    assert stage.told() == ["2001:db8:7:15::/64"]


def test_a_carpet_over_many_64s_is_one_attack_on_what_holds_them() -> None:
    stage = Stage(zone(V6))
    for _ in range(50):
        stage.run(0.04, *((IPv6Network((0x20010DB8_0007_0000 + net << 64, 128)), 2, 1_000) for net in range(64)))
    assert stage.told() == ["2001:db8:7::/56"]


def test_a_host_above_its_own_limit_is_no_attack_on_its_prefix() -> None:
    stage = Stage(zone(V4, total_limits=((Metric.PACKETS, 200_000),)))
    stage.run(1.5, (ip_network("198.51.101.9/32"), 1, 500_000))
    assert stage.told() == ["198.51.101.9/32"]


def test_a_host_above_its_own_limit_is_told_of_inside_a_carpet_and_taken_away_from_it() -> None:
    stage = Stage(zone(V4))
    stage.run(1.5, (ip_network("198.51.101.0/32"), 256, 1_000))
    stage.run(1.0, (ip_network("198.51.101.0/32"), 256, 1_000), (ip_network("198.51.101.9/32"), 1, 100_000))
    assert stage.told() == ["198.51.101.0/24", "198.51.101.9/32"]
    carpet = [detection for detection in stage.said if str(detection.target) == "198.51.101.0/24"][-1]
    assert carpet.severity == pytest.approx(256_000 / 20_000, rel=0.05)


def test_a_zone_has_a_limit_of_its_own() -> None:
    stage = Stage(zone(V4, total_limits=((Metric.PACKETS, 40_000),)))
    stage.run(1.5, *((ip_network(f"198.51.{100 + net}.0/32"), 256, 50) for net in range(4)))
    assert stage.told() == ["198.51.100.0/22"]
    assert stage.said[0].metric == "packets"


def test_a_zone_smaller_than_a_24_is_never_told_of_by_more_than_it_holds() -> None:
    stage = Stage(zone(ip_network("198.51.101.64/26")))
    stage.run(1.5, (ip_network("198.51.101.64/32"), 64, 2_000), (ip_network("198.51.101.128/32"), 64, 9_000))
    assert stage.told() == ["198.51.101.64/26"]


def test_who_floods_others_is_told_of_and_gets_no_rules() -> None:
    limits = (*LIMITS, (Metric.OUTGOING_PACKETS, 10_000))
    stage = Stage(Zone("z", (V4,), limits=limits))
    stage.run(1.0, (ip_network("198.51.101.9/32"), 1, 40_000), sent=True)
    assert stage.told() == ["198.51.101.9/32"]
    first = stage.said[0]
    assert (first.metric, first.signatures) == ("outgoing_packets", ())
    assert first.rate.packets_per_second == pytest.approx(40_000, rel=0.1)


def test_every_length_counts_what_its_hosts_count() -> None:
    stage = Stage(zone(V4, V6))
    floods = ((ip_network("198.51.101.0/32"), 250, 150), (ip_network("2001:db8:7:15::/128"), 90, 300))
    stage.run(0.4, *floods)
    tables = stage.engine.tables
    before = tables.rows.copy()
    stage.run(0.4, *floods)
    gained = (tables.rows - before)[:, Column.PACKETS]
    used = tables.used
    hosts = {tables.host(row): int(gained[row]) for row in range(used) if not tables.rows[row, LINE]}
    wider = [row for row in (*range(used), *stage.engine._covering.watched.tolist()) if tables.rows[row, LINE]]
    assert {int(tables.rows[row, LINE]) for row in wider} == set(range(1, LINES - 1))
    for row in wider:
        prefix = tables.host(row)
        inside = [count for host, count in hosts.items() if host.version == prefix.version and host.subnet_of(prefix)]  # type: ignore[arg-type]
        # Parts are summed at the tick that begins after the last packet.
        assert int(gained[row]) == pytest.approx(sum(inside), rel=0.11), prefix
    assert int(gained[stage.engine._covering.first_zone]) == sum(hosts.values())


def test_every_part_is_the_sum_of_its_halves() -> None:
    before = np.random.default_rng(3).integers(0, 1_000, (200, ROW_WORDS))
    rows = before.copy()
    add_up(rows, np.array([0, 128]))
    for first in (0, 128):
        leaves = before[first + 32 : first + 64, :PINNED]
        for part in range(2, 32):
            size = 32 >> part.bit_length() - 1
            begin = (part - (1 << part.bit_length() - 1)) * size
            assert (rows[first + part, :PINNED] == leaves[begin : begin + size].sum(axis=0)).all()
    rows[:, :PINNED], before[:, :PINNED] = 0, 0
    assert (rows == before).all(), "nothing but the counts"
