"""Confidence against accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import calibration


def test_calibration_error():
    """It is the share-weighted gap between how sure a model is and how often it is right."""
    sure = np.array([[0.9, 0.1]] * 10)
    assert calibration.error(sure, np.array([0] * 9 + [1])) == pytest.approx(0)
    assert calibration.error(sure, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.4)
    both = np.concatenate([sure, np.array([[0.4, 0.6]] * 10)])
    labels = np.array([0] * 5 + [1] * 5 + [1] * 10)
    assert calibration.error(both, labels) == pytest.approx(0.4)
    assert calibration.error(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 0])) == 0


def test_intervals_are_open_below():
    """A confidence on a bound belongs to the interval below it; certainty belongs to the last one, as does nothing above."""
    for confidence, place in ((0.6, 8), (0.6001, 9), (1.0, 14)):
        bins = calibration.reliability(np.array([[confidence, 1 - confidence]]), np.array([0]))
        assert [item["count"] for item in bins].index(1) == place


def test_the_error_is_what_the_reliability_curve_shows():
    """Images are in one interval each, and the gaps of the intervals, weighted by their images, are the error."""
    draw = np.random.default_rng(0)
    said, labels = draw.dirichlet(np.ones(4), 300), draw.integers(0, 4, 300)
    bins = calibration.reliability(said, labels)
    assert (len(bins), bins[0]["low"], bins[-1]["high"]) == (15, 0, 1)
    assert sum(item["count"] for item in bins) == 300
    assert all((item["confidence"] is None) == (item["count"] == 0) for item in bins)
    filled = [item for item in bins if item["count"]]
    assert all(item["low"] < item["confidence"] <= item["high"] for item in filled)
    gaps = sum(item["count"] * abs(item["accuracy"] - item["confidence"]) for item in filled) / 300
    assert gaps == pytest.approx(calibration.error(said, labels))
