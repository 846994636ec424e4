"""Numeric and flag components, held against sets that are counted out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import bitmasks, numerics

from rules.components import (
    Bitmask,
    Comparison,
    FlagTest,
    Numeric,
    Operator,
    Spans,
    complement,
    contains,
    intersection,
    is_ascending,
    merged,
)
from rules.match import Component

LIMIT = 63
"""Of DSCP: small enough to count out."""

small_spans = st.lists(st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT)).map(lambda p: (min(p), max(p)))).map(
    merged
)


def numbers_in(spans: Spans) -> set[int]:
    return {n for low, high in spans for n in range(low, high + 1)}


def accepts(comparison: Comparison, n: int) -> bool:
    bits = int(comparison.operator)
    less, greater, equal = bool(bits & 4), bool(bits & 2), bool(bits & 1)
    return (less and n < comparison.value) or (greater and n > comparison.value) or (equal and n == comparison.value)


@given(numerics(Component.DSCP))
def test_spans_hold_the_numbers_that_some_group_accepts(numeric: Numeric) -> None:
    # TRUE has all three bits set and FALSE none, so the operator bits decide for them as well.
    counted = {n for n in range(LIMIT + 1) if any(all(accepts(one, n) for one in group) for group in numeric.groups)}
    spans = numeric.spans(LIMIT)
    assert numbers_in(spans) == counted
    assert is_ascending(spans)


@given(numerics(Component.DSCP))
def test_the_normal_form_means_the_same_and_has_no_not_equal(numeric: Numeric) -> None:
    normal = numeric.normal(LIMIT)
    assert normal.spans(LIMIT) == numeric.spans(LIMIT)
    assert normal.normal(LIMIT) == normal
    assert all(one.operator is not Operator.NOT_EQUAL for one in normal.comparisons())


@given(small_spans, small_spans)
def test_span_arithmetic_is_set_arithmetic(left: Spans, right: Spans) -> None:
    ours, theirs = numbers_in(left), numbers_in(right)
    assert numbers_in(intersection(left, right)) == ours & theirs
    assert numbers_in(complement(left, LIMIT)) == set(range(LIMIT + 1)) - ours
    assert contains(left, right) == (theirs <= ours)
    assert is_ascending(intersection(left, right)) and is_ascending(complement(left, LIMIT))


@given(bitmasks(Component.FRAGMENT) | bitmasks(Component.TCP_FLAGS), st.integers(0, 0xFFF))
def test_the_meaning_of_flags_is_what_they_accept(bitmask: Bitmask, flags: int) -> None:
    meaning = bitmask.meaning()
    assert (flags & meaning.support in meaning.accepted) == bitmask.holds(flags)
    assert (flags in meaning.widened(0xFFF)) == bitmask.holds(flags)
    assert bitmask.normal().meaning() == meaning


def test_two_thousand_values_are_worked_out_as_fast_as_one() -> None:
    """As many as an NLRI has room for; a naive way takes seconds."""
    gaps = Numeric((tuple(Comparison(Operator.NOT_EQUAL, value) for value in range(2, 4096, 2)),))
    assert gaps.spans(65535) == ((0, 1), *((value, value) for value in range(3, 4094, 2)), (4095, 65535))
    tests = [FlagTest(value, exact=True) for value in range(1, 2048)]
    meaning = Bitmask.any_of(*tests).meaning()
    assert meaning.support == 0x7FF and meaning.accepted == frozenset(range(1, 2048))
    assert Bitmask.of(*tests).meaning().accepted == {0x7FF}


@pytest.mark.parametrize(
    ("test", "accepted", "refused"),
    [
        (FlagTest(0x12), [0x02, 0x10, 0x12, 0x13], [0x00, 0x01]),
        (FlagTest(0x12, exact=True), [0x12, 0x13], [0x02, 0x10, 0x00]),
        (FlagTest(0x12, negated=True), [0x00, 0x01], [0x02, 0x12]),
        (FlagTest(0x12, exact=True, negated=True), [0x02, 0x00], [0x12, 0x13]),
    ],
)
def test_flag_tests_read_as_in_the_rfc(test: FlagTest, accepted: list[int], refused: list[int]) -> None:
    assert all(map(test.holds, accepted))
    assert not any(map(test.holds, refused))


def test_a_component_without_comparisons_cannot_be_built() -> None:
    for groups in ((), ((),)):
        with pytest.raises(AssertionError):
            Numeric(groups)
        with pytest.raises(AssertionError):
            Bitmask(groups)


def test_values_that_touch_become_one_range() -> None:
    assert Numeric.only(54, 53, 60, 53) == Numeric(
        (
            (Comparison(Operator.AT_LEAST, 53), Comparison(Operator.AT_MOST, 54)),
            (Comparison(Operator.EQUAL, 60),),
        )
    )
