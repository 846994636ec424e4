"""Proposed rules: held to fresh packets of the same attack and of the same normal traffic, to routers' profiles, to an
independent matcher; and what is said when nothing separates the two."""

from dataclasses import replace
from functools import cache
from ipaddress import IPv4Network, ip_network

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixes import pool, vectors
from packets import Packet, selects

from rules.components import Numeric
from rules.match import Family, Match, Network
from rules.platforms import PROFILES, match_findings
from rules.traffic import Signature, Vector
from sensors.classify import Picture, classify
from sensors.harm import Normal
from sensors.headers import HAS_FLAGS, HAS_ICMP, HAS_PAYLOAD, HAS_PORTS, IS_HTTP, IS_IPV6, MAPPED, Kind
from sensors.matching import selected
from sensors.signature import signatures
from sensors.tables import ANY

CARRIERS = (1, 4, 6, 17, 41, 47, 50, 51, 58, 88, 89, 103, 112, 115, 132)
"""Protocols of tunnels, services, routers."""
V4, V6 = ip_network("203.0.113.7/32"), ip_network("2001:db8::7/128")
ALIKE = {"syn_flood", "ack_flood", "icmp_flood", "udp_flood"}
"""As the lab makes them they hit a port that normal traffic uses, with packets such as it has."""


def some(of: ANY, start: int, count: int) -> ANY:
    return of[start : start + count]


@cache
def proposed(vector: Vector, target: Network = V4) -> tuple[Picture, tuple[Signature, ...]]:
    sample = some(pool(vector, target), 0, 3_000)
    picture = classify(sample, by_bytes=False, target=target)
    return picture, signatures(target, sample, picture, pool(None, target)[::6], severity=4.0)


def taken(rules: tuple[Signature, ...], entries: ANY) -> np.ndarray:
    out = np.zeros(len(entries), bool)
    for rule in rules:
        out |= selected(rule.match, entries)
    return out


PAIRS = [(vector, V4) for vector in vectors()] + [(Vector("udp_amp", "dns"), V6), (Vector("rst_flood"), V6)]
SEPARABLE = [pair for pair in PAIRS if pair[0].kind not in ALIKE]


def test_rules_take_fresh_attack_packets_and_spare_fresh_normal_ones() -> None:
    figures = []
    for vector, target in SEPARABLE:
        _, rules = proposed(vector, target)
        attack, normal = some(pool(vector, target), 3_000, 3_000), pool(None, target)[1::2]
        hit = taken(rules, attack)
        coverage = min(hit.mean(), attack["length"][hit].sum() / attack["length"].sum())
        figures.append((float(coverage), Normal.of(normal).harm(taken(rules, normal)), len(rules)))
        assert all(rule.separates for rule in rules), vector
    coverages, harms, counts = map(np.array, zip(*figures, strict=True))
    print(f"{len(figures)} families: coverage from {coverages.min():.3f}, collateral to {harms.max():.4f}, "
          f"rules {counts.mean():.2f} on average, at most {counts.max()}")  # fmt: skip
    assert coverages.min() >= 0.98
    assert harms.max() <= 0.01
    assert counts.max() <= 4


@pytest.mark.parametrize("kind", sorted(ALIKE))
def test_where_nothing_separates_it_says_so_and_asks_for_a_limit(kind: str) -> None:
    _, rules = proposed(Vector(kind))
    assert rules
    assert not any(rule.separates for rule in rules)
    assert all(rule.collateral is not None and rule.collateral > 0.01 for rule in rules)


@pytest.mark.parametrize(("vector", "target"), PAIRS, ids=lambda value: str(value).split("/")[0])
def test_every_platform_holds_what_is_proposed(vector: Vector, target: Network) -> None:
    for rule in proposed(vector, target)[1]:
        assert [one for one in match_findings(rule.match, PROFILES["generic"]) if one.is_error] == []
        assert rule.match.destination == target


