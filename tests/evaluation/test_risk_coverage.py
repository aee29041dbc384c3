"""How accurate a model is on the images that it answers."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import risk_coverage
from darkroom.models.abstention import Threshold


def test_a_doubt_that_knows_the_mistakes_has_the_least_area():
    """Refusing the mistakes first is best, refusing them last worst, and a doubt that knows nothing costs the error rate."""
    correct = np.arange(100) >= 20
    best, worst = risk_coverage.area(correct, ~correct + 0.0), risk_coverage.area(correct, correct + 0.0)
    assert best < 0.03
    assert risk_coverage.area(correct, np.zeros(100)) == pytest.approx(0.2)
    assert worst > 0.4
    rng = np.random.default_rng(0)
    assert np.mean([risk_coverage.area(correct, rng.random(100)) for _ in range(300)]) == pytest.approx(0.2, abs=0.01)


def test_a_curve_ends_where_every_image_is_answered():
    """Its last point is the accuracy on all images, its first that on the least doubtful one; equal doubts share their mean."""
    correct, doubt = np.array([True, False, True, True]), np.array([0.1, 0.4, 0.2, 0.2])
    shares = risk_coverage.curve(correct, doubt)
    assert [(share.answered, share.accuracy) for share in shares] == [(0.25, 1), (0.5, 1), (0.75, 1), (1, 0.75)]
    tied = risk_coverage.curve(np.array([True, False]), np.zeros(2))
    assert [share.accuracy for share in tied] == [0.5, 0.5]
    assert len(risk_coverage.curve(np.ones(500, bool), np.arange(500.0))) == risk_coverage.POINTS


def test_what_a_threshold_refuses():
    """The share that is unknown, and the accuracy on the others; None where none is answered."""
    correct, distances = np.array([True, False, True, False]), np.array([1.0, 2.0, 3.0, np.nan])
    abstention = risk_coverage.abstention(correct, distances, Threshold(0.02, 2.5, 60, False))
    assert (abstention.refused, abstention.accuracy, abstention.val_images) == (0.5, 0.5, 60)
    assert risk_coverage.abstention(correct, distances, Threshold(0.02, 0.5, 60, False)).accuracy is None
