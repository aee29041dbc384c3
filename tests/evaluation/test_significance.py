"""Comparing two models on the same images."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import metrics, significance


def test_mcnemar_is_the_binomial_test_of_what_only_one_has_right():
    """The p-value is that of a binomial test on the images that one model alone has right; the others do not matter."""
    from scipy.stats import binomtest

    for won in range(12):
        for lost in range(12):
            first = np.array([False] * won + [True] * lost + [True] * 5 + [False] * 3)
            second = np.array([True] * won + [False] * lost + [True] * 5 + [False] * 3)
            expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
            assert significance.mcnemar(first, second) == pytest.approx(expected), (won, lost)


def test_differences_are_those_of_the_figures():
    """The differences are those of `metrics.score`, and lie in their intervals; a model does not differ from itself."""
    draw = np.random.default_rng(0)
    labels, first, second = (draw.integers(0, 4, 90) for _ in range(3))
    second[:60] = labels[:60]
    labels[labels == 3] = 0  # a class that is predicted and not there
    scored = [metrics.score(np.eye(4)[predicted], labels, ("a", "b", "c", "d"), 1) for predicted in (first, second)]
    for name, found in significance.bootstrap(labels, first, second, 4).items():
        assert found.difference == pytest.approx(scored[1][name] - scored[0][name], abs=1e-6)
        assert 0 < found.low < found.difference < found.high
    for found in significance.bootstrap(labels, first, first, 4).values():
        assert (found.low, found.difference, found.high) == (0, 0, 0)


def test_resamples_do_not_depend_on_memory(monkeypatch):
    """The same intervals come out however many resamples are kept at a time."""
    draw = np.random.default_rng(1)
    labels, first, second = (draw.integers(0, 3, 40) for _ in range(3))
    whole = significance.bootstrap(labels, first, second, 3, resamples=101)
    monkeypatch.setattr(significance, "CELLS", 400)
    assert significance.bootstrap(labels, first, second, 3, resamples=101) == whole


def test_intervals_hold_the_true_difference():
    """Over many sets of images, the interval of the accuracy holds the true difference about as often as it says."""
    draw, held, sets = np.random.default_rng(2), 0, 300
    for number in range(sets):
        labels = np.zeros(200, int)
        first, second = (np.where(draw.random(200) < right, 0, 1) for right in (0.8, 0.9))
        found = significance.bootstrap(labels, first, second, 2, seed=number, resamples=300)["accuracy"]
        held += found.low <= 0.1 <= found.high
    assert 0.91 < held / sets < 0.98


def test_drops_of_classes():
    """A class loses what its recall falls by; one without examples loses nothing."""
    labels = np.array([0, 0, 0, 0, 1, 1])
    first, second = np.array([0, 0, 0, 2, 1, 1]), np.array([0, 0, 1, 2, 1, 1])
    assert significance.class_drops(labels, first, second, 3).tolist() == [0.25, 0, 0]
