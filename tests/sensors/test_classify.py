"""Vectors, statements about the whole, reflections told from conversations, sources judged."""

from ipaddress import ip_network

import numpy as np
import pytest
from mixes import pool, remembered

from lab.traffic import attack
from rules.traffic import AMPLIFICATION_SERVICES, CONVERSATIONS, Vector
from sensors.classify import classify
from sensors.headers import HAS_FLAGS, HAS_PAYLOAD, HAS_PORTS, HEADER, IS_HTTP, MAPPED, Kind
from sensors.origins import origins
from sensors.reflection import is_reflection
from sensors.tables import ANY

PORTS = {service: port for port, service in AMPLIFICATION_SERVICES.items()}


def names(sample: ANY, **options: object) -> list[str]:
    return [str(share.vector) for share in classify(sample, by_bytes=False, **options).vectors]  # type: ignore[arg-type]


def udp(count: int, sources: int, port: int, to: int | ANY, lengths: int | ANY, kind: Kind = Kind.AMPLIFICATION) -> ANY:
    """UDP from a service's port to one host, packets of the sources in turn."""
    out = np.zeros(count, HEADER)
    out["source_low"] = MAPPED | (0x08000000 + np.arange(count) % sources * 40_503)
    out["destination_low"] = MAPPED | 0xCB007107
    out["source_port"], out["destination_port"], out["length"] = port, to, lengths
    out["protocol"], out["marks"], out["weight"], out["kind"] = 17, HAS_PORTS, 1, kind
    out["time"] = np.arange(count) * 50_000
    out["ttl"] = 50
    return out


EPHEMERAL = np.random.default_rng(3).integers(32_768, 61_000, 4_000)


@pytest.mark.parametrize("service", sorted(AMPLIFICATION_SERVICES.values()))
def test_reflections_of_every_service_are_named(service: str) -> None:
    assert names(pool(Vector("udp_amp", service))[:2_000]) == [f"udp_amp:{service}"]


@pytest.mark.parametrize("kind", [Kind.AMPLIFICATION, Kind.UDP])
def test_a_reflection_is_named_whether_or_not_the_kernel_takes_the_port_for_a_reflectors(kind: Kind) -> None:
    sample = pool(Vector("udp_amp", "quic"))[:2_000].copy()
    sample["kind"] = kind
    assert names(sample) == ["udp_amp:quic"]


def test_few_servers_that_send_much_are_browsing_and_not_amplification() -> None:
    sample = udp(4_000, 8, 443, EPHEMERAL[np.arange(4_000) % 8], 1_250)
    assert names(sample) == ["udp_flood"]


def test_a_gateway_behind_which_many_browse_is_not_hit_by_reflectors() -> None:
    flows = np.arange(4_000) % 120
    sample = udp(4_000, 120, 443, EPHEMERAL[flows], 1_250)
    assert not is_reflection("quic", sample)


@pytest.mark.parametrize("service", sorted(CONVERSATIONS))
def test_one_large_reflector_does_not_hide_the_others(service: str) -> None:
    random = np.random.default_rng(2)
    asked_from = random.integers(1_024, 65_536, 4_000)
    for to in (80, asked_from, np.repeat(asked_from[:2_000], 2)):
        sample = udp(4_000, 30, PORTS[service], to, 300)
        answers_twice = np.repeat(random.random(2_000), 2)
        sample["source_low"] = np.where(answers_twice < 0.8, MAPPED | 0x08080808, sample["source_low"])
        assert is_reflection(service, sample)


def test_one_large_server_among_many_is_a_conversation() -> None:
    random = np.random.default_rng(2)
    flows = np.where(random.random(4_000) < 0.8, 0, np.arange(4_000) % 30)
    browsing = udp(4_000, 30, 443, EPHEMERAL[flows], 1_250)
    browsing["source_low"] = MAPPED | (0x08000000 + flows * 40_503)
    assert not is_reflection("quic", browsing)
    alone = udp(4_000, 3, PORTS["valve"], random.integers(1_024, 65_536, 4_000), 300)
    assert names(alone) == ["udp_flood"]


def test_players_that_send_from_the_games_own_port_are_no_reflectors() -> None:
    assert names(udp(4_000, 300, PORTS["valve"], PORTS["valve"], 90)) == ["udp_flood"]


