"""Evidence: what comes out of memory is what went in, files are whole or absent, and a bad disk costs evidence only."""

import hashlib
import json
import os
import resource
import struct
import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pcapy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_rig import detection
from rawframes import SYN, ethernet, ip, tcp, udp

from rules.match import Network
from rules.traffic import Detection, State
from sensors import evidence_records, files, walk
from sensors.evidence import EvidenceRecorder
from sensors.evidence_file import EvidenceFile, remove_old
from sensors.evidence_kernel import SEGMENT_WORDS, keep_batch, keep_block
from sensors.evidence_records import LARGEST, Records, in_order, look
from sensors.evidence_recovery import recover
from sensors.evidence_ring import RecentBytes
from sensors.evidence_settings import EvidenceSettings
from sensors.evidence_shards import RecentShards
from sensors.framing import ETHERNET
from sensors.tables import prefix_table

A, B, OTHER = "192.0.2.1", "203.0.113.7", "198.51.100.9"
EVERYTHING = prefix_table(())


def keep(ring: RecentBytes, *frames: bytes, at: float = 1_000.0, prefixes: Any = EVERYTHING) -> None:
    """Puts frames into the ring, a microsecond apart."""
    offsets = np.cumsum([0, *(len(frame) for frame in frames)])[:-1]
    whole, part = int(at), round((at % 1) * 1e6)
    meta = [(whole, part + n, int(o), len(f)) for n, (o, f) in enumerate(zip(offsets, frames, strict=True))]
    buffer, columns = walk.pcapy_batch(b"".join(frames), np.array(meta, np.uint32).tobytes())
    if ring.wants_block():
        keep_batch(*ring.arrays, prefixes, buffer, columns, ETHERNET)


def records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Time (ns) and bytes of each record, without the file's header."""
    at = 0
    while at < len(content):
        seconds, nanoseconds, length, wire = struct.unpack_from("=4I", content, at)
        assert wire >= length
        yield seconds * 10**9 + nanoseconds, content[at + 16 : at + 16 + length]
        at += 16 + length
    assert at == len(content)


def read(ring: RecentBytes, target: Network, since_ns: int = 0, every: int = 1, bare: bool = False) -> list[bytes]:
    span = ring.oldest, ring.position
    return [
        frame for one in ring.read(target, span, since_ns, every, bare) for _, frame in records(one.content)
    ]  # fmt: skip


hosts = st.sampled_from([A, B, OTHER, "203.0.113.200", "2001:db8::7", "2001:db8:1::9"])
frames = st.builds(
    lambda source, target, size, port: (source, target, ethernet(ip(source, target, udp(port, 9, bytes(size)))))
    if ip_address(source).version == ip_address(target).version
    else (source, source, ethernet(ip(source, source, udp(port, 9, bytes(size))))),
    hosts, hosts, st.integers(0, 1400), st.integers(1, 65535),
)  # fmt: skip
targets = st.sampled_from(["203.0.113.7/32", "203.0.113.0/24", "2001:db8::7/128", "2001:db8::/32", "0.0.0.0/0"])


@given(st.lists(frames, max_size=60), targets)
def test_what_is_to_or_from_the_target_comes_out_as_it_went_in(given_: list[tuple[str, str, bytes]], text: str) -> None:
    ring, target = RecentBytes(1, 10.0), ip_network(text)
    keep(ring, *(frame for _, _, frame in given_))
    expected = [frame for source, to, frame in given_ if ip_address(source) in target or ip_address(to) in target]
    assert read(ring, target) == expected
    assert ring.count(target, (ring.oldest, ring.position)) == len(expected)
    assert read(ring, target, bare=True) == [frame[14:] for frame in expected]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_break_the_ring(content: bytes) -> None:
    ring = RecentBytes(1, 10.0)
    keep(ring, content, ethernet(ip(A, B, udp(1, 2))))
    assert read(ring, ip_network(B))[-1] == ethernet(ip(A, B, udp(1, 2)))


