"""The accuracy that `darkroom monitor` expects without labels: right as often as its interval says, or not stated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from darkroom.cli import main
from darkroom.inference.classifier import Classifier, ModelInfo
from darkroom.monitoring import check, expected_accuracy
from darkroom.monitoring.expected_accuracy import MAX_FARTHER, MAX_UNKNOWN, MIN_IMAGES, Novelty, estimate, interval
from darkroom.monitoring.reference import Outputs, Reference, compute, load_held_out
from darkroom.training import abstention
from tests.conftest import ROOT
from tests.monitoring import arrivals


def drawn(rng: np.random.Generator, count: int, easy: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Return confidences (N,) and, as often as they say, which predictions are right."""
    confidence = rng.beta(easy, 1, count)
    return confidence, rng.random(count) < confidence


@pytest.mark.parametrize(("images", "easy"), [(100, 4), (40, 4), (100, 1.5)])
def test_the_interval_holds_the_accuracy(images, easy):
    """Where confidence is right, on as easy images as those of the reference and on harder ones, the interval holds the
    accuracy of nine of ten inboxes or more."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        _, correct = drawn(rng, 150)
        confidence, right = drawn(rng, images, easy)
        value, low, high = interval(correct, confidence)
        assert low <= value <= high
        covered.append(low <= right.mean() <= high)
    assert np.mean(covered) >= 0.89


def outputs(rng: np.random.Generator, count: int) -> Outputs:
    return Outputs(np.zeros((count, 2)), np.zeros(count, int), drawn(rng, count)[0])


def test_it_says_why_there_is_no_estimate():
    """Images unlike the data, too few of them, or a version of before: the reason is named, and no number is."""
    rng = np.random.default_rng(1)
    confidence, correct = drawn(rng, 100)
    reference = Reference(np.zeros((100, 2)), np.zeros(100, int), confidence, correct)
    new, like = outputs(rng, 50), Novelty(0.5, 0.02)
    assert estimate(reference, new, like).value is not None
    earlier = Reference(reference.embeddings, reference.predicted, reference.confidence)
    cases = [
        (reference, new, Novelty(0.5, MAX_UNKNOWN + 0.1), "unlike the data"),
        (reference, new, Novelty(MAX_FARTHER + 0.1, 0), "unlike the data"), (earlier, new, like, "dvc repro"),
        (reference, new, None, "no abstention"), (reference, outputs(rng, MIN_IMAGES - 1), like, str(MIN_IMAGES)),
    ]  # fmt: skip
    for known_images, arrived, novelty, fact in cases:
        result = estimate(known_images, arrived, novelty)
        assert (result.value, result.low, result.high) == (None, None, None)
        assert fact in result.reason
        assert f"cannot be estimated: {result.reason}" in str(result)


def test_images_that_are_alike_are_farther_half_the_time():
    """Of equal distances half are farther, of larger ones all, of smaller ones none."""
    distances = np.arange(10.0)
    for new, farther in ((distances, 0.5), (distances + 20, 1), (distances - 20, 0)):
        assert Novelty.of(distances, new, new > 15) == Novelty(farther, float(farther == 1))


@pytest.mark.parametrize("steps", [0, 5])
def test_how_far_images_are_is_read_from_the_log(tmp_path, monkeypatch, steps):
    """Distances come from the reference and the log. Those of earlier versions have none: they are of the embeddings where the
    model's are of these alone, and else nothing tells."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(abstention.mahalanobis, "steps_of", lambda _: steps)
    arrivals.write_model()
    for start, dark in ((0, False), (30, True)):
        arrivals.arrive(start, 30, dark=dark)
    classifier = Classifier.load(Path("model"))
    files = [check.ArrivedFile(path, 0, 0) for path in sorted(Path("data/inbox").iterdir())]
    rows = check.classify(classifier, ModelInfo("m", "", "m", "0", "m"), files)
    known_images = compute(classifier.examine, load_held_out(Path("data/ingested")))
    novelty = check.novelty(classifier, known_images, rows)
    assert novelty.unknown >= 0.5
    for reference in (known_images, replace(known_images, distances=None)):
        for earlier in (rows, [replace(row, distance=None) for row in rows]):
            again = check.novelty(classifier, reference, earlier)
            is_stored = reference.distances is not None and earlier[0].distance is not None
            assert again == (novelty if is_stored or not steps else None)
    assert check.novelty(classifier, known_images, []) is None


@pytest.mark.slow
def test_monitor_states_it(tmp_path, monkeypatch, capsys):
    """Table, JSON and page state the same interval for images like those held out; for others, that it cannot be estimated."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    arrivals.write_model()
    for start, dark in ((0, False), (40, True)):
        arrivals.arrive(start, 40, dark=dark)
        main(["monitor", "--model", "model", "--window", "40"])
        shown = capsys.readouterr().out
        main(["monitor", "--model", "model", "--window", "40", "--json"])
        stated = json.loads(capsys.readouterr().out)["expected_accuracy"]
        page = (tmp_path / "reports/monitoring/index.html").read_text()
        assert str(expected_accuracy.ExpectedAccuracy(**stated)) in shown
        if dark:
            assert stated["value"] is None
            assert "unlike the data" in stated["reason"]
            assert "cannot be estimated" in page
        else:
            assert stated["low"] <= stated["value"] <= stated["high"]
            assert f"{100 * stated['value']:.1f}%" in page
