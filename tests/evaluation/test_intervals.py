"""Intervals of figures and pairs of models, over resampled images."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import intervals
from darkroom.evaluation.metrics import Figures, score
from darkroom.evaluation.seed_comparison import holm
from darkroom.evaluation.significance import bootstrap, mcnemar


def said(labels: np.ndarray, right: float, classes: int, seed: int) -> np.ndarray:
    """Return probabilities that are right about this often."""
    draw = np.random.default_rng(seed)
    chosen = np.where(draw.random(len(labels)) < right, labels, draw.integers(0, classes, len(labels)))
    return 0.6 * draw.dirichlet(np.ones(classes), len(labels)) + 0.4 * np.eye(classes)[chosen]


def test_a_resampled_figure_is_that_of_the_images_written_out():
    """Every headline figure of a resample is what `score` says of its images, each as often as it was drawn."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 50)
    given = said(labels, 0.6, 5, 1)  # the last class has no images
    found = intervals.resample(Figures(given, labels, 2), np.arange(50), resamples=6)
    sizes = np.concatenate(list(intervals.draws(np.arange(50), resamples=6)), 1).astype(int)
    assert (sizes.sum(0) == 50).all()
    for r in range(6):
        rows = np.repeat(np.arange(50), sizes[:, r])
        expected = score(given[rows], labels[rows], tuple("abcde"), 2)
        assert {key: values[r] for key, values in found.items()} == pytest.approx({key: expected[key] for key in found}, abs=1e-6)


def test_copies_of_a_picture_come_together():
    """A resample has all images of a group equally often, and as many groups as there are."""
    groups = np.array(["x", "y", "x", "z", "x", "y"])
    for sizes in intervals.draws(groups, resamples=20):
        assert (sizes[0] == sizes[2]).all()
        assert (sizes[0] == sizes[4]).all()
        assert (sizes[1] == sizes[5]).all()
        assert (sizes[[0, 1, 3]].sum(0) == 3).all()


def test_copies_make_figures_less_sure():
    """The interval of images that are there ten times each is as wide as that of the images once."""
    labels = np.arange(60) % 2
    given = said(labels, 0.7, 2, 0)
    once = intervals.resample(Figures(given, labels, 1), np.arange(60))
    copied = intervals.resample(Figures(given.repeat(10, 0), labels.repeat(10), 1), np.arange(60).repeat(10))
    assert intervals.interval(copied["accuracy"]) == pytest.approx(intervals.interval(once["accuracy"]))
    alone = intervals.resample(Figures(given.repeat(10, 0), labels.repeat(10), 1), np.arange(600))
    wide, narrow = (np.diff(intervals.interval(values["accuracy"])) for values in (once, alone))
    assert wide > 2 * narrow


def test_intervals_hold_the_true_accuracy():
    """Over many sets of images, the interval holds the true accuracy about as often as it says."""
    held, sets, labels = 0, 200, np.zeros(200, int)
    for number in range(sets):
        right = np.random.default_rng(number).random(200) < 0.8
        given = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
        low, high = intervals.interval(intervals.resample(Figures(given, labels, 1), np.arange(200), number, 300)["accuracy"])
        held += low <= 0.8 <= high
    assert 0.9 < held / sets < 0.98


def test_pairs_are_paired_and_corrected():
    """Differences are accuracy a minus b, p-values McNemar's and Holm's, and the interval is that of the paired bootstrap."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 300)
    given = {name: said(labels, right, 3, seed) for seed, (name, right) in enumerate({"a": 0.9, "b": 0.5, "c": 0.5}.items())}
    given["d"] = given["c"]
    resampled = {name: intervals.resample(Figures(p, labels, 1), np.arange(300)) for name, p in given.items()}
    pairs = intervals.pairs(given, labels, resampled, np.arange(300))
    assert [(pair["a"], pair["b"]) for pair in pairs] == [(a, b) for a, b in ("ab", "ac", "ad", "bc", "bd", "cd")]
    right = {name: p.argmax(1) == labels for name, p in given.items()}
    for pair in pairs:
        one, two = right[pair["a"]], right[pair["b"]]
        assert pair["difference"] == pytest.approx(one.mean() - two.mean())
        assert pair["low"] <= pair["difference"] <= pair["high"]
        assert pair["mcnemar_p"] == mcnemar(one, two)
        other = bootstrap(labels, given[pair["b"]].argmax(1), given[pair["a"]].argmax(1), 3)["accuracy"]
        assert (pair["low"], pair["high"]) == pytest.approx((other.low, other.high), abs=0.01)
    assert [pair["p_holm"] for pair in pairs] == holm([pair["mcnemar_p"] for pair in pairs])
    assert (pairs[-1]["low"], pairs[-1]["high"], pairs[-1]["mcnemar_p"]) == (0, 0, 1)


def test_copies_make_no_pair_more_significant():
    """Images that are there ten times each have the p-value of the images once; a group of which both win half counts for none."""
    labels = np.zeros(40, int)
    given = {name: said(labels, right, 2, seed) for seed, (name, right) in enumerate({"a": 0.9, "b": 0.7}.items())}

    def p(times: int) -> float:
        many, true, groups = {name: values.repeat(times, 0) for name, values in given.items()}, labels.repeat(times), np.arange(40)
        members = groups.repeat(times)
        resampled = {name: intervals.resample(Figures(values, true, 1), members, resamples=20) for name, values in many.items()}
        return intervals.pairs(many, true, resampled, members)[0]["mcnemar_p"]

    assert p(10) == p(1) == mcnemar(*(values.argmax(1) == labels for values in given.values()))
    one, two = np.array([True, False, True]), np.array([False, True, False])
    assert mcnemar(one, two, np.array([0, 0, 1])) == mcnemar(one[2:], two[2:])


@pytest.mark.parametrize(("right", "expected"), [(1.0, (0.9, 1)), (0.0, (0, 0.1))])
def test_what_is_not_in_the_sample_may_still_be_there(right, expected):
    """Where all is right, or all wrong, the interval of the accuracy is by the rule of three, of groups; never a point."""
    labels, groups = np.zeros(60, int), np.arange(60) // 2
    figures = Figures(np.tile([right, 1 - right], (60, 1)), labels, 1)
    found = intervals.around(figures.score(("a", "b")), intervals.resample(figures, groups, resamples=20), groups)
    assert found["accuracy"] == pytest.approx(expected)
    few = intervals.around({"accuracy": right}, {}, np.array(["x", "x"]))
    assert few["accuracy"] == (0, 1)


def test_the_interval_of_a_calibrated_model_holds_zero():
    """Chance alone makes gaps: the interval of a model that is calibrated exactly mostly holds 0, that of a boastful one never."""
    labels, groups, held = np.zeros(300, int), np.arange(300), {0.0: 0, 0.3: 0}
    for seed in range(20):
        draw = np.random.default_rng(seed)
        sure = draw.uniform(0.5, 1, 300)
        for boast in held:
            given = np.where(draw.random(300) < sure - boast, sure, 1 - sure)
            figures = Figures(np.stack([given, 1 - given], 1), labels, 1)
            low, high = intervals.around(figures.score(("a", "b")), intervals.resample(figures, groups, resamples=200), groups)[
                "ece"
            ]
            assert 0 <= low < high
            held[boast] += low == 0
    assert held[0.0] >= 14
    assert held[0.3] == 0
