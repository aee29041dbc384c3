"""Areas under the ROC curve and average precision, against scikit-learn and by the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from darkroom.evaluation.metrics import Areas, mean_area

SETTINGS = settings(deadline=None, max_examples=30, derandomize=True)
CASES = st.tuples(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 5), st.sampled_from([1, 3, 50]))


def case(seed: int, count: int, classes: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores with few or many ties, labels, and how often each image counts in three resamples, once
    in the first."""
    draw = np.random.default_rng(seed)
    times = np.concatenate([np.ones((count, 1)), draw.integers(0, 3, (count, 2))], 1)
    return draw.integers(0, steps + 1, (count, classes)) / steps, draw.integers(0, classes, count), times


@pytest.mark.slow
@SETTINGS
@given(CASES)
def test_areas_agree_with_scikit_learn(drawn):
    """Both areas are scikit-learn's, with weights, ties, and classes without images, which have none."""
    scores, labels, times = case(*drawn)
    areas = Areas(scores, labels).of(times)
    for c in range(scores.shape[1]):
        for r in range(times.shape[1]):
            drawn_images = times[:, r] > 0
            truth, score, weight = (labels == c)[drawn_images], scores[drawn_images, c], times[drawn_images, r]
            if truth.any() and not truth.all():
                expected = [metric(truth, score, sample_weight=weight) for metric in (roc_auc_score, average_precision_score)]
                assert [area[c, r] for area in areas] == pytest.approx(expected, abs=1e-12)
            else:
                assert all(np.isnan(area[c, r]) for area in areas)


@SETTINGS
@given(CASES)
def test_a_resample_equals_repeated_images(drawn):
    """Counting an image twice equals repeating it, in float32 as in float64."""
    scores, labels, times = case(*drawn)
    areas = Areas(scores, labels).of(times.astype(np.float32))
    for r in range(times.shape[1]):
        rows = np.repeat(np.arange(len(labels)), times[:, r].astype(int))
        if len(rows):
            repeated = Areas(scores[rows], labels[rows]).of(np.ones((len(rows), 1)))
            for one, other in zip(areas, repeated, strict=True):
                np.testing.assert_allclose(one[:, r], other[:, 0], atol=1e-5)


def test_the_mean_leaves_out_what_is_not_defined(recwarn):
    """The macro average is over classes that have an area, and NaN where none has."""
    means = mean_area(np.array([[0.5, np.nan], [1.0, np.nan], [np.nan, np.nan]]))
    assert means[0] == 0.75
    assert np.isnan(means[1])
    assert not recwarn
