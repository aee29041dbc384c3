"""Score every trained model on the test split."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.config import params
from darkroom.config.params import Params
from darkroom.core import atomic
from darkroom.core.errors import WorkspaceError
from darkroom.core.progress import Progress
from darkroom.stages.context import session

if TYPE_CHECKING:
    import numpy as np

    from darkroom.evaluation.pixel_baseline import PixelRegression
    from darkroom.inference.classifier import Classifier
    from darkroom.tracking.records import Run


def model_names(settings: Params) -> list[str]:
    """Return the names of the models that the params ask for."""
    return ["baseline", *(f"{stage}/{name}" for stage in ("transfer", "finetune") for name in settings.backbones)]


def run(ingested: Path, models: Path, cost: Path, reports: Path) -> None:
    held = [ingested / name for name in ("manifest.parquet", "val", "test")]
    inputs = [*held, *(models / name for name in model_names(params.read()))]
    with session("evaluate", ["ingest", "evaluate", "compute"], inputs) as (settings, record):
        import torch

        from darkroom.data import arrays
        from darkroom.evaluation import cost as costs
        from darkroom.evaluation import diagnostics, leaderboard, metrics, metrics_io, predictions
        from darkroom.evaluation.report import outputs
        from darkroom.inference.classifier import Classifier
        from darkroom.inference.predict import softmax

        options = settings.evaluate
        torch.set_num_threads(settings.compute.threads)
        classes = arrays.load_classes(ingested / "classes.json")
        test_images, test_labels = arrays.load_split(ingested / "test")
        val_images, val_labels = arrays.load_split(ingested / "val")
        names = model_names(settings)
        groups = predictions.groups(ingested / "manifest.parquet", "test")
        made = _Made({"val": val_labels, "test": test_labels}, groups, classes, options.top_k)
        histories: dict[str, list[dict[str, str]]] = {}

        with Progress("evaluate", len(names) + 1, "models") as progress:
            for name in names:
                classifier = Classifier.load(models / name)
                if classifier.classes != classes:
                    raise WorkspaceError(f"models/{name} was trained on other classes", "run `dvc repro`, which trains it again")
                val, test = (classifier.logits(x, options.batch_size) for x in (val_images, test_images))
                temperature = classifier.checkpoint.temperature
                said = Answers(softmax(val, temperature), softmax(test, temperature), softmax(test), temperature)
                speed = costs.measure(classifier.logits, test_images) | {"train_seconds": costs.training_seconds([name], cost)}
                made.add(name, said, sizes(classifier, models / name), speed)
                histories[name] = outputs.lines(models / name / "history.csv")
                progress.advance(note=f"{name} {made.figures[name]['accuracy']:.4f}")
            train = arrays.load_split(ingested / "train")
            reference, told = _reference(train, test_images, val_images, len(classes), settings.compute.seed)
            made.add(metrics.REFERENCE, *told)
            progress.advance()

        figures = made.figures
        best = metrics.best_model(figures)
        scored = diagnostics.Evaluated(best, reference, made.labels, classes, made.answers, figures, made.rows, cost)
        together = diagnostics.examine(settings, ingested, models, reports, scored)
        headlines, details = made.written(best)
        atomic.write_json(reports / metrics_io.METRICS, headlines)
        atomic.write_json(reports / metrics_io.DETAILS, details)
        rows = leaderboard.ranked(made.rows + together)
        with atomic.new_file(reports / "cost.csv") as working:
            costs.write(working, rows)
        with atomic.new_file(reports / "leaderboard.csv") as working:
            leaderboard.write(working, rows)
        with atomic.new_file(reports / "predictions.parquet") as working:
            predictions.write(working, ingested / "manifest.parquet", made.answers, made.labels, classes)
        answers = {name: said["test"] for name, said in made.answers.items()}
        outputs.plots(reports, histories, answers[best].argmax(1), test_labels)
        outputs.report(settings, ingested, models, reports, rows, histories, answers)

        _recorded(record, figures, best, models, ingested, reports)
        print(leaderboard.table(rows, best))


@dataclass(frozen=True)
class Answers:
    """What a model said: probabilities (N, C) of both splits, those of test before temperature scaling, and the temperature."""

    val: np.ndarray
    test: np.ndarray
    uncalibrated: np.ndarray
    temperature: float = 1.0


class _Made:
    """What was found of every model: its figures, its line of the leaderboard, and what it said of both splits.

    `groups` (N,) says which test images belong together, as copies do.
    """

    def __init__(self, labels: dict[str, np.ndarray], groups: np.ndarray, classes: tuple[str, ...], top_k: int) -> None:
        self.labels, self.groups, self.classes, self.top_k = labels, groups, classes, top_k
        self.figures: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, np.ndarray]] = {}
        self.resampled: dict[str, dict[str, np.ndarray]] = {}

    def add(self, name: str, said: Answers, size: dict[str, int | None], speed: dict[str, float]) -> None:
        """Add a model by what it said, what it is (`sizes`) and how fast (`cost.measure`, and `train_seconds`)."""
        from darkroom.evaluation import calibration, intervals, metrics

        held = metrics.score(said.val, self.labels["val"], self.classes, self.top_k)
        labels = self.labels["test"]
        figures = metrics.Figures(said.test, labels, self.top_k)
        found = figures.score(self.classes)
        self.resampled[name] = intervals.resample(figures, self.groups)
        edges, ece = intervals.around(found, self.resampled[name], self.groups), found.pop("ece")
        self.figures[name] = {
            **found,
            "intervals": edges,
            "calibration": {
                "temperature": said.temperature, "ece": ece, "ece_uncalibrated": calibration.error(said.uncalibrated, labels),
            },
            "bins": calibration.reliability(said.test, labels),
            "bins_uncalibrated": calibration.reliability(said.uncalibrated, labels),
            "val_accuracy": held["accuracy"], "val_macro_f1": held["macro_f1"], "val_log_loss": held["log_loss"],
            **size,
        }  # fmt: skip
        self.answers[name] = {"val": said.val, "test": said.test}
        self.rows.append({
            "model": name, "kind": "reference" if name == metrics.REFERENCE else "model",
            "accuracy": found["accuracy"], "macro_f1": found["macro_f1"], "parameters": size["parameters"],
            **speed, "ms_per_image": round(1000 / speed["images_per_second"], 4), "train_seconds": round(speed["train_seconds"], 2),
        })  # fmt: skip

    def written(self, best: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what goes into metrics.json, and what into details.json."""
        from darkroom.evaluation import intervals, metrics_io, significance

        headlines, details = metrics_io.split(self.figures)
        test = {name: answers["test"] for name, answers in self.answers.items()}
        return {
            "schema": metrics_io.SCHEMA, "best": best, "confidence": significance.LEVEL, "resamples": intervals.RESAMPLES,
            "images": len(self.groups), "groups": len(set(self.groups)), "models": headlines,
        }, {
            "schema": metrics_io.SCHEMA, "classes": self.classes, "models": details,
            "pairs": intervals.pairs(test, self.labels["test"], self.resampled, self.groups),
        }  # fmt: skip


