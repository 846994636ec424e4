"""What one FlowSpec component says: numeric comparisons and flag tests (RFC 8955 §4.2.1).

A component is an OR of groups, a group an AND of tests. Values keep the tests as they were given, so that decoding and
encoding an NLRI is byte-exact; `normal()` gives the one form that all spellings of a meaning share.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache, reduce
from itertools import pairwise

Spans = tuple[tuple[int, int], ...]
"""Inclusive intervals, ascending, neither touching nor overlapping."""


class Operator(IntEnum):
    """The lt, gt and eq bits of a numeric operator byte (RFC 8955 §4.2.1.1, table 1)."""

    FALSE = 0b000
    EQUAL = 0b001
    GREATER = 0b010
    AT_LEAST = 0b011
    LESS = 0b100
    AT_MOST = 0b101
    NOT_EQUAL = 0b110
    TRUE = 0b111


SYMBOLS = {
    Operator.EQUAL: "=",
    Operator.GREATER: ">",
    Operator.AT_LEAST: ">=",
    Operator.LESS: "<",
    Operator.AT_MOST: "<=",
    Operator.NOT_EQUAL: "!=",
}


@dataclass(frozen=True, slots=True, order=True)
class Comparison:
    """`operator value`; for TRUE and FALSE the value means nothing and is 0."""

    operator: Operator
    value: int

    def __post_init__(self) -> None:
        if self.operator in (Operator.TRUE, Operator.FALSE):
            object.__setattr__(self, "value", 0)

    def spans(self, maximum: int) -> Spans:
        """The numbers 0…maximum for which this holds."""
        value, candidates = self.value, ((0, -1),)
        match self.operator:
            case Operator.FALSE:
                pass
            case Operator.TRUE:
                candidates = ((0, maximum),)
            case Operator.EQUAL:
                candidates = ((value, min(value, maximum)),)
            case Operator.GREATER:
                candidates = ((value + 1, maximum),)
            case Operator.AT_LEAST:
                candidates = ((value, maximum),)
            case Operator.LESS:
                candidates = ((0, min(value - 1, maximum)),)
            case Operator.AT_MOST:
                candidates = ((0, min(value, maximum)),)
            case Operator.NOT_EQUAL:
                return merged((*Comparison(Operator.LESS, value).spans(maximum), *_above(value, maximum)))
        return tuple(span for span in candidates if span[0] <= span[1])


def _above(value: int, maximum: int) -> Spans:
    return Comparison(Operator.GREATER, value).spans(maximum)


@dataclass(frozen=True, slots=True, order=True)
class Numeric:
    """A numeric component: an OR of groups, each an AND of comparisons."""

    groups: tuple[tuple[Comparison, ...], ...]

    def __post_init__(self) -> None:
        if not self.groups or not all(self.groups):
            raise AssertionError("a numeric component has at least one comparison in every group")

    @classmethod
    def only(cls, *values: int) -> "Numeric":
        """Exactly these values, sorted and merged into ranges where they touch."""
        return cls.of_spans(merged((value, value) for value in values), 2**64)

    @classmethod
    def between(cls, low: int, high: int) -> "Numeric":
        """`low` to `high`, both included."""
        return cls(((Comparison(Operator.AT_LEAST, low), Comparison(Operator.AT_MOST, high)),))

    @classmethod
    def of_spans(cls, spans: Spans, maximum: int) -> "Numeric":
        """The normal form of a set of numbers within 0…maximum; an empty set becomes FALSE, the full one TRUE."""
        return _of_spans(spans, maximum)

    def spans(self, maximum: int) -> Spans:
        """The numbers 0…maximum that match."""
        return _spans(self.groups, maximum)

    def normal(self, maximum: int) -> "Numeric":
        """The same meaning within 0…maximum, in the one form all its spellings share; never uses `!=`."""
        return _of_spans(self.spans(maximum), maximum)

    def comparisons(self) -> Iterator[Comparison]:
        """Every comparison, in order."""
        for group in self.groups:
            yield from group


_NEVER = Comparison(Operator.FALSE, 0)


@lru_cache(maxsize=4096)
def _spans(groups: tuple[tuple[Comparison, ...], ...], maximum: int) -> Spans:
    """Kept: thousands of rules ask for the same few ports and protocols, each a dozen times."""
    return merged(span for group in groups for span in _conjunction(group, maximum))


@lru_cache(maxsize=4096)
def _of_spans(spans: Spans, maximum: int) -> Numeric:
    return Numeric(tuple(_span_group(low, high, maximum) for low, high in spans) or ((_NEVER,),))


def _conjunction(group: tuple[Comparison, ...], maximum: int) -> Spans:
    """In rounds of pairs: one after the other, two thousand `!=` would take seconds."""
    parts = [comparison.spans(maximum) for comparison in group]
    while len(parts) > 1:
        odd = parts[len(parts) & ~1 :]
        parts = [intersection(left, right) for left, right in zip(parts[::2], parts[1::2], strict=False)] + odd
    return parts[0]


def _span_group(low: int, high: int, maximum: int) -> tuple[Comparison, ...]:
    if low == 0 and high >= maximum:
        return (Comparison(Operator.TRUE, 0),)
    if low == high:
        return (Comparison(Operator.EQUAL, low),)
    if high >= maximum:
        return (Comparison(Operator.AT_LEAST, low),)
    if low == 0:
        return (Comparison(Operator.AT_MOST, high),)
    return (Comparison(Operator.AT_LEAST, low), Comparison(Operator.AT_MOST, high))


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """The same set as ascending intervals that neither touch nor overlap."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


