"""What comes over completed connections is told from floods of packets, and never dropped by service."""

from ipaddress import ip_network

import numpy as np
import pytest
from mixes import pool
from segments import segments

from rules.traffic import Vector
from sensors.classify import classify
from sensors.headers import IS_HTTP, IS_TLS, Kind
from sensors.signature import signatures
from sensors.tables import ANY

SERVER = ip_network("203.0.113.7/32")


def marked(entries: ANY, bit: int) -> ANY:
    entries["marks"] |= bit
    return entries


def requests(connections: int, each: int, bots: int) -> ANY:
    """Connections with request after request."""
    ids = np.arange(connections)
    parts = [segments(ids, Kind.SYN, 0, 60, bots=bots), segments(ids, Kind.ACK, 0.1, bots=bots)]
    for number in range(each):
        parts.append(marked(segments(ids, Kind.ACK, 0.2 + number / 100, 300, True, bots), IS_HTTP))
        parts.append(segments(ids, Kind.ACK, 0.2 + number / 100, bots=bots))
    return np.concatenate(parts)


def handshakes(connections: int, bots: int, hello: bool) -> ANY:
    """Connections that greet and go, or say nothing at all."""
    ids = np.arange(connections)
    parts = [segments(ids, Kind.SYN, 0, 60, bots=bots), segments(ids, Kind.ACK, 0.1, bots=bots)]
    if hello:
        parts.append(marked(segments(ids, Kind.ACK, 0.2, 557, True, bots), IS_TLS))
    return np.concatenate([*parts, segments(ids, Kind.FIN, 0.3, bots=bots)])


CASES = [
    ("http_flood", lambda bots: requests(200, 8, bots)),
    ("tls_flood", lambda bots: handshakes(900, bots, True)),
    ("tcp_connection_flood", lambda bots: handshakes(900, bots, False)),
]


@pytest.mark.parametrize(("kind", "made"), CASES, ids=[kind for kind, _ in CASES])
def test_each_is_named_and_its_sources_are_real(kind: str, made: object) -> None:
    sample = made(100)  # type: ignore[operator]
    picture = classify(sample, by_bytes=False)
    assert str(picture.vectors[0].vector) == kind
    # Whoever says nothing has shown nothing: a SYN and an ACK can be forged together.
    assert picture.spoofed is (None if kind == "tcp_connection_flood" else False)


@pytest.mark.parametrize(("kind", "made"), CASES, ids=[kind for kind, _ in CASES])
def test_from_many_it_is_limited_and_from_few_dropped_by_source(kind: str, made: object) -> None:
    for bots, normal in ((2, pool(None)[::6]), (300, pool(None)[::6]), (300, pool(None)[:0])):
        sample = made(bots)  # type: ignore[operator]
        rules = signatures(SERVER, sample, classify(sample, by_bytes=False), normal)
        by_source = bots == 2 and kind != "tcp_connection_flood"
        assert {(rule.match.source is not None, rule.separates) for rule in rules} == {(by_source, by_source)}


def test_syns_alone_are_seen_as_connections_when_what_follows_lies_beside() -> None:
    whole = handshakes(900, 100, False)
    syns = whole[whole["kind"] == Kind.SYN]
    assert str(classify(syns, by_bytes=False, beside=whole).vectors[0].vector) == "tcp_connection_flood"
    assert str(classify(syns, by_bytes=False).vectors[0].vector) == "syn_flood"


def test_visitors_beside_a_flood_of_packets_do_not_rename_it() -> None:
    both = np.concatenate([pool(Vector("syn_flood"))[:5_000], requests(60, 4, 60)])
    assert str(classify(both, by_bytes=False).vectors[0].vector) == "syn_flood"


def test_visitors_beside_a_flood_of_connections_do_not_rename_it() -> None:
    visits = requests(60, 2, 60)
    visits["source_low"] += 1
    both = np.concatenate([handshakes(4_000, 300, False), visits])
    assert str(classify(both, by_bytes=False).vectors[0].vector) == "tcp_connection_flood"
