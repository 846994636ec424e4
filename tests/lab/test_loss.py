"""The demo's judgement: a host, a port or a flow that loses is found, chance and what a rule names are not."""

from ipaddress import ip_network

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lab.benign import SEQUENCE
from lab.loss import headers, loss
from lab.sender import POOL, Stream
from rules.match import Match
from rules.rule import FlowSpec, parse
from sensors.matching import selected

HOST = Stream("benign", ip_network("203.0.113.7/32"), 2000, 12, seed=3, first=POOL)
NETWORK = Stream("benign", ip_network("203.0.113.0/24"), 2000, 12, seed=4)
SENT = 24_000


def match(text: str) -> Match:
    rule = parse(f"match {{ {text} }} then {{ discard; }}")
    assert isinstance(rule, FlowSpec)
    return rule.match


def all_arrived(stream: Stream, sent: int = SENT) -> NDArray[np.int64]:
    arrived = np.zeros(SEQUENCE, np.int64)
    np.add.at(arrived, (stream.first + np.arange(sent) % POOL) % SEQUENCE, 1)
    return arrived


def without(stream: Stream, dropped: Match) -> NDArray[np.int64]:
    """What arrives behind a filter that drops these packets."""
    arrived = all_arrived(stream)
    places = np.flatnonzero(selected(dropped, headers(stream.frames())))
    arrived[(stream.first + places) % SEQUENCE] = 0
    return arrived


@settings(max_examples=8)
@given(st.sampled_from([HOST, NETWORK]), st.integers(0, 60_000))
def test_what_all_arrived_hurts_nobody(stream: Stream, sent: int) -> None:
    found = loss(stream, sent, all_arrived(stream, sent), [])
    assert found.hurt == () and found.named.sent == 0
    hosts = found.buckets["host"]
    assert sum(one.sent for one in hosts) <= sent and all(one.lost == 0 for one in hosts)


@pytest.mark.parametrize(
    ("stream", "dropped", "hurt"),
    [
        (NETWORK, "destination 203.0.113.9/32;", "host 203.0.113.9 "),
        (HOST, "destination 203.0.113.7/32; protocol =tcp; destination-port =443;", "port tcp/443 "),
        (HOST, "destination 203.0.113.7/32; protocol =udp; destination-port =53;", "port udp/53 "),
        (HOST, "destination 203.0.113.7/32; protocol =tcp; source-port >=60000;", "flow 198.18."),
    ],
)
def test_who_lost_everything_is_named_although_the_total_is_small(stream: Stream, dropped: str, hurt: str) -> None:
    arrived = without(stream, match(dropped))
    assert any(one.startswith(hurt) for one in loss(stream, SENT, arrived, []).hurt)
    # The same packets, dropped by a rule that was made to drop them.
    excused = loss(stream, SENT, arrived, [match(dropped)])
    assert excused.hurt == () and excused.named.lost == excused.named.sent > 0


def test_two_packets_lost_by_chance_hurt_nobody() -> None:
    arrived = all_arrived(NETWORK)
    arrived[[100, 9000]] -= 1
    found = loss(NETWORK, SENT, arrived, [])
    assert found.hurt == () and sum(one.lost for one in found.buckets["host"]) == 2


def test_hosts_ports_and_flows_have_enough_packets_to_be_judged() -> None:
    assert len(loss(NETWORK, SENT, all_arrived(NETWORK), []).buckets["host"]) > 250
    judged = loss(HOST, SENT, all_arrived(HOST), []).buckets
    assert {one.name for one in judged["port"]} >= {"tcp/443", "udp/443", "udp/53", "udp/123"}
    assert len(judged["flow"]) > 300