def test_only_packets_to_or_from_protected_addresses_are_kept() -> None:
    ring, prefixes = RecentBytes(1, 10.0), prefix_table([(ip_network("203.0.113.0/24"), 0)])
    to, answer, other = (
        ethernet(ip(*pair, udp(1, 2))) for pair in ((A, B), (B, A), (A, OTHER))
    )  # fmt: skip
    keep(ring, to, answer, other, prefixes=prefixes)
    assert ring.kept == 2
    assert read(ring, ip_network("0.0.0.0/0")) == [to, answer]


def test_memory_is_bounded_and_the_oldest_go() -> None:
    ring = RecentBytes(2, 10.0)
    for number in range(40):
        keep(ring, *[ethernet(ip(A, B, udp(number + 1, 2, bytes(1_000))))] * 100)
    assert ring.used_bytes == 2 << 20 == 8 * SEGMENT_WORDS * 8
    found = [int.from_bytes(frame[34:36], "big") for frame in read(ring, ip_network(B))]
    assert found == sorted(found) and found[-1] == 40 and found[0] > 15
    assert len(found) * 1_066 < 2 << 20


def test_a_flood_is_kept_in_part_and_says_so() -> None:
    ring = RecentBytes(2, 10.0)
    ring.pace(1.0)
    frame = ethernet(ip(A, B, udp(1, 2, bytes(100))))
    for _ in range(10):
        keep(ring, *[frame] * 1_000)
    ring.pace(1.1)
    # 10,000 packets of 168 bytes in 0.1 s are 16.8 MB a second, eighty times what 2 MB hold for ten seconds.
    assert ring.one_of == 128
    before = ring.kept
    for _ in range(4_000):
        keep(ring, *[frame] * 20)
    assert 80_000 / 128 * 0.5 < ring.kept - before < 80_000 / 128 * 1.5
    # The same in a hundred seconds are two thirds of what it holds, give or take what chance makes of it: 6 %.
    ring.pace(100.0)
    assert ring.one_of == 1
    assert max(one.one_of for one in ring.read(ip_network(B), (ring.oldest, ring.position), 0, 1, False)) == 128


@given(st.integers(1, 300), st.integers(1, 50))
def test_every_so_many_th_packet_is_taken_across_segments(count: int, every: int) -> None:
    ring = RecentBytes(4, 1e-6)
    for number in range(count):
        keep(ring, ethernet(ip(A, B, udp(number + 1, 2, bytes(3_000)))))
    found = [int.from_bytes(frame[34:36], "big") for frame in read(ring, ip_network(B), every=every)]
    assert found == list(range(every, count + 1, every))


def attack(name: str, state: State = State.STARTED, target: str = B, ago: float = 0.0) -> Detection:
    first = datetime.now(UTC) - timedelta(seconds=ago)
    return replace(detection(name), state=state, target=ip_network(target), first_seen=first)


def recorded(ring: RecentBytes, settings: EvidenceSettings, *notes: Detection) -> EvidenceRecorder:
    recorder = EvidenceRecorder(settings, RecentShards([ring]), ETHERNET)
    for note in notes:
        recorder.note(note)
    recorder.start()
    # It is nice to everybody else, and may have the kernel to compile first.
    recorder.stop(timeout_seconds=120)
    return recorder


def now() -> float:
    return datetime.now(UTC).timestamp()


@pytest.fixture
def settings(tmp_path: Path) -> EvidenceSettings:
    return EvidenceSettings(tmp_path / "evidence", least_free_bytes=0)


