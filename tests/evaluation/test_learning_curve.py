"""Accuracy by the number of training images: which subsets, what is measured on them, what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import learning_curve
from darkroom.evaluation.diagnostics_file import Accuracies, LearningCurve
from darkroom.evaluation.learning_curve import FEATURES, PIXELS, Task


@pytest.mark.parametrize(
    ("images", "classes", "dimensions", "expected"),
    [
        (100, 2, 64, [100, 50, 25, 12]),  # ten images at least
        (100, 20, 64, [100, 50]),  # two of each class at least
        (100_000, 5, 64, [2000, 1000, 500, 250, 125, 62, 31]),
        (1_281_167, 1000, 2048, []),  # the fits would take too long
        (14, 2, 64, []),  # one size is no curve
    ],
)
def test_each_size_is_half_of_the_one_before(images, classes, dimensions, expected):
    """Sizes begin with all images, as far as the fits are affordable, and end where two of each class are left."""
    assert learning_curve.sizes(images, classes, dimensions) == expected


def test_every_beginning_has_the_shares_of_the_classes():
    """Of unbalanced classes each beginning has its share of each, give or take one image, in an order that the seed draws."""
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = learning_curve.spread(labels, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(100))
    for size in (10, 20, 50):
        assert np.abs(np.bincount(labels[order[:size]], minlength=3) - size * np.array([0.6, 0.3, 0.1])).max() <= 1
    assert (order != learning_curve.spread(labels, np.random.default_rng(1))).any()


def test_features_that_tell_the_classes_need_few_images():
    """A curve has the accuracies of classifiers fitted on so many images alone: high at once where features tell classes apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    centres = rng.normal(size=(3, 100))
    good, bad = (strength * centres[labels] + rng.normal(size=(300, 100)) for strength in (1.0, 0.15))
    task = Task(labels[:160], labels[160:], np.arange(140), 3)
    tried = learning_curve.sizes(160, 3, 100)
    steps: list[int] = []
    measured = {}
    for name, values in ((FEATURES, good), (PIXELS, bad)):
        inputs = values.astype(np.float32)
        measured[name] = learning_curve.correct(
            lambda chosen, x=inputs: x[:160][chosen], inputs[160:], task, tried, 0, steps.append
        )
    assert len(steps) == 2 * learning_curve.fits(160, tried)
    curve = learning_curve.summarize(measured, task, tried, "transfer/x", 0)
    assert curve.images == [10, 20, 40, 80, 160]
    features, pixels = curve.curves[FEATURES], curve.curves[PIXELS]
    assert features[0].mean > 0.9 > pixels[-1].mean > pixels[0].mean
    assert features[-1].low == features[-1].mean == features[-1].high
    assert curve.gain == pytest.approx(features[-1].mean - features[-2].mean, abs=1e-6)
    low, high = curve.gain_interval
    assert low <= curve.gain <= high
    assert learning_curve.images_for(curve, FEATURES, pixels[-1].mean) == 10


def curve(features, pixels):
    curves = {FEATURES: features, PIXELS: pixels} if features else {PIXELS: pixels}
    return LearningCurve(
        embedder="transfer/x" if features else None, of=80, test_images=50, images=[10, 20, 40], gain=0.0, gain_interval=None,
        curves={name: [Accuracies(mean=value, low=value, high=value) for value in values] for name, values in curves.items()},
    )  # fmt: skip


def test_a_number_between_two_sizes_is_interpolated():
    """The accuracy grows with the logarithm of the number: half of the way from 20 to 40 is 28."""
    measured = curve([0.5, 0.7, 0.9], [0.1, 0.2, 0.8])
    assert learning_curve.images_for(measured, FEATURES, 0.8) == 28
    assert learning_curve.images_for(measured, FEATURES, 0.2) == 10
    assert learning_curve.images_for(measured, FEATURES, 0.95) is None


def test_the_sentence_has_the_figures_of_both_ends():
    """It has the accuracies with the fewest and the most images, and names the model of the features, where there is one."""
    both = learning_curve.describe(curve([0.5, 0.7, 0.9], [0.1, 0.2, 0.8]))
    assert all(part in both for part in ("transfer/x", "10 ", "40 ", "0.500", "0.100", "0.900", "0.800"))
    alone = learning_curve.describe(curve([], [0.1, 0.2, 0.8]))
    assert "0.100" in alone
    assert "0.800" in alone
    assert "features" not in alone
