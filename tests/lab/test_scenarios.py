"""Scenarios are what their labels say: seeded, well-formed, the right kind of packets at the right time."""

import itertools
import struct
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab.packets import MAPPED, MORE_FRAGMENTS, OFFSET, PACKET, SNAP, Packets, frames, inside, merged
from lab.scenario_floods import MAKERS, amplified, backscatter
from lab.scenario_normal import SERVICES, normal, served
from lab.scenario_order import Order, Spread, even, outside
from lab.scenario_sessions import MAKERS as SESSIONS
from lab.scenario_shapes import SHAPES
from lab.scenarios import NORMAL, PLANS, family_of, scenario
from rules.match import Family, Network
from rules.traffic import AMPLIFICATION_SERVICES, Vector

TARGETS: tuple[Network, ...] = (
    IPv4Network("203.0.113.7/32"), IPv4Network("203.0.113.0/24"),
    IPv6Network("2001:db8::7/128"), IPv6Network("2001:db8::/48"),
)  # fmt: skip
targets, seeds, spreads = st.sampled_from(TARGETS), st.integers(0, 2**32), st.sampled_from(Spread)


def order(target: Network, seed: int, spread: Spread = Spread.BOTNET, rate: float = 60) -> Order:
    random = np.random.default_rng(seed)
    return Order(target, even(rate, 1.0, 2.0, random), random, spread)


def in_words(halves: np.ndarray[Any, Any]) -> str:
    high, low = int(halves[0]), int(halves[1])
    return str(
        ip_address(low & 0xFFFFFFFF) if high == 0 and low >> 32 == MAPPED >> 32 else ip_address(high << 64 | low)
    )


def check(rows: Packets) -> None:
    """Each frame, taken apart with `struct` alone, says what its row says."""
    made = frames(rows)
    assert made.stamps is not None and (made.stamps == rows["time"]).all()
    for number, row in enumerate(rows):
        raw = made.block[number].tobytes()
        assert made.lengths[number] == row["length"] + 14
        (kind,) = struct.unpack_from(">H", raw, 12)
        if kind == 0x0800:
            length, _, fragment = struct.unpack_from(">HHH", raw, 16)
            protocol, start, source, destination = raw[23], 34, raw[26:30], raw[30:34]
        else:
            assert kind == 0x86DD
            length, protocol, start = struct.unpack_from(">H", raw, 18)[0] + 40, raw[20], 54
            source, destination, fragment = raw[22:38], raw[38:54], 0
            if protocol == 44:
                protocol, field = struct.unpack_from(">BxH", raw, 54)
                fragment, start = field >> 3 | (field & 1) << 13, 62
        assert (length, protocol) == (row["length"], row["protocol"])
        assert fragment == row["fragment"]
        assert str(ip_address(source)) == in_words(row["source"])
        assert str(ip_address(destination)) == in_words(row["destination"])
        if protocol in (6, 17) and not row["fragment"] & OFFSET:
            assert struct.unpack_from(">HH", raw, start) == (row["source_port"], row["destination_port"])
        if protocol == 6 and not row["fragment"] & OFFSET:
            assert raw[start + 13] == row["flags"]
            data = row["length"] + 14 - start - (raw[start + 12] >> 4) * 4
            assert data >= 0 and (data == 0 or not row["flags"] & 2 or row["content"])
        if protocol in (1, 6, 17, 58) and not row["fragment"]:
            assert transport_sum(raw, start, protocol, kind == 0x0800, int(row["length"]) + 14) == 0xFFFF


def transport_sum(raw: bytes, start: int, protocol: int, is_ipv4: bool, end: int) -> int:
    """RFC 1071 over pseudo-header, header and data: 0xFFFF where the checksum is right."""
    summed = (raw[start:SNAP] + bytes(2 * SNAP))[: min(end, SNAP) - start]
    if protocol != 1:
        summed += bytes(len(summed) % 2) + (raw[26:34] if is_ipv4 else raw[22:54])
        summed += struct.pack(">HH", end - start, protocol)
    summed += bytes(len(summed) % 2)
    total: int = sum(struct.unpack(f">{len(summed) // 2}H", summed))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.sampled_from(sorted(MAKERS | SESSIONS)), targets, seeds, spreads)
@example("syn_flood", TARGETS[3], 2681, Spread.SINGLE)
def test_frames_of_every_flood_say_what_their_rows_say(kind: str, target: Network, seed: int, spread: Spread) -> None:
    rows = (MAKERS | SESSIONS)[kind](order(target, seed, spread))
    check(rows[:150])
    towards = rows[rows["label"] == 0]
    assert len(towards) and inside(towards, target).all()
    assert not inside(towards, target, "source").any()


@given(st.sampled_from(sorted(AMPLIFICATION_SERVICES.items())), targets, seeds)
def test_reflected_answers_come_from_the_services_port_and_whole(
    service: tuple[int, str], target: Network, seed: int
) -> None:
    rows = amplified(order(target, seed), service[1])
    check(rows)
    later = rows["fragment"] & OFFSET != 0
    assert (rows["source_port"][~later] == service[0]).all()
    assert (rows["length"] <= 1500).all()
    for before, piece in itertools.pairwise(rows):
        if piece["fragment"] & OFFSET:
            assert before["fragment"] & MORE_FRAGMENTS
            assert in_words(before["source"]) == in_words(piece["source"])


