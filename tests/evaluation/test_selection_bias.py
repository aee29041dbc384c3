"""What a search has gained, corrected for the choice of the best of many trials."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import selection_bias
from darkroom.evaluation.selection_bias import Gain

IMAGES = 100
GROUPS = np.array([f"group {i}" for i in range(IMAGES)])


def trials(shares: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return log losses and correctness of trials that classify each image correctly with their share; confidence is 0.8."""
    correct = np.random.default_rng(seed).random((len(shares), IMAGES)) < shares[:, None]
    return -np.log(np.where(correct, 0.8, 0.2)), correct


def gain_of(shares: np.ndarray, seed: int = 0, groups: np.ndarray = GROUPS) -> Gain:
    """Return the gain of the best trial over the first."""
    losses, correct = trials(shares, seed)
    return selection_bias.estimate(losses, correct, [0], range(len(shares)), groups, seed)


def test_the_best_of_equal_trials_has_gained_nothing():
    """Of 40 equal trials the best leads by points on the images that chose it; a gain is claimed in 5% of the cases at most."""
    gains = [gain_of(np.full(40, 0.8), seed) for seed in range(60)]
    assert np.mean([gain.naive_accuracy for gain in gains]) > 0.05
    assert abs(np.mean([gain.accuracy.difference for gain in gains])) < 0.01
    assert np.mean([gain.is_accuracy_gained or gain.is_log_loss_gained for gain in gains]) <= 0.05


def test_a_large_gain_is_found():
    """A trial that is 25 points better is claimed as a gain of about so much, and its log loss as lower."""
    gain = gain_of(np.array([0.65, *[0.6] * 10, 0.9]))
    assert gain.is_accuracy_gained
    assert gain.is_log_loss_gained
    assert gain.accuracy.low < 0.25 < gain.accuracy.high


def test_the_reference_alone_gains_exactly_nothing():
    """Where the reference is the only candidate, every resample's gain is 0."""
    losses, correct = trials(np.array([0.7, 0.9]), 0)
    gain = selection_bias.estimate(losses, correct, [0], [0], GROUPS)
    assert (gain.accuracy.difference, gain.accuracy.low, gain.accuracy.high, gain.naive_accuracy) == (0, 0, 0, 0)


def test_copies_are_drawn_together():
    """Nine more copies of each image, in its group, leave the interval as it is; as images of their own they would narrow it."""
    losses, correct = trials(np.array([0.6, 0.8]), 1)
    one = selection_bias.estimate(losses, correct, [0], [0, 1], GROUPS)
    repeated = np.repeat(losses, 10, 1), np.repeat(correct, 10, 1)
    copies = selection_bias.estimate(*repeated, [0], [0, 1], np.repeat(GROUPS, 10))
    apart = selection_bias.estimate(*repeated, [0], [0, 1], np.arange(10 * IMAGES))
    width, of_copies, of_apart = (gain.accuracy.high - gain.accuracy.low for gain in (one, copies, apart))
    assert of_copies == pytest.approx(width, rel=0.1)
    assert of_apart < 0.5 * width
