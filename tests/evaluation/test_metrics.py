"""Figures: what they are on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import leaderboard, metrics, report
from darkroom.evaluation.reference import PixelRegression, fit, thumbnails

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
    assert got["per_class"]["a"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3})
    assert got["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert got["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 0) / 3)
    assert got["log_loss"] == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)


@pytest.mark.parametrize("predicted", [[0, 1, 0, 1], [1, 0, 1, 0]])
def test_all_right_and_all_wrong_divide_nothing_by_zero(predicted, recwarn):
    """Extremes, a class without test images among them, give finite figures and no warning."""
    got = metrics.score(probabilities(predicted, 1.0), np.array([0, 1, 0, 1]), CLASSES, 3)
    assert got["accuracy"] in (0.0, 1.0)
    assert np.isfinite(got["log_loss"])
    assert got["macro_f1"] == got["accuracy"]
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


def test_figures_are_those_of_scikit_learn():
    """Precision, recall, F1 and the confusion matrix are those of scikit-learn, which is too slow to import here."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(0)
    classes = ("a", "b", "c", "d", "e")
    labels = rng.choice(5, 200, p=(0.5, 0.3, 0.1, 0.1, 0))
    probabilities = rng.dirichlet(np.ones(5), 200) + 0.5 * np.eye(5)[labels]
    found = metrics.score(probabilities, labels, classes, 2)
    predicted = probabilities.argmax(1)
    expected = precision_recall_fscore_support(labels, predicted, labels=range(5), zero_division=0.0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [found["per_class"][label][name] for label in classes] == pytest.approx(values), name
    assert found["confusion_matrix"] == confusion_matrix(labels, predicted, labels=range(5)).tolist()


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
    assert text[0] == "model,accuracy,macro_f1,parameters,ms_per_image,train_seconds"
    assert text[1].startswith("finetune/x")
    table = leaderboard.table(leaderboard.read(tmp_path / "leaderboard.csv"), "baseline")
    assert "→ baseline" in table


def page(names=CLASSES):
    labels = np.arange(12) % len(names)
    figures = {
        name: metrics.score(probabilities(labels, classes=len(names)), labels, names, 2)
        | {"val_accuracy": 0.9, "val_log_loss": 0.2, "parameters": 10}
        for name in ("baseline", "finetune/x", "reference")
    }
    history = [{"epoch": str(i), "val_loss": "0.5", "val_accuracy": "0.5"} for i in (1, 2)]
    params = {
        "evaluate": {"batch_size": 2},
        "compute": {"threads": 2},
        "ingest": {"source": "<photos>"},
        "backbones": ["x"],
    }
    data = {"files": 20, "quarantined": 1, "train": 6, "val": 2, "test": 12}
    return report.page(figures, "baseline", rows(), {"baseline": history}, names, data, params)


def test_the_report_stands_alone():
    """The page asks nothing of the network, and names from the user's folder cannot become markup."""
    text = page(("<b>a</b>", "b", "c"))
    assert "&lt;b&gt;a&lt;/b&gt;" in text
    assert "<b>a</b>" not in text
    for word in ("src=", "href=", "url(", "@import", "<script"):
        assert word not in text.replace('href="#', "").replace("url(#", ""), word
    assert text == page(("<b>a</b>", "b", "c"))