def test_a_capture_has_the_targets_packets_from_before_on_and_a_true_description(settings: EvidenceSettings) -> None:
    ring = RecentBytes(1, 10.0)
    early, before, during = (ethernet(ip(A, B, tcp(port, 80, SYN))) for port in (1, 2, 3))
    keep(ring, early, at=now() - 60)
    keep(ring, before, ethernet(ip(A, OTHER, udp(1, 2))), at=now() - 5)
    keep(ring, during, at=now())
    recorder = recorded(ring, settings, attack("a1"), attack("a1", State.OVER))
    assert recorder.status.counts["written"] == 1
    said = json.loads((settings.directory / "a1.json").read_text())
    content = (settings.directory / "a1.pcap").read_bytes()
    assert said["sha256"] == hashlib.sha256(content).hexdigest()
    assert (said["attack"], said["target"], said["packets"], said["bytes"]) == ("a1", "203.0.113.7/32", 2, len(content))
    assert not said["truncated"] and not said["interrupted"] and said["remembered_one_of"] == 1
    assert struct.unpack_from("=IHHiIII", content) == (0xA1B23C4D, 2, 4, 0, 0, 262_144, ETHERNET)
    assert [frame for _, frame in records(content[24:])] == [before, during]
    # What others read, too.
    reader = pcapy.open_offline(str(settings.directory / "a1.pcap"))
    assert [reader.next()[1] for _ in range(2)] == [before, during]
    assert {path.name for path in settings.directory.iterdir()} == {"a1.json", "a1.pcap"}


def test_a_whole_prefix_can_be_the_target(settings: EvidenceSettings) -> None:
    ring = RecentBytes(1, 10.0)
    keep(ring, *(ethernet(ip(A, f"203.0.113.{n}", udp(1, 2))) for n in range(50)), at=now())
    keep(ring, ethernet(ip(A, OTHER, udp(1, 2))), at=now())
    recorded(ring, settings, attack("a1", target="203.0.113.0/24"), attack("a1", State.OVER, "203.0.113.0/24"))
    assert json.loads((settings.directory / "a1.json").read_text())["packets"] == 50


@pytest.mark.parametrize("limits", [{"packets": 100}, {"file_bytes": 20_000}])
def test_limits_hold_and_are_told(settings: EvidenceSettings, limits: dict[str, Any]) -> None:
    ring = RecentBytes(4, 1e-6)
    keep(ring, *[ethernet(ip(A, B, udp(1, 2, bytes(400))))] * 3_000, at=now())
    recorded(ring, replace(settings, **limits), attack("a1"), attack("a1", State.OVER))
    said = json.loads((settings.directory / "a1.json").read_text())
    assert said["truncated"]
    assert said["packets"] <= 100 and said["bytes"] <= 60_000


def test_an_attack_that_goes_on_when_the_sensor_ends_is_marked(settings: EvidenceSettings) -> None:
    ring = RecentBytes(1, 10.0)
    keep(ring, ethernet(ip(A, B, udp(1, 2))), at=now())
    recorded(ring, settings, attack("a1"))
    assert json.loads((settings.directory / "a1.json").read_text())["interrupted"]


def test_too_many_attacks_at_once_are_counted(settings: EvidenceSettings) -> None:
    recorder = recorded(RecentBytes(1, 10.0), replace(settings, at_once=2), *(attack(f"a{n}") for n in range(5)))
    assert (recorder.status.counts["written"], recorder.status.counts["skipped"]) == (2, 3)


def test_the_oldest_captures_make_room(settings: EvidenceSettings) -> None:
    ring = RecentBytes(1, 10.0)
    keep(ring, *[ethernet(ip(A, B, udp(1, 2, bytes(1_000))))] * 10, at=now())
    small = replace(settings, file_bytes=15_000, total_bytes=40_000)
    removed = 0
    for number in range(6):
        removed += recorded(ring, small, attack(f"a{number}")).status.counts["removed"]
    left = {path.stem for path in settings.directory.glob("*.pcap")}
    assert left == {"a3", "a4", "a5"} == {path.stem for path in settings.directory.glob("*.json")}
    assert removed == 3
    assert sum(path.stat().st_size for path in settings.directory.glob("*.pcap")) <= 40_000


def test_many_small_attacks_at_once_cost_no_old_capture(settings: EvidenceSettings) -> None:
    ring = RecentBytes(1, 10.0)
    keep(ring, ethernet(ip(A, B, udp(1, 2, bytes(1_000)))), at=now())
    small = replace(settings, file_bytes=15_000, total_bytes=40_000, at_once=8)
    recorded(ring, small, attack("old"))
    recorder = recorded(ring, small, *(attack(f"a{number}") for number in range(8)))
    assert (recorder.status.counts["written"], recorder.status.counts["removed"]) == (8, 0)
    assert (settings.directory / "old.pcap").exists()