def test_a_resolver_that_gets_its_answers_is_not_hit_by_reflectors() -> None:
    random = np.random.default_rng(1)
    sample = udp(4_000, 700, 53, random.integers(1_024, 65_536, 4_000), random.integers(80, 260, 4_000))
    assert names(sample) == ["udp_flood"]


def test_a_time_server_that_is_asked_from_port_123_is_not_hit_by_reflectors() -> None:
    assert names(udp(4_000, 900, 123, 123, 76)) == ["udp_flood"]


def test_services_nobody_talks_to_in_bulk_need_no_proof() -> None:
    for service in set(PORTS) - CONVERSATIONS - {"dns", "ntp"}:
        assert is_reflection(service, udp(100, 2, PORTS[service], 80, 900)), service


def test_random_ports_that_happen_to_be_reflectors_are_part_of_the_flood() -> None:
    flood = remembered(attack(Vector("udp_flood"), ip_network("203.0.113.7/32"), 20_000, 3))
    flood["source_port"] = np.random.default_rng(1).integers(1, 65_536, len(flood))
    assert names(flood) == ["udp_flood"]


def test_two_families_with_a_real_share_make_it_multi_vector() -> None:
    both = np.concatenate([pool(Vector("syn_flood"))[:700], pool(Vector("gre_flood"))[:300]])
    assert names(both) == ["syn_flood", "gre_flood", "multi_vector"]
    little = np.concatenate([pool(Vector("gre_flood"))[:980], pool(Vector("syn_flood"))[:20]])
    assert names(little) == ["gre_flood", "syn_flood"]


def test_the_fragments_of_a_reflection_are_no_second_family() -> None:
    assert "multi_vector" not in names(pool(Vector("udp_amp", "dns"))[:2_000])


def test_the_dominant_vector_makes_most_of_what_saturates() -> None:
    both = np.concatenate([pool(Vector("syn_flood"))[:700], pool(Vector("gre_flood"))[:300]])
    assert str(classify(both, by_bytes=False).vectors[0].vector) == "syn_flood"
    assert str(classify(both, by_bytes=True).vectors[0].vector) == "gre_flood"


def test_a_bombed_prefix_is_called_a_carpet() -> None:
    prefix = ip_network("203.0.113.0/24")
    spread = remembered(attack(Vector("udp_flood"), prefix, 2_000, 1))
    assert names(spread, target=prefix) == ["udp_flood", "carpet_bombing"]
    alone = pool(Vector("udp_flood"))[:2_000]
    assert names(alone, target=prefix) == ["udp_flood"]


# ------------------------------------------------------------------------------------------------------------ sources


def few_networks(counts: int, random: np.random.Generator) -> ANY:
    return MAPPED | (random.choice(2**20, counts, replace=False) + 0x20000000).astype(np.uint64)


def test_a_new_source_in_every_packet_is_forged() -> None:
    assert origins(pool(Vector("syn_flood"))[:3_000], False).spoofed is True


def test_bots_that_come_again_over_their_own_paths_are_real() -> None:
    random = np.random.default_rng(2)
    sample = pool(Vector("syn_flood"))[:3_000].copy()
    which = random.integers(0, 150, len(sample))
    sample["source_low"] = few_networks(150, random)[which]
    sample["ttl"] = random.integers(40, 60, 150)[which]
    found = origins(sample, False)
    assert (found.spoofed, found.count) == (False, 150)
    assert found.entropy > 0.9
    assert sum(share for _, share in found.top) == pytest.approx(10 / 150, rel=0.5)


def test_sources_that_change_their_path_from_packet_to_packet_are_not_called_real() -> None:
    random = np.random.default_rng(2)
    sample = pool(Vector("syn_flood"))[:3_000].copy()
    sample["source_low"] = few_networks(150, random)[random.integers(0, 150, len(sample))]
    sample["ttl"] = random.integers(40, 60, len(sample))
    assert origins(sample, False).spoofed is None


def test_addresses_that_nobody_routes_are_forged() -> None:
    sample = pool(Vector("syn_flood"))[:500].copy()
    sample["source_low"] = MAPPED | np.random.default_rng(1).integers(0, 2**32, 500, dtype=np.uint64)
    assert origins(sample, False).spoofed is True


def test_few_packets_tell_nothing_and_reflectors_are_real() -> None:
    assert origins(pool(Vector("syn_flood"))[:150], False).spoofed is None
    assert classify(pool(Vector("udp_amp", "ntp"))[:2_000], by_bytes=False).spoofed is False


