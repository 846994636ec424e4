"""The live engine and `stopbank analyze` against labelled attacks in hard normal traffic.

`bench/accuracy.py` has all families and more seeds. The bar is what holds; it only ever goes up.
"""

from pathlib import Path

import pytest

from bench.accuracy import judged
from bench.judgement import hits
from bench.simulated import live
from lab.packets import capture
from lab.scenarios import NORMAL, ZONE, scenario
from rules.match import Match
from rules.zone import Zone
from sensors.matching import selected

SEEDS = (1, 2)
"""IPv4 and IPv6."""
FAMILIES = ("udp_amp:dns", "syn_flood", "icmp_flood", "switching")
"""Each is found, named right and answered by rules that drop it, or limit it where nothing separates it."""


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_an_attack_is_found_named_and_its_rules_hit_it_and_little_else(name: str, seed: int, tmp_path: Path) -> None:
    found = judged(scenario(name, seed), tmp_path, ("live",))["live"]
    assert found.is_right, found
    for outcome in found.outcomes:
        assert outcome.limited >= 0.95
        assert outcome.collateral <= 0.05
        assert 1 <= outcome.rules <= 4


def test_a_capture_is_judged_alike_without_a_zone(tmp_path: Path) -> None:
    found = judged(scenario("udp_amp:ntp", 1), tmp_path, ("analyze",))["analyze"]
    assert found.is_right, found


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_is_a_victim_in_normal_traffic(seed: int, tmp_path: Path) -> None:
    assert judged(scenario(NORMAL, seed), tmp_path, ("live",))["live"].is_right


RULES = (
    "match { destination 203.0.113.0/24; protocol =udp; source-port =53; }",
    "match { destination 203.0.113.0/24; protocol =tcp; destination-port [ =443 =80 ]; }",
    "match { destination 203.0.113.0/24; packet-length >=100&<=1200; }",
    "match { destination 203.0.113.0/24; protocol =udp; fragment [ is-fragment first-fragment ]; }",
    "match { destination 203.0.113.0/25; protocol =tcp; tcp-flags =ack; }",
)


def test_the_judge_and_the_sensor_match_the_same_packets(tmp_path: Path) -> None:
    made, path = scenario("udp_amp:dns", 1), tmp_path / "one.pcap"
    capture(path, made.packets)
    entries = live(path, (Zone("all", ZONE),), lambda one: None).tables.since(0)
    for rule in RULES:
        match = Match.parse(rule)
        assert hits(match, made.packets).sum() > 0
        assert hits(match, made.packets).sum() == selected(match, entries).sum(), rule
