"""Whole captures: public attacks and protocols, and the traps that single packets don't show."""

import csv
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path

import pytest
from kernel_rig import A, B
from rawframes import ACK, PUSH, RST, SYN, ethernet, icmp, ip, pcap, tcp, udp

from sensors import analyze
from sensors.engine import Engine
from sensors.pcapfile import ClassicCapture

CLIENT = "198.18.0.9"


def report(folder: Path, records: list[tuple[float, bytes]], **how: object) -> analyze.Report:
    """The analysis of frames."""
    path = folder / "a.pcap"
    path.write_bytes(pcap(records))
    return analyze.run(path, **how)  # type: ignore[arg-type]


def told(found: analyze.Report) -> list[tuple[str, str]]:
    """Targets and vectors."""
    incidents = found.to_json()["incidents"]
    assert isinstance(incidents, list)
    return [(incident["target"], incident["vector"]) for incident in incidents]


@pytest.mark.data
def test_public_attack_captures_are_named_right(data: Path) -> None:
    with (data / "truth.tsv").open() as lines:
        for truth in csv.DictReader(lines, delimiter="\t"):
            if truth["label"].startswith("not_ddos"):
                continue
            name = f"{truth['repo']}/{truth['path']}".replace("/", "__").replace("__", "+", 1)
            found = told(analyze.run(data / "attack" / name))
            assert {target for target, _ in found} == set(truth["victim"].split(",")), name
            assert {vector for _, vector in found} <= set(truth["accept"].split("|")), name


@pytest.mark.data
def test_public_captures_of_ordinary_protocols_are_no_attacks(data: Path) -> None:
    files = sorted((data / "benign").iterdir())
    assert len(files) > 100
    assert {path.name: told(analyze.run(path)) for path in files if told(analyze.run(path))} == {}


def test_the_report_is_json_of_the_documented_form(tmp_path: Path) -> None:
    draw = random.Random(1)
    flood = [
        (100 + number / 10_000, ethernet(ip(f"10.{draw.randrange(256)}.{draw.randrange(256)}.1", B, tcp(9, 80, SYN))))
        for number in range(5_000)
    ]
    found = json.loads(json.dumps(report(tmp_path, flood).to_json()))
    assert set(found) == {"capture", "packets", "duration_s", "incidents", "counters", "notes"}
    (incident,) = found["incidents"]
    assert set(incident) == {
        "target", "vectors", "vector", "packets", "peak_pps", "peak_bps", "sources", "spoofed", "first_seen",
        "last_seen", "rules", "ioc", "confidence",
    }  # fmt: skip
    assert (incident["target"], incident["vector"], incident["packets"]) == (B, "syn_flood", 5_000)
    assert incident["peak_pps"] == pytest.approx(10_000, rel=0.01)
    assert incident["rules"][0]["coverage"] == 1.0
    assert found["duration_s"] == pytest.approx(0.4999)


def test_a_victims_answers_do_not_make_the_attacker_a_victim(tmp_path: Path) -> None:
    records = []
    for number in range(6_000):
        stamp = 5 + number / 10_000
        records.append((stamp, ethernet(ip(A, B, tcp(number, 80, SYN)))))
        records.append((stamp, ethernet(ip(B, A, tcp(80, number, SYN | ACK if number % 2 else RST | ACK)))))
    assert told(report(tmp_path, records)) == [(B, "syn_flood")]


def test_bulk_transfer_is_no_flood_with_or_without_its_other_direction(tmp_path: Path) -> None:
    data = [
        (5 + number / 40_000, ethernet(ip(A, B, tcp(443, 5555, ACK | PUSH, bytes(200))))) for number in range(40_000)
    ]
    answers = [(stamp, ethernet(ip(B, A, tcp(5555, 443, ACK)))) for stamp, _ in data[::20]]
    assert told(report(tmp_path, data)) == []
    assert told(report(tmp_path, sorted(data + answers))) == []


def test_what_else_a_host_gets_makes_an_attack_neither_larger_nor_longer(tmp_path: Path) -> None:
    busy = [(5 + number / 20_000, ethernet(ip(A, B, tcp(443, 5555, ACK | PUSH, bytes(9))))) for number in range(80_000)]
    busy += [(stamp, ethernet(ip(B, A, tcp(5555, 443, ACK)))) for stamp, _ in busy[::2]]
    syns = [
        (6.5 + number / 2_000, ethernet(ip(f"9.{number % 250}.{number // 250}.7", B, tcp(number + 9, 80, SYN))))
        for number in range(2_000)
    ]
    found = report(tmp_path, sorted(busy + syns))
    assert told(found) == [(B, "syn_flood")]
    [incident] = found.incidents
    assert incident.packets == pytest.approx(2_000, rel=0.3)
    assert incident.attack.sources == pytest.approx(2_000, rel=0.06)
    assert incident.last_ns / 1e9 == pytest.approx(7.5, abs=0.1)


def test_a_one_way_udp_flood_is_one_and_a_conversation_is_not(tmp_path: Path) -> None:
    flood = [(5 + number / 30_000, ethernet(ip(A, B, udp(number, 7777, bytes(30))))) for number in range(30_000)]
    assert told(report(tmp_path, flood)) == [(B, "udp_flood")]
    answers = [(stamp, ethernet(ip(B, A, udp(7777, 9, bytes(30))))) for stamp, _ in flood[::10]]
    assert told(report(tmp_path, sorted(flood + answers))) == []


