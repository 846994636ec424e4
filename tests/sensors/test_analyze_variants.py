"""A verdict doesn't depend on how somebody captured the traffic: the same attacks and the same normal traffic, with
other lengths, links, tunnels, clocks and places.
"""

import gzip
import random
import struct
from collections.abc import Callable
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

import pytest
from rawframes import ACK, RST, SYN, ethernet, ip, tcp, udp
from recaptured import (
    SECOND,
    Change,
    Record,
    Records,
    after,
    behind,
    blocks,
    cut,
    doubled,
    going,
    hops,
    kind_of,
    readdressed,
    reordered,
    sampled,
    snapped,
    timed,
    tunnelled,
    vxlan,
    written,
)

from lab.packets import frames
from lab.scenarios import scenario
from sensors import analyze

BEGIN, ATTACK, END = 2.8, 3.0, 3.4
"""Of a scenario's seconds, what is taken, and when the attack begins."""
Told = dict[str, str]


class Case:
    """An attack in normal traffic, and who is the victim of what."""

    def __init__(self, family: str, seed: int, scale: float) -> None:
        made = scenario(family, seed, scale)
        rows = made.packets[(made.packets["time"] >= BEGIN * SECOND) & (made.packets["time"] < END * SECOND)]
        drawn = frames(rows)
        assert drawn.stamps is not None
        self.records: Records = [
            (1_700_000_000 * SECOND + int(stamp), drawn.block[number, : min(length, 112)].tobytes(), int(length))
            for number, (stamp, length) in enumerate(zip(drawn.stamps, drawn.lengths, strict=True))
        ]
        self.benign = [record for record, label in zip(self.records, rows["label"], strict=True) if label < 0]
        self.victim = str(made.victims[0].network_address)
        self.told: Told = {self.victim: made.waves[0].family}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [Case("syn_flood", 1, 0.2), Case("udp_amp:dns", 2, 0.4), Case("ack_flood", 1, 0.1)]


def told(folder: Path, capture: bytes | Records, link: int = 1, weight: int = 1) -> Told:
    """Targets and vectors of a capture."""
    path = folder / "a"
    path.write_bytes(capture if isinstance(capture, bytes) else written(capture, link))
    report = analyze.run(path, weight=weight)
    return {str(one.attack.target.network_address): str(one.attack.vectors[0].vector) for one in report.incidents}


WIRELESS = b"\x08\x01" + bytes(22) + bytes.fromhex("aaaa03000000")
MAC = bytes.fromhex("020000000001020000000002")
LINKS: dict[str, tuple[int, bytes, bytes]] = {
    "cooked": (113, bytes(14) + b"\x08\x00", bytes(14) + b"\x86\xdd"),
    "cooked, second": (276, b"\x08\x00" + bytes(18), b"\x86\xdd" + bytes(18)),
    "bare IP": (101, b"", b""),
    "loopback": (0, b"\x02\0\0\0", b"\x1e\0\0\0"),
    "wireless": (105, WIRELESS + b"\x08\0", WIRELESS + b"\x86\xdd"),
    "PPP": (9, b"\xff\x03\0\x21", b"\xff\x03\0\x57"),
    "Cisco HDLC": (104, b"\x0f\0\x08\0", b"\x0f\0\x86\xdd"),
    "VLAN": (1, MAC + b"\x81\0\0\x64\x08\0", MAC + b"\x81\0\0\x64\x86\xdd"),
    "QinQ": (1, MAC + b"\x88\xa8\0\x0a\x81\0\0\x64\x08\0", MAC + b"\x88\xa8\0\x0a\x81\0\0\x64\x86\xdd"),
    "MPLS": (1, MAC + b"\x88\x47\0\x06\x40\xff\0\x06\x41\xff", MAC + b"\x88\x47\0\x06\x41\xff"),
    "PPPoE": (1, MAC + b"\x88\x64\x11\0\0\1\1\0\0\x21", MAC + b"\x88\x64\x11\0\0\1\1\0\0\x57"),
}  # fmt: skip
TUNNELS: dict[str, Change] = {
    "GRE": tunnelled(47, lambda frame, _: b"\0\0" + kind_of(frame), bare=True),
    "GRE with a key": tunnelled(47, lambda frame, _: b"\x20\0" + kind_of(frame) + b"\0\0\0\7", bare=True),
    "Ethernet in GRE": tunnelled(47, lambda *_: b"\0\0\x65\x58"),
    "ERSPAN": tunnelled(47, lambda *_: b"\x10\0\x88\xbe\0\0\0\1" + b"\x10" + bytes(7)),
    "ERSPAN III": tunnelled(47, lambda *_: b"\x10\0\x22\xeb\0\0\0\1" + b"\x20" + bytes(11)),
    "VXLAN": tunnelled(17, vxlan),
    "IP in IP": tunnelled(4, lambda *_: b"", bare=True),
}


