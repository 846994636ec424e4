"""Which remembered packets are of a host, or of a prefix. Pure."""

import numpy as np
from numpy.typing import NDArray

from rules.match import Network
from sensors.tables import ANY, key

_ALL = (1 << 64) - 1


def is_prefix(target: Network) -> bool:
    """Whether a target is more than one host."""
    return target.prefixlen < target.max_prefixlen


def both_ways(target: Network, entries: ANY) -> tuple[ANY, ANY]:
    """What a host or prefix got and what it sent, among remembered packets; what stays inside counts as got."""
    got = inside(target, entries, "destination")
    sent = inside(target, entries, "source") & ~got
    return entries[got], entries[sent]


def inside(target: Network, entries: ANY, side: str) -> NDArray[np.bool_]:
    """Which packets' address on that side lies in a host or prefix."""
    high, low = key(target)
    free = (1 << target.max_prefixlen - target.prefixlen) - 1
    masks = (np.uint64(~(free >> 64) & _ALL), np.uint64(~free & _ALL))
    same_low = (entries[f"{side}_low"] & masks[1]) == np.uint64(low)
    found: NDArray[np.bool_] = same_low & ((entries[f"{side}_high"] & masks[0]) == np.uint64(high))
    return found
