"""Confidence is a probability: in generated mixes that are hard to judge it comes true as often as it says."""

from itertools import pairwise

import numpy as np
import pytest
from fitting import FITTED, fitted, is_right, pictured
from hard_mixes import hard_mixes
from mixes import pool
from numpy.typing import NDArray

from rules.traffic import Vector
from sensors.confidence import FEATURES, WEIGHTS, confidence, features, novelty

Floats = NDArray[np.float64]
SEEDS = (101, 102)
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
MOST_OFF, MOST_BRIER = 0.05, 0.5
"""Expected calibration error; Brier's score as a part of that of who always says the mean."""
TOLERANCE = 0.17
"""For a bin of 20 and more, whose own standard error reaches 0.11 in the middle."""


@pytest.fixture(scope="module")
def outcome() -> tuple[Floats, Floats, Floats]:
    """What is said, what is right and what it is drawn from, of mixes that the weights were not fitted to."""
    assert not {*SEEDS} & {*FITTED}
    said, right, values = [], [], []
    for seed in SEEDS:
        for mix in hard_mixes(300, seed):
            picture = pictured(mix)
            said.append(confidence(picture, mix.sample, mix.normal, mix.severity))
            right.append(is_right(mix, picture))
            values.append(features(picture, mix.sample, mix.normal, mix.severity))
    return np.array(said), np.array(right, float), np.array(values)


def bins(said: Floats, right: Floats) -> list[tuple[int, float, float]]:
    """Of each bin that holds any: how many, what was said on average and what part came true."""
    placed = np.digitize(said, EDGES[1:-1])
    members = [placed == number for number in range(len(EDGES) - 1)]
    return [(int(one.sum()), float(said[one].mean()), float(right[one].mean())) for one in members if one.any()]


def expected_error(said: Floats, right: Floats) -> float:
    """The distance between what is said and what comes true, on average (ECE)."""
    return sum(count * abs(told - true) for count, told, true in bins(said, right)) / len(said)


def relative_brier(said: Floats, right: Floats) -> float:
    return float(((said - right) ** 2).mean() / (right.mean() * (1 - right.mean())))


def test_what_is_said_comes_true_as_often(outcome: tuple[Floats, Floats, Floats]) -> None:
    said, right, _ = outcome
    for (low, high), (count, told, true) in zip(pairwise(EDGES), bins(said, right), strict=False):
        print(f"{low:.1f} to {high:.1f}: {count} mixes, said {told:.2f}, true {true:.2f}")
    print(f"ECE {expected_error(said, right):.3f}, Brier {((said - right) ** 2).mean():.3f}")
    assert expected_error(said, right) <= MOST_OFF
    assert relative_brier(said, right) <= MOST_BRIER
    assert all(abs(told - true) <= TOLERANCE for count, told, true in bins(said, right) if count >= 20)


def test_every_part_of_the_scale_is_used(outcome: tuple[Floats, Floats, Floats]) -> None:
    said, right, _ = outcome
    assert min(count for count, _, _ in bins(said, right)) >= 20
    assert 0.5 < right.mean() < 0.9


def test_one_number_for_all_and_numbers_of_others_would_be_found_out(outcome: tuple[Floats, Floats, Floats]) -> None:
    said, right, _ = outcome
    assert expected_error(np.full(len(right), 0.9), right) > MOST_OFF
    assert relative_brier(np.random.default_rng(1).permutation(said), right) > MOST_BRIER
    # Too sure, or not sure enough.
    assert expected_error(np.clip(said * 1.5 - 0.1, 0, 1), right) > MOST_OFF
    assert expected_error(0.5 + (said - 0.5) / 2, right) > MOST_OFF


def test_other_mixes_would_give_much_the_same_weights(outcome: tuple[Floats, Floats, Floats]) -> None:
    said, right, values = outcome
    again = 1 / (1 + np.exp(-values @ fitted(values, right)))
    assert len(FEATURES) == len(WEIGHTS) == values.shape[1]
    assert np.abs(again - said).mean() <= 0.07


def test_normal_traffic_is_not_new_and_a_flood_is() -> None:
    normal = pool(None)
    assert novelty(normal[::2], normal[1::2]) < 0.1
    assert novelty(pool(Vector("gre_flood")), normal) == 1.0