def test_large_attacks_at_once_stay_within_the_limit_together(settings: EvidenceSettings) -> None:
    ring = RecentBytes(1, 10.0)
    keep(ring, *[ethernet(ip(A, B, udp(1, 2, bytes(1_000))))] * 10, at=now())
    recorded(ring, replace(settings, file_bytes=15_000, total_bytes=40_000), *(attack(f"a{n}") for n in range(8)))
    assert sum(path.stat().st_size for path in settings.directory.glob("*.pcap")) <= 40_000


def test_what_a_killed_sensor_left_is_finished_as_far_as_it_is_whole(settings: EvidenceSettings) -> None:
    ring, frame = RecentBytes(1, 10.0), ethernet(ip(A, B, udp(1, 2, bytes(100))))
    keep(ring, frame, frame, frame, at=now())
    file = EvidenceFile(settings.directory, attack("a1"), ETHERNET)
    assert file.add(ring.read(ip_network(B), (ring.oldest, ring.position), 0, 1, False), 1 << 20)
    with (settings.directory / ".a1.pcap.part").open("r+b") as left:
        left.truncate(file.size - 7)
    recorder = recorded(RecentBytes(1, 10.0), settings)
    assert recorder.status.counts["written"] == 1
    said = json.loads((settings.directory / "a1.json").read_text())
    content = (settings.directory / "a1.pcap").read_bytes()
    assert said["interrupted"] and said["packets"] == 2 and said["target"] == "203.0.113.7/32"
    assert said["sha256"] == hashlib.sha256(content).hexdigest() and said["bytes"] == len(content)
    assert [found for _, found in records(content[24:])] == [frame, frame]
    assert {path.name for path in settings.directory.iterdir()} == {"a1.json", "a1.pcap"}


def test_leftovers_that_make_no_sense_are_removed_and_counted(settings: EvidenceSettings) -> None:
    settings.directory.mkdir()
    (settings.directory / ".a0.pcap.part").write_bytes(b"half")
    (settings.directory / "a9.pcap").write_bytes(b"no description")
    recorder = recorded(RecentBytes(1, 10.0), settings)
    assert recorder.status.counts["lost"] == 2
    assert list(settings.directory.iterdir()) == []


def test_a_directory_that_cannot_be_written_costs_evidence_only(settings: EvidenceSettings) -> None:
    settings.directory.write_text("a file stands here")
    recorder = recorded(RecentBytes(1, 10.0), settings, attack("a1"), attack("a1", State.OVER))
    assert recorder.status.counts["lost"] >= 1
    assert str(settings.directory) in recorder.status.trouble


def test_captures_that_are_too_old_go_and_the_others_stay(settings: EvidenceSettings) -> None:
    settings.directory.mkdir()
    for name, days in (("old", 8), ("new", 6), ("open", 9)):
        for suffix in (".pcap", ".json"):
            path = settings.directory / f"{name}{suffix}"
            path.write_bytes(b"x")
            os.utime(path, (now() - days * 86_400,) * 2)
    (settings.directory / "open.pcap").rename(settings.directory / ".open.pcap.part")
    (settings.directory / "open.json").rename(settings.directory / ".open.json.part")
    assert remove_old(settings.directory, datetime.now(UTC) - timedelta(days=7)) == 1
    assert {path.name for path in settings.directory.iterdir()} == {
        "new.pcap", "new.json", ".open.pcap.part", ".open.json.part"
    }  # fmt: skip
    recorder = recorded(RecentBytes(1, 10.0), replace(settings, keep_seconds=5 * 86_400.0), attack("a1"))
    assert recorder.status.counts["removed"] == 1
    assert {path.stem for path in settings.directory.glob("*.pcap")} == {"a1"}


def test_a_file_that_cannot_be_begun_keeps_nothing_open(settings: EvidenceSettings) -> None:
    # As on a disk that has room, but no name left for the description.
    (settings.directory / ".a1.json.part").mkdir(parents=True)
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(3):
        with pytest.raises(OSError):
            EvidenceFile(settings.directory, attack("a1"), ETHERNET)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert {path.name for path in settings.directory.iterdir()} == {".a1.json.part"}


