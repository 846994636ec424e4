"""Steering as the manual tells it, without a program."""

from collections.abc import Iterable
from ipaddress import ip_address

from rules.match import Network


def steered(source: str, destination: str, prefixes: Iterable[Network], shards: int) -> int:
    """The shard of a packet: its destination's, unless only its source is protected. Without `prefixes` everything
    is."""
    held = [any(ip_address(end) in prefix for prefix in prefixes) for end in (source, destination)]
    return end_of(source if held == [True, False] else destination, shards)


def end_of(address: str, shards: int) -> int:
    """Blocks in turn: /24, or /48, whose lower 16 bits count on from the upper 32."""
    end = ip_address(address)
    if end.version == 4:
        return int.from_bytes(end.packed[:3], "big") % shards
    return (int.from_bytes(end.packed[:4], "big") + int.from_bytes(end.packed[4:6], "big")) % (1 << 32) % shards
