"""Protected prefixes as disjoint intervals of 128-bit keys, so that the kernel finds a zone by one binary search."""

from collections.abc import Iterable

from rules.match import Network
from sensors.headers import MAPPED

Interval = tuple[int, int, int]
"""First key, last key, zone."""


def intervals(protected: Iterable[tuple[Network, int]]) -> tuple[Interval, ...]:
    """Ascending and disjoint; where prefixes nest, the most specific one decides, and of two equal ones the first."""
    out: list[Interval] = []
    stack: list[Interval] = []
    at = 0
    for first, last, zone in sorted(_spans(protected), key=lambda span: (span[0], -span[1])):
        while stack and stack[-1][1] < first:
            at = _emit(out, at, stack.pop())
        if stack and stack[-1][:2] == (first, last):
            continue
        if stack and at < first:
            out.append((at, first - 1, stack[-1][2]))
        stack.append((first, last, zone))
        at = first
    while stack:
        at = _emit(out, at, stack.pop())
    return tuple(out)


def _emit(out: list[Interval], at: int, span: Interval) -> int:
    if at <= span[1]:
        out.append((at, span[1], span[2]))
    return max(at, span[1] + 1)


def _spans(protected: Iterable[tuple[Network, int]]) -> list[Interval]:
    shift = {4: MAPPED, 6: 0}
    return [
        (int(prefix[0]) + shift[prefix.version], int(prefix[-1]) + shift[prefix.version], zone)
        for prefix, zone in protected
    ]
