"""Which frames tell of a rule on its way to a router."""

import struct
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from bench.wire import targets
from rules import wire
from rules.action import Discard, encode
from rules.text import parse_flowspec

ROUTER, OTHER = IPv4Address("10.64.0.2"), IPv4Address("10.64.0.3")
HOSTS = st.integers(0, 2**32 - 1).map(IPv4Address)


def update(target: IPv4Address) -> bytes:
    """A BGP UPDATE that announces one rule."""
    nlri = wire.encode(parse_flowspec(f"match {{ destination {target}/32; protocol =udp; }} then {{ discard; }}").match)
    reach = struct.pack(">HBBB", 1, 133, 0, 0) + nlri
    attributes = struct.pack(">BBB", 0x80, 14, len(reach)) + reach + b"\xc0\x10\x08" + encode(Discard())
    body = struct.pack(">HH", 0, len(attributes)) + attributes
    return b"\xff" * 16 + struct.pack(">HB", 19 + len(body), 2) + body


def frame(payload: bytes, to: IPv4Address = ROUTER, port: int = 179, options: bytes = b"") -> bytes:
    """Ethernet, IPv4, TCP with options such as an MD5 signature."""
    tcp = struct.pack(">HHIIBBHHH", 40000, port, 0, 0, (20 + len(options)) // 4 << 4, 0x18, 0, 0, 0) + options + payload
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 255, 6, 0) + ROUTER.packed + to.packed
    return b"\0" * 12 + b"\x08\x00" + header + tcp


@given(st.lists(HOSTS, max_size=3), st.sampled_from([b"", b"\x13\x12" + b"m" * 16 + b"\x01\x01"]))
def test_every_rule_in_a_frame_is_seen_behind_whatever_options(hosts: list[IPv4Address], options: bytes) -> None:
    keepalive = b"\xff" * 16 + b"\x00\x13\x04"
    payload = keepalive.join(map(update, hosts))
    assert list(targets(frame(payload, options=options), ROUTER)) == [str(host) for host in hosts]


def test_what_goes_to_others_counts_as_nothing() -> None:
    payload = update(IPv4Address("203.0.113.7"))
    assert list(targets(frame(payload, to=OTHER), ROUTER)) == []
    assert list(targets(frame(payload, port=40000), ROUTER)) == []


@given(st.binary(max_size=200), st.integers(0, 60))
def test_arbitrary_bytes_are_no_rule_and_no_error(payload: bytes, cut: int) -> None:
    assert list(targets(payload, ROUTER)) == []
    whole = update(OTHER)
    assert list(targets(frame(whole[: min(cut, len(whole) - 1)]), ROUTER)) == []
    for packet in (b"\xff" * 16 + payload, whole[:cut] + payload):
        list(targets(frame(packet), ROUTER))