def test_one_source_that_tries_port_after_port_scans() -> None:
    sample = pool(Vector("syn_flood"))[:600].copy()
    sample["source_low"] = sample["source_low"][0]
    sample["destination_port"] = np.arange(600) // 2
    assert origins(sample, False).scans
    sample["destination_port"] = 443
    assert not origins(sample, False).scans


@pytest.mark.parametrize(("ports", "spoofed"), [(3, False), (40, False), (60_000, True)])
def test_syn_acks_from_ports_that_no_service_has_are_forged(ports: int, spoofed: bool) -> None:
    sample = udp(4_000, 4_000, 0, 40_404, 40, Kind.SYN_ACK)
    sample["protocol"], sample["tcp_flags"] = 6, 0x12
    sample["source_port"] = 22 + np.random.default_rng(6).integers(0, ports, 4_000)
    refusals = sample[:1_500].copy()
    refusals["kind"], refusals["tcp_flags"] = Kind.RST, 0x14
    picture = classify(np.concatenate([sample, refusals]), by_bytes=False)
    assert (str(picture.vectors[0].vector), picture.spoofed) == ("synack_reflection", spoofed)
    # Only reflectors refuse in the same breath.
    assert (picture.vectors[0].packets == 1) != spoofed


def pages(count: int, servers: int, each: int, to: int | ANY, lengths: int | ANY, resets: float = 0.2) -> ANY:
    """Segments from servers' port 80, `each` of a flow in a row, some of them resets."""
    out = udp(count, servers, 80, to, lengths, Kind.ACK)
    out["source_low"] = out["source_low"][np.arange(count) // each % servers]
    out["protocol"], out["tcp_flags"], out["marks"] = 6, 0x18, HAS_PORTS | HAS_FLAGS | HAS_PAYLOAD
    reset = np.random.default_rng(7).random(count) < resets
    out["kind"][reset], out["tcp_flags"][reset], out["length"][reset] = Kind.RST, 0x14, 40
    out["marks"][reset] = HAS_PORTS | HAS_FLAGS
    return out


LENGTHS = np.random.default_rng(8).integers(160, 1_500, 4_000)


@pytest.mark.parametrize("to", [40_404, np.repeat(np.arange(1_000) + 30_000, 4)])
def test_pages_of_many_servers_that_nobody_asked_are_of_middleboxes(to: int | ANY) -> None:
    picture = classify(pages(4_000, 300, 4, to, LENGTHS), by_bytes=False)
    assert (str(picture.vectors[0].vector), picture.spoofed) == ("tcp_middlebox_reflection", False)
    assert picture.vectors[0].packets == 1


def test_what_looks_like_pages_of_middleboxes_and_is_none() -> None:
    flows = np.arange(4_000) // 40
    download = pages(4_000, 100, 40, 30_000 + flows, LENGTHS, 0)
    short = pages(4_000, 300, 4, 30_000 + np.arange(4_000) // 4, LENGTHS, 0)
    answered = short[::4].copy()
    answered["kind"], answered["tcp_flags"], answered["length"] = Kind.SYN_ACK, 0x12, 60
    answered["marks"] = HAS_PORTS | HAS_FLAGS
    # A proxy's fetches, one tool's single length, few servers, resets of closed ports.
    others = (pages(4_000, 300, 1, 40_404, 540, 0), pages(4_000, 20, 4, 40_404, LENGTHS))
    for sample in (np.concatenate([short, answered]), *others, pages(4_000, 300, 4, 40_404, LENGTHS, 0.9), download):
        assert "tcp_middlebox_reflection" not in names(sample)


@pytest.mark.parametrize(("each", "spoofed"), [(1, None), (3, False)])
def test_who_sends_requests_is_real_only_where_a_connection_has_more_than_one_packet(
    each: int, spoofed: bool | None
) -> None:
    """Three hosts' names can be written into any request; nobody answers, so nothing follows."""
    sample = pages(6_000, 3, 1, 80, 200, 0)
    number = np.arange(len(sample))
    sample["source_port"], sample["destination_port"] = 1_024 + number // (3 * each), 80
    sample["source_low"] = sample["source_low"][number % 3]
    sample["marks"] |= IS_HTTP
    sample["ttl"] = 57
    picture = classify(sample, by_bytes=False)
    assert (str(picture.vectors[0].vector), picture.spoofed) == ("http_flood", spoofed)
