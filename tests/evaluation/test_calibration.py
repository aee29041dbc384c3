"""Calibration error and reliability curves."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import calibration


def test_calibration_error():
    """The error is the gap between confidence and accuracy, weighted by the share of images."""
    confident = np.array([[0.9, 0.1]] * 10)
    assert calibration.error(confident, np.array([0] * 9 + [1])) == pytest.approx(0)
    assert calibration.error(confident, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.4)
    both = np.concatenate([confident, np.array([[0.4, 0.6]] * 10)])
    labels = np.array([0] * 5 + [1] * 5 + [1] * 10)
    assert calibration.error(both, labels) == pytest.approx(0.4)
    assert calibration.error(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 0])) == 0


def test_intervals_are_open_below():
    """A confidence on a bound belongs to the interval below it; a confidence of 1 belongs to the last one."""
    for confidence, place in ((0.6, 8), (0.6001, 9), (1.0, 14)):
        bins = calibration.reliability(np.array([[confidence, 1 - confidence]]), np.array([0]))
        assert [item.count for item in bins].index(1) == place


def test_the_error_follows_from_the_reliability_curve():
    """Each image is in one interval, and the error is the mean gap of the intervals, weighted by their
    images."""
    draw = np.random.default_rng(0)
    probabilities, labels = draw.dirichlet(np.ones(4), 300), draw.integers(0, 4, 300)
    bins = calibration.reliability(probabilities, labels)
    assert (len(bins), bins[0].low, bins[-1].high) == (15, 0, 1)
    assert sum(item.count for item in bins) == 300
    assert all((item.confidence is None) == (item.count == 0) for item in bins)
    filled = [item for item in bins if item.count]
    assert all(item.low < item.confidence <= item.high for item in filled)
    gaps = sum(item.count * abs(item.accuracy - item.confidence) for item in filled) / 300
    assert gaps == pytest.approx(calibration.error(probabilities, labels))
