"""Figures: what they are on cases that can be counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from darkroom.evaluation import calibration, intervals, leaderboard, metrics
from darkroom.evaluation.pixel_baseline import PixelRegression, fit, thumbnails

CLASSES = ("a", "b", "c")


def probabilities(predicted, confidence=0.8, classes=3):
    made = np.full((len(predicted), classes), (1 - confidence) / (classes - 1))
    made[np.arange(len(predicted)), predicted] = confidence
    return made


def test_figures_counted_by_hand():
    """Accuracy, per-class figures and confusions of six predictions."""
    labels = np.array([0, 0, 0, 1, 1, 2])
    got = metrics.score(probabilities([0, 0, 1, 1, 1, 0]), labels, CLASSES, 2)
    assert got["accuracy"] == pytest.approx(4 / 6)
    assert got["confusion_matrix"] == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert got["per_class"]["a"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3, "roc_auc": 6 / 9, "average_precision": 11 / 18}
    )
    assert [got["per_class"]["c"][key] for key in ("precision", "recall", "f1", "support")] == [0, 0, 0, 1]
    assert got["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert got["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 * 0.8 + 0) / 6)
    assert got["top_2_accuracy"] == pytest.approx(5 / 6)
    assert got["brier"] == pytest.approx((4 * (0.04 + 0.02) + 2 * (0.64 + 0.81 + 0.01)) / 6)
    assert got["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 0) / 3)
    assert got["log_loss"] == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)


EDGES = {
    "two classes, all right": ([0, 1, 0, 1], [0, 1, 0, 1], 2),
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
    """Every figure and interval is a number or None where it is not defined; nothing warns."""
    known, predicted, classes = EDGES[name]
    labels = np.array(known)
    given = probabilities(predicted, confidence, classes)
    got = metrics.score(given, labels, tuple(map(str, range(classes))), 3)
    assert got["accuracy"] == np.mean(np.equal(known, predicted))
    undefined = {"roc_auc", "average_precision"} if len(set(known)) == 1 else set()
    assert {key for key, value in got.items() if value is None} == undefined
    resampled = intervals.resample(metrics.Figures(given, labels, 3), np.arange(len(labels)), resamples=50)
    for key, values in resampled.items():
        found = intervals.interval(values)
        assert found is None if key in undefined else found is None or 0 <= found[0] <= found[1]
    (pair,) = intervals.pairs({"a": given, "b": given}, labels, {"a": resampled, "b": resampled}, np.arange(len(labels)))
    assert (pair["difference"], pair["p_holm"]) == (0, 1)
    json.dumps([got, pair, calibration.reliability(given, labels)], allow_nan=False)
    assert not recwarn


def test_the_best_is_chosen_on_validation_alone():
    """Test figures never decide, nor can the reference win; ties go to the lower loss."""
    models = {
        "baseline": {"accuracy": 1.0, "val_accuracy": 0.8, "val_log_loss": 0.1},
        "transfer/x": {"accuracy": 0.5, "val_accuracy": 0.9, "val_log_loss": 0.5},
        "finetune/x": {"accuracy": 0.4, "val_accuracy": 0.9, "val_log_loss": 0.4},
        "reference": {"accuracy": 1.0, "val_accuracy": 1.0, "val_log_loss": 0.0},
    }
    assert metrics.best_model(models) == "finetune/x"


@settings(deadline=None)
@over(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 6), st.sampled_from([2, 20, 10**6]))
def test_figures_are_those_of_scikit_learn(seed, count, classes, steps):
    """Each figure is scikit-learn's, ties among probabilities and classes without images included."""
    from sklearn import metrics as sk

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, rng.integers(1, classes + 1), count)
    given = rng.integers(1, steps + 1, (count, classes)).astype(float)
    given /= given.sum(1, keepdims=True)
    names, every, predicted = tuple(map(str, range(classes))), range(classes), given.argmax(1)
    found = metrics.score(given, labels, names, 2)
    once = np.eye(classes)[labels]
    held = np.unique(labels)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.recall_score(labels, predicted, labels=held, average="macro", zero_division=0.0),
        "macro_f1": sk.f1_score(labels, predicted, labels=held, average="macro", zero_division=0.0),
        "weighted_f1": sk.f1_score(labels, predicted, labels=held, average="weighted", zero_division=0.0),
        "log_loss": sk.log_loss(labels, given, labels=every),
        "brier": ((given - once) ** 2).sum(1).mean(),
    }
    if classes > 2 and steps == 10**6:  # of equal probabilities scikit-learn takes the later class first
        expected["top_2_accuracy"] = sk.top_k_accuracy_score(labels, given, k=2, labels=every)
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    columns = sk.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0.0)
    for name, values in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [found["per_class"][label][name] for label in names] == pytest.approx(values), name
    assert found["confusion_matrix"] == sk.confusion_matrix(labels, predicted, labels=every).tolist()
    assert found["ece"] == pytest.approx(calibration.error(given, labels))


def test_of_equal_probabilities_the_earlier_class_comes_first():
    """Top-1 is accuracy, also where classes tie."""
    given = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]])
    assert metrics.ranks(given, np.array([0, 1, 2])).tolist() == [0, 1, 1]
    assert metrics.ranks(given, np.array([2, 2, 0])).tolist() == [2, 2, 2]


def test_the_reference_is_the_logistic_regression_of_scikit_learn():
    """Our fit in float32 finds the solution of scikit-learn's LogisticRegression."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 20)).astype(np.float32)
    labels = (inputs @ rng.normal(size=(20, 4)) + rng.normal(size=(300, 4))).argmax(1)
    expected = LogisticRegression(C=0.01, max_iter=200).fit(inputs, labels)
    found = fit(inputs, labels, 4)
    assert np.abs(found[:-1].T - expected.coef_).max() < 2e-3
    assert np.abs(found[-1] - expected.intercept_).max() < 2e-3


def test_the_reference_learns_what_pixels_tell():
    """Logistic regression separates bright from dark, and gives a probability of zero to a class it never saw."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (60, 40, 40, 3), np.uint8)
    labels = np.arange(60) % 2
    images[labels == 1] += 100
    model = PixelRegression(images, labels, 3, 0)
    given = model.probabilities(images)
    assert (given.argmax(1) == labels).all()
    assert (given[:, 2] == 0).all()
    assert thumbnails(images).shape == (60, 20 * 20 * 3)


def rows():
    return [
        {
            "model": "baseline",
            "accuracy": 0.5,
            "macro_f1": 0.4,
            "parameters": 1000,
            "ms_per_image": 0.5,
            "train_seconds": 3.0,
        },
        {
            "model": "finetune/x",
            "accuracy": 0.9,
            "macro_f1": 0.8,
            "parameters": 2000,
            "ms_per_image": 1.5,
            "train_seconds": 9.0,
        },
    ]


def test_the_leaderboard_is_ranked_and_read_back(tmp_path):
    """The file has the promised columns, the best test accuracy first, and the table marks the chosen model."""
    leaderboard.write(tmp_path / "leaderboard.csv", rows())
    text = (tmp_path / "leaderboard.csv").read_text().splitlines()
    assert text[0] == "model,kind,accuracy,macro_f1,parameters,ms_per_image,train_seconds"
    assert text[1].startswith("finetune/x")
    table = leaderboard.table(leaderboard.read(tmp_path / "leaderboard.csv"), "baseline")
    assert "→ baseline" in table
