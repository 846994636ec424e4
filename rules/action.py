"""The `then` half of a FlowSpec rule: discard or rate-limit, as traffic-rate extended communities (RFC 8955 §7.1)."""

import math
import struct
from dataclasses import dataclass

from rules.errors import Refused

TRAFFIC_RATE_BYTES = 0x8006
"""Type and sub-type of traffic-rate in bytes (RFC 8955 §7.1)."""

_KNOWN_OTHERS = {
    0x800C: "traffic-rate-packets",
    0x8007: "traffic-action",
    0x8008: "redirect to route target",
    0x8108: "redirect to route target (IPv4)",
    0x8208: "redirect to route target (4-octet AS)",
    0x8009: "traffic-marking",
    0x0800: "redirect or copy to next hop",
    0x010C: "redirect to IPv4",
    # Passing over these would widen the rule to every interface.
    0x0702: "interface-set",
    0x4702: "interface-set",
}


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop every matching packet: a traffic rate of 0."""

    def __str__(self) -> str:
        return "then { discard; }"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Let matching packets through up to a rate, drop the rest."""

    bytes_per_second: int
    """At least 1; 0 is `Discard`. Goes out as an IEEE 754 single, which is exact up to 16,777,216."""

    MAXIMUM = 10**12
    """1 TB/s, where ExaBGP caps."""

    def __post_init__(self) -> None:
        if not 1 <= self.bytes_per_second <= self.MAXIMUM:
            reason = "must be from 1 to 1000000000000 bytes per second; use discard to drop everything"
            raise Refused("rate-limit", self.bytes_per_second, reason)
        as_single = struct.unpack(">f", struct.pack(">f", self.bytes_per_second))[0]
        object.__setattr__(self, "bytes_per_second", int(as_single))

    @property
    def bits_per_second(self) -> int:
        """The same rate, in the unit people read."""
        return self.bytes_per_second * 8

    def __str__(self) -> str:
        return f"then {{ rate-limit {self.bytes_per_second}; }}"


Action = Discard | RateLimit


def encode(action: Action, autonomous_system: int = 0) -> bytes:
    """The 8-byte extended community; the informative AS field is 0 unless given (RFC 8955 §7.1)."""
    rate = 0.0 if isinstance(action, Discard) else float(action.bytes_per_second)
    return struct.pack(">HHf", TRAFFIC_RATE_BYTES, autonomous_system, rate)


def decode(communities: bytes) -> Action:
    """The action a list of 8-byte extended communities asks for; raises `Refused` for all but exactly one traffic-rate.

    Communities that don't steer traffic (route targets and the like) are passed over; several equal rates count as one.
    """
    if len(communities) % 8:
        raise Refused("extended-community", communities.hex(), "the length is no multiple of 8 bytes")
    actions: set[Action] = set()
    for start in range(0, len(communities), 8):
        raw = communities[start : start + 8]
        kind = int.from_bytes(raw[:2], "big")
        if kind == TRAFFIC_RATE_BYTES:
            actions.add(_rate(raw))
        elif kind in _KNOWN_OTHERS:
            raise Refused("extended-community", raw.hex(), f"{_KNOWN_OTHERS[kind]} is not supported; use traffic-rate")
    if len(actions) != 1:
        reason = "more than one traffic-rate" if actions else "no traffic-rate: the rule would accept the traffic"
        raise Refused("extended-community", communities.hex(), reason)
    return actions.pop()


def _rate(raw: bytes) -> Action:
    rate: float = struct.unpack(">f", raw[4:])[0]
    if math.isnan(rate) or rate > RateLimit.MAXIMUM:
        reason = f"a traffic-rate is a number up to 1000000000000 bytes per second, this is {rate}"
        raise Refused("extended-community", raw.hex(), reason)
    # RFC 8955 §7.1: a rate of 0 discards, and a negative one counts as 0. Below 1 byte per second nothing gets through.
    return RateLimit(int(rate)) if rate >= 1 else Discard()