def intersection(left: Spans, right: Spans) -> Spans:
    """What both sets hold."""
    if left is right:  # mostly one shared set of all values
        return left
    out = []
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            out.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(out)


def complement(spans: Spans, maximum: int) -> Spans:
    """What 0…maximum holds and the set doesn't."""
    edges = [-1, *(edge for span in spans for edge in span), maximum + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((low + 1, high - 1) for low, high in gaps if low + 1 <= high - 1)


def contains(outer: Spans, inner: Spans) -> bool:
    """Whether every number of `inner` is in `outer`."""
    return intersection(outer, inner) == inner


@dataclass(frozen=True, slots=True, order=True)
class FlagTest:
    """One bitmask operand (RFC 8955 §4.2.1.2)."""

    mask: int
    exact: bool = False
    """The match bit: all bits of the mask must be set. Without it one of them is enough."""
    negated: bool = False
    """The not bit: the test's result is inverted."""

    def holds(self, flags: int) -> bool:
        """Whether a packet with these flags passes."""
        result = (flags & self.mask) == self.mask if self.exact else bool(flags & self.mask)
        return result != self.negated


@dataclass(frozen=True, slots=True)
class FlagMeaning:
    """What a bitmask component accepts, independent of how it was written."""

    support: int
    """The bits that make a difference."""
    accepted: frozenset[int]
    """Those values of the support bits that match."""

    def widened(self, support: int) -> frozenset[int]:
        """The accepted values over a larger set of bits."""
        extra = tuple(_subsets(support & ~self.support))
        return frozenset(value | more for value in self.accepted for more in extra)


@dataclass(frozen=True, slots=True, order=True)
class Bitmask:
    """A flags component: an OR of groups, each an AND of tests."""

    groups: tuple[tuple[FlagTest, ...], ...]

    def __post_init__(self) -> None:
        if not self.groups or not all(self.groups):
            raise AssertionError("a flags component has at least one test in every group")

    @classmethod
    def of(cls, *tests: FlagTest) -> "Bitmask":
        """All of these tests together (AND)."""
        return cls((tests,))

    @classmethod
    def any_of(cls, *tests: FlagTest) -> "Bitmask":
        """At least one of these tests (OR)."""
        return cls(tuple((test,) for test in tests))

    def holds(self, flags: int) -> bool:
        """Whether a packet with these flags matches."""
        return any(all(test.holds(flags) for test in group) for group in self.groups)

    def meaning(self) -> FlagMeaning:
        """What is accepted, reduced to the bits that matter: equal for all spellings of one meaning."""
        support = self.mask()
        accepted = _accepted(self.groups, tuple(_bits(support)))
        for bit in _bits(support):
            if {value ^ bit for value in accepted} == accepted:
                support &= ~bit
                accepted = frozenset(value & ~bit for value in accepted)
        return FlagMeaning(support, accepted)

    def normal(self) -> "Bitmask":
        """Tests and groups sorted, repeats and implied groups removed; the same meaning, often spelt alike."""
        groups = {frozenset(group) for group in self.groups}
        kept = [group for group in groups if not any(other < group for other in groups)]
        return Bitmask(tuple(sorted(tuple(sorted(group)) for group in kept)))

    def tests(self) -> Iterator[FlagTest]:
        """Every test, in order."""
        for group in self.groups:
            yield from group

    def mask(self) -> int:
        """Every bit that any test mentions."""
        return reduce(int.__or__, (test.mask for test in self.tests()))


def _accepted(groups: tuple[tuple[FlagTest, ...], ...], bits: tuple[int, ...]) -> frozenset[int]:
    """The values of these bits that match: a truth table in one number, as thousands of tests may name twelve bits."""
    values, rows = [0], 1 << len(bits)
    for bit in bits:
        values += [value | bit for value in values]
    every = (1 << rows) - 1
    columns = {bit: _column(position, rows) for position, bit in enumerate(bits)}
    table = 0
    for group in groups:
        table |= reduce(int.__and__, (_truth(test, columns, every) for test in group))
    return frozenset(value for value, row in zip(values, reversed(f"{table:0{rows}b}"), strict=True) if row == "1")


def _column(position: int, rows: int) -> int:
    """The rows in which this bit is set: runs of 2^position zeros and as many ones, by turns."""
    run = 1 << position
    return ((1 << rows) - 1) // ((1 << 2 * run) - 1) * (((1 << run) - 1) << run)


def _truth(test: FlagTest, columns: dict[int, int], every: int) -> int:
    """The rows in which a test holds."""
    own = [columns[bit] for bit in _bits(test.mask)]
    held = reduce(int.__and__, own, every) if test.exact else reduce(int.__or__, own, 0)
    return held ^ every if test.negated else held


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low
        mask ^= low


def _subsets(mask: int) -> Iterator[int]:
    """Every value that has only bits of the mask, 2^k of them."""
    value = mask
    while True:
        yield value
        if not value:
            return
        value = (value - 1) & mask


def is_ascending(spans: Spans) -> bool:
    """Whether the spans are in the form this module promises."""
    return all(low <= high for low, high in spans) and all(a[1] + 1 < b[0] for a, b in pairwise(spans))