def anonymised(packed: bytes) -> bytes:
    """Some other address, always the same."""
    return sha256(packed).digest()[: len(packed)]


def local(packed: bytes) -> bytes:
    """One in 192.168/16, or in fd00::/8 where there is as much room as there was."""
    return b"\xc0\xa8" + sha256(packed).digest()[:2] if len(packed) == 4 else b"\xfd" + packed[1:]


CHANGES: dict[str, Change] = {
    **{f"{length} bytes": snapped(length) for length in (68, 80, 96)},
    "length forgotten": snapped(112, forgets=True),
    "short, length forgotten": snapped(68, forgets=True),
    "hop limits and checksums": hops(random.Random(7)),
    "one time": timed(lambda _: 7 * SECOND),
    "whole seconds": timed(lambda since: since // SECOND * SECOND),
    "tenths": timed(lambda since: since // (SECOND // 10) * (SECOND // 10)),
    "from 1970": timed(lambda since: since),
    "in 2038": timed(lambda since: ((1 << 31) - 1) * SECOND + since),
    "twice the pace": timed(lambda since: since // 2),
    "doubled": doubled(20_000),
    "doubled at one time": doubled(0),
    "out of order": reordered(50_000_000),
    "sampled, told": sampled(4),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_verdict_does_not_depend_on_how_it_was_captured(name: str, cases: list[Case], tmp_path: Path) -> None:
    weight = 4 if name == "sampled, told" else 1
    for case in cases:
        assert told(tmp_path, CHANGES[name](case.records), weight=weight) == case.told, case.told
        # What comes all at once is faster than it was.
        if name not in ("one time", "whole seconds"):
            assert told(tmp_path, CHANGES[name](case.benign), weight=weight) == {}, case.told


@pytest.mark.parametrize("name", LINKS)
def test_nor_on_what_link_it_came_over(name: str, cases: list[Case], tmp_path: Path) -> None:
    link, four, six = LINKS[name]
    for case in cases[:2]:
        assert told(tmp_path, behind(four, six)(case.records), link) == case.told


@pytest.mark.parametrize(
    "capture", [blocks, lambda records: blocks(records, order=">"), lambda records: gzip.compress(written(records), 1)]
)
def test_nor_on_the_form_of_the_file(capture: Callable[[Records], bytes], cases: list[Case], tmp_path: Path) -> None:
    assert told(tmp_path, capture(cases[0].records)) == cases[0].told


@pytest.mark.parametrize("name", TUNNELS)
def test_a_mirrored_capture_is_about_what_is_in_the_tunnel(name: str, cases: list[Case], tmp_path: Path) -> None:
    for case in cases[:2]:
        assert told(tmp_path, TUNNELS[name](case.records)) == case.told
        assert told(tmp_path, TUNNELS[name](case.benign)) == {}


def test_nor_on_where_it_was_captured(cases: list[Case], tmp_path: Path) -> None:
    for case in cases:
        to, since = going(case.records, case.victim, there=True), int((ATTACK - BEGIN) * SECOND)
        assert told(tmp_path, to) == case.told
        assert told(tmp_path, going(case.records, case.victim, there=False)) == {}
        assert told(tmp_path, cut(case.records, since, since + SECOND * 3 // 10)) == case.told
        assert told(tmp_path, cut(case.records, since + SECOND * 2 // 10, 9 * SECOND)) == case.told
        for names in (anonymised, local):
            packed = names(ip_address(case.victim).packed)
            [family] = case.told.values()
            found = told(tmp_path, readdressed(names, names)(case.records))
            assert found == {str(ip_address(packed)): family}


def test_two_captures_in_one_file_are_two_verdicts(cases: list[Case], tmp_path: Path) -> None:
    one, other = cases[:2]
    assert told(tmp_path, after(one.records, other.records, 5 * SECOND)) == one.told | other.told
    assert told(tmp_path, after(one.benign, one.records, -3 * SECOND)) == one.told
    assert told(tmp_path, after(one.records, one.records, 40 * SECOND)) == one.told


def gre(source: str, destination: str, inner: bytes) -> bytes:
    return ethernet(ip(source, destination, (47, b"\0\0\x08\0" + inner)))


def flood(frame: Callable[[int], bytes], count: int, rate: float) -> Records:
    """So many frames at an even pace."""
    made: list[tuple[int, bytes]] = [(SECOND + int(number * SECOND / rate), frame(number)) for number in range(count)]
    return [(stamp, one, len(one)) for stamp, one in made]


def somewhere(draw: random.Random) -> str:
    return str(ip_address(draw.randrange(1 << 24, 200 << 24)))


@pytest.mark.parametrize("inside", ["anywhere", "the victim"])
@pytest.mark.parametrize("bots", [1, 300])
def test_a_flood_of_tunnel_packets_is_no_mirror(inside: str, bots: int, tmp_path: Path) -> None:
    draw, victim = random.Random(4), "198.51.100.7"

    def frame(number: int) -> bytes:
        to = victim if inside == "the victim" else somewhere(draw)
        bot = f"9.{number % bots // 200}.{number % bots % 200}.1"
        return gre(bot, victim, ip(somewhere(draw), to, udp(7, number % 65_536, bytes(8))))

    assert told(tmp_path, flood(frame, 12_000, 80_000)) == {victim: "gre_flood"}


def test_a_fragment_is_one_where_its_header_was_cut_off(tmp_path: Path) -> None:
    draw, victim = random.Random(6), "2001:db8::7"
    head = struct.pack(">IHBB", 6 << 28, 200, 44, 60)

    def frame(_: int) -> bytes:
        return ethernet(head + draw.randbytes(16) + ip_address(victim).packed)

    assert told(tmp_path, flood(frame, 3_000, 4_000)) == {victim: "ip_fragment_flood"}


def test_a_resolver_in_a_sampled_stream_is_none_that_others_reflect_to(tmp_path: Path) -> None:
    draw, resolver = random.Random(8), "203.0.113.9"

    def frame(number: int) -> bytes:
        server, port = f"9.1.{number // 2 % 250}.{number % 3 + 1}", 1024 + number // 2 % 60_000
        if number % 2:
            return ethernet(ip(server, resolver, udp(53, port, bytes(draw.randrange(60, 450)))))
        return ethernet(ip(resolver, server, udp(port, 53, bytes(40))))

    asking = flood(frame, 24_000, 8_000)
    assert told(tmp_path, asking) == {}
    assert told(tmp_path, sampled(10)(asking), weight=10) == {}


@pytest.mark.parametrize(("server", "resolver"), [("9.1.{}.{}", "203.0.113.9"), ("2001:db8:9:{}::{}", "2001:db8::9")])
def test_answers_to_a_resolver_seen_one_way_are_ordinary_over_both_versions(
    server: str, resolver: str, tmp_path: Path
) -> None:
    draw = random.Random(8)

    def frame(number: int) -> bytes:
        answer = bytes(draw.choice((90, 180, 510)))
        return ethernet(
            ip(server.format(number % 250, number % 3), resolver, udp(53, draw.randrange(1_024, 65_536), answer))
        )

    assert told(tmp_path, flood(frame, 9_000, 3_000)) == {}


def test_a_handful_of_sampled_packets_is_no_attack(tmp_path: Path) -> None:
    def frame(number: int) -> bytes:
        return ethernet(ip(f"9.1.{number % 200}.1", "198.51.100.7", udp(137, 137, bytes(50))))

    assert told(tmp_path, flood(frame, 15, 30), weight=1_000) == {}
    assert told(tmp_path, flood(frame, 400, 400), weight=1_000) == {"198.51.100.7": "udp_amp:netbios"}


def test_what_a_victim_refuses_makes_no_victim_of_who_floods_it(tmp_path: Path) -> None:
    draw, attacker, victim = random.Random(9), "172.16.0.5", "192.168.50.4"

    def refusal(_: int) -> bytes:
        ports = draw.randrange(1, 65_536), draw.randrange(1_024, 65_536)
        return ethernet(ip(victim, attacker, tcp(*ports, RST | ACK)))

    def reset(number: int) -> bytes:
        return ethernet(ip(victim, attacker, tcp(number % 65_536, 80, RST)))

    assert told(tmp_path, flood(refusal, 15_000, 15_000)) == {}
    assert told(tmp_path, flood(reset, 15_000, 15_000)) == {attacker: "rst_flood"}


def test_one_long_flow_is_seen_where_clocks_stand_still(tmp_path: Path) -> None:
    def frame(number: int) -> bytes:
        return (
            gre("9.9.9.9", "198.51.100.7", b"")
            if number % 50
            else ethernet(ip(f"9.1.{number % 200}.1", "203.0.113.7", tcp(number % 9_999 + 1, 443, SYN)))
        )

    tunnel = flood(frame, 60_000, 120_000)
    assert told(tmp_path, timed(lambda _: 0)(tunnel))["198.51.100.7"] == "gre_flood"


def _public(data: Path, name: str) -> tuple[Records, int]:
    """A classic little-endian capture's records and link type."""
    raw = (data / "attack" / name).read_bytes()
    unit = 1 if raw[:4] == b"\x4d\x3c\xb2\xa1" else 1000
    records: list[Record] = []
    at = 24
    while at + 16 <= len(raw):
        seconds, fraction, kept, wire = struct.unpack("<IIII", raw[at : at + 16])
        records.append((seconds * SECOND + fraction * unit, raw[at + 16 : at + 16 + kept], wire))
        at += 16 + kept
    return records, struct.unpack("<I", raw[20:24])[0]


@pytest.mark.data
@pytest.mark.parametrize("name", ["68 bytes", "length forgotten", "one time", "doubled", "out of order", "VXLAN"])
def test_public_captures_keep_their_verdict(name: str, data: Path, tmp_path: Path) -> None:
    public = {
        "StopDDoS+packet-captures__amp.TCP.reflection.SYNACK.pcap": {"10.10.10.10": "synack_reflection"},
        "StopDDoS+packet-captures__amp.UDP.snmp.src161.pcapng": {"10.10.10.10": "udp_amp:snmp"},
        "marcosValle+netlyzer__ddos.pcap": {"227.213.154.241": "udp_amp:dns"},
        "doriguzzi+lucid-ddos__sample-dataset__CIC-DDoS-2019-SynFlood.pcap": {"192.168.50.4": "syn_flood"},
    }
    for file, verdict in public.items():
        records, link = _public(data, file)
        assert link == 1
        assert told(tmp_path, (CHANGES | TUNNELS)[name](records)) == verdict, file
