"""Areas under the ROC curve and average precision, against scikit-learn and by the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.evaluation import rank_metrics

CASES = st.tuples(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 5), st.sampled_from([1, 3, 50]))


def case(seed: int, count: int, classes: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores with few or many ties, labels, and how often each image counts in three resamples, the first one plain."""
    draw = np.random.default_rng(seed)
    sizes = np.concatenate([np.ones((count, 1)), draw.integers(0, 3, (count, 2))], 1)
    return draw.integers(0, steps + 1, (count, classes)) / steps, draw.integers(0, classes, count), sizes


@settings(deadline=None)
@given(CASES)
def test_they_are_those_of_scikit_learn(given_case):
    """Both areas are scikit-learn's, with weights, ties, and classes without images, which have none."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, labels, sizes = case(*given_case)
    found = rank_metrics.Areas(scores, labels).of(sizes)
    for c in range(scores.shape[1]):
        for r in range(sizes.shape[1]):
            held = sizes[:, r] > 0
            truth, score, weight = (labels == c)[held], scores[held, c], sizes[held, r]
            if truth.any() and not truth.all():
                expected = [of(truth, score, sample_weight=weight) for of in (roc_auc_score, average_precision_score)]
                assert [area[c, r] for area in found] == pytest.approx(expected, abs=1e-12)
            else:
                assert all(np.isnan(area[c, r]) for area in found)


@settings(deadline=None)
@given(CASES)
def test_a_resample_is_the_images_written_out(given_case):
    """Counting an image twice is the same as having it twice, in float32 as in float64."""
    scores, labels, sizes = case(*given_case)
    found = rank_metrics.Areas(scores, labels).of(sizes.astype(np.float32))
    for r in range(sizes.shape[1]):
        rows = np.repeat(np.arange(len(labels)), sizes[:, r].astype(int))
        if len(rows):
            written = rank_metrics.Areas(scores[rows], labels[rows]).of(np.ones((len(rows), 1)))
            for one, other in zip(found, written, strict=True):
                np.testing.assert_allclose(one[:, r], other[:, 0], atol=1e-5)


def test_the_mean_leaves_out_what_is_not_defined(recwarn):
    """The macro average is over classes that have an area; where none has, there is none."""
    found = rank_metrics.mean(np.array([[0.5, np.nan], [1.0, np.nan], [np.nan, np.nan]]))
    assert found[0] == 0.75
    assert np.isnan(found[1])
    assert not recwarn
