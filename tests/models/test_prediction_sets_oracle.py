"""Prediction sets are those of MAPIE, an implementation of conformal prediction by others."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from darkroom.models.prediction_sets import ConformalScores
from tests.models.test_prediction_sets import drawn

CLASSES = 4


class Identity(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are the probabilities themselves."""

    classes_ = np.arange(CLASSES)
    n_features_in_ = CLASSES

    def fit(self, inputs, labels):
        return self

    def predict_proba(self, inputs):
        return inputs

    def predict(self, inputs):
        return inputs.argmax(1)

    def __sklearn_is_fitted__(self):
        return True


def mapie_sets(probabilities, labels, new, coverage):
    """Return MAPIE's sets (N, C) bool of new images, by the score 1 − p, which it calls least ambiguous (LAC)."""
    mapie = pytest.importorskip("mapie.classification", reason="the extra dev is not installed")
    conformal = mapie.SplitConformalClassifier(Identity(), confidence_level=coverage, conformity_score="lac", prefit=True)
    return conformal.conformalize(probabilities, labels).predict_set(new)[1][:, :, 0]


@pytest.mark.parametrize(("images", "coverage"), [(30, 0.8), (100, 0.9), (61, 0.9), (150, 0.95), (196, 0.99)])
def test_sets_are_those_of_mapie(images, coverage):
    """With one threshold for all classes every set is MAPIE's, also where (N + 1) times the coverage is no whole number."""
    rng = np.random.default_rng(5)
    probabilities, labels = drawn(rng, images)
    new, _ = drawn(rng, 500)
    sets = ConformalScores.of(probabilities, labels).sets(new, coverage)
    assert 0 < sets.mean() < 1
    assert np.array_equal(sets, mapie_sets(probabilities, labels, new, coverage))


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset")
def test_sets_by_class_are_those_of_mapie_on_its_images():
    """A class with a threshold of its own is in the sets in which MAPIE has it that was calibrated on its images alone."""
    rng = np.random.default_rng(6)
    probabilities, labels = drawn(rng, 100 * CLASSES)
    new, _ = drawn(rng, 500)
    sets = ConformalScores.of(probabilities, labels).sets(new, 0.9)
    for number in range(CLASSES):
        own = labels == number
        expected = mapie_sets(probabilities[own], labels[own], new, 0.9)
        assert np.array_equal(sets[:, number], expected[:, number])
