"""Fits the weights of `sensors.confidence` to generated mixes: `PYTHONPATH=.:tests/lib python tests/lib/fitting.py`
takes minutes and prints them. Tests use other seeds, whose mixes are made from other packets.
"""

import numpy as np
from hard_mixes import Mix, hard_mixes
from numpy.typing import NDArray

from sensors.classify import Picture, classify
from sensors.confidence import FEATURES, features

FITTED = range(1, 13)
"""Seeds that nothing else may use."""
_RIDGE = 1.0
Floats = NDArray[np.float64]


def pictured(mix: Mix) -> Picture:
    """A mix, classified."""
    return classify(mix.sample, by_bytes=mix.by_bytes, first=mix.first, background=mix.background)


def is_right(mix: Mix, picture: Picture) -> bool:
    """Whether there is an attack, and its first vector is that which makes most of it."""
    return picture.vectors[0].vector == mix.truth


def fitted(values: Floats, right: Floats) -> Floats:
    """Weights of a logistic model, by Newton's method; the first feature is the constant, which is free."""
    weights, ridge = np.zeros(values.shape[1]), np.diag([0.001, *[_RIDGE] * (values.shape[1] - 1)])
    for _ in range(50):
        said = 1 / (1 + np.exp(-values @ weights))
        slope = values.T @ (right - said) - ridge @ weights
        weights = weights + np.linalg.solve((values.T * (said * (1 - said))) @ values + ridge, slope)
    return weights


def main() -> None:
    """Prints the weights."""
    values, right = [], []
    for seed in FITTED:
        for mix in hard_mixes(250, seed):
            picture = pictured(mix)
            values.append(features(picture, mix.sample, mix.normal, mix.severity))
            right.append(is_right(mix, picture))
    for name, weight in zip(FEATURES, fitted(np.array(values), np.array(right, float)), strict=True):
        print(f"{weight:7.2f}  {name}")


if __name__ == "__main__":
    main()
