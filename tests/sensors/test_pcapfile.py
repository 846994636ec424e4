"""Capture files in every dress, whole, cut and broken."""

import bz2
import gzip
import lzma
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import A6, B6, A, B
from rawframes import ACK, SYN, ethernet, ip, pcap, pcapng, tcp

from rules.errors import Refused
from sensors import libpcapfile, tables, walk
from sensors.headers import Total
from sensors.pcapfile import open_capture
from sensors.source import Losses
from sensors.tables import Tables

PACKETS = [ip(A, B, tcp(number, 80, SYN)) if number % 3 else ip(A6, B6, tcp(1, 2, ACK)) for number in range(3_000)]
RECORDS = [(1_700_000_000.0 + number / 1000, ethernet(packet)) for number, packet in enumerate(PACKETS)]


def read(path: Path | str, weight: int = 1) -> tuple[Tables, Losses]:
    """Everything in a file."""
    into = tables.make(rows=64, ring=4096, normal=64)
    source = open_capture(path, weight)
    try:
        assert source.feed(into, walk.NEVER).ended
        source.uncounted()
        return into, source.losses()
    finally:
        source.close()


def patched(records: list[tuple[float, bytes]]) -> bytes:
    """The form of an old libpcap, whose records have eight bytes more."""
    out = [struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)]
    for stamp, frame in records:
        size, units = len(frame), round(stamp * 1e6)
        out.append(struct.pack("<IIIIIHBB", units // 10**6, units % 10**6, size, size, 2, 8, 0, 0) + frame)
    return b"".join(out)


DRESSES = {
    "little": pcap(RECORDS),
    "big": pcap(RECORDS, big_endian=True),
    "nanoseconds": pcap(RECORDS, nanoseconds=True),
    "big nanoseconds": pcap(RECORDS, big_endian=True, nanoseconds=True),
    "pcapng": pcapng(RECORDS),
    "gzip": gzip.compress(pcap(RECORDS)),
    "gzipped pcapng": gzip.compress(pcapng(RECORDS)),
    "two gzips": gzip.compress(pcap(RECORDS[:999])) + gzip.compress(pcap(RECORDS[999:])[24:]),
    "bzip2": bz2.compress(pcap(RECORDS)),
    "xz": lzma.compress(pcapng(RECORDS)),
    "patched": patched(RECORDS),
}


@pytest.mark.parametrize("dress", DRESSES)
def test_every_form_of_a_capture_reads_the_same(dress: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(DRESSES[dress])
    found, losses = read(path)
    assert losses == Losses()
    assert found.totals[Total.RECORDS] == 3_000
    assert found.totals[Total.IPV6] == 1_000
    stamps = found.since(0)["time"]
    assert stamps[0] == 1_700_000_000_000_000_000
    assert abs(int(stamps[-1]) - 1_700_000_002_999_000_000) < 1_000


def test_a_capture_comes_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(DRESSES["little"]))
    writer.start()
    found, _ = read(pipe)
    writer.join()
    assert found.totals[Total.RECORDS] == 3_000


@pytest.mark.parametrize("form", ["little", "pcapng"])
def test_a_file_cut_off_gives_every_whole_record(form: str, tmp_path: Path) -> None:
    path, whole = tmp_path / "cut.pcap", DRESSES[form]
    path.write_bytes(whole[: len(whole) * 9 // 10])
    found, losses = read(path)
    assert 2_600 < found.totals[Total.RECORDS] < 2_800
    assert losses.truncated == 1


def test_a_record_of_impossible_length_ends_the_file_and_is_told(tmp_path: Path) -> None:
    path, data = tmp_path / "bad.pcap", bytearray(DRESSES["little"])
    second = 24 + 16 + len(RECORDS[0][1])
    data[second + 8 : second + 12] = struct.pack("<I", 0x7FFFFFFF)
    path.write_bytes(data)
    found, losses = read(path)
    assert found.totals[Total.RECORDS] == 1
    assert losses.damaged == 1


def test_a_garbage_wire_length_changes_nothing(tmp_path: Path) -> None:
    data = bytearray(DRESSES["little"])
    data[24 + 12 : 24 + 16] = struct.pack("<I", 0xFFFFFFFF)
    path = tmp_path / "wire.pcap"
    path.write_bytes(data)
    assert read(path)[0].totals[Total.BYTES] == read_bytes(tmp_path, DRESSES["little"])


def read_bytes(folder: Path, data: bytes) -> int:
    """The IP bytes of a capture."""
    path = folder / "plain.pcap"
    path.write_bytes(data)
    return int(read(path)[0].totals[Total.BYTES])


def test_each_record_can_stand_for_many_packets(tmp_path: Path) -> None:
    path = tmp_path / "sampled.pcap"
    path.write_bytes(DRESSES["little"])
    found, _ = read(path, weight=1000)
    assert found.totals[Total.PACKETS] == 3_000_000
    assert found.totals[Total.RECORDS] == 3_000


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"), (b"hello, this is no capture at all, sorry about that", "no capture file"),
        (DRESSES["little"][:10], "ends within its file header"),
        (pcap(RECORDS[:3], link=147), r"link type USER0 \(147\)"),
        (pcapng(RECORDS[:3], link=189), r"link type USB_LINUX \(189\)"),
        (b"\x1f\x8bgarbage", "can't be read"), (b"BZhgarbage", "can't be read"),
        (b"\xfd7zXZ\0bage", "can't be read"),
        (b"\x28\xb5\x2f\xfdxxxx", "zstd"), (b"PK\x03\x04xxxx", "zip"), (b"snoop\0\0\0xx", "snoop"),
        (DRESSES["pcapng"][:20], "ends within its file header"), (gzip.compress(b"", mtime=0), "is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_one_line(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "no.pcap"
    path.write_bytes(data)
    with pytest.raises(Refused, match=says) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pcap", tmp_path):
        with pytest.raises(Refused, match="capture"):
            open_capture(path)


@given(data=st.binary(max_size=300), magic=st.sampled_from([b"", DRESSES["little"][:24], DRESSES["pcapng"][:48]]))
def test_arbitrary_files_give_packets_or_a_refusal(
    data: bytes, magic: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("arbitrary") / "x"
    path.write_bytes(magic + data)
    try:
        read(path)
    except Refused as refused:
        assert "capture" in str(refused)


def test_stopping_at_a_moment_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "steps.pcap"
    for data in (DRESSES["little"], DRESSES["pcapng"]):
        path.write_bytes(data)
        into, source = tables.make(rows=64, ring=64, normal=64), open_capture(path)
        draw, until = random.Random(3), 1_700_000_000_000_000_000
        while not source.feed(into, until).ended:
            until += draw.randrange(40_000_000)
            assert into.clock_ns < until
        source.close()
        assert into.totals[Total.RECORDS] == 3_000


@pytest.mark.parametrize("form", ["little", "pcapng"])
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_packed_file_cut_off_gives_what_can_be_unpacked(
    form: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path, whole = tmp_path / "cut", pack(DRESSES[form])
    path.write_bytes(whole[: len(whole) * 9 // 10])
    found, losses = read(path)
    assert found.totals[Total.RECORDS] < 3_000
    assert losses.damaged == 1


def test_standard_input_is_read(tmp_path: Path) -> None:
    script = "from sensors import analyze; print(analyze.run('-').packets)"
    done = subprocess.run([sys.executable, "-c", script], input=DRESSES["gzip"], capture_output=True, check=False)
    assert (done.stdout, done.returncode) == (b"3000\n", 0), done.stderr


@pytest.mark.parametrize("size", [0, 1, 262_144])
def test_records_of_any_length_are_counted(size: int, tmp_path: Path) -> None:
    path = tmp_path / "sizes.pcap"
    path.write_bytes(pcap([(1.0, bytes(size)), *RECORDS[:5], (2.0, bytes(size))]))
    found, losses = read(path)
    assert (found.totals[Total.RECORDS], losses) == (7, Losses())


def test_a_large_file_needs_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    path = tmp_path / "large.pcap"
    with path.open("wb") as file:
        file.write(DRESSES["little"][:24])
        for _ in range(400):
            file.write(DRESSES["little"][24:])
    source, into = open_capture(path), tables.make(rows=64, ring=64, normal=64)
    tracemalloc.start()
    assert source.feed(into, walk.NEVER).ended
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    source.close()
    assert into.totals[Total.RECORDS] == 1_200_000
    assert peak < 4_000_000 < path.stat().st_size


def test_what_unpacks_to_more_than_there_may_be_room_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    path = tmp_path / "old.pcap.gz"
    path.write_bytes(gzip.compress(b"\x34\xcd\xb2\xa1" + bytes(10 << 20)))
    monkeypatch.setattr(libpcapfile, "LARGEST_COPY", 1 << 20)
    with pytest.raises(Refused, match="unpack it first"):
        open_capture(path)
    assert not [*copies.iterdir()]
