"""Captures without zones: what networks carry all day is no attack from whatever side it is seen; floods are, however
short the capture."""

import json
import random
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_rig import A, B
from rawframes import ACK, PUSH, SYN, ethernet, ip, pcap, tcp, udp

from lab.frames import write_pcap
from lab.packets import capture, inside
from lab.scenario_normal import SERVICES, served
from lab.traffic import attack, kinds
from rules.errors import Refused
from rules.traffic import Vector
from sensors import analyze

HOST = ip_network("203.0.113.9/32")
SIX = ip_network("2001:db8::9/128")


def told(path: Path) -> list[tuple[str, str]]:
    """Targets and vectors."""
    found = analyze.run(path).to_json()["incidents"]
    assert isinstance(found, list)
    return [(one["target"], one["vector"]) for one in found]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_busy_service_is_no_attack_from_whatever_side_it_is_seen(name: str, tmp_path: Path) -> None:
    service = SERVICES[name]
    rows = served(service, HOST, service.heavy, (0.0, 0.6), np.random.default_rng([1, *name.encode()]))
    rows = rows[np.argsort(rows["time"], kind="stable")]
    towards = inside(rows, HOST)
    for seen in (rows, rows[towards], rows[rows["time"] < 30_000_000]):
        if len(seen):
            capture(tmp_path / "a.pcap", seen)
            assert told(tmp_path / "a.pcap") == []


FLOODS = [vector for vector in kinds() if vector != Vector("carpet_bombing")]


@pytest.mark.parametrize(
    ("vector", "seconds"),
    [
        *((vector, 0.02) for vector in FLOODS),
        *((Vector(kind), 0.6) for kind in ("syn_flood", "ack_flood", "gre_flood")),
    ],
    ids=str,
)
def test_every_flood_is_named_from_a_snippet_and_from_more(vector: Vector, seconds: float, tmp_path: Path) -> None:
    target = SIX if vector == Vector("icmpv6_flood") else HOST
    write_pcap(tmp_path / "a.pcap", attack(vector, target, int(20_000 * seconds), 3).paced(20_000), snap=128)
    assert told(tmp_path / "a.pcap") == [(str(target.network_address), str(vector))]


def test_a_quiet_syn_flood_is_one_where_nothing_follows_the_syns(tmp_path: Path) -> None:
    draw, path = random.Random(8), tmp_path / "a.pcap"
    syns = [
        (5 + number / 600, ethernet(ip(f"9.{draw.randrange(256)}.{draw.randrange(256)}.1", B, tcp(9, 80, SYN))))
        for number in range(1_500)
    ]
    path.write_bytes(pcap(syns))
    assert told(path) == [(B, "syn_flood")]
    busy = [(5 + number / 2_000, ethernet(ip(A, B, tcp(7, 80, ACK | PUSH, bytes(99))))) for number in range(5_000)]
    path.write_bytes(pcap(sorted(syns + busy)))
    assert told(path) == []


def test_what_a_monitored_answer_flood_looks_like_is_told_from_a_resolvers_answers(tmp_path: Path) -> None:
    draw, path = random.Random(9), tmp_path / "a.pcap"

    def answers(length: int | None) -> bytes:
        return pcap(
            (5 + number / 4_000, ethernet(ip(f"9.9.{number % 200}.{number % 7}", B, udp(
                53, draw.randrange(1024, 65536), bytes(length or draw.randrange(40, 220))))))
            for number in range(5_000)
        )  # fmt: skip

    for length, expected in ((None, []), (61, [(B, "udp_amp:dns")]), (1_200, [(B, "udp_amp:dns")])):
        path.write_bytes(answers(length))
        assert told(path) == expected


_FLOOD = pcap([(100 + number / 10_000, ethernet(ip(f"9.{number % 251}.{number % 241}.1", B, tcp(number, 80, SYN))))
               for number in range(600)])  # fmt: skip


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), changes=st.integers(0, 60), cut=st.integers(0, 50_000))
def test_mutated_captures_are_reported_on_or_refused(
    seed: int, changes: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw, data = random.Random(seed), bytearray(_FLOOD)
    for _ in range(changes):
        # Half of the changes in the first records' headers, where lengths and times are.
        data[draw.randrange(draw.choice([200, len(data)]))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
    path = tmp_path_factory.mktemp("mutated") / "x.pcap"
    path.write_bytes(bytes(data[: len(data) - cut]))
    try:
        found = analyze.run(path).to_json()
    except Refused as refused:
        assert "capture" in str(refused)
    else:
        assert json.loads(json.dumps(found))["packets"] <= 600
