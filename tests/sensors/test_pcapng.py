"""pcapng: every kind of block, clock and interface, in both byte orders, and what garbage does to it."""

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from blocks import Blocks
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import A, B
from rawframes import ACK, SYN, ethernet, ip, tcp

from rules.errors import Refused
from sensors import tables, walk
from sensors.framing import LINUX_SLL, RAW_LINKTYPE
from sensors.headers import Total
from sensors.pcapfile import open_capture
from sensors.pcapng import _factor
from sensors.source import Losses
from sensors.tables import Tables
from sensors.walk_pcapng import stamp

PACKET = ip(A, B, tcp(1, 80, SYN))
FRAME = ethernet(PACKET)
SECOND = 1_700_000_000
BOTH = [Blocks("<"), Blocks(">")]


def read(path: Path, data: bytes) -> tuple[Tables, Losses, dict[str, int]]:
    """Everything in a file."""
    path.write_bytes(data)
    into = tables.make(rows=64, ring=4096, normal=64)
    source = open_capture(path)
    try:
        assert source.feed(into, walk.NEVER).ended
        return into, source.losses(), source.uncounted()
    finally:
        source.close()


@pytest.mark.parametrize("make", BOTH)
def test_all_kinds_of_packet_blocks_are_read_and_others_passed_over(make: Blocks, tmp_path: Path) -> None:
    data = (
        make.section() + make.block(10, bytes(40)) + make.interface()
        + make.enhanced(SECOND * 10**6, FRAME) + make.block(0x0BAD, bytes(900_000))
        + make.old(SECOND * 10**6 + 1, FRAME)
        + make.simple(FRAME) + make.block(5, bytes(12)) + make.enhanced(SECOND * 10**6 + 2, FRAME)
    )  # fmt: skip
    found, losses, uncounted = read(tmp_path / "a", data)
    assert (found.totals[Total.RECORDS], losses) == (4, Losses())
    assert (found.since(0)["time"] - SECOND * 10**9).tolist() == [0, 1000, 1000, 2000]
    assert list(uncounted.values()) == [1]


@pytest.mark.parametrize("make", BOTH)
def test_each_interface_has_its_link_type_and_clock(make: Blocks, tmp_path: Path) -> None:
    interfaces = [(1, 9, None), (RAW_LINKTYPE, 0x80 | 20, None), (LINUX_SLL, 3, -3600), (1, None, 7200)]
    interfaces.append((1, 12, SECOND))
    sll = bytes(14) + b"\x08\x00" + PACKET
    data = make.section() + b"".join(make.interface(*interface) for interface in interfaces) + make.interface(189)
    data += make.enhanced(SECOND * 10**9 + 1, FRAME, 0) + make.enhanced(SECOND << 20 | 1 << 19, PACKET, 1)
    data += make.enhanced((SECOND + 3601) * 1000, sll, 2) + make.old((SECOND - 7198) * 10**6, FRAME, 3)
    data += make.enhanced(3 * 10**12 + 4000, FRAME, 4) + make.enhanced(5, b"usb", 5)
    found, _, uncounted = read(tmp_path / "a", data)
    times = (found.since(0)["time"] - SECOND * 10**9).tolist()
    assert times == [1, 500_000_000, 1_000_000_000, 2_000_000_000, 3_000_000_004]
    assert uncounted == {"record of link type USB_LINUX (189), which is not supported": 1}


def test_sections_may_differ_in_byte_order_and_interfaces(tmp_path: Path) -> None:
    little, big = BOTH
    data = b"".join(
        make.section() + make.interface(link) + make.enhanced((SECOND + number) * 10**6, frame)
        for number, (make, link, frame) in enumerate(
            [(little, 1, FRAME), (big, 101, PACKET), (little, 101, PACKET), (big, 1, FRAME)] * 200
        )
    )
    found, losses, uncounted = read(tmp_path / "a", data)
    assert (found.totals[Total.RECORDS], found.totals[Total.NOT_IP], losses, uncounted) == (800, 0, Losses(), {})


@given(
    resolution=st.integers(0, 255),
    units=st.integers(0, (1 << 64) - 1) | st.integers(0, 1 << 40),
    offset=st.integers(-(1 << 33), 1 << 33) | st.just(0),
)
def test_every_resolution_is_arithmetic_without_surprises(resolution: int, units: int, offset: int) -> None:
    binary, factor = _factor(resolution)
    found = int(stamp(units >> 32, units & 0xFFFFFFFF, binary == 1, factor, offset * 10**9))
    base = 2 if resolution & 0x80 else 10
    exact = Fraction(units, base ** (resolution & 0x7F)) * 10**9 + offset * 10**9
    if units < 1 << 63 and 0 <= exact < (1 << 32) * 10**9 and exact - offset * 10**9 < (1 << 33) * 10**9:
        assert abs(found - exact) <= 2
    elif exact < -2 or exact > (1 << 32) * 10**9 + 2:
        assert found == -1


def test_times_that_no_clock_has_count_as_the_one_before_and_are_told(tmp_path: Path) -> None:
    make = BOTH[0]
    data = make.section() + make.interface() + make.enhanced(SECOND * 10**6, FRAME)
    data += make.enhanced((1 << 64) - 1, FRAME) + make.enhanced(SECOND * 10**6 + 1, FRAME)
    found, losses, uncounted = read(tmp_path / "a", data)
    assert ((found.since(0)["time"] - SECOND * 10**9).tolist(), losses) == ([0, 0, 1000], Losses())
    assert list(uncounted.values()) == [1]


