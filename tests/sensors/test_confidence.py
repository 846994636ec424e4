"""Confidence is a probability: in generated mixes it comes true as often as it says."""

from itertools import pairwise

import numpy as np
import pytest
from mixes import Mix, mixes, pool

from rules.traffic import Vector
from sensors.classify import classify
from sensors.confidence import confidence, novelty

EDGES = (0.0, 0.2, 0.5, 0.8, 1.0)
TOLERANCE = 0.15
"""For bins of 30 and more, whose own standard error reaches 0.09 in the middle."""


def told(mix: Mix) -> tuple[float, bool]:
    """What is said about a mix, and whether it is right."""
    picture = classify(mix.sample, by_bytes=mix.by_bytes)
    said = confidence(picture, mix.sample, mix.normal, mix.severity)
    return said, picture.vectors[0].vector == mix.truth


def worst_bin(said: np.ndarray, right: np.ndarray) -> float:
    """The largest distance between what was said and what came true."""
    bins = [(said >= low) & (said <= high) for low, high in pairwise(EDGES)]
    return max(abs(float(said[one].mean() - right[one].mean())) for one in bins if one.sum() >= 30)


@pytest.fixture(scope="module")
def outcome() -> tuple[np.ndarray, np.ndarray]:
    """Of mixes that the weights were not fitted to."""
    answers = [told(mix) for mix in mixes(900, 4_711)]
    return np.array([said for said, _ in answers]), np.array([right for _, right in answers], float)


def test_what_is_said_comes_true_as_often(outcome: tuple[np.ndarray, np.ndarray]) -> None:
    said, right = outcome
    assert worst_bin(said, right) <= TOLERANCE
    # It tells cases apart: far better than saying the same number each time.
    assert ((said - right) ** 2).mean() <= 0.3 * right.mean() * (1 - right.mean())


def test_one_number_for_all_and_numbers_of_others_would_be_found_out(outcome: tuple[np.ndarray, np.ndarray]) -> None:
    said, right = outcome
    assert worst_bin(np.full(len(right), 0.9), right) > TOLERANCE
    assert worst_bin(np.random.default_rng(1).permutation(said), right) > TOLERANCE


def test_normal_traffic_is_not_new_and_a_flood_is() -> None:
    normal = pool(None)
    assert novelty(normal[::2], normal[1::2]) < 0.1
    assert novelty(pool(Vector("gre_flood")), normal) == 1.0