@given(st.sampled_from(sorted(SERVICES)), st.sampled_from(TARGETS[::2]), seeds)
def test_normal_traffic_goes_both_ways_between_a_host_and_its_peers(name: str, host: Network, seed: int) -> None:
    service = SERVICES[name]
    rows = served(service, host, 60, (0.0, 3.0), np.random.default_rng(seed))
    check(rows[:100])
    assert (rows["label"] < 0).all()
    assert (rows["time"] >= 0).all() and (rows["time"] < 3.1e9).all()
    to, by = inside(rows, host), inside(rows, host, "source")
    assert (to ^ by).all()


@pytest.mark.parametrize("family", Family)
def test_visitors_and_bots_share_networks(family: Family) -> None:
    def networks(seed: int) -> set[bytes]:
        found = outside(family, 3000, np.random.default_rng(seed))
        return {in_words(one).rpartition(":" if family is Family.IPV6 else ".")[0].encode()[:7] for one in found}

    visitors, bots = networks(1), networks(2)
    assert len(visitors & bots) > 0.2 * len(bots)


def test_seeds_give_both_families_in_turns() -> None:
    assert {family_of(seed) for seed in (100, 101)} == set(Family)


def test_an_everyday_mix_has_about_the_rate_that_was_asked_for() -> None:
    rows = normal(TARGETS[0], 1000, (0.0, 10.0), np.random.default_rng(3))
    assert 500 < inside(rows, TARGETS[0]).sum() / 10 < 2000


@given(st.sampled_from(sorted(SHAPES)), seeds)
def test_every_shape_stays_within_its_time_and_goes_forward(shape: str, seed: int) -> None:
    times = SHAPES[shape](500.0, 2.0, 5.0, np.random.default_rng(seed))
    assert len(times) > 100
    assert times.min() >= 2e9 and times.max() <= 5e9
    assert (np.diff(times) >= 0).all()


def test_a_victims_answers_go_back_to_where_the_packets_said_they_came_from() -> None:
    rows = MAKERS["syn_flood"](order(TARGETS[0], 5, Spread.SPOOFED))
    back = backscatter(rows, 1.0, np.random.default_rng(1))
    assert (back["destination"] == rows["source"]).all()
    assert (back["flags"] == 0x12).all() and (back["label"] < 0).all()


@pytest.mark.parametrize("name", ["udp_amp:dns", "switching", "carpet_bombing", "http_flood", NORMAL])
def test_a_scenario_is_labelled_and_follows_from_its_seed(name: str) -> None:
    made, again = scenario(name, 4), scenario(name, 4)
    assert (made.packets == again.packets).all()
    assert len(scenario(name, 5).packets) != len(made.packets)
    assert (np.diff(made.packets["time"]) >= 0).all()
    assert bool(made.waves) == (name != NORMAL)
    for wave in made.waves:
        mine = made.packets[made.packets["label"] == wave.label]
        assert len(mine) > 1000 and inside(mine, wave.victim).all()
        assert mine["time"].min() >= (wave.begin - 0.1) * 1e9 and mine["time"].max() <= (wave.end + 0.1) * 1e9
        Vector.parse(wave.family)
    for victim in made.victims:
        assert len(made.benign(victim)) > 100 and len(made.attack(victim)) > 1000


def test_every_kind_of_attack_has_a_plan() -> None:
    told = {name for name in PLANS if ":" not in name}
    assert {f"udp_amp:{service}" for service in AMPLIFICATION_SERVICES.values()} <= set(PLANS)
    assert told >= {"syn_flood", "gre_flood", "http_slow", "tls_flood", "carpet_bombing", "multi_vector"}


def test_rows_of_a_prefix_are_told_from_all_others() -> None:
    rows = np.zeros(4, PACKET)
    for number, text in enumerate(("203.0.113.7", "203.0.114.7", "2001:db8:0:1::7", "2001:db8:1::7")):
        one = ip_address(text)
        value = MAPPED | int(one) if one.version == 4 else int(one)
        rows["destination"][number] = value >> 64, value & (1 << 64) - 1
    for text, expected in (
        ("203.0.113.0/24", [1, 0, 0, 0]), ("203.0.113.7/32", [1, 0, 0, 0]), ("203.0.112.0/22", [1, 1, 0, 0]),
        ("2001:db8::/48", [0, 0, 1, 0]), ("2001:db8::/32", [0, 0, 1, 1]), ("2001:db8:1::7/128", [0, 0, 0, 1]),
    ):  # fmt: skip
        assert inside(rows, ip_network(text)).tolist() == [bool(one) for one in expected], text


def test_merging_orders_by_time() -> None:
    parts = [MAKERS["icmp_flood"](order(TARGETS[0], seed)) for seed in (1, 2)]
    both = merged(parts)
    assert len(both) == len(parts[0]) + len(parts[1]) and (np.diff(both["time"]) >= 0).all()
