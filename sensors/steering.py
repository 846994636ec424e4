"""Which shard counts a packet: all of one protected /24 or /48 in the same, both directions.

Neighbouring prefixes go to shards in turn, whatever the zones are, so that no target ever moves. Pure; what the kernel
is told of it is in `sensors.steering_program`.
"""

from itertools import pairwise

from rules.match import Network
from sensors.prefixes import Interval
from sensors.tables import UNSIGNED

IPV4_BITS, IPV6_BITS = 24, 48
"""Prefixes as long as these stay together."""


def shard_of(target: Network, shards: int) -> int | None:
    """The shard of a host or a prefix; None for one that is wider than what stays together."""
    bits = IPV4_BITS if target.version == 4 else IPV6_BITS
    if target.prefixlen < bits:
        return None
    number = int(target.network_address) >> target.max_prefixlen - bits
    if target.version == 6:
        # The upper 32 bits and the lower 16: networks that have many /48 and those that have one of many /32.
        number = (number >> 16) + (number & 0xFFFF) & 0xFFFFFFFF
    return number % shards


def joined(prefixes: UNSIGNED) -> list[Interval]:
    """The intervals of `tables.prefix_table` with the zones left out: ascending, none touches the next."""
    out: list[Interval] = []
    for line in prefixes.tolist():
        first, last = line[0] << 64 | line[1], line[2] << 64 | line[3]
        if out and out[-1][1] + 1 == first:
            out[-1] = (out[-1][0], last, 0)
        else:
            out.append((first, last, 0))
    return out


def coarser(intervals: list[Interval], most: int) -> list[Interval]:
    """At most so many intervals that cover these, with the narrowest gaps between them closed."""
    surplus = len(intervals) - most
    if surplus <= 0:
        return intervals
    gaps = [after[0] - before[1] for before, after in pairwise(intervals)]
    closed = {*sorted(range(len(gaps)), key=gaps.__getitem__)[:surplus]}
    out: list[Interval] = []
    for number, one in enumerate(intervals):
        if number - 1 in closed:
            out[-1] = (out[-1][0], one[1], 0)
        else:
            out.append(one)
    return out
