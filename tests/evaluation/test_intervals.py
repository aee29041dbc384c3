"""Intervals of figures and pairs of models, over resampled images."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import intervals
from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.significance import bootstrap, draws, holm, mcnemar, percentiles


def probabilities(labels: np.ndarray, accuracy: float, classes: int, seed: int) -> np.ndarray:
    """Return probabilities with about this accuracy."""
    draw = np.random.default_rng(seed)
    chosen = np.where(draw.random(len(labels)) < accuracy, labels, draw.integers(0, classes, len(labels)))
    return 0.6 * draw.dirichlet(np.ones(classes), len(labels)) + 0.4 * np.eye(classes)[chosen]


def test_a_resampled_figure_is_that_of_the_images_written_out():
    """Every headline figure of a resample is that of its images, each as often as it was drawn."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 50)
    values = probabilities(labels, 0.6, 5, 1)  # the last class has no images
    resampled = intervals.resample(Figures(values, labels, 2), np.arange(50), resamples=6)
    times = np.concatenate(list(draws(np.arange(50), resamples=6)), 1).astype(int)
    assert (times.sum(0) == 50).all()
    for r in range(6):
        rows = np.repeat(np.arange(50), times[:, r])
        expected = Figures(values[rows], labels[rows], 2).headlines()
        assert {key: figure[r] for key, figure in resampled.items()} == pytest.approx(expected, abs=1e-6)


def test_images_of_a_group_are_drawn_together():
    """A resample has all images of a group equally often, and as many groups as there are."""
    groups = np.array(["x", "y", "x", "z", "x", "y"])
    for times in draws(groups, resamples=20):
        assert (times[0] == times[2]).all()
        assert (times[0] == times[4]).all()
        assert (times[1] == times[5]).all()
        assert (times[[0, 1, 3]].sum(0) == 3).all()


def test_copies_do_not_narrow_intervals():
    """The interval of images that are repeated ten times is as wide as that of the images once."""
    labels = np.arange(60) % 2
    values = probabilities(labels, 0.7, 2, 0)
    once = intervals.resample(Figures(values, labels, 1), np.arange(60))
    copied = intervals.resample(Figures(values.repeat(10, 0), labels.repeat(10), 1), np.arange(60).repeat(10))
    assert percentiles(copied["accuracy"]) == pytest.approx(percentiles(once["accuracy"]))
    alone = intervals.resample(Figures(values.repeat(10, 0), labels.repeat(10), 1), np.arange(600))
    wide, narrow = (np.diff(percentiles(resampled["accuracy"])) for resampled in (once, alone))
    assert wide > 2 * narrow


@pytest.mark.slow
def test_intervals_hold_the_true_accuracy():
    """Over many sets of images, the interval holds the true accuracy in about 95% of cases."""
    covered, sets, labels = 0, 200, np.zeros(200, int)
    for number in range(sets):
        correct = np.random.default_rng(number).random(200) < 0.8
        values = np.where(correct[:, None], [0.9, 0.1], [0.1, 0.9])
        low, high = percentiles(intervals.resample(Figures(values, labels, 1), np.arange(200), number, 300)["accuracy"])
        covered += low <= 0.8 <= high
    assert 0.9 < covered / sets < 0.98