def sizes(classifier: Classifier, folder: Path) -> dict[str, int | None]:
    """Return what does not depend on the machine: `parameters`, `multiply_adds` of one image, and `checkpoint_bytes` of weights."""
    from darkroom.models.macs import multiply_adds

    network, size = classifier.network, classifier.checkpoint.preprocessing.image_size
    return {
        "parameters": network.parameter_count(),
        "multiply_adds": multiply_adds(network.features, size) + network.head.weight.numel(),
        "checkpoint_bytes": (folder / "model.safetensors").stat().st_size,
    }


def _recorded(record: Run, figures: dict[str, dict[str, Any]], best: str, models: Path, ingested: Path, reports: Path) -> None:
    """Record every model's figures, also with the run that trained it, which one is best, and the pages."""
    from darkroom.evaluation import metrics
    from darkroom.models import digests

    for name, figure in figures.items():
        key = name.replace("/", ".")
        ece = figure["calibration"]["ece"]
        record.log_metrics({f"{key}.{item}": figure[item] for item in ("accuracy", "macro_f1", "log_loss", "brier", "val_accuracy")})
        record.log_metrics({f"{key}.ece": ece})
        if name != metrics.REFERENCE:
            shown = {f"test_{item}": figure[item] for item in ("accuracy", "macro_f1", "log_loss")} | {"test_ece": ece}
            record.log_scores(digests.checkpoint(models / name), shown, str(ingested / "test"))
    columns = ["precision", "recall", "f1", "support", "roc_auc", "average_precision"]
    record.log_table(
        "per_class", ["model", "class", *columns],
        [[name, label, *(row[key] for key in columns)] for name, f in figures.items() for label, row in f["per_class"].items()],
    )  # fmt: skip
    record.set_tags({"darkroom.best": best})
    for name in ("report.html", "leaderboard.csv"):
        record.log_artifact(reports / name)
    for path in sorted((reports / "plots").glob("*.csv")):
        record.log_artifact(path, "plots")
    for path in sorted((reports / "plots" / "curves").glob("*.csv")):
        record.log_artifact(path, "plots/curves")


def _reference(
    train: tuple[np.ndarray, np.ndarray], test: np.ndarray, val: np.ndarray, classes: int, seed: int
) -> tuple[PixelRegression, tuple[Answers, dict[str, int | None], dict[str, float]]]:
    """Return the regression on pixels, what it tells of both splits, and what that costs."""
    from darkroom.evaluation import cost
    from darkroom.evaluation.pixel_baseline import PixelRegression

    started = time.monotonic()
    reference = PixelRegression(*train, classes, seed)
    seconds = time.monotonic() - started
    answers = reference.probabilities(test)
    size = {"parameters": reference.parameter_count, "multiply_adds": reference.weights[:-1].size, "checkpoint_bytes": None}
    speed = cost.measure(reference.probabilities, test) | {"train_seconds": seconds}
    return reference, (Answers(reference.probabilities(val), answers, answers), size, speed)
