"""However an attack looks, no rule that drops takes away the only service that a host has, whether or not it is known
what is normal there."""

from ipaddress import ip_network

import numpy as np
from hard_mixes import crowd
from hypothesis import given, settings
from hypothesis import strategies as st
from mixes import drawn

from rules.match import Network
from rules.platforms import PROFILES, match_findings
from rules.traffic import Signature
from sensors import tables, walk
from sensors.classify import classify
from sensors.headers import HAS_PORTS, HEADER, MAPPED, Kind
from sensors.matching import selected
from sensors.scoring import Evidence
from sensors.signature import searched, signatures
from sensors.tables import ANY, key

TARGETS = (ip_network("203.0.113.7/32"), ip_network("2001:db8::7/128"))
SERVICES = ("web", "http", "mail", "ssh", "upload", "quic server", "authority", "openvpn", "wireguard", "ipsec", "gre",
            "sip", "rtp", "game server", "nfs")  # fmt: skip
KNOWN = (0, 1, 5, 19, 20, 60, 320)
"""Packets that are remembered of normal traffic."""
BEARABLE = 0.05
"""Of the service's packets: of 20 known ones, one tells of no less."""


def visitors(service: str, target: Network) -> ANY:
    """What they send; their SYNs with options, as today's systems send them."""
    out = crowd(service, 7, target).copy()
    out["length"] += np.where(out["kind"] == Kind.SYN, np.uint16(20), np.uint16(0))
    return out


def imitated(service: ANY, sources: int, random: np.random.Generator) -> ANY:
    """The service's own packets, from so many forged addresses, as if each were another client's."""
    out = drawn(service, 3_000, random).copy()
    pool = random.integers(0x01000000, 0xDF000000, sources).astype(np.uint64)
    chosen = random.integers(0, sources, len(out))
    is_long = out["destination_high"] != 0
    out["source_high"] = np.where(is_long, np.uint64(0x2A00) << np.uint64(48) | pool[chosen], np.uint64(0))
    out["source_low"] = np.where(is_long, pool[chosen], pool[chosen] | np.uint64(MAPPED))
    ported = (out["marks"] & HAS_PORTS != 0) & (sources > 50)
    out["source_port"] = np.where(ported, random.integers(1_024, 65_536, len(out)), out["source_port"])
    out["ttl"] = np.where(sources > 50, 57, 50 + chosen % 9)
    return out


def random_everything(target: Network, random: np.random.Generator) -> ANY:
    """Packets with nothing in common but where they go."""
    out = np.zeros(3_000, HEADER)
    out["destination_high"], out["destination_low"] = key(target)
    out["source_low"] = random.integers(0x01000000, 0xDF000000, len(out)).astype(np.uint64)
    out["source_low"] |= np.uint64(MAPPED if target.version == 4 else 0)
    out["source_high"] = 0 if target.version == 4 else 0x2A00 << 48
    out["protocol"] = random.choice((6, 17, 1 if target.version == 4 else 58, 47, 50, 200), len(out))
    for name, most in (("source_port", 65_536), ("destination_port", 65_536), ("tcp_flags", 64), ("ttl", 256)):
        out[name] = random.integers(0, most, len(out))
    out["length"], out["weight"] = random.integers(60, 1_500, len(out)), 1
    out["time"] = 1 + np.arange(len(out)) * 50_000
    into = tables.make(rows=64, ring=4_096, normal=64)
    walk.tallies(*into.arrays, walk.words(out), 0, walk.NEVER)
    return into.since(0).copy()


def dropped(rules: tuple[Signature, ...], entries: ANY) -> float:
    """The part of the packets that rules drop."""
    hit = np.zeros(len(entries), bool)
    for rule in rules:
        if rule.separates:
            hit |= selected(rule.match, entries)
    return float(hit.mean())


CASES = st.tuples(
    st.sampled_from(SERVICES), st.sampled_from(TARGETS), st.sampled_from(KNOWN), st.integers(0, 2**32)
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(case=CASES, sources=st.sampled_from((1, 3, 9, 40, 3_000)), plain=st.booleans())
def test_packets_like_the_services_are_never_dropped_by_what_they_share_with_it(
    case: tuple[str, Network, int, int], sources: int, plain: bool
) -> None:
    service, target, known, seed = case
    random, traffic = np.random.default_rng(seed), visitors(service, target)
    before, fresh = traffic[::2], traffic[1::2]
    sample = imitated(before, sources, random)
    picture = classify(sample, by_bytes=False, target=target)
    evidence = Evidence.of(sample, drawn(before, known, random), severity=3.0)
    rules = searched(target, evidence, picture, plain=plain)
    assert dropped(rules, fresh) <= BEARABLE, [str(rule.match) for rule in rules]
    assert rules
    for rule in rules:
        assert [one for one in match_findings(rule.match, PROFILES["generic"]) if one.is_error] == []
        assert rule.match.destination == target


@settings(max_examples=20, deadline=None)
@given(case=CASES)
def test_a_flood_of_anything_does_not_drop_everything(case: tuple[str, Network, int, int]) -> None:
    service, target, known, seed = case
    random, traffic = np.random.default_rng(seed), visitors(service, target)
    sample = random_everything(target, random)
    picture = classify(sample, by_bytes=False, target=target)
    rules = signatures(target, sample, picture, drawn(traffic[::2], known, random), severity=3.0)
    assert 1 <= len(rules) <= 4
    assert dropped(rules, traffic[1::2]) <= BEARABLE, [str(rule.match) for rule in rules]


@settings(max_examples=20, deadline=None)
@given(case=CASES)
def test_what_is_limited_unseen_is_dropped_once_it_is_known_to_hurt_nobody(case: tuple[str, Network, int, int]) -> None:
    service, target, _, seed = case
    random, traffic = np.random.default_rng(seed), visitors(service, target)
    sample = imitated(crowd("iptv", 7, target), 3_000, random)
    sample["destination_port"] = 9_999
    picture = classify(sample, by_bytes=False, target=target)
    unseen = signatures(target, sample, picture, traffic[:0], severity=3.0)
    assert [rule.separates for rule in unseen] == [False]
    rules = signatures(target, sample, picture, drawn(traffic, 320, random), severity=3.0, before=unseen)
    assert dropped(rules, sample) >= 0.98
    assert dropped(rules, traffic) <= BEARABLE
