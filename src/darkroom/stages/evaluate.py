"""Score every trained model on the test split."""

from __future__ import annotations

import csv
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom import atomic, params
from darkroom.errors import WorkspaceError
from darkroom.params import Params
from darkroom.progress import Progress
from darkroom.stages.session import session

if TYPE_CHECKING:
    import numpy as np

    from darkroom.prediction.classifier import Classifier
    from darkroom.tracking.journal import Run


def model_names(settings: Params) -> list[str]:
    """Return the names of the models that the params ask for."""
    return ["baseline", *(f"{stage}/{name}" for stage in ("transfer", "finetune") for name in settings.backbones)]


def run(ingested: Path, models: Path, cost: Path, reports: Path) -> None:
    held = [ingested / name for name in ("manifest.parquet", "val", "test")]
    inputs = [*held, *(models / name for name in model_names(params.read()))]
    with session("evaluate", ["ingest", "evaluate", "compute"], inputs) as (settings, record):
        import torch

        from darkroom.data import arrays
        from darkroom.evaluation import leaderboard, metrics, predictions, report
        from darkroom.prediction.answering import softmax
        from darkroom.prediction.classifier import Classifier

        options = settings.evaluate
        torch.set_num_threads(settings.compute.threads)
        classes = arrays.load_classes(ingested / "classes.json")
        test_images, test_labels = arrays.load_split(ingested / "test")
        val_images, val_labels = arrays.load_split(ingested / "val")
        names = model_names(settings)
        made = _Made({"val": val_labels, "test": test_labels}, classes, options.top_k)
        histories: dict[str, list[dict[str, str]]] = {}

        with Progress("evaluate", len(names) + 1, "models") as progress:
            for name in names:
                classifier = Classifier.load(models / name)
                if classifier.classes != classes:
                    raise WorkspaceError(f"models/{name} was trained on other classes", "run `dvc repro`, which trains it again")
                val, test = (softmax(classifier.logits(x, options.batch_size)) for x in (val_images, test_images))
                ms = milliseconds(classifier, test_images, options.batch_size)
                made.add(name, test, val, classifier.network.parameter_count(), ms, training_seconds(name, cost))
                histories[name] = _history(models / name / "history.csv")
                progress.advance(note=f"{name} {made.figures[name]['accuracy']:.4f}")
            train = arrays.load_split(ingested / "train")
            made.add(metrics.REFERENCE, *_reference(train, test_images, val_images, len(classes), settings.compute.seed))
            progress.advance()

        figures, rows = made.figures, leaderboard.ranked(made.rows)
        best = metrics.best_model(figures)
        atomic.write_json(reports / "metrics.json", {"schema": metrics.SCHEMA, "models": figures, "best": best})
        with atomic.new_file(reports / "leaderboard.csv") as working:
            leaderboard.write(working, rows)
        with atomic.new_file(reports / "predictions.parquet") as working:
            predictions.write(working, ingested / "manifest.parquet", made.answers, made.labels, classes)
        _write_plots(reports / "plots", histories, made.answers[best]["test"], test_labels, classes)
        shown = settings.model_dump(by_alias=True, exclude={"fetch", "register_"})
        with atomic.new_file(reports / "report.html") as working:
            page = report.page(figures, best, rows, histories, classes, _data_summary(ingested), shown)
            working.write_text(page, encoding="utf-8")

        _recorded(record, figures, best, models, ingested, reports)
        print(leaderboard.table(rows, best))


class _Made:
    """What was found of every model: its figures, its line of the leaderboard, and what it said of both splits."""

    def __init__(self, labels: dict[str, np.ndarray], classes: tuple[str, ...], top_k: int) -> None:
        self.labels, self.classes, self.top_k = labels, classes, top_k
        self.figures: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, np.ndarray]] = {}

    def add(self, name: str, test: np.ndarray, val: np.ndarray, parameters: int, ms: float, seconds: float) -> None:
        """Add a model by its probabilities (N, C) for both splits."""
        from darkroom.evaluation import metrics

        held = metrics.score(val, self.labels["val"], self.classes, self.top_k)
        found = self.figures[name] = {
            **metrics.score(test, self.labels["test"], self.classes, self.top_k),
            "val_accuracy": held["accuracy"], "val_macro_f1": held["macro_f1"], "val_log_loss": held["log_loss"],
            "parameters": parameters,
        }  # fmt: skip
        self.answers[name] = {"val": val, "test": test}
        self.rows.append({
            "model": name, "accuracy": found["accuracy"], "macro_f1": found["macro_f1"], "parameters": parameters,
            "ms_per_image": round(ms, 4), "train_seconds": round(seconds, 2),
        })  # fmt: skip


