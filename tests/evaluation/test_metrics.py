"""Metrics: their values on cases that can be counted, and against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from darkroom.evaluation import calibration, intervals, metrics
from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.pixel_baseline import PixelRegression, fit, thumbnails
from darkroom.evaluation.significance import percentiles

CLASSES = ("a", "b", "c")


def probabilities(predicted, confidence=0.8, classes=3):
    values = np.full((len(predicted), classes), (1 - confidence) / (classes - 1))
    values[np.arange(len(predicted)), predicted] = confidence
    return values


def test_figures_of_six_predictions():
    """Accuracy, per-class figures and confusions agree with those counted by hand."""
    labels = np.array([0, 0, 0, 1, 1, 2])
    figures = Figures(probabilities([0, 0, 1, 1, 1, 0]), labels, 2)
    headlines, per_class = figures.headlines(), figures.per_class(CLASSES)
    assert headlines["accuracy"] == pytest.approx(4 / 6)
    assert figures.confusion_matrix() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert per_class["a"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3, "roc_auc": 6 / 9, "average_precision": 11 / 18}
    )
    assert [per_class["c"][key] for key in ("precision", "recall", "f1", "support")] == [0, 0, 0, 1]
    assert headlines["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert headlines["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 * 0.8 + 0) / 6)
    assert headlines["top_2_accuracy"] == pytest.approx(5 / 6)
    assert headlines["brier"] == pytest.approx((4 * (0.04 + 0.02) + 2 * (0.64 + 0.81 + 0.01)) / 6)
    assert headlines["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 0) / 3)
    assert headlines["log_loss"] == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)


EDGES = {
    "two classes, all correct": ([0, 1, 0, 1], [0, 1, 0, 1], 2),
    "two classes, all wrong": ([0, 1, 0, 1], [1, 0, 1, 0], 2),
    "a class missing from test": ([0, 1, 0, 1], [0, 1, 2, 1], 3),
    "a class never predicted": ([0, 1, 2, 1], [0, 1, 1, 1], 3),
    "one image per class": ([0, 1, 2], [0, 2, 2], 3),
    "one image": ([1], [1], 3),
    "one class in test": ([2, 2, 2], [2, 0, 2], 3),
    "a hundred classes": (list(range(100)) * 2, [*range(100), *[0] * 100], 100),
}


@pytest.mark.parametrize("confidence", [0.8, 1.0])
@pytest.mark.parametrize("name", EDGES)
def test_extremes_divide_nothing_by_zero(name, confidence, recwarn):
    """Every figure and interval is a number, or None where it is not defined; nothing warns."""
    true, predicted, classes = EDGES[name]
    labels, groups = np.array(true), np.arange(len(true))
    values = probabilities(predicted, confidence, classes)
    figures = Figures(values, labels, 3)
    headlines = figures.headlines()
    assert headlines["accuracy"] == np.mean(np.equal(true, predicted))
    undefined = {"roc_auc", "average_precision"} if len(set(true)) == 1 else set()
    assert {key for key, value in headlines.items() if value is None} == undefined
    resampled = intervals.resample(figures, groups, resamples=50)
    for key, figure in resampled.items():
        edges = percentiles(figure)
        assert edges is None if key in undefined else edges is None or 0 <= edges[0] <= edges[1]
    (pair,) = intervals.pairs({"a": values, "b": values}, labels, {"a": resampled, "b": resampled}, groups)
    assert (pair.difference, pair.p_holm) == (0, 1)
    bins = [item.model_dump() for item in calibration.reliability(values, labels)]
    json.dumps([headlines, figures.per_class(tuple(map(str, range(classes)))), pair.model_dump(), bins], allow_nan=False)
    assert not recwarn


@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 6), st.sampled_from([2, 20, 10**6]))
def test_figures_agree_with_scikit_learn(seed, count, classes, steps):
    """Each figure is scikit-learn's, with ties among probabilities and classes without images."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, rng.integers(1, classes + 1), count)
    values = rng.integers(1, steps + 1, (count, classes)).astype(float)
    values /= values.sum(1, keepdims=True)
    names, every, predicted = tuple(map(str, range(classes))), range(classes), values.argmax(1)
    figures = Figures(values, labels, 2)
    headlines, per_class = figures.headlines(), figures.per_class(names)
    present = np.unique(labels)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.recall_score(labels, predicted, labels=present, average="macro", zero_division=0.0),
        "macro_f1": sk.f1_score(labels, predicted, labels=present, average="macro", zero_division=0.0),
        "weighted_f1": sk.f1_score(labels, predicted, labels=present, average="weighted", zero_division=0.0),
        "log_loss": sk.log_loss(labels, values, labels=every),
        "brier": ((values - np.eye(classes)[labels]) ** 2).sum(1).mean(),
        "ece": calibration.error(values, labels),
    }
    if classes > 2 and steps == 10**6:  # of equal probabilities scikit-learn takes the later class first
        expected["top_2_accuracy"] = sk.top_k_accuracy_score(labels, values, k=2, labels=every)
    assert {key: headlines[key] for key in expected} == pytest.approx(expected)
    columns = sk.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0.0)
    for name, column in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [per_class[label][name] for label in names] == pytest.approx(column), name
    assert figures.confusion_matrix() == sk.confusion_matrix(labels, predicted, labels=every).tolist()


def test_of_equal_probabilities_the_earlier_class_comes_first():
    """Top-1 accuracy is accuracy, also where classes tie."""
    values = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    assert metrics.ranks(values, np.array([0, 1, 2])).tolist() == [0, 1, 1]
    assert metrics.ranks(values, np.array([2, 2, 0])).tolist() == [2, 2, 2]


def test_the_pixel_baseline_agrees_with_scikit_learn():
    """The fit in float32 has the solution of scikit-learn's LogisticRegression."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 20)).astype(np.float32)
    labels = (inputs @ rng.normal(size=(20, 4)) + rng.normal(size=(300, 4))).argmax(1)
    expected = LogisticRegression(C=0.01, max_iter=200).fit(inputs, labels)
    weights = fit(inputs, labels, 4)
    assert np.abs(weights[:-1].T - expected.coef_).max() < 2e-3
    assert np.abs(weights[-1] - expected.intercept_).max() < 2e-3


def test_the_pixel_baseline_separates_bright_from_dark():
    """Images that differ in brightness are classified correctly; a class without an example has probability
    0."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (60, 40, 40, 3), np.uint8)
    labels = np.arange(60) % 2
    images[labels == 1] += 100
    values = PixelRegression(images, labels, 3, 0).probabilities(images)
    assert (values.argmax(1) == labels).all()
    assert (values[:, 2] == 0).all()
    assert thumbnails(images).shape == (60, 20 * 20 * 3)
