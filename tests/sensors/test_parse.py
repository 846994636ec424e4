"""The kernel on frames: what is counted, what is stepped over, what is nobody's, and that no bytes break it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import A6, B6, A, B, columns_of, counted
from rawframes import ACK, CWR, ECE, FIN, PUSH, RST, SYN, URG, Fragment, ethernet, icmp, ip, tcp, udp

from sensors.framing import LINK_TYPES, RAW
from sensors.headers import COLUMNS, Column, Kind, Total


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (SYN, Column.SYN), (SYN | ECE | CWR, Column.SYN), (SYN | PUSH, Column.SYN), (SYN | ACK, Column.SYN_ACK),
        (ACK, Column.ACK), (ACK | PUSH, Column.ACK), (ACK | PUSH | URG, Column.ACK), (RST, Column.RST),
        (RST | ACK, Column.RST), (FIN | ACK, Column.FIN), (FIN, Column.FIN), (0, Column.TCP_NULL),
        (FIN | PUSH | URG, Column.TCP_XMAS), (SYN | FIN, Column.TCP_OTHER), (SYN | RST, Column.TCP_OTHER),
        (PUSH, Column.TCP_OTHER),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("source", "destination"), [(A, B), (A6, B6)])
def test_each_tcp_packet_belongs_to_the_class_of_its_flags(
    flags: int, kind: Column, source: str, destination: str
) -> None:
    packet = ip(source, destination, tcp(1, 2, flags))
    found = columns_of(counted(ethernet(packet)), destination)
    assert found == {"PACKETS": 1, "BYTES": len(packet), "TCP": 1, kind.name: 1}


def test_reflectors_are_told_by_the_source_port_only() -> None:
    answer, question = ip(A, B, udp(53, 999, bytes(100))), ip(A, B, udp(999, 53, bytes(10)))
    found = columns_of(counted(ethernet(answer), ethernet(question)), B)
    assert (found["UDP"], found["AMPLIFICATION"], found["UDP_BYTES"]) == (2, 1, len(answer) + len(question))


@pytest.mark.parametrize("protocol", [47, 50, 132])
def test_other_protocols_have_their_columns(protocol: int) -> None:
    column = {47: Column.GRE, 50: Column.ESP, 132: Column.OTHER}[protocol]
    found = columns_of(counted(ethernet(ip(A, B, (protocol, bytes(20))))), B)
    assert found == {"PACKETS": 1, "BYTES": 40, column.name: 1}


@pytest.mark.parametrize(("source", "destination"), [(A, B), (A6, B6)])
def test_a_later_fragment_has_no_ports_whatever_its_bytes_look_like(source: str, destination: str) -> None:
    later = ip(source, destination, udp(53, 53, bytes(64)), fragment=Fragment(offset=185, more=True))
    where = counted(ethernet(later))
    entry = where.since(0)[0]
    assert (entry["source_port"], entry["marks"] & 1, entry["fragment"]) == (0, 0, 2)
    assert columns_of(where, destination) == {
        "PACKETS": 1, "BYTES": len(later), "UDP": 1, "UDP_BYTES": len(later), "FRAGMENTS": 1,
    }  # fmt: skip


def test_a_first_fragment_from_a_reflector_counts_as_both() -> None:
    first = ip(A, B, udp(53, 4000, bytes(64)), fragment=Fragment(0, more=True))
    where = counted(ethernet(first))
    found = columns_of(where, B)
    assert (found["AMPLIFICATION"], found["FRAGMENTS"]) == (1, 1)
    assert where.since(0)[0]["kind"] == Kind.AMPLIFICATION
    assert where.since(0)[0]["fragment"] == 4


def test_what_an_icmp_error_quotes_is_not_counted() -> None:
    quoted = ip(B, A, udp(53, 53, bytes(8)))
    found = columns_of(counted(ethernet(ip(A, B, icmp(3, 3, quoted)))), B)
    assert found == {"PACKETS": 1, "BYTES": 28 + len(quoted), "ICMP": 1}


def test_tags_and_labels_are_stepped_over() -> None:
    packet = ip(A, B, tcp(1, 2, SYN))
    frames = [
        ethernet(packet, (0x8100, 5)),
        ethernet(packet, (0x88A8, 5), (0x8100, 6)),
        ethernet(packet)[:12] + b"\x88\x47" + b"\x00\x01\x00\x40" + b"\x00\x01\x01\x40" + packet,
        ethernet(packet)[:12] + b"\x88\x64" + b"\x11\x00\x00\x01\x00\x2a\x00\x21" + packet,
        ethernet(packet)[:12] + b"\x00\x40\xaa\xaa\x03\x00\x00\x00\x08\x00" + packet,
    ]
    where = counted(*frames)
    assert columns_of(where, B)["SYN"] == len(frames)
    assert where.totals[Total.VLAN] == 2


@pytest.mark.parametrize(
    ("link", "head"),
    [
        (0, b"\x02\x00\x00\x00"), (9, b"\xff\x03\x00\x21"), (9, b"\x21"), (9, b"\x0f\x00\x08\x00"), (12, b""),
        (14, b""), (101, b""), (228, b""), (50, b"\xff\x03\x00\x21"), (51, b"\x11\x00\x00\x01\x00\x2a\x00\x21"),
        (104, b"\x0f\x00\x08\x00"), (108, b"\x00\x00\x00\x02"), (113, bytes(14) + b"\x08\x00"),
        (204, b"\x01\xff\x03\x00\x21"), (276, b"\x08\x00" + bytes(18)), (219, b"\x00\x01\x01\x40"),
        (105, b"\x08\x01" + bytes(22) + b"\xaa\xaa\x03\x00\x00\x00\x08\x00"),
        (105, b"\x88\x03" + bytes(30) + b"\xaa\xaa\x03\x00\x00\x00\x08\x00"),
        (127, b"\x00\x00\x08\x00" + bytes(4) + b"\x08\x01" + bytes(22) + b"\xaa\xaa\x03\x00\x00\x00\x08\x00"),
    ],
)  # fmt: skip
def test_every_link_type_leads_to_the_ip_header(link: int, head: bytes) -> None:
    assert columns_of(counted(head + ip(A, B, tcp(1, 2, SYN)), link=link), B).get("SYN") == 1


def test_ipv6_extension_headers_are_walked() -> None:
    hop, routing = (0, b"\x00" + bytes(6)), (43, b"\x01" + bytes(14))
    options, authentication = (60, bytes(7)), (51, b"\x02" + bytes(14))
    packet = ip(A6, B6, udp(123, 9, bytes(4)), extensions=[hop, routing, options, authentication])
    assert columns_of(counted(ethernet(packet)), B6)["AMPLIFICATION"] == 1
    atomic = ip(A6, B6, udp(123, 9), fragment=Fragment())
    assert "FRAGMENTS" not in columns_of(counted(ethernet(atomic)), B6)


def test_a_length_of_zero_is_filled_in_by_what_was_on_the_wire() -> None:
    packet = bytearray(ip(A, B, tcp(1, 2, ACK, bytes(1000))))
    packet[2:4] = b"\0\0"
    assert columns_of(counted(ethernet(bytes(packet))), B)["BYTES"] == len(packet)


def test_garbage_is_counted_and_hurts_nobody() -> None:
    packet = ip(A, B, tcp(1, 2, SYN))
    where = counted(
        b"", b"\x45", ethernet(packet)[:20], ethernet(b"\x44" + packet[1:]), ethernet(b"\x05" + packet[1:]),
        ethernet(packet)[:12] + b"\x08\x06" + bytes(28),
    )  # fmt: skip
    assert where.used == 0
    totals = where.totals
    assert (totals[Total.RECORDS], totals[Total.NOT_IP], totals[Total.TRUNCATED], totals[Total.MALFORMED]) == (
        6,
        3,
        1,
        2,
    )


@given(frames=st.lists(st.binary(max_size=120), max_size=20), link=st.sampled_from(sorted(LINK_TYPES)))
def test_arbitrary_bytes_are_counted_once_each(frames: list[bytes], link: int) -> None:
    where = counted(*frames, link=link)
    totals = where.totals
    refused = totals[Total.NOT_IP] + totals[Total.TRUNCATED] + totals[Total.MALFORMED]
    assert totals[Total.RECORDS] == len(frames)
    assert int(where.rows[: where.used, Column.PACKETS].sum()) + refused == len(frames)


@given(
    first=st.sampled_from([0x45, 0x46, 0x4F, 0x60]),
    rest=st.binary(min_size=40, max_size=120),
    protocol=st.sampled_from([0, 6, 17, 43, 44, 51, 58, 60]),
)
def test_mangled_ip_headers_keep_the_kinds_adding_up(first: int, rest: bytes, protocol: int) -> None:
    packet = bytearray(bytes([first]) + rest)
    packet[6 if first == 0x60 else 9] = protocol
    where = counted(bytes(packet), link=RAW)
    for entry in where.since(0):
        counts = where.rows[entry["row"], :COLUMNS]
        kind = Kind(int(entry["kind"]))
        assert counts[kind] == 1
        assert counts[Column.BYTES] >= 20
        assert (entry["fragment"] & 6 != 0) == (counts[Column.FRAGMENTS] == 1)


_FUZZ = """
import numba
import numpy as np
from sensors import tables, walk, walk_pcapng
from sensors.framing import LINK_TYPES
from sensors.loads import be16
load = numba.njit(lambda buffer, at: be16(buffer, at))
for at in (-1, 3, 9):
    try:
        load(np.zeros(4, np.uint8), at)
    except IndexError:
        continue
    raise SystemExit("bounds are not checked: this test would prove nothing")