def test_pairs_are_paired_and_corrected():
    """Differences are accuracy a minus b, p-values McNemar's and Holm's, and the interval is that of the
    paired bootstrap."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 300)
    groups = np.arange(300)
    accuracies = {"a": 0.9, "b": 0.5, "c": 0.5}
    models = {name: probabilities(labels, accuracy, 3, seed) for seed, (name, accuracy) in enumerate(accuracies.items())}
    models["d"] = models["c"]
    resampled = {name: intervals.resample(Figures(values, labels, 1), groups) for name, values in models.items()}
    pairs = intervals.pairs(models, labels, resampled, groups)
    assert [(pair.a, pair.b) for pair in pairs] == [(a, b) for a, b in ("ab", "ac", "ad", "bc", "bd", "cd")]
    correct = {name: values.argmax(1) == labels for name, values in models.items()}
    for pair in pairs:
        one, two = correct[pair.a], correct[pair.b]
        assert pair.difference == pytest.approx(one.mean() - two.mean())
        assert pair.low <= pair.difference <= pair.high
        assert pair.mcnemar_p == mcnemar(one, two)
        other = bootstrap(labels, models[pair.b].argmax(1), models[pair.a].argmax(1), 3, groups)["accuracy"]
        assert (pair.low, pair.high) == pytest.approx((other.low, other.high), abs=0.01)
    assert [pair.p_holm for pair in pairs] == holm([pair.mcnemar_p for pair in pairs])
    assert (pairs[-1].low, pairs[-1].high, pairs[-1].mcnemar_p) == (0, 0, 1)


def test_copies_make_no_pair_more_significant():
    """Repeated images have the p-value of the images once; a group of which both models win half counts for
    neither."""
    labels = np.zeros(40, int)
    models = {name: probabilities(labels, accuracy, 2, seed) for seed, (name, accuracy) in enumerate({"a": 0.9, "b": 0.7}.items())}

    def p(times: int) -> float:
        many, true, groups = {name: values.repeat(times, 0) for name, values in models.items()}, labels.repeat(times), np.arange(40)
        members = groups.repeat(times)
        resampled = {name: intervals.resample(Figures(values, true, 1), members, resamples=20) for name, values in many.items()}
        return intervals.pairs(many, true, resampled, members)[0].mcnemar_p

    assert p(10) == p(1) == mcnemar(*(values.argmax(1) == labels for values in models.values()))
    one, two = np.array([True, False, True]), np.array([False, True, False])
    assert mcnemar(one, two, np.array([0, 0, 1])) == mcnemar(one[2:], two[2:])


@pytest.mark.parametrize(("accuracy", "expected"), [(1.0, (0.8865, 1)), (0.0, (0, 0.1135))])
def test_a_sample_without_errors_does_not_exclude_them(accuracy, expected):
    """Where all predictions are correct, or all wrong, the interval is Wilson's for as many images as there are groups."""
    labels, groups = np.zeros(60, int), np.arange(60) // 2
    figures = Figures(np.tile([accuracy, 1 - accuracy], (60, 1)), labels, 1)
    edges = intervals.around(figures.headlines(), intervals.resample(figures, groups, resamples=20), groups)
    assert edges["accuracy"] == pytest.approx(expected, abs=1e-4)
    assert edges["balanced_accuracy"] == edges["accuracy"]


def test_intervals_of_shares_are_wilsons():
    """Of independent images the interval is Wilson's: 66 of 67 correct, 0.92 to 0.997. Copies do not narrow it."""
    labels = np.zeros(67, int)
    values = np.tile([0.9, 0.1], (67, 1))
    values[0] = [0.1, 0.9]
    for copies in (1, 4):
        figures, groups = Figures(values.repeat(copies, 0), labels.repeat(copies), 1), np.arange(67).repeat(copies)
        low, high = intervals.around(figures.headlines(), intervals.resample(figures, groups), groups)["accuracy"]
        assert (low, high) == pytest.approx((0.9201, 0.9974), abs=0.004)


def test_intervals_of_high_shares_hold_the_true_one():
    """Of few images and a high accuracy, where percentiles of resamples hold the true value in 0.85 of cases, the interval
    holds it in about 95%; for groups of images as well."""
    covered = {1: 0, 4: 0}
    for members in covered:
        for number in range(200):
            correct = (np.random.default_rng(number).random(67) < 0.95).repeat(members)
            values, groups = np.where(correct[:, None], [0.9, 0.1], [0.1, 0.9]), np.arange(67).repeat(members)
            figures = Figures(values, np.zeros(len(values), int), 1)
            resampled = {"accuracy": intervals.resample(figures, groups, number, 200)["accuracy"]}
            low, high = intervals.around({"accuracy": float(correct.mean())}, resampled, groups)["accuracy"]
            covered[members] += low <= 0.95 <= high
    assert all(0.91 <= count / 200 <= 0.99 for count in covered.values())


def test_the_interval_of_a_calibrated_model_holds_zero():
    """Chance makes gaps: the interval of an exactly calibrated model mostly holds 0, that of an overconfident
    one never."""
    labels, groups, zeros = np.zeros(300, int), np.arange(300), {0.0: 0, 0.3: 0}
    for seed in range(20):
        draw = np.random.default_rng(seed)
        confidence = draw.uniform(0.5, 1, 300)
        for excess in zeros:
            true = np.where(draw.random(300) < confidence - excess, confidence, 1 - confidence)
            figures = Figures(np.stack([true, 1 - true], 1), labels, 1)
            resampled = intervals.resample(figures, groups, resamples=200)
            low, high = intervals.around(figures.headlines(), resampled, groups)["ece"]
            assert 0 <= low < high
            zeros[excess] += low == 0
    assert zeros[0.0] >= 14
    assert zeros[0.3] == 0
