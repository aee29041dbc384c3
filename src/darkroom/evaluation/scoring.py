"""All figures of one model, from its probabilities on validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from darkroom.core import large_arrays
from darkroom.evaluation import calibration, intervals, risk_coverage
from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.metrics_io import ClassMetrics, ModelDetails, ModelMetrics, SetMetrics
from darkroom.models.abstention import Threshold
from darkroom.models.prediction_sets import ConformalScores
from darkroom.models.probabilities import softmax


@dataclass(frozen=True)
class Truth:
    """Labels (N,) int of `val` and `test`, groups (N,) of the test images, and names of classes."""

    labels: Mapping[str, np.ndarray] = field(repr=False)
    groups: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    top_k: int


@dataclass(frozen=True)
class Outputs:
    """Probabilities (N, C) of a model, the temperature, and test probabilities before temperature scaling.

    `distances` (N,) are those of the test images, None of a model without abstention; `threshold` is that of unknown images.
    """

    val: np.ndarray = field(repr=False)
    test: np.ndarray = field(repr=False)
    uncalibrated: np.ndarray = field(repr=False)
    temperature: float = 1.0
    distances: np.ndarray | None = field(default=None, repr=False)
    threshold: Threshold | None = None


@dataclass(frozen=True)
class Size:
    """Parameters, multiply-adds of one image, and bytes of the weights file (None without one)."""

    parameters: int
    multiply_adds: int
    checkpoint_bytes: int | None = None


@dataclass(frozen=True)
class Score:
    """Figures of a model for metrics.json and details.json, and its headline figures in each resample."""

    metrics: ModelMetrics
    details: ModelDetails
    resampled: intervals.Resampled = field(repr=False)


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return what `softmax` does, in an array that may be larger than memory."""
    result = large_arrays.zeros(logits.shape)
    for rows in large_arrays.row_blocks(len(logits), 8 * logits.shape[1]):
        result[rows] = softmax(logits[rows], temperature)
    return result


def score(outputs: Outputs, truth: Truth, size: Size) -> Score:
    """Return all figures of a model on the test split, and its headline figures on validation."""
    labels = truth.labels["test"]
    figures = Figures(outputs.test, labels, truth.top_k)
    headlines = figures.headlines()
    resampled = intervals.resample(figures, truth.groups)
    edges = intervals.around(headlines, resampled, truth.groups)
    val = Figures(outputs.val, truth.labels["val"], truth.top_k).headlines()
    ece = headlines.pop("ece")
    correct, doubt = risk_coverage.of_predictions(outputs.test, labels)
    distances, refusing = outputs.distances, None
    if distances is not None and outputs.threshold is not None:
        refusing = risk_coverage.abstention(correct, distances, outputs.threshold)
    metrics = ModelMetrics.model_validate({
        **headlines,
        "intervals": edges,
        "calibration": {
            "temperature": outputs.temperature, "ece": ece, "ece_uncalibrated": calibration.error(outputs.uncalibrated, labels),
        },
        "prediction_sets": _prediction_sets(outputs, truth),
        "aurc": risk_coverage.area(correct, doubt),
        "abstention": refusing,
        **{f"val_{key}": val[key] for key in ("accuracy", "macro_f1", "log_loss")},
        **vars(size),
    })  # fmt: skip
    details = ModelDetails(
        per_class={name: ClassMetrics(**row) for name, row in figures.per_class(truth.classes).items()},
        confusion_matrix=figures.confusion_matrix(),
        bins=calibration.reliability(outputs.test, labels),
        bins_uncalibrated=calibration.reliability(outputs.uncalibrated, labels),
        answered_by_confidence=risk_coverage.curve(correct, doubt),
        answered_by_distance=[] if distances is None else risk_coverage.curve(correct, distances),
    )
    return Score(metrics, details, resampled)


def _prediction_sets(outputs: Outputs, truth: Truth) -> dict[str, SetMetrics]:
    """Return the figures on test of prediction sets that validation calibrates, for the coverages that it is large enough for."""
    labels, scores = truth.labels["test"], ConformalScores.of(outputs.val, truth.labels["val"])
    result = {}
    for coverage in scores.coverages():
        sizes, hits = np.zeros(len(labels), int), np.zeros(len(labels), bool)
        for rows in large_arrays.row_blocks(len(labels), 8 * outputs.test.shape[1]):
            sets = scores.sets(outputs.test[rows], coverage)
            sizes[rows], hits[rows] = sets.sum(1), np.take_along_axis(sets, labels[rows, None], 1)[:, 0]
        result[f"{coverage:g}"] = SetMetrics(
            coverage=float(hits.mean()), size=float(sizes.mean()), empty=float((sizes == 0).mean())
        )
    return result