def test_answers_that_were_asked_for_are_no_reflection(tmp_path: Path) -> None:
    records = []
    for number in range(6_000):
        server = f"9.9.{number % 40}.1"
        records.append((5 + number / 4_000, ethernet(ip(B, server, udp(number + 1000, 53, bytes(30))))))
        records.append((5.0001 + number / 4_000, ethernet(ip(server, B, udp(53, number + 1000, bytes(400))))))
    assert told(report(tmp_path, records)) == []
    assert told(report(tmp_path, records[1::2])) == [(B, "udp_amp:dns")]


def test_completed_handshakes_are_visitors(tmp_path: Path) -> None:
    records = []
    for number in range(4_000):
        client, stamp = f"9.{number % 100}.{number // 100}.1", 5 + number / 4_000
        records.append((stamp, ethernet(ip(client, B, tcp(1000, 443, SYN)))))
        records.append((stamp, ethernet(ip(client, B, tcp(1000, 443, ACK)))))
    assert told(report(tmp_path, records)) == []
    assert told(report(tmp_path, records[::2])) == [(B, "syn_flood")]


def test_zones_name_the_only_possible_targets(tmp_path: Path) -> None:
    records = []
    for number in range(20_000):
        for target in (A, B):
            source = f"9.{number % 200}.{number % 77}.1"
            records.append((5 + number / 20_000, ethernet(ip(source, target, udp(123, number, bytes(400))))))
    assert told(report(tmp_path, records, zones=(ip_network("198.51.100.0/24"),))) == [(B, "udp_amp:ntp")]
    assert len(told(report(tmp_path, records))) == 2


def test_an_explicit_threshold_replaces_the_defaults(tmp_path: Path) -> None:
    pings = [(5 + number / 500, ethernet(ip(A, B, icmp(8, 0, bytes(20))))) for number in range(2_000)]
    assert told(report(tmp_path, pings)) == []
    assert told(report(tmp_path, pings, pps=400)) == [(B, "icmp_flood")]
    assert told(report(tmp_path, pings, pps=600)) == []


@pytest.mark.parametrize("stamps", ["equal", "backwards", "jumping"])
def test_clocks_that_stand_still_or_jump_neither_hide_nor_invent_an_attack(stamps: str, tmp_path: Path) -> None:
    def stamp(number: int) -> float:
        return {
            "equal": 5.0,
            "backwards": 90 - number / 10_000,
            "jumping": 5 + number / 10_000 + 3600 * (number % 3000 == 7),
        }[stamps]

    draw = random.Random(2)
    frames = [
        ethernet(ip(f"9.{draw.randrange(200)}.{draw.randrange(200)}.1", B, tcp(9, 80, SYN))) for _ in range(9_000)
    ]
    assert told(report(tmp_path, [(stamp(number), frame) for number, frame in enumerate(frames)])) == [(B, "syn_flood")]
    quiet = [(stamp(number), frame) for number, frame in enumerate(frames[:60])]
    assert told(report(tmp_path, quiet)) == []


def test_an_empty_capture_is_an_empty_report(tmp_path: Path) -> None:
    found = report(tmp_path, [])
    assert (found.packets, found.incidents, found.duration_seconds) == (0, (), 0.0)


@pytest.mark.parametrize("gap", [0.05, 0.9, 1.9, 2.5, 400.0])
def test_silence_costs_nothing_however_it_is_cut(gap: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    for where, name in ((Engine, "tick"), (ClassicCapture, "walk")):
        whole = getattr(where, name)

        def counted(
            *arguments: object, whole: Callable[..., object] = whole, name: str = name, **named: object
        ) -> object:
            calls[name] += 1
            return whole(*arguments, **named)

        monkeypatch.setattr(where, name, counted)
    frame = ethernet(ip(A, B, udp(5, 6)))
    found = report(tmp_path, [(5 + gap * number, frame) for number in range(300)])
    assert (found.packets, told(found)) == (300, [])
    assert found.duration_seconds == pytest.approx(299 * gap)
    # The last look is that at the end.
    assert calls["tick"] == 1
    assert calls["walk"] <= 3 * 300


def test_a_burst_after_any_silence_is_found(tmp_path: Path) -> None:
    draw = random.Random(3)
    for gap in (0.3, 1.5, 1.97, 3.1, 3_600.0):
        records = [(5 + gap * number, ethernet(ip(A, B, udp(5, 6)))) for number in range(4)]
        begin = 5 + 4 * gap
        records += [
            (
                begin + number / 10_000,
                ethernet(ip(f"9.{draw.randrange(256)}.{draw.randrange(256)}.1", B, tcp(9, 80, SYN))),
            )
            for number in range(2_500)
        ]
        assert told(report(tmp_path, records)) == [(B, "syn_flood")], gap


def test_a_long_silence_after_an_attack_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[int] = []
    whole = Engine.tick

    def tick(engine: Engine, now: int, seen: datetime, *, pausing: bool = False) -> None:
        ticks.append(now)
        whole(engine, now, seen, pausing=pausing)

    monkeypatch.setattr(Engine, "tick", tick)
    flood = [
        (number / 5_000, ethernet(ip(f"9.{number % 250}.{number // 250}.1", B, tcp(9, 80, SYN))))
        for number in range(5_000)
    ]
    hours = [(3_600.0 * hour + stamp, frame) for hour in range(1, 4) for stamp, frame in flood]
    found = report(tmp_path, hours)
    assert told(found) == [(B, "syn_flood")]
    assert found.incidents[0].packets == 15_000
    # An attack is over when it was quiet for long, not when somebody looked often enough.
    assert len(ticks) < 3 * 70
