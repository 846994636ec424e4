"""Traffic-rate communities, bytes both ways."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import actions

from rules.action import Action, Discard, RateLimit, decode, encode
from rules.errors import Refused


@given(actions, st.integers(0, 65535))
def test_an_encoded_action_decodes_to_itself(action: Action, autonomous_system: int) -> None:
    raw = encode(action, autonomous_system)
    assert decode(raw) == action
    assert raw[:2] == b"\x80\x06" and int.from_bytes(raw[2:4], "big") == autonomous_system


@given(st.binary(max_size=32))
def test_arbitrary_communities_give_an_action_or_a_refusal(raw: bytes) -> None:
    try:
        action = decode(raw)
    except Refused:
        return
    assert isinstance(action, Discard | RateLimit)


def rate(value: float) -> bytes:
    return struct.pack(">HHf", 0x8006, 0, value)


ROUTE_TARGET = bytes.fromhex("0002fde900000001")


def test_communities_that_do_not_steer_are_passed_over_and_equal_rates_count_once() -> None:
    assert decode(ROUTE_TARGET + rate(0) + rate(0)) == Discard()
    assert decode(rate(0.5)) == Discard()
    assert decode(rate(2**-149)) == Discard()
    assert decode(rate(9600)) == RateLimit(9600)


@pytest.mark.parametrize("negative", [-0.0, -1.0, -1e30, float("-inf")])
def test_a_negative_rate_counts_as_none(negative: float) -> None:
    assert decode(rate(negative)) == Discard()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        ROUTE_TARGET,
        rate(0)[:7],
        rate(0) + rate(9600),
        rate(float("nan")),
        rate(float("inf")),
        rate(2e12),
        rate(0) + bytes.fromhex("800c000000000000"),
        rate(0) + bytes.fromhex("8007000000000001"),
        rate(0) + bytes.fromhex("07020000fde8c001"),
        rate(0) + bytes.fromhex("47020000fde8c001"),
    ],
)
def test_doubtful_communities_are_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        decode(raw)


@given(st.integers(1, RateLimit.MAXIMUM))
def test_a_rate_is_what_a_single_can_hold(bytes_per_second: int) -> None:
    limit = RateLimit(bytes_per_second)
    assert RateLimit(limit.bytes_per_second) == limit
    assert abs(limit.bytes_per_second - bytes_per_second) <= bytes_per_second / 2**23
    assert limit.bits_per_second == 8 * limit.bytes_per_second


@pytest.mark.parametrize("rate", [0, -1, RateLimit.MAXIMUM + 1])
def test_rates_outside_the_limits_are_refused(rate: int) -> None:
    with pytest.raises(Refused, match="rate-limit"):
        RateLimit(rate)