def test_a_nearly_full_disk_is_left_alone(settings: EvidenceSettings) -> None:
    recorder = recorded(RecentBytes(1, 10.0), replace(settings, least_free_bytes=1 << 60), attack("a1"))
    assert recorder.status.counts["lost"] == 1 and "free" in recorder.status.trouble
    assert list(settings.directory.iterdir()) == []


def test_packets_that_were_handed_over_late_are_put_in_the_order_of_time(settings: EvidenceSettings) -> None:
    file, frames_ = late(settings)
    path = file.finish(attack("a1"), truncated=False, interrupted=False)
    said, content = json.loads(path.read_text()), (settings.directory / "a1.pcap").read_bytes()
    found = list(records(content[24:]))
    assert [stamp for stamp, _ in found] == sorted(stamp for stamp, _ in found)
    # Those of one microsecond stay as they came.
    assert [frame for _, frame in found] == [frames_[number] for number in (2, 3, 0, 4, 1, 5)]
    assert said["in_order"] and said["packets"] == 6
    assert said["sha256"] == hashlib.sha256(content).hexdigest() and said["bytes"] == len(content)
    assert {one.name for one in settings.directory.iterdir()} == {"a1.json", "a1.pcap"}


def late(settings: EvidenceSettings) -> tuple[EvidenceFile, list[bytes]]:
    """A file whose packets, two at a time, are of the milliseconds 1, 0 and 1."""
    frames_ = [ethernet(ip(A, B, udp(number + 1, 2, bytes(400)))) for number in range(6)]
    file = EvidenceFile(settings.directory, attack("a1"), ETHERNET)
    for number, at in ((0, 1_000.001), (2, 1_000.0), (4, 1_000.001)):
        ring = RecentBytes(1, 10.0)
        keep(ring, *frames_[number : number + 2], at=at)
        assert file.add(ring.read(ip_network(B), (ring.oldest, ring.position), 0, 1, False), 1 << 20)
    return file, frames_


def test_what_a_killed_sensor_left_out_of_order_is_put_in_order(settings: EvidenceSettings) -> None:
    late(settings)
    for name in ("..a1.pcap.part.x7_q", ".a0.json.x7_q", ".a0.json.part"):
        (settings.directory / name).write_bytes(b"a draft of a draft")
    recorder = recorded(RecentBytes(1, 10.0), settings)
    assert recorder.status.counts["written"] == 1
    content = (settings.directory / "a1.pcap").read_bytes()
    stamps = [stamp for stamp, _ in records(content[24:])]
    assert len(stamps) == 6 and stamps == sorted(stamps)
    assert json.loads((settings.directory / "a1.json").read_text())["sha256"] == hashlib.sha256(content).hexdigest()
    assert {path.name for path in settings.directory.iterdir()} == {"a1.json", "a1.pcap"}


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=9)), max_size=12), st.integers(0, 30))
def test_a_capture_in_order_has_the_same_records_sorted_by_time(
    tmp_path_factory: pytest.TempPathFactory, packets: list[tuple[int, bytes]], cut: int
) -> None:
    header = bytes(24)
    parts = [struct.pack("=4I", 0, time, len(body), len(body)) + body for time, body in packets]
    content = header + b"".join(parts)
    content = content[: len(content) - min(cut, len(parts[-1]) - 1)] if parts and cut else content
    whole = packets[:-1] if len(content) < 24 + sum(map(len, parts)) else packets
    found = in_order(content)
    expected = sorted(whole, key=lambda packet: packet[0])
    assert list(records(bytes(found[24:]))) == expected
    if whole == expected == packets:
        assert found is content
    path, times = tmp_path_factory.getbasetemp() / "looked_at.pcap", [time for time, _ in whole]
    path.write_bytes(content)
    earliest, latest = min(times, default=0), max(times, default=0)
    assert look(path) == Records(len(whole), len(found), earliest, latest, whole == expected)