random = np.random.default_rng({seed})
where = tables.make(rows=64, ring=64, normal=64)
interfaces, odd = np.zeros((2, 6), np.int64), np.zeros(3, np.int64)
for turn in range(400):
    raw = bytearray(random.bytes(int(random.integers(0, 200))))
    if turn % 2 and len(raw) > 30:
        raw[12:15] = (b"\\x08\\x00\\x45", b"\\x86\\xdd\\x60")[turn % 4 // 2]
    meta = np.array([[1, turn, 0, len(raw)]], np.uint32).tobytes()
    link = sorted(LINK_TYPES)[turn % len(LINK_TYPES)] if turn % 3 else 1
    walk.batch(*where.arrays, *walk.pcapy_batch(bytes(raw), meta), link, 1, 0, walk.NEVER)
    block = np.frombuffer(bytearray(random.bytes(4096)), np.uint8)
    block[12:16] = (9, 0, 0, 0)
    block[16:20] = (48, 0, 0, 0)
    for at in range(48, 4096, 256):
        block[at : at + 4] = (0, 1, 0, 0)
    walk.ring_blocks(*where.arrays, block, 0, 1, 4096, 1, 1, True, turn % 2 == 0)
    walk.pcap(*where.arrays, block, 0, 4096, turn % 2 == 0, 1000, 1, 1, walk.NEVER)
    # Packet blocks of all kinds whose lengths agree, and whatever else is in them.
    swapped, size = turn % 2 == 0, int(random.integers(4, 64)) * 4
    order = "big" if swapped else "little"
    block[:4] = tuple((2, 3, 6, 5)[turn % 4].to_bytes(4, order))
    block[4:8] = block[size - 4 : size] = tuple(size.to_bytes(4, order))
    if turn % 3:
        block[8:12] = 0
    block[20:24] = tuple(int(random.choice([0, 40, size, 1 << 31])).to_bytes(4, order))
    interfaces[:, walk_pcapng.LINK] = (1, -1, link)[turn % 3]
    interfaces[:, 1:5] = random.integers(-(1 << 62), 1 << 62, (2, 4)) >> random.integers(0, 62, (2, 4))
    interfaces[:, walk_pcapng.FACTOR] = random.choice([1000, 1, -10, 6], 2)
    end = int(random.choice([size, size - 1, 4096]))
    known = turn % 3 if turn % 7 else 0
    walk_pcapng.pcapng(*where.arrays, block, 0, end, swapped, interfaces, known, odd, 1, walk.NEVER)
print(int(where.totals[1]))
"""


def test_nothing_is_read_out_of_bounds(tmp_path: Path) -> None:
    """Compiled with bounds checks, any wrong index raises; without them, it would read somebody else's memory."""
    # What runs so briefly need not be fast: to make it so takes most of the compiler's time.
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _FUZZ.format(seed=1)], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 400
