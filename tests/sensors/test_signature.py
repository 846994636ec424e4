"""Matching, vectors and rules: held against an independent matcher, the guard, and generated attacks of every kind."""

from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import Packet, packets, selects
from strategies import matches

from lab.benign import benign
from lab.frames import merged, write_pcap
from lab.traffic import attack, kinds
from rules import guard
from rules.action import Discard
from rules.match import Family, Match, Network
from rules.rule import FlowSpec
from rules.traffic import Vector
from rules.zone import Zone
from sensors import analyze, tables, walk
from sensors.headers import HAS_FLAGS, HAS_ICMP, HAS_PORTS, HEADER, IS_IPV6, MAPPED
from sensors.matching import selected
from sensors.pcapfile import open_capture
from sensors.tables import ANY

LOW = (1 << 64) - 1


def entry(packet: Packet) -> tuple[object, ...]:
    """A packet as the kernel remembers it."""
    shift = MAPPED if packet.family is Family.IPV4 else 0
    source, destination = packet.source + shift, packet.destination + shift
    marks = IS_IPV6 if packet.family is Family.IPV6 else 0
    marks |= HAS_PORTS if packet.source_port is not None else 0
    marks |= HAS_FLAGS if packet.tcp_flags is not None else 0
    marks |= HAS_ICMP if packet.icmp_type is not None else 0
    return (
        0, source >> 64, source & LOW, destination >> 64, destination & LOW, packet.source_port or 0,
        packet.destination_port or 0, packet.length, packet.tcp_flags or 0, packet.protocol, 64, packet.icmp_type or 0,
        packet.icmp_code or 0, packet.fragment, 0, marks, packet.dscp << 2, 1, 0,
    )  # fmt: skip


def remembered(some: list[Packet]) -> ANY:
    """Packets as entries."""
    return np.array([entry(packet) for packet in some], HEADER)


@given(data=st.data(), match=matches().filter(lambda match: match.flow_label is None))
def test_the_arrays_select_what_the_rfc_says(data: st.DataObject, match: Match) -> None:
    some = data.draw(st.lists(packets(match), min_size=1, max_size=8))
    assert selected(match, remembered(some)).tolist() == [selects(match, packet) for packet in some]


V4, V6 = ip_network("203.0.113.7/32"), ip_network("2001:db8::7/128")
PAIRS = [
    (vector, target)
    for target in (V4, V6)
    for vector in kinds()
    if vector.kind != "carpet_bombing" and not (vector.kind == "icmp_flood" and target.version == 6)
    and not (vector.kind == "icmpv6_flood" and target.version == 4)
]  # fmt: skip


def analyzed(folder: Path, vector: Vector, target: Network, pps: float = 20_000) -> analyze.Report:
    """An attack of half a second, after three seconds of ordinary traffic."""
    path = folder / "attack.pcap"
    flood = attack(vector, target, int(pps / 2), 1).paced(pps, start_seconds=3)
    write_pcap(path, merged([benign(target, 3_500, 2).paced(1_000), flood]))
    return analyze.run(path)


def taken(folder: Path, vector: Vector, target: Network, rules: list[Match]) -> float:
    """The share of an attack's packets that at least one of the rules selects."""
    path = folder / "flood.pcap"
    write_pcap(path, attack(vector, target, 10_000, 1).paced(20_000))
    into = tables.make(rows=64, ring=16_384, normal=64)
    source = open_capture(path)
    source.feed(into, walk.NEVER)
    source.close()
    entries = into.since(0)
    return float(np.logical_or.reduce([selected(match, entries) for match in rules]).mean())


@pytest.mark.parametrize(("vector", "target"), PAIRS, ids=lambda value: str(value).split("/")[0])
def test_generated_attacks_are_named_and_get_rules_that_pass_the_guard(
    vector: Vector, target: Network, tmp_path: Path
) -> None:
    report = analyzed(tmp_path, vector, target)
    assert [(incident.attack.target, incident.attack.picture.vectors[0].vector) for incident in report.incidents] == [
        (target, vector)
    ]
    signatures = report.incidents[0].attack.signatures
    assert signatures
    assert taken(tmp_path, vector, target, [signature.match for signature in signatures]) >= 0.98
    for signature in signatures:
        request = guard.Request(
            FlowSpec(signature.match, Discard()), "operator", guard.Origin.SENSOR, 600,
            collateral=signature.collateral, person_decides=True,
        )  # fmt: skip
        world = guard.Surroundings((Zone("ours", (target,)),))
        assert [finding for finding in guard.objections(request, world) if finding.is_error] == []


def test_ordinary_traffic_alone_is_no_attack(tmp_path: Path) -> None:
    path = tmp_path / "benign.pcap"
    write_pcap(path, benign(V4, 4_000, 2).paced(1_000))
    assert analyze.run(path).incidents == ()


def test_the_same_capture_gives_the_same_report(tmp_path: Path) -> None:
    one, other = (analyzed(tmp_path, Vector("syn_flood"), V4).to_json() for _ in range(2))
    assert one == other