def packet(entry: np.void) -> Packet:
    """A remembered packet, for the independent matcher."""
    is_v6, marks = bool(entry["marks"] & IS_IPV6), int(entry["marks"])
    source, destination = (
        (int(entry[f"{side}_high"]) << 64 | int(entry[f"{side}_low"])) - (0 if is_v6 else MAPPED)
        for side in ("source", "destination")
    )
    return Packet(
        family=Family.IPV6 if is_v6 else Family.IPV4,
        destination=destination,
        source=source,
        protocol=int(entry["protocol"]),
        length=int(entry["length"]),
        dscp=int(entry["traffic_class"]) >> 2,
        fragment=int(entry["fragment"]),
        flow_label=0,
        source_port=int(entry["source_port"]) if marks & HAS_PORTS else None,
        destination_port=int(entry["destination_port"]) if marks & HAS_PORTS else None,
        icmp_type=int(entry["icmp_type"]) if marks & HAS_ICMP else None,
        icmp_code=int(entry["icmp_code"]) if marks & HAS_ICMP else None,
        tcp_flags=int(entry["tcp_flags"]) if marks & HAS_FLAGS else None,
    )


@settings(max_examples=40, deadline=None)
@given(pair=st.sampled_from(PAIRS), seed=st.integers(0, 2**32))
def test_a_rule_matches_exactly_the_packets_it_claims(pair: tuple[Vector, Network], seed: int) -> None:
    vector, target = pair
    random = np.random.default_rng(seed)
    sample = np.sort(random.choice(pool(vector, target)[:3_000], 300), order="time")
    normal = random.choice(pool(None, target), 120)
    for rule in signatures(target, sample, classify(sample, by_bytes=False), normal):
        hits = np.array([selects(rule.match, packet(entry)) for entry in sample])
        sizes = sample["length"].astype(float)
        assert rule.coverage == pytest.approx(min(hits.mean(), sizes[hits].sum() / sizes.sum()))
        assert rule.collateral is not None
        assert rule.collateral >= np.mean([selects(rule.match, packet(entry)) for entry in normal]) - 1e-9


def test_rules_stay_while_they_do_as_well() -> None:
    vector = Vector("udp_amp", "memcached")
    picture, first = proposed(vector)
    later = some(pool(vector), 2_000, 3_000)
    again = signatures(V4, later, picture, pool(None)[::6], before=first) if len(later) == 3_000 else ()
    assert [rule.match for rule in again] == [rule.match for rule in first]


def test_rules_go_when_the_attack_changes() -> None:
    _, first = proposed(Vector("udp_amp", "memcached"))
    sample = some(pool(Vector("gre_flood")), 0, 3_000)
    rules = signatures(V4, sample, classify(sample, by_bytes=False), pool(None)[::6], before=first)
    assert taken(rules, sample).mean() >= 0.98


def test_many_services_share_few_rules() -> None:
    services = ("ard", "bacnet", "coap", "dahua", "mdns", "ntp", "ssdp", "ubnt")
    sample = np.concatenate([some(pool(Vector("udp_amp", service)), 0, 400) for service in services])
    picture = classify(sample, by_bytes=False)
    rules = signatures(V4, sample, picture, pool(None)[::6])
    assert len(rules) <= 4
    assert taken(rules, sample).mean() >= 0.98
    assert Vector("multi_vector") == picture.vectors[-1].vector
    assert picture.vectors[0].vector.service in services


def few_real_sources(count: int) -> ANY:
    """An ACK flood as normal ACKs are, of a few hosts, each over its own path."""
    sample = some(pool(Vector("ack_flood")), 0, 3_000).copy()
    which = np.arange(len(sample)) % count
    sample["source_low"] = MAPPED | (0x08080800 + which * 7_000_001 % 2**30)
    sample["ttl"] = 44 + which % 9
    return sample


