"""The live engine and `stopbank analyze` against labelled attacks in hard normal traffic.

`bench/accuracy.py` has all families and more seeds. The bar is what holds; it only ever goes up.
"""

from pathlib import Path

import pytest

from bench.accuracy import SEPARABLE, judged
from bench.judgement import hits
from bench.simulated import live
from lab.packets import capture
from lab.scenarios import NORMAL, PLANS, ZONE, scenario
from rules.match import Match
from rules.zone import Zone
from sensors.matching import selected

SEEDS = (1, 2)
"""IPv4 and IPv6."""
SMALL = 0.15
"""Of all rates and limits, so that all families together take less than a minute."""
LIVE_GAPS = {"http_slow", "udp_amp:quic", "udp_amp:openvpn", "udp_amp:sip"}
"""Slow HTTP is no matter of rates, and gets no rules from many sources; floods from ports with ordinary traffic in bulk
are too few packets at a small scale. The bench has them."""
ANALYZE_GAPS = LIVE_GAPS | {
    "tcp_connection_flood", "http_flood", "tls_flood", "carpet_bombing", "several victims"
}  # fmt: skip
"""Without a zone the limits of connections and of prefixes are as high as ever: these are looked at in full."""
OTHERS = sorted({*PLANS} - {*SEPARABLE})


@pytest.mark.parametrize("name", SEPARABLE)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_differs_from_normal_traffic_plainly_is_dropped_not_just_limited(
    name: str, seed: int, tmp_path: Path
) -> None:
    ways = ("live", "analyze") if seed == 1 else ("live",)
    for way, found in judged(scenario(name, seed, 0.3 if name == "gre_flood" else 1.0), tmp_path, ways).items():
        assert found.is_right, found
        for outcome in found.outcomes:
            assert outcome.dropped >= 0.95, (way, outcome)
            assert outcome.harmed <= 0.05 and 1 <= outcome.drops <= 4, (way, outcome)


@pytest.mark.parametrize("name", OTHERS)
def test_an_attack_is_found_named_and_its_rules_hit_it_and_little_else(name: str, tmp_path: Path) -> None:
    ways = [way for way, gaps in (("live", LIVE_GAPS), ("analyze", ANALYZE_GAPS)) if name not in gaps]
    for way, found in judged(scenario(name, 1, SMALL), tmp_path, ways).items():
        assert found.is_right, (way, found)
        for outcome in found.outcomes:
            assert outcome.handled >= 0.9, (way, outcome)
            assert outcome.harmed <= 0.05 and 1 <= outcome.rules <= 4, (way, outcome)


@pytest.mark.parametrize("name", ["tls_flood", "carpet_bombing"])
def test_too_many_visitors_and_carpets_are_found_without_a_zone(name: str, tmp_path: Path) -> None:
    found = judged(scenario(name, 101), tmp_path, ("analyze",))["analyze"]
    assert found.is_right, found
    assert all(outcome.handled >= 0.98 and outcome.harmed <= 0.01 for outcome in found.outcomes), found


def test_connections_that_never_get_on_are_found(tmp_path: Path) -> None:
    assert judged(scenario("http_slow", 101), tmp_path, ("live",))["live"].is_right


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
