"""The hidden units of a perceptron from equal and from different initial weights."""

from __future__ import annotations

import numpy as np

from darkroom.lab import symmetry


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 1, 8, 8) with a bright row that is the class."""
    labels = np.arange(count) % 3
    pixels = np.random.default_rng(0).integers(0, 60, (count, 1, 8, 8), np.uint8)
    pixels[np.arange(count), 0, 2 * labels + 1] += 150
    return pixels, labels


def test_equal_units_stay_equal_and_different_ones_learn():
    """Units with equal weights change, and stay one unit; units with random weights stay different, and learn more."""
    constant, random = (symmetry.train(scheme, images(96), images(48), 5, 60, 0) for scheme in ("constant", "kaiming"))
    assert (symmetry.count_distinct(constant.before), constant.distinct) == (1, 1)
    assert np.abs(constant.after - constant.before).max() > 0.01
    assert random.distinct == 5
    assert random.accuracy > constant.accuracy
    again = symmetry.train("kaiming", images(96), images(48), 5, 60, 0)
    assert np.array_equal(again.after, random.after)


def test_rounding_makes_no_units_different():
    """Units that differ by less than the tolerance are one, wherever their weights lie; others are counted each."""
    weights = np.random.default_rng(0).normal(size=(1, 16, 16)).repeat(30, 0)
    noisy = weights + np.random.default_rng(1).normal(0, 1e-6, weights.shape)
    assert symmetry.count_distinct(noisy) == 1
    noisy[3:5] += 0.1
    assert symmetry.count_distinct(noisy) == 2