def test_few_real_sources_get_rules_of_their_own_where_the_service_would_suffer() -> None:
    sample = few_real_sources(4)
    picture = classify(sample, by_bytes=False)
    rules = signatures(V4, sample, picture, pool(None)[::6])
    assert picture.spoofed is False
    assert len(rules) == 4
    assert all(isinstance(rule.match.source, IPv4Network) and rule.match.source.prefixlen == 32 for rule in rules)
    assert all(rule.separates and rule.collateral == 0.0 for rule in rules)


def test_forged_sources_never_get_into_a_rule() -> None:
    sample = few_real_sources(4)
    forged = replace(classify(sample, by_bytes=False), spoofed=True)
    doubtful = replace(forged, spoofed=None)
    for picture in (forged, doubtful):
        rules = signatures(V4, sample, picture, pool(None)[::6])
        assert all(rule.match.source is None for rule in rules)


def test_odd_flags_are_named_one_by_one_and_no_service_is_dropped() -> None:
    sample = some(pool(Vector("tcp_null")), 0, 3_000).copy()
    sample["tcp_flags"], sample["kind"] = np.where(np.arange(3_000) % 2, 3, 7), Kind.TCP_OTHER
    for normal in (pool(None)[::6], pool(None)[:0]):
        rules = signatures(V4, sample, classify(sample, by_bytes=False), normal)
        assert taken(rules, sample).all()
        assert all(rule.separates and rule.match.tcp_flags is not None for rule in rules)


def test_what_comes_anyway_is_no_part_of_the_attack() -> None:
    """Half of the sample is normal; a rule that takes the attack alone covers it wholly."""
    attack, usual = some(pool(Vector("udp_flood")), 0, 1_500).copy(), pool(None)
    attack["destination_port"] = 9_999
    anyway = usual[(usual["kind"] == attack["kind"][0]) & (usual["protocol"] == 17)]
    sample = np.concatenate([attack, anyway[:1_500]])
    background = np.zeros(32)
    background[attack["kind"][0]] = len(anyway[:1_500]) / len(sample)
    picture = classify(sample, by_bytes=False, background=background)
    rules = signatures(V4, sample, picture, usual, background=background)
    assert Match.parse("match { destination 203.0.113.7/32; protocol =udp; destination-port =9999; }") in [
        rule.match for rule in rules
    ]
    assert rules[0].separates


def test_a_syn_flood_is_dropped_by_what_visitors_syns_do_not_have() -> None:
    """Normal traffic in which no connection happens to begin still tells who would come again."""
    normal = pool(None)[::6]
    normal = normal[normal["kind"] != Kind.SYN]
    flood = some(pool(Vector("syn_flood")), 0, 3_000)
    bare = signatures(V4, flood, classify(flood, by_bytes=False), normal)
    assert [rule.match.packet_length is not None and rule.separates for rule in bare] == [True]
    dressed = flood.copy()
    dressed["length"] = 60
    alike = signatures(V4, dressed, classify(dressed, by_bytes=False), normal)
    assert [rule.separates for rule in alike] == [False]
    dressed["length"] = 64
    apple = signatures(V4, dressed, classify(dressed, by_bytes=False), normal)
    assert [rule.separates for rule in apple] == [False]


def test_bare_syns_are_dropped_even_where_nobody_knows_what_is_normal() -> None:
    flood = some(pool(Vector("syn_flood")), 0, 3_000).copy()
    for length, separates in ((40, True), (60, False), (64, False)):
        flood["length"] = length
        rules = signatures(V4, flood, classify(flood, by_bytes=False), pool(None)[:0])
        assert [rule.separates for rule in rules] == [separates]


def test_short_packets_beside_long_ones_get_their_rule() -> None:
    both = np.concatenate(
        [some(pool(Vector("rst_flood")), 0, 1_200), some(pool(Vector("udp_amp", "memcached")), 0, 1_800)]
    )
    rules = signatures(V4, both, classify(both, by_bytes=False), pool(None)[::6])
    assert taken(rules, both).all()
    assert min(rule.coverage for rule in rules) < 0.05


