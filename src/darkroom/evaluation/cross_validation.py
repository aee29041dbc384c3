"""Contents of reports/cross_validation: what models that did not see an image say of it, and how good that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core import atomic, json_files, tables
from darkroom.core.errors import WorkspaceError
from darkroom.evaluation import intervals, significance
from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.metrics_io import CrossValidated, CrossValidation, Range
from darkroom.evaluation.selection import Judged

RESULTS, PREDICTIONS = "results.json", "predictions.parquet"
REMEDY = "run `dvc repro cross_validate`"
FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
HEADER = ("model", "accuracy", "95% interval", "macro F1", "log loss", "folds")


@dataclass(frozen=True)
class OutOfFold:
    """Rows of the manifest, labels and folds (N,) of images, and probabilities (N, C) by model."""

    rows: Sequence[Any] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    folds: np.ndarray = field(repr=False)
    probabilities: Mapping[str, np.ndarray] = field(repr=False)
    classes: tuple[str, ...]

    @property
    def groups(self) -> np.ndarray:
        return np.array([row.group for row in self.rows])


def write(folder: Path, predicted: OutOfFold | None) -> CrossValidation:
    """Write the results into a folder, and with folds every prediction."""
    results = CrossValidation(folds=0, images=0, groups=0, models={}) if predicted is None else summarize(predicted)
    atomic.write_json(folder / RESULTS, results.model_dump(mode="json"))
    if predicted is not None:
        _write_predictions(folder / PREDICTIONS, predicted)
    return results


def summarize(predicted: OutOfFold) -> CrossValidation:
    """Return the figures of every model with their intervals."""
    numbers = np.unique(predicted.folds)
    models = {}
    for name, probabilities in predicted.probabilities.items():
        figures = Figures(probabilities, predicted.labels, 1)
        values = {key: float(figures.without_areas(np.ones((len(predicted.labels), 1)))[key][0]) for key in FIGURES}
        resampled = intervals.resample(figures, predicted.groups, areas=False)
        edges: dict[str, Range] = {
            key: _interval(value, resampled[key], predicted.groups, len(numbers), key) for key, value in values.items()
        }
        correct = probabilities.argmax(1) == predicted.labels
        by_fold = [float(correct[predicted.folds == number].mean()) for number in numbers]
        models[name] = CrossValidated(figures=values, intervals=edges, accuracy_by_fold=by_fold)
    return CrossValidation(folds=len(numbers), images=len(predicted.labels), groups=len(set(predicted.groups)), models=models)


def _interval(value: float, resampled: np.ndarray, groups: np.ndarray, folds: int, key: str) -> tuple[float, float]:
    """Return the interval of a figure for models trained on as many other images, and asked for other images.

    The resamples vary the images that are asked for. Training sets vary as well: that adds 1 / (folds - 1) of the
    variance, the ratio of test to training images (Nadeau and Bengio 2003).
    """
    inflation = 1 + 1 / (folds - 1)
    if key in intervals.LOSSES:
        low, high = significance.percentiles(resampled) or (value, value)
        return value - math.sqrt(inflation) * (value - low), value + math.sqrt(inflation) * (high - value)
    return significance.wilson(value, intervals.effective_count(value, resampled, len(np.unique(groups)), len(groups)) / inflation)


def _write_predictions(path: Path, predicted: OutOfFold) -> None:
    """Write a row for each model and image."""
    rows, texts, classes = predicted.rows, pa.large_string(), predicted.classes
    parts = []
    for model, probabilities in predicted.probabilities.items():
        offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int64) * len(classes))
        parts.append(pa.table({
            "model": pa.array([model] * len(rows), texts),
            "fold": pa.array(predicted.folds),
            **{key: pa.array([getattr(row, key) for row in rows], texts) for key in ("split", "path", "pixel_hash", "group")},
            "label": pa.array([classes[label] for label in predicted.labels], texts),
            "predicted": pa.array([classes[index] for index in probabilities.argmax(1)], texts),
            "confidence": pa.array(probabilities.max(1)),
            "probabilities": pa.LargeListArray.from_arrays(offsets, pa.array(probabilities.ravel())),
        }))  # fmt: skip
    with atomic.new_file(path) as working:
        pq.write_table(pa.concat_tables(parts), working, write_page_checksum=True)


def read(folder: Path) -> CrossValidation:
    """Return the results; WorkspaceError where they are missing or damaged."""
    try:
        return json_files.read(folder / RESULTS, CrossValidation, REMEDY)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{folder / RESULTS} does not exist", REMEDY) from error


def read_predictions(folder: Path, names: Sequence[str], classes: tuple[str, ...]) -> Judged:
    """Return the out-of-fold predictions of these models; WorkspaceError where one is missing, or of other classes."""
    try:
        columns = ["model", "fold", "group", "label", "probabilities"]
        table = pq.read_table(folder / PREDICTIONS, columns=columns, use_threads=False, page_checksum_verification=True).to_pylist()
    except (OSError, pa.ArrowException, ValueError) as error:
        raise json_files.damaged(folder / PREDICTIONS, str(error), REMEDY) from error
    rows = {name: [row for row in table if row["model"] == name] for name in names}
    if not all(rows.values()) or {row["label"] for row in table} - set(classes):
        raise WorkspaceError(f"{folder / PREDICTIONS} is of other models or classes", REMEDY)
    first = rows[names[0]]
    return Judged(
        np.array([classes.index(row["label"]) for row in first]), np.array([row["group"] for row in first]),
        {name: np.array([row["probabilities"] for row in own]) for name, own in rows.items()}, classes,
        folds=len({row["fold"] for row in first}),
    )  # fmt: skip


def show(results: CrossValidation) -> None:
    """Print the figures of all models, the most accurate first."""
    ranked = sorted(results.models.items(), key=lambda item: (-item[1].figures["accuracy"], item[0]))
    rows = []
    for name, model in ranked:
        low, high = model.intervals["accuracy"] or (0.0, 1.0)
        rows.append((
            name, f"{model.figures['accuracy']:.4f}", f"{low:.3f} to {high:.3f}", f"{model.figures['macro_f1']:.4f}",
            f"{model.figures['log_loss']:.3f}", " ".join(f"{value:.3f}" for value in model.accuracy_by_fold),
        ))  # fmt: skip
    tables.show(HEADER, rows, right=HEADER[1:])
