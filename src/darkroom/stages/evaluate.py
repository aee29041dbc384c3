"""Score every trained model on the test split."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkroom.augmentation import policies
from darkroom.augmentation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from darkroom.config import params
from darkroom.config.params import SPLITS, Params
from darkroom.core import atomic, kept_results
from darkroom.core.errors import WorkspaceError
from darkroom.core.kept_results import KeptResults
from darkroom.core.progress import Progress
from darkroom.data import arrays, csv_cells, manifest
from darkroom.evaluation import cost as costs
from darkroom.evaluation import (
    cross_validation,
    diagnostics,
    embedding_map,
    intervals,
    label_issues,
    leaderboard,
    metrics_io,
    predictions,
    robustness,
    selection,
    significance,
)
from darkroom.evaluation.diagnostics import Corruptions, Evaluated, Split
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
from darkroom.models.probabilities import softmax
from darkroom.stages import evaluation_report
from darkroom.stages.context import session
from darkroom.stages.evaluation_report import Data, Histories, Results, Scored
from darkroom.tracking.records import Run
from darkroom.training.devices import prepare

NAME = "evaluate"  # of what it keeps
ROOMS = ("augmentation", "evaluation", "inference", "models", "stages")  # whose code decides what is kept


def run(ingested: Path, models: Path, cost: Path, folds: Path, reports: Path) -> None:
    """Write metrics.json, details.json, diagnostics.json, tables, plots and the report into `reports`."""
    inputs = [ingested / name for name in ("manifest.parquet", "val", "test")]
    inputs += [models / name for name in params.read().model_names()]
    with session("evaluate", ["ingest", "evaluate", "compute"], inputs) as (settings, record):
        device = prepare(settings.compute)
        data = _read(ingested)
        test = data.splits["test"]
        groups = np.array([row["group"] for row in test.rows])
        truth = Truth({name: data.splits[name].labels for name in ("val", "test")}, groups, data.classes, settings.evaluate.top_k)
        kept_results.clear(but=NAME)  # DVC has saved what came of the others
        kept = KeptResults(NAME, _identity(settings, data, models))
        mapped = robustness.sample(len(test.labels), embedding_map.MOST, settings.compute.seed)
        scored = _score_models(settings, data, truth, models, cost, device, kept.get, mapped)
        metrics, details = _contents(settings, scored, truth, data, folds)
        evaluated = Evaluated(metrics.best, scored.baseline, truth, data.splits, scored.probabilities, metrics.models, scored.rows)
        diagnosed = diagnostics.diagnose(
            settings, evaluated, lambda name: Classifier.load(models / name).to(device),
            Corruptions({name: corruption.kind for name, corruption in CORRUPTIONS.items()}, SEVERITIES, _severities),
            policies.mirrors(settings.augment.policy), lambda names: costs.training_seconds(names, cost), kept.get,
        )  # fmt: skip
        rows = leaderboard.ranked(scored.rows + diagnosed.rows)
        results = Results(data, scored, metrics, details, diagnosed, rows)
        _write(reports, results)
        classifier = Classifier.load(models / metrics.best).to(device)
        evaluation_report.write(settings, results, classifier, mapped, ingested / "manifest.parquet", reports / "report.html")
        _log(record, metrics, details, models, ingested, reports)
        leaderboard.show(rows, metrics)
        print(f"→ {leaderboard.describe_selection(metrics)}")


def _identity(settings: Params, data: Data, models: Path) -> str:
    """Return a digest of everything that decides what is kept during the evaluation."""
    files = [models / name / file for name in settings.model_names() for file in ("model.json", "model.safetensors")]
    arrays = [array for split in data.splits.values() for array in (split.images, split.labels)]
    groups = [row["group"] for split in data.splits.values() for row in split.rows]
    content = settings.model_dump(include={"augment", "compute", "evaluate"})
    machine = torch.__version__, torch.backends.cpu.get_cpu_capability()
    return kept_results.identity(content, machine, groups, data.classes, kept_results.digest(*arrays), files=files, rooms=ROOMS)


def _read(ingested: Path) -> Data:
    rows = manifest.read(ingested / "manifest.parquet")
    splits = {}
    for name in SPLITS:
        images = [asdict(row) for row in rows if row.status == "accepted" and row.split == name]
        splits[name] = Split(*arrays.load_split(ingested / name), images)
    return Data(splits, arrays.load_classes(ingested / "classes.json"), rows)


def _score_models(
    settings: Params,
    data: Data,
    truth: Truth,
    models: Path,
    cost: Path,
    device: torch.device,
    keep: kept_results.Get,
    mapped: np.ndarray,
) -> Scored:
    """Return the results of all models and of the pixel baseline, and the embeddings of the `mapped` test images."""
    names, (train, val, test) = settings.model_names(), (data.splits[name] for name in SPLITS)
    scores: dict[str, Score] = {}
    probabilities: dict[str, dict[str, np.ndarray]] = {}
    embeddings: dict[str, np.ndarray] = {}
    histories: Histories = {}
    rows: list[Row] = []

    def add(name: str, kind: str, outputs: Outputs, size: Size, speed: costs.Speed, seconds: float) -> None:
        scores[name] = score(outputs, truth, size)
        probabilities[name] = {"val": outputs.val, "test": outputs.test}
        figures = scores[name].metrics
        rows.append(Row(
            model=name, kind=kind, accuracy=figures.accuracy, macro_f1=figures.macro_f1, parameters=size.parameters,
            train_seconds=seconds, ms_per_image=1000 / speed.images_per_second, **vars(speed),
        ))  # fmt: skip

    with Progress("evaluate", len(names) + 1, "models") as progress:
        for name in names:
            classifier = Classifier.load(models / name)
            if classifier.classes != data.classes:
                raise WorkspaceError(f"models/{name} was trained on other classes", "run `dvc repro`, which trains it again")
            size = _size(classifier, models / name)
            classifier.to(device)
            batch = settings.evaluate.batch_size
            val_logits, test_logits, embeddings[name] = keep(
                f"outputs of {name}", partial(_outputs, classifier, val.images, test.images, mapped, batch)
            )
            temperature = classifier.checkpoint.temperature
            outputs = Outputs(
                softmax(val_logits, temperature), softmax(test_logits, temperature), softmax(test_logits), temperature
            )
            speed, seconds = costs.measure(classifier.logits, test.images), costs.training_seconds([name], cost)
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
    return Scored(scores, probabilities, embeddings, histories, rows, baseline)


def _outputs(classifier: Classifier, val: np.ndarray, test: np.ndarray, mapped: np.ndarray, batch: int) -> tuple[np.ndarray, ...]:
    """Return the logits of validation and test images, and the embeddings of the `mapped` test images, in one pass."""
    logits, embeddings = [], []
    for start, (features, values) in zip(range(0, len(test), batch), classifier.outputs(test, batch), strict=True):
        logits.append(values)
        embeddings.append(features[mapped[(mapped >= start) & (mapped < start + batch)] - start])
    return classifier.logits(val, batch), np.concatenate(logits), np.concatenate(embeddings)


def _size(classifier: Classifier, folder: Path) -> Size:
    network, side = classifier.network, classifier.checkpoint.preprocessing.image_size
    return Size(
        network.parameter_count(),
        multiply_adds(network.features, side) + network.head.weight.numel(),
        (folder / "model.safetensors").stat().st_size,
    )


def _contents(settings: Params, scored: Scored, truth: Truth, data: Data, folds: Path) -> tuple[Metrics, Details]:
    """Return the contents of metrics.json and details.json."""
    crossed = cross_validation.read(folds)
    best, selected = selection.select(settings.evaluate.select, _judged(settings, scored, data, folds if crossed.folds else None))
    models = {name: item.metrics for name, item in scored.scores.items()}
    test = {name: by_split["test"] for name, by_split in scored.probabilities.items()}
    resampled = {name: item.resampled for name, item in scored.scores.items()}
    metrics = Metrics(
        best=best, selection=selected, cross_validation=crossed if crossed.folds else None, confidence=significance.LEVEL,
        resamples=significance.RESAMPLES, images=len(truth.groups), groups=len(set(truth.groups)), models=models,
    )  # fmt: skip
    details = Details(
        classes=list(truth.classes), models={name: item.details for name, item in scored.scores.items()},
        pairs=intervals.pairs(test, truth.labels["test"], resampled, truth.groups),
    )  # fmt: skip
    return metrics, details


def _judged(settings: Params, scored: Scored, data: Data, folds: Path | None) -> Judged:
    """Return what the best model is chosen by: out-of-fold predictions, or those of the validation split."""
    if folds:
        return cross_validation.read_predictions(folds, settings.model_names(), data.classes)
    val = data.splits["val"]
    probabilities = {name: by_split["val"] for name, by_split in scored.probabilities.items() if name != PIXEL_BASELINE}
    return Judged(val.labels, np.array([row["group"] for row in val.rows]), probabilities, data.classes)


def _severities(images: np.ndarray, name: str, seed: int) -> Iterator[np.ndarray]:
    """Yield the images with a corruption, mildest severity first."""
    for severity in range(1, SEVERITIES + 1):
        yield corrupt(images, name, severity, seed)


def _write(reports: Path, results: Results) -> None:
    """Write all files but the report."""
    data, scored, diagnosed = results.data, results.scored, results.diagnosed
    metrics_io.write(reports / metrics_io.METRICS, results.metrics)
    metrics_io.write(reports / metrics_io.DETAILS, results.details)
    metrics_io.write(reports / metrics_io.DIAGNOSTICS, diagnosed.diagnostics)
    (reports / "beyond.json").unlink(missing_ok=True)  # the name of diagnostics.json in earlier versions
    label_issues.write(reports / "label_issues.csv", diagnosed.issues)
    leaderboard.write(reports / "leaderboard.csv", results.rows)
    leaderboard.write(reports / "cost.csv", results.rows, leaderboard.COSTS)
    images = {name: split.rows for name, split in data.splits.items()}
    labels = {name: split.labels for name, split in data.splits.items()}
    with atomic.new_file(reports / "predictions.parquet") as working:
        predictions.write(working, images, scored.probabilities, labels, data.classes)
    best = scored.probabilities[results.metrics.best]["test"].argmax(1)
    for name, (header, lines) in plots.tables(results.details, diagnosed.diagnostics, best, labels["test"]).items():
        with atomic.new_file(reports / "plots" / name) as working:
            _write_csv(working, header, lines)
    with atomic.new_folder(reports / "plots" / "curves") as folder:
        for name, history in scored.histories.items():
            _write_csv(folder / f"{name.replace('/', '-')}.csv", list(history[0]), (row.values() for row in history))


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(map(csv_cells.escaped, rows))


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
    for name in ("report.html", "leaderboard.csv"):
        record.log_artifact(reports / name)
    for folder in ("plots", "plots/curves"):
        for path in sorted((reports / folder).glob("*.csv")):
            record.log_artifact(path, folder)