def requests(target: Network) -> ANY:
    """Of three hosts, three over each connection."""
    out = some(pool(Vector("ack_flood"), target), 0, 3_000).copy()
    out["marks"] |= HAS_PAYLOAD | IS_HTTP
    out["length"], out["source_high"], out["source_low"] = 500, 0x2001_0DB8_0001_0000, np.arange(len(out)) % 3
    out["source_port"], out["destination_port"] = 1_024 + np.arange(len(out)) // 9, 80
    return out


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_an_ipv4_address_in_an_ipv6_header_gets_no_rule_and_ends_no_sensor(share: float) -> None:
    sample = requests(V6)
    forged = np.arange(len(sample)) < share * len(sample)
    sample["source_high"][forged], sample["source_low"][forged] = 0, MAPPED | 0x05060708
    picture = classify(sample, by_bytes=False, target=V6)
    assert (str(picture.vectors[0].vector), picture.spoofed) == ("http_flood", None)
    rules = signatures(V6, sample, picture, pool(None, V6)[::6], severity=4.0)
    assert rules and all(rule.match.source is None and not rule.separates for rule in rules)


def test_ipv6_to_an_ipv4_address_ends_no_sensor() -> None:
    sample = requests(V4)
    sample["marks"] |= IS_IPV6
    picture = classify(sample, by_bytes=False, target=V4)
    assert signatures(V4, sample, picture, pool(None, V4)[::6], severity=4.0) == ()