def _recorded(record: Run, figures: dict[str, dict[str, Any]], best: str, models: Path, ingested: Path, reports: Path) -> None:
    """Record every model's figures, also with the run that trained it, which one is best, and the pages."""
    from darkroom.evaluation import metrics
    from darkroom.models import digests

    for name, figure in figures.items():
        key = name.replace("/", ".")
        record.metrics({f"{key}.{item}": figure[item] for item in ("accuracy", "macro_f1", "log_loss", "val_accuracy")})
        if name != metrics.REFERENCE:
            shown = {f"test_{item}": figure[item] for item in ("accuracy", "macro_f1", "log_loss")}
            record.scores(digests.checkpoint(models / name), shown, str(ingested / "test"))
    columns = ["precision", "recall", "f1", "support"]
    record.table(
        "per_class", ["model", "class", *columns],
        [[name, label, *(row[key] for key in columns)] for name, f in figures.items() for label, row in f["per_class"].items()],
    )  # fmt: skip
    record.tag({"darkroom.best": best})
    for name in ("report.html", "leaderboard.csv"):
        record.file(reports / name)
    record.file(reports / "plots" / "confusion.csv", "plots")
    for path in sorted((reports / "plots" / "curves").glob("*.csv")):
        record.file(path, "plots/curves")


def _reference(
    train: tuple[np.ndarray, np.ndarray], test: np.ndarray, val: np.ndarray, classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray, int, float, float]:
    """Return what the pixels alone tell of test and val, its parameters, milliseconds per image and seconds of training."""
    from darkroom.evaluation.reference import PixelRegression

    started = time.monotonic()
    reference = PixelRegression(*train, classes, seed)
    trained = time.monotonic()
    answers = reference.probabilities(test)
    ms = (time.monotonic() - trained) * 1000 / len(test)
    return answers, reference.probabilities(val), reference.parameter_count, ms, trained - started


def training_seconds(name: str, cost: Path) -> float:
    """Return what a model took to train, with what it builds on: embedding and head count into fine-tuning."""
    stage, _, backbone = name.partition("/")
    parts = {
        "baseline": ["baseline"],
        "transfer": ["embed", "transfer"],
        "finetune": ["embed", "transfer", "finetune"],
    }[stage]
    files = [cost / part / f"{backbone}.json" if backbone else cost / f"{part}.json" for part in parts]
    return sum(json.loads(file.read_text())["seconds"] for file in files if file.exists())


def milliseconds(classifier: Classifier, images: np.ndarray, batch: int) -> float:
    """Return the median time per image of a batch, of five; the classifier has just answered such batches."""
    sample = images[:batch]
    times = []
    for _ in range(5):
        started = time.perf_counter()
        classifier.logits(sample, batch)
        times.append((time.perf_counter() - started) * 1000 / len(sample))
    return statistics.median(times)


def _history(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _data_summary(ingested: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(ingested / "manifest.parquet").read(["status", "split"]).to_pydict()
    accepted = [split for split, status in zip(table["split"], table["status"], strict=True) if status == "accepted"]
    counts = {name: accepted.count(name) for name in ("train", "val", "test")}
    return {"files": len(table["status"]), "quarantined": table["status"].count("quarantined"), **counts}


def _write_plots(
    folder: Path,
    histories: dict[str, list[dict[str, str]]],
    best: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
) -> None:
    """Write the tables behind `dvc plots show`: the confusions of the best model and every model's learning curve."""
    with atomic.new_file(folder / "confusion.csv") as working, working.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows([classes[label], classes[int(p.argmax())]] for label, p in zip(labels, best, strict=True))
    with atomic.new_folder(folder / "curves") as working:
        for name, history in histories.items():
            with (working / f"{name.replace('/', '-')}.csv").open("w", newline="") as file:
                rows = csv.DictWriter(file, fieldnames=list(history[0]))
                rows.writeheader()
                rows.writerows(history)