@given(st.binary(max_size=120))
def test_arbitrary_bytes_can_be_put_in_order(content: bytes) -> None:
    found = in_order(content)
    assert sorted(content[: len(found)]) == sorted(found) and in_order(bytes(found)) == found


def test_a_capture_too_large_to_sort_says_so(settings: EvidenceSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    file, frames_ = late(settings)
    monkeypatch.setattr(evidence_records, "LARGEST", file.size - 1)
    said = json.loads(file.finish(attack("a1"), truncated=False, interrupted=False).read_text())
    content = (settings.directory / "a1.pcap").read_bytes()
    assert [frame for _, frame in records(content[24:])] == frames_
    assert not said["in_order"] and "too large to sort" in file.unordered
    assert said["sha256"] == hashlib.sha256(content).hexdigest() and said["bytes"] == len(content)


@pytest.mark.parametrize("first", [1, 9])
def test_a_huge_capture_that_was_left_is_finished_in_little_memory(settings: EvidenceSettings, first: int) -> None:
    EvidenceFile(settings.directory, attack("a1"), ETHERNET)
    count, body = LARGEST // 262_144 + 4, 262_144
    with (settings.directory / ".a1.pcap.part").open("r+b") as left:
        left.seek(24)
        for number in range(count):
            left.write(struct.pack("=4I", first if number == 0 else 2 + number, 0, body, body))
            left.seek(body, os.SEEK_CUR)
        left.truncate(left.tell() - 1)
    tracemalloc.start()
    try:
        found, peak = recover(settings.directory), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = json.loads((settings.directory / "a1.json").read_text())
    assert peak < 4 << 20
    assert (found.whole, found.lost) == (1, 0)
    assert said["packets"] == count - 1 and said["bytes"] == 24 + (count - 1) * (16 + body)
    assert (settings.directory / "a1.pcap").stat().st_size == said["bytes"]
    # The second packet is of second 3.
    assert said["in_order"] == (first < 3) == (not found.trouble)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk, nothing can be written beyond so many bytes of a file; what is there can be cut off."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_left_capture_that_there_is_no_room_to_sort_is_cut_off_in_its_place(settings: EvidenceSettings) -> None:
    file, frames_ = late(settings)
    with (settings.directory / ".a1.pcap.part").open("r+b") as left:
        left.truncate(file.size - 7)
    with files_of_at_most(1_000):
        found = recover(settings.directory)
    said, content = (
        json.loads((settings.directory / "a1.json").read_text()),
        (settings.directory / "a1.pcap").read_bytes(),
    )
    assert [frame for _, frame in records(content[24:])] == frames_[:-1]
    assert (found.whole, found.lost) == (1, 0) and "a1.pcap: not in the order of time" in found.trouble
    assert not said["in_order"] and said["packets"] == 5
    assert said["sha256"] == hashlib.sha256(content).hexdigest() and said["bytes"] == len(content)
    assert {path.name for path in settings.directory.iterdir()} == {"a1.json", "a1.pcap"}


def test_a_left_capture_at_which_the_disk_fails_waits_and_the_others_go_on(settings: EvidenceSettings) -> None:
    long = replace(attack("a1"), zone="z" * 1_000)
    for one in (long, attack("a2")):
        EvidenceFile(settings.directory, one, ETHERNET)
    with files_of_at_most(1_000):
        found = recover(settings.directory)
    assert (found.whole, found.lost) == (1, 1) and "a1" in found.trouble
    assert {path.name for path in settings.directory.iterdir()} == {
        "a2.json", "a2.pcap", ".a1.json.part", ".a1.pcap.part"
    }  # fmt: skip
    found = recover(settings.directory)
    assert (found.whole, found.lost, found.trouble) == (1, 0, "")
    assert {path.name for path in settings.directory.iterdir()} == {"a1.json", "a1.pcap", "a2.json", "a2.pcap"}


@pytest.mark.parametrize("failures", [1, 2])
def test_a_sorted_capture_whose_name_may_not_last_is_described_as_it_is_or_not_at_all(
    settings: EvidenceSettings, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    file, _ = late(settings)
    sync, left = files.sync_directory, [None] * failures

    def fail(directory: Path) -> None:
        if left:
            left.pop()
            raise OSError(5, "Input/output error")
        sync(directory)

    monkeypatch.setattr(files, "sync_directory", fail)
    if failures == 2:
        # The description's own fails, too.
        with pytest.raises(OSError):
            file.finish(attack("a1"), truncated=False, interrupted=False)
        file.discard()
        assert list(settings.directory.iterdir()) == []
        return
    said = json.loads(file.finish(attack("a1"), truncated=False, interrupted=False).read_text())
    content = (settings.directory / "a1.pcap").read_bytes()
    stamps = [stamp for stamp, _ in records(content[24:])]
    assert stamps == sorted(stamps) and said["in_order"]
    assert said["sha256"] == hashlib.sha256(content).hexdigest() and said["bytes"] == len(content)


@pytest.mark.peer
def test_on_a_disk_without_room_for_two_a_capture_stays_whole_and_out_of_order(settings: EvidenceSettings) -> None:
    settings.directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", settings.directory], check=True)
    try:
        older, newer = RecentBytes(1, 10.0), RecentBytes(1, 10.0)
        keep(newer, *[ethernet(ip(A, B, udp(1, 2, bytes(400))))] * 60, at=now())
        keep(older, *[ethernet(ip(A, B, udp(3, 4, bytes(400))))] * 20, at=now() - 1)
        # The shard that is read second has older packets than the one that is read first.
        recorder = EvidenceRecorder(replace(settings, least_free_bytes=-(1 << 30)), RecentShards([newer]), ETHERNET)
        recorder._open(attack("a1"))
        recorder._ring, recorder._recordings["a1"].position = RecentShards([older]), RecentShards([older]).oldest
        recorder._turn()
        recorder._close(recorder._recordings["a1"], interrupted=False)
        status = recorder.status
        assert status.counts["written"] == 1 and not status.counts.get("lost")
        assert "a1.pcap: not in the order of time: No space left on device" in status.trouble
        content = (settings.directory / "a1.pcap").read_bytes()
        said = json.loads((settings.directory / "a1.json").read_text())
        assert not said["in_order"] and said["sha256"] == hashlib.sha256(content).hexdigest()
        assert len(list(records(content[24:]))) == said["packets"] == 80
        assert {path.name for path in settings.directory.iterdir()} == {"a1.json", "a1.pcap"}
    finally:
        subprocess.run(["umount", settings.directory], check=True)


@pytest.mark.peer
def test_a_disk_that_fills_up_leaves_nothing_behind(settings: EvidenceSettings) -> None:
    settings.directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", settings.directory], check=True)
    try:
        ring = RecentBytes(1, 1e-6)
        keep(ring, *[ethernet(ip(A, B, udp(1, 2, bytes(1_000))))] * 300, at=now())
        # So little that the check beforehand sees nothing: the disk fills up behind it.
        small = replace(settings, file_bytes=1 << 20, least_free_bytes=-(1 << 30))
        recorder = recorded(ring, small, attack("a1"), attack("a1", State.OVER))
        assert recorder.status.counts["lost"] == 1 and not recorder.status.counts["written"]
        assert list(settings.directory.iterdir()) == []
    finally:
        subprocess.run(["umount", settings.directory], check=True)


def test_a_tag_that_the_kernel_took_out_is_put_back() -> None:
    frame = ethernet(ip(A, B, udp(53, 9, bytes(50))))
    block = bytearray(4_096)
    struct.pack_into("=IIIII", block, 0, 3, 48, 1, 1, 48)
    struct.pack_into("=IIIIIIHHIIH", block, 48, 0, 7, 9, len(frame), len(frame), 0x51, 82, 96, 0, 77, 0x88A8)
    block[48 + 82 : 48 + 82 + len(frame)] = frame
    ring = RecentBytes(1, 10.0)
    keep_block(*ring.arrays, EVERYTHING, np.frombuffer(block, np.uint8), 0, 4_096, ETHERNET, False)
    assert read(ring, ip_network(B)) == [ethernet(ip(A, B, udp(53, 9, bytes(50))), (0x88A8, 77))]