def test_a_small_service_beside_a_large_one_of_many_clients_is_one() -> None:
    normal = some(pool(Vector("ack_flood"), V4), 0, 3_000).copy()
    normal["source_low"] = MAPPED | (0x08000000 + np.arange(len(normal)))
    normal["source_port"], normal["destination_port"] = 50_000, 443
    calls = normal[:60]
    calls["protocol"], calls["kind"], calls["marks"], calls["destination_port"] = 17, Kind.UDP, HAS_PORTS, 5_060
    calls["source_low"] = MAPPED | (0x09000000 + np.arange(60) // 20)
    prepared = Normal.of(normal)
    hit = np.arange(len(prepared.entries)) < 20
    assert prepared.harm(hit) == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", ["udp_flood", "tcp_flood"])
def test_few_packets_without_ports_or_flags_make_no_rule_wider(kind: str) -> None:
    sample = some(pool(Vector("udp_flood" if kind == "udp_flood" else "syn_flood"), V4), 0, 3_000).copy()
    if kind == "tcp_flood":
        sample["kind"], sample["tcp_flags"] = Kind.TCP_OTHER, 3
    else:
        sample["destination_port"] = 9_999
    bits = np.uint8(HAS_PORTS | HAS_FLAGS)
    for cut in (np.arange(0), np.arange(0, 3_000, 500)):
        sample["marks"][cut] &= ~bits
        for field in ("source_port", "destination_port", "tcp_flags"):
            sample[field][cut] = 0
        picture = classify(sample, by_bytes=False, target=V4)
        [rule] = signatures(V4, sample, picture, pool(None, V4)[::6], severity=4.0)
        assert str(picture.vectors[0].vector) == kind
        assert rule.separates and rule.coverage >= 0.99 and rule.collateral == 0


@pytest.mark.parametrize(("target", "protocol", "kind"), [(V4, 58, Kind.ICMPV6), (V6, 1, Kind.ICMP)])
@pytest.mark.parametrize("icmp_type", [3, 135, 200])
def test_the_icmp_of_the_other_family_is_dropped_whatever_its_type(
    target: Network, protocol: int, kind: Kind, icmp_type: int
) -> None:
    sample = some(pool(Vector("icmp_flood" if target is V4 else "icmpv6_flood"), target), 0, 3_000).copy()
    sample["protocol"], sample["kind"], sample["icmp_type"] = protocol, kind, icmp_type
    picture = classify(sample, by_bytes=False, target=target)
    [rule] = signatures(target, sample, picture, pool(None, target)[::6], severity=4.0)
    assert rule.match == Match(destination=target, protocol=Numeric.only(protocol)) and rule.separates
    assert [one for one in match_findings(rule.match, PROFILES["generic"]) if one.is_error] == []


@pytest.mark.parametrize(("target", "kinds"), [(V4, 256), (V4, 30), (V6, 256), (V6, 30)])
def test_an_icmp_flood_of_many_types_gets_a_rule_that_spares_errors(target: Network, kinds: int) -> None:
    sample = some(pool(Vector("icmp_flood" if target is V4 else "icmpv6_flood"), target), 0, 3_000).copy()
    sample["icmp_type"] = (255 - np.arange(len(sample)) % kinds).astype(np.uint8)
    picture = classify(sample, by_bytes=False, target=target)
    for normal in (pool(None, target)[::6], sample[:0]):
        [rule] = signatures(target, sample, picture, normal, severity=4.0)
        # Where it is known that the host is asked, and answers, it is limited.
        assert rule.separates == (len(normal) == 0) and rule.coverage >= 0.95 and rule.match.icmp_type is not None
        errors = (3, 11, 12) if target is V4 else (1, 2, 3, 4, 133, 135, 136)
        assert not any(low <= kind <= high for low, high in rule.match.icmp_type.spans(255) for kind in errors)
        assert [one for one in match_findings(rule.match, PROFILES["generic"]) if one.is_error] == []


@pytest.mark.parametrize("known", [True, False])
def test_a_flood_of_all_flags_that_no_stack_sends_gets_a_rule_that_spares_those_that_stacks_send(known: bool) -> None:
    odd = [0x03, 0x06, 0x08, 0x20, 0x28, *range(0x07, 0x40, 8), *range(0x13, 0x40, 8)]
    sample = some(pool(Vector("syn_flood"), V4), 0, 3_000).copy()
    sample["kind"], sample["tcp_flags"] = Kind.TCP_OTHER, np.array(odd)[np.arange(len(sample)) % len(odd)]
    picture = classify(sample, by_bytes=False, target=V4)
    [rule] = signatures(V4, sample, picture, pool(None, V4)[::6] if known else sample[:0], severity=4.0)
    assert rule.separates and rule.coverage == 1 and rule.match.tcp_flags is not None
    for flags in (0x02, 0x12, 0x10, 0x18, 0x11, 0x19, 0x04, 0x14, 0xC2, 0x42):
        assert not rule.match.tcp_flags.holds(flags)
    assert [one for one in match_findings(rule.match, PROFILES["generic"]) if one.is_error] == []


@pytest.mark.parametrize(
    ("protocols", "least"), [(range(100, 108), 0.6), (range(133, 256), 1.0), (range(18, 256), 0.6)]
)
def test_a_flood_of_many_protocols_gets_a_rule_that_spares_tunnels(protocols: range, least: float) -> None:
    sample = some(pool(Vector("udp_flood"), V4), 0, 3_000).copy()
    numbers = np.array([number for number in protocols if number not in CARRIERS])
    sample["protocol"], sample["kind"] = numbers[np.arange(len(sample)) % len(numbers)], Kind.OTHER
    sample["marks"], sample["source_port"], sample["destination_port"] = 0, 0, 0
    picture = classify(sample, by_bytes=False, target=V4)
    assert str(picture.vectors[0].vector) == "ip_proto_flood"
    for normal in (pool(None, V4)[::6], sample[:0]):
        [rule] = signatures(V4, sample, picture, normal, severity=4.0)
        assert rule.separates and rule.coverage >= least and rule.match.protocol is not None
        assert not any(low <= one <= high for low, high in rule.match.protocol.spans(255) for one in CARRIERS)
        assert [one for one in match_findings(rule.match, PROFILES["generic"]) if one.is_error] == []
