"""What stays the same is described ever more seldom, what changes at once, and all of it within its share."""

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rules.zone import Metric
from sensors.headers import COLUMNS, Column
from sensors.pace import LEAST, PER_SECOND, SAVED, Look, Pace

SECOND = 1_000_000_000
CROSSED = frozenset({Metric.PACKETS})


def look(syn: float = 1.0, caught: float = 0.99, packets: int = 2_048) -> Look:
    shares = np.zeros(COLUMNS)
    shares[Column.SYN], shares[Column.UDP] = syn, 1 - syn
    return Look(packets, shares, caught)


def showing(now: Look) -> Callable[[], Look]:
    return lambda: now


def described(pace: Pace, looks: list[Look], crossed: list[frozenset[Metric]] | None = None) -> list[int]:
    """In which seconds, one look in each, an attack is described."""
    out = []
    for second, now in enumerate(looks):
        what = crossed[second] if crossed else CROSSED
        if pace.is_due(1, what, 50.0, second * SECOND, showing(now)):
            pace.described(1, what, 16_384, second * SECOND, now)
            out.append(second)
    return out


def test_what_stays_the_same_is_described_in_growing_pauses() -> None:
    assert described(Pace(), [look()] * 100) == [0, 1, 4, 14, 44, 74]


def test_what_is_new_is_described_at_once_and_soon_again() -> None:
    for new in (look(syn=0.85), look(caught=0.9)):
        assert described(Pace(), [look()] * 20 + [new] * 20) == [0, 1, 4, 14, 20, 21, 24, 34]
    both = frozenset({*CROSSED, Metric.SYN_PACKETS})
    assert described(Pace(), [look()] * 30, [CROSSED] * 20 + [both] * 10) == [0, 1, 4, 14, 20, 21, 24]


@given(st.integers(0, 2**32), st.integers(40, 2_048), st.sampled_from((0.0, 0.3, 0.9, 0.98)))
def test_chance_is_no_news(seed: int, packets: int, share: float) -> None:
    random = np.random.default_rng(seed)
    drawn = [random.binomial(packets, share, 2) / packets for _ in range(20)]
    looks = [look(float(syn), float(caught), packets) for syn, caught in drawn]
    # Two of a thousand looks may say so by chance.
    assert len(described(Pace(), looks)) <= 6


@given(st.integers(1, 40), st.integers(0, 30_000))
def test_everything_together_keeps_to_its_share(attacks: int, packets: int) -> None:
    pace, done, seconds = Pace(), 0.0, 60
    for second in range(seconds):
        for row in range(attacks):
            changing = look(syn=second % 2)
            if pace.can(second * SECOND) and pace.is_due(row, CROSSED, 50.0, second * SECOND, showing(changing)):
                pace.described(row, CROSSED, packets, second * SECOND, changing)
                done += max(LEAST, packets)
    assert done <= SAVED + PER_SECOND * seconds + max(LEAST, packets)
    assert done >= min(attacks * max(LEAST, packets) * (seconds - 2), PER_SECOND * (seconds - 1))
