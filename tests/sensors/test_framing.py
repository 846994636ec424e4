"""From link layers to IP: every link type, tags and labels in any order, and what looks like IP and is none."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import A6, B6, A, B, columns_of, counted
from rawframes import SYN, ethernet, ip, tcp

from sensors import framing
from sensors.headers import Total

PACKET, PACKET6 = ip(A, B, tcp(1, 2, SYN)), ip(A6, B6, tcp(1, 2, SYN))
SNAP = b"\xaa\xaa\x03\x00\x00\x00"
DATA_FRAME = b"\x08\x01" + bytes(22)
QOS_FRAME = b"\x88\x01" + bytes(24)
RADIOTAP = b"\x00\x00\x08\x00" + bytes(4)

HEADS = [
    (framing.NULL, b"\x02\x00\x00\x00", b"\x1e\x00\x00\x00"),
    (framing.NULL, b"\x00\x00\x00\x02", b"\x00\x00\x00\x18"),
    (framing.LOOP, b"\x00\x00\x00\x02", b"\x00\x00\x00\x1c"),
    (framing.LINUX_SLL, bytes(14) + b"\x08\x00", bytes(14) + b"\x86\xdd"),
    (framing.LINUX_SLL, bytes(14) + b"\x81\x00\x00\x07\x08\x00", bytes(14) + b"\x81\x00\x00\x07\x86\xdd"),
    (framing.LINUX_SLL, bytes(14) + b"\x00\x04" + SNAP + b"\x08\x00", bytes(14) + b"\x00\x04" + SNAP + b"\x86\xdd"),
    (framing.LINUX_SLL2, b"\x08\x00" + bytes(18), b"\x86\xdd" + bytes(18)),
    (framing.PPP, b"\xff\x03\x00\x21", b"\xff\x03\x00\x57"),
    (framing.PPP, b"\x21", b"\x57"),
    (framing.PPP, b"\x00\x21", b"\x00\x57"),
    (framing.PPP_SERIAL, b"\xff\x03\x00\x21", b"\x00\x57"),
    (framing.PPP_SERIAL, b"\x0f\x00\x08\x00", b"\x8f\x00\x86\xdd"),
    (framing.C_HDLC, b"\x0f\x00\x08\x00", b"\x8f\x00\x86\xdd"),
    (framing.FRAME_RELAY, b"\x18\x41\x03\xcc", b"\x18\x41\x03\x8e"),
    (framing.FRAME_RELAY, b"\x18\x41\x08\x00", b"\x18\x41\x03\x00\x80\x00\x00\x00\x86\xdd"),
    (framing.IEEE802_11, DATA_FRAME + SNAP + b"\x08\x00", QOS_FRAME + SNAP + b"\x86\xdd"),
    (framing.IEEE802_11, QOS_FRAME + b"\0\0" + SNAP + b"\x08\x00", DATA_FRAME + SNAP + b"\x86\xdd"),
    (framing.IEEE802_11_RADIO, RADIOTAP + DATA_FRAME + SNAP + b"\x08\x00", RADIOTAP + QOS_FRAME + SNAP + b"\x86\xdd"),
    (framing.PRISM, b"\x44\0\0\0\x90\0\0\0" + bytes(136) + DATA_FRAME + SNAP + b"\x08\x00",
     b"\0\0\0\x44\0\0\0\x90" + bytes(136) + DATA_FRAME + SNAP + b"\x86\xdd"),
    (framing.IEEE802_11_AVS, b"\x80\x21\x10\x01\0\0\0\x40" + bytes(56) + DATA_FRAME + SNAP + b"\x08\x00",
     b"\x80\x21\x10\x01\0\0\0\x40" + bytes(56) + DATA_FRAME + SNAP + b"\x86\xdd"),
    (framing.PPI, b"\0\0\x08\0\x69\0\0\0" + DATA_FRAME + SNAP + b"\x08\x00",
     b"\0\0\x08\0\x01\0\0\0" + bytes(12) + b"\x86\xdd"),
    (framing.PKTAP, struct.pack("<III", 108, 1, 1) + bytes(96) + bytes(12) + b"\x08\x00",
     struct.pack("<III", 108, 1, 12) + bytes(96)),
    (framing.ENC, bytes(12), bytes(12)),
    (framing.PPP_ETHER, b"\x11\x00\x00\x01\x00\x2a\x00\x21", b"\x11\x00\x00\x01\x00\x2a\x00\x57"),
    (framing.PPP_WITH_DIRECTION, b"\x01\xff\x03\x00\x21", b"\x00\xff\x03\x00\x57"),
    (framing.MPLS, b"\x00\x01\x00\x40\x00\x02\x01\x40", b"\x00\x01\x01\x40"),
    *((link, b"", b"") for link in (framing.RAW, framing.RAW_BSD, framing.RAW_LINKTYPE, framing.IPV4, framing.IPV6)),
    (framing.ETHERNET, bytes(12) + b"\x08\x00", bytes(12) + b"\x86\xdd"),
]  # fmt: skip


@pytest.mark.parametrize(("link", "head", "head6"), HEADS)
def test_every_link_type_leads_to_ip_of_both_versions(link: int, head: bytes, head6: bytes) -> None:
    assert columns_of(counted(head + PACKET, link=link), B).get("SYN") == 1
    assert columns_of(counted(head6 + PACKET6, link=link), B6).get("SYN") == 1


def test_every_link_type_is_tried() -> None:
    assert {link for link, _, _ in HEADS} == framing.LINK_TYPES


TAGS = st.sampled_from([0x8100, 0x88A8, 0x9100, 0x9200, 0x9300])
MACS = st.binary(min_size=12, max_size=12)


@given(tags=st.lists(TAGS, max_size=6))
def test_tags_of_every_type_may_stand_in_any_number(tags: list[int]) -> None:
    where = counted(ethernet(PACKET, *((tag, 5) for tag in tags)))
    assert columns_of(where, B).get("SYN") == 1
    assert where.totals[Total.VLAN] == bool(tags)


@given(
    labels=st.lists(st.integers(0, 0xFFFFF), max_size=5),
    outer=MACS,
    inner=MACS,
    tags=st.lists(TAGS, max_size=2),
    with_control=st.booleans(),
)
def test_a_pseudowire_is_stepped_over_whatever_its_addresses_are(
    labels: list[int], outer: bytes, inner: bytes, tags: list[int], with_control: bool
) -> None:
    stack = b"".join(struct.pack(">I", label << 12 | 0x40) for label in labels) + struct.pack(">I", 77 << 12 | 0x140)
    middle = b"".join(struct.pack(">HH", tag, 5) for tag in tags)
    control = b"\x00\x00\x00\x09" if with_control else b""
    frame = outer + b"\x88\x47" + stack + control + inner + middle + b"\x08\x00" + PACKET
    assert columns_of(counted(frame), B).get("SYN") == 1


@given(labels=st.lists(st.integers(0, 0xFFFFF), max_size=5), outer=MACS)
def test_labels_before_ip_are_stepped_over(labels: list[int], outer: bytes) -> None:
    stack = b"".join(struct.pack(">I", label << 12 | 0x40) for label in labels) + struct.pack(">I", 77 << 12 | 0x140)
    assert columns_of(counted(outer + b"\x88\x47" + stack + PACKET), B).get("SYN") == 1
    assert columns_of(counted(outer + b"\x88\x48" + stack + PACKET6), B6).get("SYN") == 1


def test_other_wrappings_of_ethernet_are_stepped_over() -> None:
    macs = bytes(12)
    frames = [
        macs + b"\x88\xe7\x00\x00\x00\x05" + ethernet(PACKET),
        macs + b"\x89\x26\x00\x01\x00\x02\x08\x00" + PACKET,
        macs + b"\x88\x64\x11\x00\x00\x01\x00\x2a\x00\x21" + PACKET,
        macs + b"\x81\x00\x00\x05\x88\x64\x11\x00\x00\x01\x00\x2a\x00\x21" + PACKET,
        macs + struct.pack(">H", len(PACKET) + 8) + SNAP + b"\x08\x00" + PACKET,
        macs + struct.pack(">H", len(PACKET) + 3) + b"\x06\x06\x03" + PACKET,
    ]
    assert columns_of(counted(*frames), B)["SYN"] == len(frames)


def test_what_carries_no_ip_is_told_apart_from_what_is_broken() -> None:
    frames = [
        (framing.NULL, b"\x07\x00\x00\x00" + PACKET), (framing.PPP, b"\xff\x03\xc0\x21" + PACKET),
        (framing.ETHERNET, ethernet(PACKET)[:12] + b"\x88\x63" + PACKET),
        (framing.ETHERNET, ethernet(PACKET)[:12] + b"\x00\x26\x42\x42\x03" + bytes(35)),
        (framing.IEEE802_11, b"\x08\x41" + bytes(22) + PACKET), (framing.IEEE802_11, b"\x80\x00" + bytes(40)),
    ]  # fmt: skip
    for link, frame in frames:
        where = counted(frame, link=link)
        assert (where.used, where.totals[Total.NOT_IP]) == (0, 1), (link, frame)
