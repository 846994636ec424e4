"""Longest-prefix match as disjoint address ranges: which of many nested prefixes is the narrowest around an address.

Interval maps (nftables has them) refuse overlapping ranges, so nested prefixes are cut where one begins or ends inside
another.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rules.match import Network


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of addresses with the same narrowest prefix."""

    first: int
    last: int
    """Included."""
    prefix: Network


@dataclass(frozen=True, slots=True)
class Nesting:
    """Prefixes of one address family, cut into segments."""

    segments: tuple[Segment, ...]
    """Ascending and disjoint; addresses outside all prefixes are in none."""
    parents: dict[Network, Network | None]
    """The next wider prefix around each, widest first in iteration order along every nest."""


def nest(prefixes: Iterable[Network]) -> Nesting:
    """Cut prefixes of one family; repeats count once."""
    segments: list[Segment] = []
    parents: dict[Network, Network | None] = {}
    open_prefixes: list[Network] = []
    position = 0

    def close_up_to(limit: int) -> None:
        """Emit what is left of every open prefix that ends before `limit`."""
        nonlocal position
        while open_prefixes and _last(open_prefixes[-1]) < limit:
            prefix = open_prefixes.pop()
            emit(_last(prefix), prefix)

    def emit(last: int, prefix: Network) -> None:
        nonlocal position
        if position <= last:
            segments.append(Segment(position, last, prefix))
            position = last + 1

    for prefix in sorted(set(prefixes), key=lambda one: (_first(one), one.prefixlen)):
        close_up_to(_first(prefix))
        if open_prefixes:
            emit(_first(prefix) - 1, open_prefixes[-1])
        parents[prefix] = open_prefixes[-1] if open_prefixes else None
        open_prefixes.append(prefix)
        position = _first(prefix)
    close_up_to(1 << 129)
    return Nesting(tuple(segments), parents)


def _first(prefix: Network) -> int:
    return int(prefix.network_address)


def _last(prefix: Network) -> int:
    return int(prefix.broadcast_address)
