"""Comparing two models on the same images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from darkroom.evaluation import significance
from darkroom.evaluation.metrics import Figures


def test_mcnemar_is_a_binomial_test():
    """The p-value is that of a binomial test on the images that exactly one model classifies correctly."""
    for won in range(12):
        for lost in range(12):
            first = np.array([False] * won + [True] * lost + [True] * 5 + [False] * 3)
            second = np.array([True] * won + [False] * lost + [True] * 5 + [False] * 3)
            expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
            assert significance.mcnemar(first, second) == pytest.approx(expected), (won, lost)


def test_the_one_sided_test_is_a_binomial_test():
    """The p-value of the sign test is that of as many wins or more."""
    for won in range(8):
        for lost in range(8):
            expected = binomtest(won, won + lost, alternative="greater").pvalue if won + lost else 1.0
            assert significance.sign_test(won, lost) == pytest.approx(expected), (won, lost)


@pytest.mark.parametrize("images", [60, 200, 359, 1000, 3000])
def test_a_detectable_difference_is_detected(images):
    """McNemar's exact test detects the difference with a probability near 0.8, of few images above it, where one model alone is
    right on 10%."""
    difference = significance.detectable(images)
    unequal = max(significance.DISAGREEMENT, difference)
    counts = np.arange(images + 1)
    critical = binom.isf(0.025, counts, 0.5) + 1  # wins from which the two-sided p-value is below 5%
    detected = binom.sf(critical - 1, counts, (1 + difference / unequal) / 2)
    power = (binom.pmf(counts, images, unequal) * detected).sum()
    assert 0.75 < power < (0.88 if images > 100 else 0.95)


def test_few_images_tell_nothing_apart():
    """Of five images no result is significant; more images tell smaller differences apart."""
    assert significance.detectable(5) is None
    differences = [significance.detectable(images) for images in (10, 50, 100, 1000, 10**6)]
    assert differences == sorted(differences, reverse=True)


def test_differences_are_those_of_the_figures():
    """The differences are those of `metrics.Figures`, and lie in their intervals; a model does not differ
    from itself."""
    draw = np.random.default_rng(0)
    labels, first, second = (draw.integers(0, 4, 90) for _ in range(3))
    second[:60] = labels[:60]
    labels[labels == 3] = 0  # a class that is predicted but has no images
    scores = [Figures(np.eye(4)[predicted], labels, 1).headlines() for predicted in (first, second)]
    groups = np.arange(90)
    for name, interval in significance.bootstrap(labels, first, second, 4, groups).items():
        assert interval.difference == pytest.approx(scores[1][name] - scores[0][name], abs=1e-6)
        assert 0 < interval.low < interval.difference < interval.high
    for interval in significance.bootstrap(labels, first, first, 4, groups).values():
        assert (interval.low, interval.difference, interval.high) == (0, 0, 0)


def test_resamples_do_not_depend_on_memory(monkeypatch):
    """The intervals are the same however many resamples are in memory at a time."""
    draw = np.random.default_rng(1)
    labels, first, second = (draw.integers(0, 3, 40) for _ in range(3))
    expected = significance.bootstrap(labels, first, second, 3, np.arange(40), resamples=101)
    monkeypatch.setattr(significance, "CELLS", 400)
    assert significance.bootstrap(labels, first, second, 3, np.arange(40), resamples=101) == expected


def test_intervals_hold_the_true_difference():
    """Over many sets of images, the interval of the accuracy holds the true difference in about 95% of
    cases."""
    draw, covered, sets = np.random.default_rng(2), 0, 200
    for number in range(sets):
        labels = np.zeros(200, int)
        first, second = (np.where(draw.random(200) < accuracy, 0, 1) for accuracy in (0.8, 0.9))
        interval = significance.bootstrap(labels, first, second, 2, np.arange(200), seed=number, resamples=300)["accuracy"]
        covered += interval.low <= 0.1 <= interval.high
    assert 0.9 < covered / sets < 0.98


def test_drops_of_classes():
    """The drop of a class is that of its recall; without examples it is 0."""
    labels = np.array([0, 0, 0, 0, 1, 1])
    first, second = np.array([0, 0, 0, 2, 1, 1]), np.array([0, 0, 1, 2, 1, 1])
    assert significance.class_drops(labels, first, second, 3).tolist() == [0.25, 0, 0]


def test_p_values_of_classes():
    """A class has a one-sided test by groups, corrected for the classes that have examples."""
    labels = np.repeat([0, 1], 6)
    first, second = labels.copy(), np.where(labels == 0, 1, labels)
    ps = significance.class_ps(labels, first, second, 3, np.arange(12))
    assert ps[:2] == pytest.approx([2 * 0.5**6, 1])
    assert math.isnan(ps[2])
    assert significance.class_ps(labels, first, second, 3, labels)[0] == 1  # one group: p 0.5, twice


def test_p_values_are_corrected_for_their_number():
    """Holm's correction: the smallest times the number of tests, never falling, never above one. A
    comparison without a p-value was made, and counts."""
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    corrected = significance.holm([0.01, math.nan, 0.02])
    assert (corrected[0], corrected[2]) == pytest.approx((0.03, 0.04))
    assert math.isnan(corrected[1])
    assert significance.holm([]) == []


def test_copies_do_not_narrow_the_interval():
    """The interval of images that are repeated ten times, each with its copies in one group, is that of the
    images once."""
    draw = np.random.default_rng(0)
    labels, first, second = (draw.integers(0, 3, 60) for _ in range(3))
    once = significance.bootstrap(labels, first, second, 3, np.arange(60))
    copies = significance.bootstrap(labels.repeat(10), first.repeat(10), second.repeat(10), 3, np.arange(60).repeat(10))
    for name, interval in once.items():
        assert (copies[name].low, copies[name].high) == pytest.approx((interval.low, interval.high))