def test_a_packet_of_an_interface_that_is_not_described_is_told_and_no_more(tmp_path: Path) -> None:
    make = BOTH[1]
    data = make.section() + make.interface() + make.enhanced(SECOND * 10**6, FRAME, 3) + make.enhanced(9, FRAME)
    found, _, uncounted = read(tmp_path / "a", data)
    assert found.totals[Total.RECORDS] == 1
    assert uncounted == {"record of an interface that the file doesn't describe": 1}


@pytest.mark.parametrize("length", [0, 1, 20, 1 << 16, (1 << 32) - 1])
def test_a_garbage_packet_length_stays_in_its_block(length: int, tmp_path: Path) -> None:
    make = BOTH[0]
    data = make.section() + make.interface() + make.enhanced(1, FRAME, length=length) + make.simple(FRAME, length)
    found, losses, _ = read(tmp_path / "a", data + make.enhanced(2, FRAME))
    assert (found.totals[Total.RECORDS], losses) == (3, Losses())


def test_where_blocks_make_no_sense_any_more_reading_ends_and_it_is_told(tmp_path: Path) -> None:
    make = BOTH[0]
    begin = make.section() + make.interface() + make.enhanced(1, FRAME)
    bad = [
        make.block(9, b"")[:4] + b"\x08\0\0\0" + bytes(8), make.enhanced(2, FRAME)[:-4] + bytes(4),
        make.section(major=2), make.block(1, b""),
        make.block(6, bytes(8)), make.block(3, b""), b"\x06\0\0\0\xff\xff\xff\xff" + bytes(400),
    ]  # fmt: skip
    for piece in bad:
        found, losses, _ = read(tmp_path / "a", begin + piece + make.enhanced(3, FRAME))
        assert (found.totals[Total.RECORDS], losses) == (1, Losses(damaged=1)), piece


def test_a_cut_file_gives_every_whole_block(tmp_path: Path) -> None:
    make = BOTH[0]
    packets = [make.enhanced(SECOND * 10**6 + number, FRAME) for number in range(6)]
    begin = make.section() + make.interface()
    whole = begin + b"".join(packets)
    for cut in range(len(begin) + 1, len(whole)):
        found, losses, _ = read(tmp_path / "a", whole[:cut])
        records, rest = divmod(cut - len(begin), len(packets[0]))
        assert (found.totals[Total.RECORDS], losses.truncated) == (records, rest > 0)
    skipped = begin + packets[0] + make.block(0x0BAD, bytes(3_000_000))
    assert read(tmp_path / "a", skipped[:2_000_000])[1] == Losses(truncated=1)


def test_a_file_of_foreign_links_only_is_refused_by_their_names(tmp_path: Path) -> None:
    make = BOTH[0]
    data = make.section() + make.interface(189) + make.interface(227)
    data += make.enhanced(1, b"x", 1) + make.enhanced(1, b"x")
    with pytest.raises(Refused, match=r"USB_LINUX \(189\), CAN_SOCKETCAN \(227\)"):
        read(tmp_path / "a", data)


@given(seed=st.integers(0, 2**32), changes=st.integers(1, 40), cut=st.integers(0, 3000))
def test_mutated_files_are_read_or_refused(
    seed: int, changes: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = random.Random(seed)
    make = draw.choice(BOTH)
    kinds: list[Callable[[], bytes]] = [
        lambda: make.enhanced(draw.getrandbits(draw.choice([50, 64])), FRAME, draw.randrange(3)),
        lambda: make.simple(FRAME), lambda: make.old(draw.getrandbits(50), FRAME, draw.randrange(3)), make.section,
        lambda: make.interface(draw.choice([1, 101, 127, 189]), draw.randrange(256), draw.randrange(-(2**63), 2**63)),
        lambda: make.block(draw.getrandbits(32), draw.randbytes(draw.randrange(80))),
    ]  # fmt: skip
    data = bytearray(make.section() + make.interface() + b"".join(draw.choice(kinds)() for _ in range(40)))
    for _ in range(changes):
        data[draw.randrange(len(data))] = draw.choice([0, 1, 0x7F, 0xFF, draw.randrange(256)])
    try:
        found, _, _ = read(tmp_path_factory.mktemp("mutated") / "x", bytes(data[: max(cut, 4)]))
    except Refused as refused:
        assert "capture" in str(refused)
    else:
        assert 0 <= found.totals[Total.RECORDS] <= 41


def test_steps_of_time_lose_nothing(tmp_path: Path) -> None:
    make, draw = BOTH[0], random.Random(4)
    frames = [ethernet(ip(A, B, tcp(number, 80, ACK, bytes(draw.randrange(900))))) for number in range(3_000)]
    packets = [make.enhanced(SECOND * 10**6 + 1000 * number, frame) for number, frame in enumerate(frames)]
    (tmp_path / "a").write_bytes(make.section() + make.interface() + b"".join(packets))
    into, source = tables.make(rows=64, ring=64, normal=64), open_capture(tmp_path / "a")
    until = SECOND * 10**9
    while not source.feed(into, until).ended:
        until += draw.randrange(40_000_000)
        assert into.clock_ns < until
    source.close()
    assert into.totals[Total.RECORDS] == 3_000
