"""Hosts of one prefix that are attacked together: one carpet, and who has an attack of its own beside it."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flooded import ICMP, UDP, V4, V6, Stage, zone
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.packets import capture
from lab.scenario_floods import MAKERS
from lab.scenario_order import Order, Spread
from rules.match import Network
from rules.traffic import State
from sensors import analyze
from sensors.crowds import LEAST

FIRST = ip_network("198.51.101.0/32")
PART = "198.51.101.0/27"
ALONE = ip_network("198.51.101.200/32")
PATIENCE = 2.0


def hosts(count: int) -> list[str]:
    return [f"198.51.101.{number}/32" for number in range(count)]


@pytest.mark.parametrize("rate", [5_500, 7_000, 70_000])
def test_many_hosts_above_their_limits_are_one_attack_on_their_prefix(rate: float) -> None:
    stage = Stage(zone(V4))
    stage.run(1, (FIRST, 32, 50))
    stage.run(3, (FIRST, 32, rate))
    stage.run(4)
    assert stage.told() == [PART]
    assert stage.told(State.OVER) == [PART]
    assert stage.engine.suspicions == 0


def test_many_subnets_above_their_limits_are_one_attack_on_the_48() -> None:
    stage = Stage(zone(V6))
    stage.run(2, (ip_network("2001:db8:7::1/128"), LEAST, 7_000))
    [told] = stage.told()
    assert ip_network(told).prefixlen < 128


def test_a_few_victims_side_by_side_are_attacked_each() -> None:
    stage = Stage(zone(V4))
    stage.run(2, (FIRST, LEAST - 1, 7_000))
    assert sorted(stage.told()) == sorted(hosts(LEAST - 1))


@pytest.mark.parametrize("stays", [False, True])
def test_a_carpet_that_walks_over_its_prefix_is_told_of_ever_wider_parts_not_of_every_host(stays: bool) -> None:
    stage = Stage(zone(V4), quiet=10.0)
    for step in range(32):
        hit = range(0 if stays else 8 * step, 8 * step + 8)
        stage.run(0.4, *((ip_network(f"198.51.101.{number}/32"), 1, 6_500.0) for number in hit))
    lengths = [ip_network(target).prefixlen for target in stage.told()]
    assert lengths.count(32) < LEAST and lengths[-1] == 24
    assert len(lengths) <= LEAST + 5


def test_one_more_victim_among_many_that_were_told_is_told_by_itself() -> None:
    """Each comes a second after the one before."""
    stage = Stage(zone(V4), quiet=60.0)
    for number in range(LEAST + 4):
        stage.run(1, (ip_network(f"198.51.101.{12 * number}/32"), 1, 50_000.0))
    assert stage.told() == [f"198.51.101.{12 * number}/32" for number in range(LEAST + 4)]


def test_an_attack_around_one_that_is_told_is_another_one() -> None:
    stage = Stage(zone(V4))
    stage.run(2, (FIRST, 32, 20_000))
    stage.run(3, (FIRST, 32, 20_000), (FIRST, 256, 150))
    stage.run(4)
    assert stage.told() == [PART, "198.51.101.0/24"]
    assert sorted(stage.told(State.OVER)) == sorted(stage.told())


floods = st.tuples(
    st.sampled_from([FIRST, ALONE, ip_network("198.51.101.128/32"), ip_network("198.51.102.0/32")]),
    st.sampled_from([1, 3, 17, 32, 120]),
    st.sampled_from([60.0, 600.0, 5_500.0, 9_000.0, 40_000.0]),
    st.sampled_from([UDP, UDP, ICMP]),
)


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.4, 1.2]), st.lists(floods, max_size=3)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_whatever_comes_each_attack_begins_once_and_ends(
    course: list[tuple[float, list[tuple[Network, int, float, int]]]],
) -> None:
    stage = Stage(zone(V4))
    for seconds, some in course:
        stage.run(seconds, *some)
    # Recurrence doubles the quiet that an end takes.
    stage.run(70)
    under: dict[str, str] = {}
    for one in stage.said:
        target = str(one.target)
        if one.state is State.STARTED:
            assert target not in under, "a second attack on what is under attack"
            under[target] = one.attack
        assert under[target] == one.attack
        if one.state is State.OVER:
            del under[target]
    assert not under


@pytest.mark.parametrize("later", [False, True])
def test_who_gets_far_more_than_the_others_is_attacked_by_itself(later: bool) -> None:
    stage = Stage(zone(V4))
    if later:
        stage.run(1, (FIRST, 32, 6_000))
    stage.run(2, (FIRST, 32, 6_000), (ALONE, 1, 90_000))
    assert sorted(stage.told()) == sorted([PART, str(ALONE)])


def test_who_is_hit_in_another_way_is_attacked_by_itself() -> None:
    stage = Stage(zone(V4))
    stage.run(1, (FIRST, 32, 6_000))
    stage.run(1, (FIRST, 32, 6_000), (FIRST, 1, 3_000, ICMP))
    assert stage.told() == [PART, str(FIRST)]


@pytest.mark.parametrize("sole", [False, True])
def test_where_the_prefix_may_get_as_much_its_hosts_are_told(sole: bool) -> None:
    """Beside one host's flood it is above its limit, and what is left of it never is."""
    stage = Stage(zone(V4, prefix_factor=256))
    scattered = [ip_network(f"198.51.101.{number}/32") for number in range(0, 240, 12)]
    stage.run(PATIENCE + 1, *((host, 1, 6_000.0) for host in scattered), (ALONE, 0 if sole else 1, 2_000_000))
    expected = [str(host) for host in scattered] + ([] if sole else [str(ALONE)])
    assert sorted(stage.told()) == sorted(expected)


@pytest.mark.parametrize(("family", "count", "each"), [("udp_flood", 200, 1_800), ("syn_flood", 128, 1_000)])
@pytest.mark.parametrize("seconds", [0.6, 1.5])
def test_a_capture_of_a_carpet_is_one_incident(
    family: str, count: int, each: int, seconds: float, tmp_path: Path
) -> None:
    """Be each host's share too little for an attack on it, or enough."""
    random = np.random.default_rng(5)
    times = np.sort(random.integers(0, int(seconds * 1e9), int(count * each * seconds)))
    target = ip_network("203.0.113.0/24")
    capture(tmp_path / "carpet.pcap", MAKERS[family](Order(target, times, random, Spread.BOTNET, 0, count)))
    [incident] = analyze.run(tmp_path / "carpet.pcap").incidents
    assert incident.attack.target == target
    assert [str(share.vector) for share in incident.attack.vectors][:1] == [family]
    told: Any = incident.attack.details
    assert told["target_count"] > LEAST
    assert len(told["targets"]) == 5 and all(host.startswith("203.0.113.") for host in told["targets"])
