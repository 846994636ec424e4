"""By what a vector's packets may be told from others: values for each component that a rule can name. Pure.

Every value keeps to what the `generic` platform profile holds: at most five operators in a component, no `!=`.
"""

from collections.abc import Iterator

import numpy as np

from rules.components import Bitmask, FlagTest, Numeric
from rules.match import FRAGMENT_BITS, TCP_FLAG_BITS, Component, Match
from sensors.headers import HAS_FLAGS, HAS_PORTS
from sensors.tables import ANY

MOST_VALUES = 5
"""Operators in a component."""
SMALLEST_VALUE = 0.01
"""A value with less than this share isn't worth its place in a rule."""
NEARLY_ALL = 0.98

FRAGILE = frozenset({Component.PACKET_LENGTH, Component.FRAGMENT})
"""Components an attacker changes without effort; asked for only where they spare somebody."""

_WIDE = 16
"""Spans of ports from this width on stand for nothing in particular."""

Option = tuple[Component, Numeric | Bitmask]

_LATER, _DONT = FRAGMENT_BITS["is-fragment"], FRAGMENT_BITS["dont-fragment"]
_ALL_FLAGS = sum(TCP_FLAG_BITS[name] for name in ("fin", "syn", "rst", "push", "ack", "urg"))


def options(base: Match, part: ANY, sparing: bool) -> tuple[Option, ...]:
    """What may be added to a rule for these packets, none of them later fragments; `sparing`: normal traffic is known,
    so that it shows whether fragile components spare any."""
    found: list[Option] = []
    # Packets cut short in the transport header have no ports; a few of them must not hide the others'.
    ported = part[part["marks"] & HAS_PORTS != 0]
    has_ports = len(ported) > 0 and base.icmp_type is None
    if has_ports:
        found += [(Component.DESTINATION_PORT, value) for value in _most_common(ported["destination_port"])]
        if base.source_port is None:
            found += [(Component.SOURCE_PORT, value) for value in _most_common(ported["source_port"])]
    if not sparing:
        return tuple(found)
    if has_ports and base.source_port is None:
        found += [(Component.SOURCE_PORT, value) for value in _ranges(ported["source_port"], 0, 65_535)]
    if has_ports:
        found += [(Component.DESTINATION_PORT, value) for value in _ranges(ported["destination_port"], 0, 65_535)]
    found += [(Component.PACKET_LENGTH, value) for value in _lengths(part["length"], base)]
    if base.tcp_flags is not None:
        found += [(Component.TCP_FLAGS, value) for value in _flags(part)]
    if base.ip_family.bits == 32 and base.fragment is None:
        found += [(Component.FRAGMENT, value) for value in _dont_fragment(part["fragment"])]
    return tuple(dict.fromkeys(found))


def is_fragile(component: Component, value: object) -> bool:
    """Whether an attacker changes it without effort: lengths, bits, ranges of ports as they happened to be drawn."""
    if component in FRAGILE:
        return True
    ports = component in (Component.SOURCE_PORT, Component.DESTINATION_PORT)
    return ports and isinstance(value, Numeric) and any(high - low >= _WIDE for low, high in value.spans(65_535))


def few(values: ANY, most: int) -> tuple[int, ...]:
    """The values that make up nearly all, if there are no more than `most`; else none."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    covered = np.cumsum(counts[order]) >= NEARLY_ALL * counts.sum()
    if not covered.any():
        return ()
    return tuple(sorted(int(found[place]) for place in order[: int(np.argmax(covered)) + 1]))


def common(values: ANY) -> tuple[int, ...]:
    """The most frequent values, at most five, each at least a twentieth of all."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    return tuple(int(found[place]) for place in order if counts[place] * 20 >= counts.sum())


def operators(value: Numeric, maximum: int) -> int:
    """How many operators its normal form takes."""
    return sum(1 for _ in value.normal(maximum).comparisons())


def _most_common(values: ANY) -> Iterator[Numeric]:
    """The most frequent value, the two most frequent ones, … as long as each matters."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    for most in range(1, len(order) + 1):
        if counts[order[most - 1]] < SMALLEST_VALUE * counts.sum():
            return
        yield Numeric.only(*(int(found[place]) for place in order[:most]))


def _lengths(values: ANY, base: Match) -> Iterator[Numeric]:
    """Exact lengths, few and many; ranges; and what lies on one side of the widest gap."""
    lowest = 20 if base.ip_family.bits == 32 else 40
    exact = [value for value in _most_common(values) if operators(value, 65_535) <= MOST_VALUES]
    yield from exact[:2] + exact[-2:]
    yield from _ranges(values, lowest, 65_535)
    if gap := _widest_gap(np.unique(values).astype(np.int64)):
        yield Numeric.between(lowest, gap[0])
        yield Numeric.between(gap[1], 65_535)


def _ranges(values: ANY, lowest: int, highest: int) -> Iterator[Numeric]:
    distinct = np.unique(values).astype(np.int64)
    first, low_edge, high_edge, last = map(int, np.quantile(values, [0.0, 0.005, 0.995, 1.0], method="nearest"))
    for low, high in dict.fromkeys(((first, last), (low_edge, high_edge))):
        if low <= lowest and high >= highest:
            continue
        yield Numeric.only(low) if low == high else Numeric.between(low, high)
        if low > lowest:
            yield Numeric.between(low, highest)
        if high < highest and high > lowest:
            yield Numeric.between(lowest, high)
    if len(distinct) >= 3 and (gap := _widest_gap(distinct)):
        yield Numeric.of_spans(((int(distinct[0]), gap[0]), (gap[1], int(distinct[-1]))), 2**64)


def _widest_gap(distinct: ANY) -> tuple[int, int] | None:
    """The ascending values around it; None without one."""
    gaps = np.diff(distinct)
    at = int(np.argmax(gaps)) if len(gaps) else 0
    return (int(distinct[at]), int(distinct[at + 1])) if len(gaps) and gaps[at] > 1 else None


def _flags(part: ANY) -> Iterator[Bitmask]:
    """All six flags as they are, where nearly all packets have the same."""
    [*same] = few(part["tcp_flags"][part["marks"] & HAS_FLAGS != 0] & _ALL_FLAGS, 1)
    for value in same:
        tests = [FlagTest(value, exact=True)] if value else []
        tests += [FlagTest(_ALL_FLAGS & ~value, negated=True)] if value != _ALL_FLAGS else []
        yield Bitmask.of(*tests)


def _dont_fragment(values: ANY) -> Iterator[Bitmask]:
    """Whether the don't-fragment bit is set, where nearly all packets agree on it."""
    is_set = float((values & _DONT != 0).mean())
    if is_set >= NEARLY_ALL:
        yield Bitmask.of(FlagTest(_DONT, exact=True))
    elif is_set <= 1 - NEARLY_ALL:
        yield Bitmask.of(FlagTest(_DONT, negated=True), FlagTest(_LATER, negated=True))
