"""Prediction sets hold the true class as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.core.errors import ParamsError
from darkroom.models import prediction_sets
from darkroom.models.prediction_sets import MIN_PER_CLASS, NO_SCORES, ConformalScores
from darkroom.models.probabilities import softmax


def drawn(rng, count, classes=4, shift=1.5):
    """Return probabilities of an overconfident network and labels: the first class is the hardest."""
    labels = np.arange(count) % classes
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += np.where(labels == 0, 0.3, shift)
    return softmax(3 * logits), labels


@pytest.mark.parametrize(("images", "coverage"), [(30, 0.8), (100, 0.9), (150, 0.95)])
def test_sets_cover_as_often_as_they_say(images, coverage):
    """Whatever the network is, on average over draws of calibration images the share of covered images is the coverage, up to
    one image in N + 1."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        probabilities, labels = drawn(rng, images)
        new, expected = drawn(rng, 400)
        sets = ConformalScores.of(probabilities, labels).sets(new, coverage)
        covered.append(sets[np.arange(400), expected].mean())
    error = np.std(covered) / 20
    assert coverage - 4 * error <= np.mean(covered) <= coverage + 1 / (images + 1) + 4 * error


def test_a_class_with_enough_images_has_its_own_threshold():
    """With MIN_PER_CLASS images of each class the hardest class is covered as often as the others, with fewer it is not."""
    rng = np.random.default_rng(1)
    shares = {}
    for images in (4 * MIN_PER_CLASS, 4 * MIN_PER_CLASS - 8):
        covered = []
        for _ in range(100):
            sets = ConformalScores.of(*drawn(rng, images)).sets((new := drawn(rng, 400))[0], 0.8)
            covered.append(sets[np.arange(400), new[1]][new[1] == 0].mean())
        shares[images] = np.mean(covered)
    own, shared = shares.values()
    assert own == pytest.approx(0.8, abs=0.03)
    assert shared < 0.7


def test_a_class_with_too_few_images_for_a_coverage_shares_the_threshold():
    """A coverage of 0.99 needs 99 images: a class that has MIN_PER_CLASS of them is not in every set for it."""
    scores = ConformalScores.of(*drawn(np.random.default_rng(4), 4 * MIN_PER_CLASS))
    assert len(set(scores.thresholds(0.99, 4))) == 1
    assert scores.thresholds(0.99, 4).max() < 1


def test_sets_are_named_with_the_most_probable_class_first():
    """A set may have several classes, or none where no class is as probable as true ones usually are."""
    scores = ConformalScores(tuple(0.01 * i for i in range(1, 100)), (0,) * 99)
    probabilities = np.array([[0.5, 0.3, 0.2], [0.05, 0.9, 0.05], [0.34, 0.33, 0.33]])
    assert scores.named_sets(probabilities, 0.7, "abc") == [["a", "b"], ["b"], ["a", "b", "c"]]
    assert scores.named_sets(probabilities, 0.3, "abc") == [[], ["b"], []]


def test_a_coverage_that_cannot_be_had_is_refused():
    """No coverage is promised that the calibration images are too few for: the remedy names the largest one."""
    rng = np.random.default_rng(2)
    scores = ConformalScores.of(*drawn(rng, 19))
    scores.check(0.95)
    assert scores.sets(drawn(rng, 10)[0], 0.95).any(1).all()
    for refused, coverage, fact in [(scores, 0.96, "at most 0.95"), (scores, 1.0, "between"), (NO_SCORES, 0.9, "dvc repro")]:
        with pytest.raises(ParamsError) as error:
            refused.sets(drawn(rng, 10)[0], coverage)
        assert fact in error.value.remedy
    assert set(scores.table(4)) == {"0.8", "0.9", "0.95"}
    assert NO_SCORES.table(4) == {}


def test_very_many_scores_are_thinned(monkeypatch):
    """Of more scores than MAX_SCORES evenly drawn ones are kept, and the thresholds hardly change."""
    probabilities, labels = drawn(np.random.default_rng(3), 2000)
    full = ConformalScores.of(probabilities, labels)
    monkeypatch.setattr(prediction_sets, "MAX_SCORES", 500)
    few = ConformalScores.of(probabilities, labels)
    assert len(few.scores) == 500
    assert list(few.scores) == sorted(few.scores)
    assert np.allclose(full.thresholds(0.9, 4), few.thresholds(0.9, 4), atol=0.02)
