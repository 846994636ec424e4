"""Generated traffic is what it claims to be: seeded, well-formed, with checksums a real stack accepts."""

import struct
from collections import defaultdict
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.benign import CLIENTS, SEQUENCE, benign
from lab.frames import Frames, merged, write_pcap
from lab.traffic import attack, kinds
from rules.match import Family, Network
from rules.traffic import AMPLIFICATION_SERVICES, Vector

TARGETS: tuple[Network, ...] = (
    IPv4Network("203.0.113.7/32"),
    IPv4Network("203.0.113.0/26"),
    IPv6Network("2001:db8::7/128"),
    IPv6Network("2001:db8::/48"),
)
targets = st.sampled_from(TARGETS)
seeds = st.integers(0, 2**32)
counts = st.integers(1, 120)


class Parsed:
    """A frame taken apart with nothing but `struct`, by the RFCs."""

    def __init__(self, frame: bytes) -> None:
        (kind,) = struct.unpack_from(">H", frame, 12)
        packet = frame[14:]
        if kind == 0x0800:
            self._four(packet)
        else:
            assert kind == 0x86DD
            self._six(packet)

    def _four(self, packet: bytes) -> None:
        assert packet[0] == 0x45
        length, self.identification, fragment = struct.unpack_from(">HHH", packet, 2)
        assert length == len(packet)
        assert ones_sum(packet[:20]) == 0xFFFF, "IPv4 header checksum"
        self.offset, self.more = (fragment & 0x1FFF) * 8, bool(fragment & 0x2000)
        self.protocol, self.addresses, self.payload = packet[9], packet[12:20], packet[20:]
        self.source, self.destination = ip_address(packet[12:16]), ip_address(packet[16:20])

    def _six(self, packet: bytes) -> None:
        word, length, self.protocol = struct.unpack_from(">IHB", packet)
        assert word >> 28 == 6
        assert length == len(packet) - 40
        self.identification, self.offset, self.more = word & 0xFFFFF, 0, False
        self.addresses, self.payload = packet[8:40], packet[40:]
        self.source, self.destination = ip_address(packet[8:24]), ip_address(packet[24:40])
        if self.protocol == 44:
            self.protocol, field, self.identification = struct.unpack_from(">BxHI", self.payload)
            self.offset, self.more, self.payload = field & 0xFFF8, bool(field & 1), self.payload[8:]


def ones_sum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum_holds(one: Parsed, payload: bytes) -> bool:
    if one.protocol == 1:
        return ones_sum(payload) == 0xFFFF
    if one.protocol in (6, 17, 58):
        return ones_sum(one.addresses + struct.pack(">IHBB", len(payload), 0, 0, one.protocol) + payload) == 0xFFFF
    return True


def check(frames: Frames, target: Network) -> list[Parsed]:
    """Every packet, after checking addresses and the checksum of every datagram that came whole."""
    packets = [Parsed(frames.frame(index)) for index in range(len(frames))]
    datagrams: dict[tuple[object, int], list[Parsed]] = defaultdict(list)
    for one in packets:
        assert one.destination in target
        if one.offset or one.more:
            datagrams[one.source, one.identification].append(one)
        else:
            assert checksum_holds(one, one.payload)
    for pieces in datagrams.values():
        payload = b"".join(piece.payload for piece in pieces)
        if pieces[0].offset == 0 and not pieces[-1].more:
            assert checksum_holds(pieces[0], payload)
            assert struct.unpack_from(">H", payload, 4) == (len(payload),)
    return packets


@given(st.sampled_from(kinds()), targets, counts, seeds)
def test_every_attack_packet_is_well_formed(vector: Vector, target: Network, count: int, seed: int) -> None:
    packets = check(attack(vector, target, count, seed), target)
    assert len(packets) == count
    assert not any(one.source in CLIENTS[Family.of(target)] for one in packets), "would count as benign"


@given(targets, counts, seeds, st.integers(0, SEQUENCE))
def test_every_benign_packet_is_well_formed_marked_and_numbered(
    target: Network, count: int, seed: int, first: int
) -> None:
    packets = check(benign(target, count, seed, first), target)
    assert all(one.source in CLIENTS[Family.of(target)] for one in packets)
    assert [one.identification for one in packets] == [(first + n) % SEQUENCE for n in range(count)]


@given(st.sampled_from(kinds()), targets, counts, seeds)
def test_the_same_seed_gives_the_same_bytes(vector: Vector, target: Network, count: int, seed: int) -> None:
    one, two = (attack(vector, target, count, seed) for _ in range(2))
    assert (one.block == two.block).all()
    assert (one.lengths == two.lengths).all()


def test_there_is_traffic_for_every_amplification_service() -> None:
    assert {vector.service for vector in kinds() if vector.kind == "udp_amp"} == set(AMPLIFICATION_SERVICES.values())


@pytest.mark.parametrize(("port", "service"), AMPLIFICATION_SERVICES.items())
def test_an_answer_comes_from_its_service_and_leaves_it_in_fragments_when_long(port: int, service: str) -> None:
    packets = check(attack(Vector("udp_amp", service), TARGETS[0], 40, 3), TARGETS[0])
    assert {struct.unpack_from(">H", one.payload)[0] for one in packets if one.offset == 0} == {port}
    assert any(one.offset for one in packets) == (service in {"chargen", "dns", "snmp", "cldap", "wsd"})


@given(st.lists(st.integers(1, 4094), min_size=1, max_size=2), seeds)
def test_vlan_tags_are_put_in_front_and_leave_the_packet_alone(vlans: list[int], seed: int) -> None:
    plain = attack(Vector("syn_flood"), TARGETS[0], 3, seed)
    tagged = plain.tagged(*vlans)
    for index in range(3):
        frame, tags = tagged.frame(index), len(vlans)
        kinds_and_ids = struct.unpack_from(f">{2 * tags}H", frame, 12)
        assert list(kinds_and_ids[1::2]) == vlans
        assert kinds_and_ids[0] == (0x88A8 if tags == 2 else 0x8100)
        assert frame[:12] + frame[12 + 4 * tags :] == plain.frame(index)


@given(one=st.integers(1, 50), two=st.integers(1, 50), seed=seeds)
def test_a_capture_file_holds_the_frames_in_order_of_time(
    one: int, two: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = attack(Vector("udp_amp", "ntp"), TARGETS[0], one, seed).paced(1000)
    second = benign(TARGETS[0], two, seed).paced(333, start_seconds=0.0105)
    both = merged((first, second))
    path = tmp_path_factory.mktemp("capture") / "x.pcap"
    write_pcap(path, both)
    assert [frame for _, frame in records(path)] == [both.frame(index) for index in range(one + two)]
    stamps = [stamp for stamp, _ in records(path)]
    assert stamps == sorted(stamps)
    assert both.stamps is not None
    assert np.diff(both.stamps).min(initial=0) >= 0


def records(path: Path) -> list[tuple[int, bytes]]:
    raw, found, at = path.read_bytes(), [], 24
    assert raw[:4] == bytes.fromhex("4d3cb2a1"), "nanosecond pcap, little endian"
    while at < len(raw):
        seconds, nanoseconds, kept, length = struct.unpack_from("<4I", raw, at)
        assert kept == length
        found.append((seconds * 10**9 + nanoseconds, raw[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found
