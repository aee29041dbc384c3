"""Score every trained model on the test split, and select the best one on validation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from darkroom.config import params
from darkroom.config.params import SPLITS, Params
from darkroom.core import atomic, kept_results, large_arrays
from darkroom.core.errors import WorkspaceError
from darkroom.core.kept_results import KeptResults
from darkroom.core.progress import Progress
from darkroom.data import image_rows
from darkroom.evaluation import (
    combinations,
    cross_validation,
    intervals,
    leaderboard,
    metrics_io,
    predictions,
    scoring,
    selection,
    significance,
)
from darkroom.evaluation import cost as costs
from darkroom.evaluation.evaluated import Evaluated
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, Details, Metrics
from darkroom.evaluation.pixel_baseline import PixelRegression
from darkroom.evaluation.report import plots
from darkroom.evaluation.scoring import Outputs, Score, Size, Truth, score
from darkroom.evaluation.selection import Judged
from darkroom.inference.classifier import Classifier
from darkroom.models import checkpoint as checkpoints
from darkroom.models import weight_files
from darkroom.models.macs import multiply_adds
from darkroom.stages import evaluation_inputs
from darkroom.stages.context import session
from darkroom.stages.evaluation_inputs import Data
from darkroom.tracking.records import Run
from darkroom.training.devices import prepare

NAME = "evaluate"  # of what it keeps


@dataclass(frozen=True)
class Scored:
    """Results by model: scores, probabilities by split, learning curves, and rows of the leaderboard."""

    scores: dict[str, Score]
    probabilities: dict[str, dict[str, np.ndarray]]
    histories: dict[str, list[dict[str, str]]]
    rows: list[Row]


def run(ingested: Path, models: Path, cost: Path, folds: Path, reports: Path) -> None:
    """Write metrics.json, details.json, the leaderboard, costs, predictions and plots into `reports`."""
    inputs = [ingested / name for name in ("manifest.parquet", "val", "test")]
    inputs += [models / name for name in params.read().model_names()]
    with session(NAME, ["ingest", "evaluate", "compute"], inputs) as (settings, record):
        device = prepare(settings.compute)
        data = evaluation_inputs.read(ingested)
        truth = data.truth(settings.evaluate.top_k)
        kept_results.clear(but=NAME)  # DVC has saved what came of the others
        kept = KeptResults(NAME, evaluation_inputs.identity(settings, ("compute", "evaluate"), data, models))
        scored = _score_models(settings, data, truth, models, cost, device, kept.get)
        best, selected, crossed = _select(settings, scored, data, folds)
        metrics = _metrics(scored, truth, best, selected, crossed)
        evaluated = Evaluated(best, truth, data.splits, scored.probabilities, metrics.models, scored.rows)
        combined = combinations.of_models(evaluated, lambda names: costs.training_seconds(names, cost))
        details = _details(scored, truth, combined.content)
        rows = leaderboard.ranked(scored.rows + combined.rows)
        _write(reports, data, scored, metrics, details, rows)
        _log(record, metrics, details, models, ingested, reports)
        leaderboard.show(rows, metrics)
        print(f"→ {leaderboard.describe_selection(metrics)}")
        if busy := costs.busy_note(row.busy for row in rows):
            print(f"  {busy}")


def _score_models(
    settings: Params,
    data: Data,
    truth: Truth,
    models: Path,
    cost: Path,
    device: torch.device,
    keep: kept_results.Get,
) -> Scored:
    """Return the results of all models and of the pixel baseline."""
    names, (train, val, test) = settings.model_names(), (data.splits[name] for name in SPLITS)
    scores: dict[str, Score] = {}
    probabilities: dict[str, dict[str, np.ndarray]] = {}
    histories: dict[str, list[dict[str, str]]] = {}
    rows: list[Row] = []

    def add(name: str, kind: str, outputs: Outputs, size: Size, speed: costs.Speed, seconds: float) -> None:
        scores[name] = score(outputs, truth, size)
        probabilities[name] = {"val": outputs.val, "test": outputs.test}
        figures = scores[name].metrics
        rows.append(Row(
            model=name, kind=kind, accuracy=figures.accuracy, macro_f1=figures.macro_f1, aurc=figures.aurc,
            parameters=size.parameters, train_seconds=seconds, ms_per_image=1000 / speed.images_per_second, **vars(speed),
        ))  # fmt: skip

    with Progress("evaluate", len(names) + 1, "models") as progress:
        for name in names:
            classifier = Classifier.load(models / name)
            if classifier.classes != data.classes:
                raise WorkspaceError(f"models/{name} was trained on other classes", "run `dvc repro`, which trains it again")
            size = _size(classifier, models / name)
            classifier.to(device)
            batch = settings.evaluate.batch_size
            computed = keep(f"outputs of {name}", partial(_outputs, classifier, val.images, test.images, batch))
            val_logits, test_logits, distances = computed
            temperature = classifier.checkpoint.temperature
            outputs = Outputs(
                scoring.probabilities(val_logits, temperature), scoring.probabilities(test_logits, temperature),
                scoring.probabilities(test_logits), temperature,
                distances if len(distances) else None, classifier.checkpoint.abstention.default(settings.evaluate.refuse),
            )  # fmt: skip
            speed, seconds = (
                costs.measure(classifier.logits, test.images, device.type == "cpu"),
                costs.training_seconds([name], cost),
            )
            add(name, "model", outputs, size, speed, seconds)
            histories[name] = checkpoints.read_history(models / name)
            progress.advance(note=f"{name} {scores[name].metrics.accuracy:.4f}")
        started = time.monotonic()
        baseline = PixelRegression(train.images, train.labels, len(data.classes), settings.compute.seed)
        seconds = time.monotonic() - started
        on_test = baseline.probabilities(test.images)
        outputs = Outputs(baseline.probabilities(val.images), on_test, on_test)
        size = Size(baseline.weights.size, baseline.weights[:-1].size)
        add(PIXEL_BASELINE, PIXEL_BASELINE, outputs, size, costs.measure(baseline.probabilities, test.images), seconds)
        progress.advance()
    return Scored(scores, probabilities, histories, rows)


def _outputs(classifier: Classifier, val: np.ndarray, test: np.ndarray, batch: int) -> tuple[np.ndarray, ...]:
    """Return the logits of validation and test images, and the distances of the test images, none of an earlier model."""
    on_val, on_test = (large_arrays.zeros((len(images), len(classifier.classes)), np.float32) for images in (val, test))
    distances, done = [], 0
    for _, values, measured in classifier.batch_outputs(test, batch):
        on_test[done : done + len(values)] = values
        done += len(values)
        distances.append(np.empty(0, np.float32) if measured is None else measured)
    done = 0
    for _, values, _ in classifier.batch_outputs(val, batch):
        on_val[done : done + len(values)] = values
        done += len(values)
    return on_val, on_test, np.concatenate(distances)


def _size(classifier: Classifier, folder: Path) -> Size:
    network, side = classifier.network, classifier.checkpoint.preprocessing.image_size
    return Size(
        network.parameter_count(),
        multiply_adds(network.features, side) + network.head.weight.numel(),
        (folder / "model.safetensors").stat().st_size,
    )


def _select(
    settings: Params, scored: Scored, data: Data, folds: Path
) -> tuple[str, metrics_io.Selection, metrics_io.CrossValidation | None]:
    """Return the best model, what its choice rests on, and the results of cross-validation, if there are any."""
    crossed = cross_validation.read(folds)
    best, selected = selection.select(settings.evaluate.select, _judged(settings, scored, data, folds if crossed.folds else None))
    return best, selected, crossed if crossed.folds else None


def _metrics(
    scored: Scored, truth: Truth, best: str, selected: metrics_io.Selection, crossed: metrics_io.CrossValidation | None
) -> Metrics:
    return Metrics(
        best=best, selection=selected, cross_validation=crossed, confidence=significance.LEVEL,
        resamples=significance.RESAMPLES, images=len(truth.groups), groups=len(set(truth.groups)),
        models={name: item.metrics for name, item in scored.scores.items()},
    )  # fmt: skip


def _details(scored: Scored, truth: Truth, ensembles: metrics_io.Combinations) -> Details:
    test = {name: by_split["test"] for name, by_split in scored.probabilities.items()}
    resampled = {name: item.resampled for name, item in scored.scores.items()}
    return Details(
        classes=list(truth.classes), models={name: item.details for name, item in scored.scores.items()},
        pairs=intervals.pairs(test, truth.labels["test"], resampled, truth.groups), ensembles=ensembles,
    )  # fmt: skip


def _judged(settings: Params, scored: Scored, data: Data, folds: Path | None) -> Judged:
    """Return what the best model is chosen by: out-of-fold predictions, or those of the validation split."""
    if folds:
        return cross_validation.read_predictions(folds, settings.model_names(), data.classes)
    val = data.splits["val"]
    probabilities = {name: by_split["val"] for name, by_split in scored.probabilities.items() if name != PIXEL_BASELINE}
    return Judged(val.labels, np.array(image_rows.column(val.rows, "group")), probabilities, data.classes)


def _write(reports: Path, data: Data, scored: Scored, metrics: Metrics, details: Details, rows: list[Row]) -> None:
    """Write all files."""
    metrics_io.write(reports / metrics_io.METRICS, metrics)
    metrics_io.write(reports / metrics_io.DETAILS, details)
    leaderboard.write(reports / "leaderboard.csv", rows)
    leaderboard.write(reports / "cost.csv", rows, leaderboard.COSTS)
    images = {name: split.rows for name, split in data.splits.items()}
    labels = {name: split.labels for name, split in data.splits.items()}
    with atomic.new_file(reports / "predictions.parquet") as working:
        predictions.write(working, images, scored.probabilities, labels, data.classes)
    predicted = scored.probabilities[metrics.best]["test"].argmax(1)
    for name, table in plots.of_best(metrics.best, details, predicted, labels["test"]).items():
        plots.write(reports / "plots" / name, table)
    with atomic.new_folder(reports / "plots" / "curves") as folder:
        for name, history in scored.histories.items():
            plots.write(folder / f"{name.replace('/', '-')}.csv", (list(history[0]), (row.values() for row in history)))


def _log(record: Run, metrics: Metrics, details: Details, models: Path, ingested: Path, reports: Path) -> None:
    """Record every model's figures, also with the run that trained it, the best model, and the pages."""
    for name, figures in metrics.models.items():
        key, ece = name.replace("/", "."), figures.calibration.ece
        recorded = ("accuracy", "macro_f1", "log_loss", "brier", "val_accuracy")
        record.log_metrics({f"{key}.{item}": getattr(figures, item) for item in recorded} | {f"{key}.ece": ece})
        if name != PIXEL_BASELINE:
            on_test = {f"test_{item}": getattr(figures, item) for item in ("accuracy", "macro_f1", "log_loss")} | {"test_ece": ece}
            record.log_scores(weight_files.checkpoint_digest(models / name), on_test, str(ingested / "test"))
    columns = ["precision", "recall", "f1", "support", "roc_auc", "average_precision"]
    per_class = [
        [name, label, *(getattr(row, column) for column in columns)]
        for name, item in details.models.items() for label, row in item.per_class.items()
    ]  # fmt: skip
    record.log_table("per_class", ["model", "class", *columns], per_class)
    record.set_tags({"darkroom.best": metrics.best})
    record.log_artifact(reports / "leaderboard.csv")
    for folder in ("plots", "plots/curves"):
        for path in sorted((reports / folder).glob("*.csv")):
            record.log_artifact(path, folder)
