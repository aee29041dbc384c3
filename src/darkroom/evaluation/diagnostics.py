"""What `evaluate` looks at beyond the average: worse images, slices, ensembles, mistakes, and labels that may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkroom.config.params import Params
from darkroom.core import atomic
from darkroom.core.progress import Progress

if TYPE_CHECKING:
    from torch import nn

    from darkroom.evaluation.pixel_baseline import PixelRegression
    from darkroom.inference.classifier import Classifier

SCHEMA = 1
SPLITS = ("train", "val", "test")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Evaluated:
    """What is known once every model is scored: what each said, (N, C) of `val` and `test`, their figures, their costs.

    `answers` and `figures` are by model and hold the reference too; `rows` are those of the leaderboard; `costs` is the folder
    in which stages have noted how long they trained.
    """

    best: str
    reference: PixelRegression
    labels: dict[str, np.ndarray]
    classes: tuple[str, ...]
    answers: dict[str, dict[str, np.ndarray]]
    figures: dict[str, dict[str, Any]]
    rows: Rows
    costs: Path

    def trained(self) -> list[str]:
        from darkroom.evaluation.metrics import REFERENCE

        return [name for name in self.answers if name != REFERENCE]


def examine(settings: Params, ingested: Path, models: Path, reports: Path, given: Evaluated) -> Rows:
    """Write `beyond.json` and `label_issues.csv`; return the rows of ensembles for the leaderboard."""
    from darkroom.data import arrays
    from darkroom.evaluation import label_issues, mistakes, predictions, slices
    from darkroom.inference.classifier import Classifier

    splits = {name: arrays.load_split(ingested / name) for name in SPLITS}
    images = predictions.images(ingested / "manifest.parquet", None)
    (test, labels), said = splits["test"], given.answers[given.best]["test"]
    answer = _probabilities(Classifier.load(models / given.best), test, settings)
    groups = np.array([row["group"] for row in images["test"]])
    ensembles, rows, pairs = _ensembles(settings, given, groups, answer, {"val": splits["val"][0], "test": test})
    issues, how = _label_issues(settings, models, given, splits, images)
    predicted = said.argmax(1)
    trained = {name: given.answers[name]["test"] for name in given.trained()}
    lost, always = mistakes.always_wrong(trained, labels, images["test"], given.classes)
    columns = slices.columns(images["test"], [float(image.mean()) for image in test])
    atomic.write_json(reports / "beyond.json", {
        "schema": SCHEMA,
        "model": given.best,
        "robustness": _robustness(settings, given, answer, test, labels),
        "slices": slices.measure(predicted == labels, columns, labels, groups),
        "ensembles": ensembles,
        "pairs": pairs,
        "counts": {"images": len(labels), "mistakes": int((predicted != labels).sum()), "always_wrong": lost},
        "mistakes": mistakes.surest(said, labels, images["test"], given.classes),
        "confused": mistakes.confused(predicted, labels, given.classes),
        "always_wrong": always,
        "labels": how,
    })  # fmt: skip
    with atomic.new_file(reports / "label_issues.csv") as working:
        label_issues.write(working, issues)
    return rows


def _engine(network: nn.Module, images: np.ndarray, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that answers for images (N, S, S, 3) uint8 by the fastest engine for a network."""
    import torch

    from darkroom.models import engine as engines

    engine = engines.fastest(network, images, torch.device("cpu"), threads)

    def answer(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), engine.batch)
        batches = (np.ascontiguousarray(images[start : start + engine.batch]) for start in starts)
        return np.concatenate([answers[0] for answers in engine.stream(batches)])

    return answer


def _probabilities(classifier: Classifier, images: np.ndarray, settings: Params) -> Callable[[np.ndarray], np.ndarray]:
    from darkroom.inference.predict import softmax

    logits = _engine(classifier.network, images, settings.compute.threads)
    return lambda images: softmax(logits(images), classifier.checkpoint.temperature)


def _robustness(
    settings: Params, given: Evaluated, answer: Callable[[np.ndarray], np.ndarray], test: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    from darkroom.augmentation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
    from darkroom.evaluation import robustness

    seed = settings.compute.seed
    chosen = robustness.sample(len(labels), settings.evaluate.robustness_images, seed)
    kinds = {name: corruption.kind for name, corruption in CORRUPTIONS.items()}

    def corrupted(images: np.ndarray, name: str) -> Iterator[np.ndarray]:
        for severity in range(1, SEVERITIES + 1):
            yield corrupt(images, name, severity, seed)

    with Progress("evaluate: corrupted images", len(chosen) * len(kinds) * SEVERITIES) as progress:
        found = robustness.measure(
            test[chosen], labels[chosen], answer, given.reference.probabilities, kinds, corrupted, progress.advance
        )
    return {"of": len(labels), **found}


def _ensembles(
    settings: Params,
    given: Evaluated,
    groups: np.ndarray,
    answer: Callable[[np.ndarray], np.ndarray],
    images: dict[str, np.ndarray],
) -> tuple[dict[str, Any], Rows, Rows]:
    """Return the figures of ensembles and of the best model over views, their rows of the leaderboard, and pairs with the best."""
    from darkroom.augmentation import policies
    from darkroom.evaluation import ensembles, intervals, metrics
    from darkroom.inference import tta

    labels, top_k, trained = given.labels["test"], settings.evaluate.top_k, given.trained()
    test = {given.best: given.answers[given.best]["test"]}
    resampled = {given.best: intervals.resample(metrics.Figures(test[given.best], labels, top_k), groups)}
    made: dict[str, Any] = {}
    rows: Rows = []

    def add(name: str, kind: str, said: dict[str, np.ndarray], members: dict[str, int], views: int) -> None:
        test[name] = said["test"]
        figures = metrics.Figures(said["test"], labels, top_k)
        resampled[name] = intervals.resample(figures, groups)
        found = figures.score(given.classes)
        val = metrics.score(said["val"], given.labels["val"], given.classes, top_k)
        made[name], row = _scored(given, name, kind, found, val, members, views)
        made[name]["intervals"] = intervals.around(found, resampled[name], groups)
        rows.append(row)

    if len(trained) > 1:
        of_val = {name: given.answers[name]["val"] for name in trained}
        chosen = {"mean": dict.fromkeys(trained, 1), "greedy": ensembles.greedy(of_val, given.labels["val"])}
        for kind, members in chosen.items():
            said = {
                split: ensembles.mean({name: given.answers[name][split] for name in trained}, members) for split in ("val", "test")
            }
            add(f"ensemble/{kind}", "ensemble", said, members, 1)
    wanted = settings.evaluate.views
    crops, mirror = wanted == "crops", wanted != "none" and policies.mirrors(settings.augment.policy)
    if crops or mirror:
        with Progress("evaluate: views of the best model's images", sum(map(len, images.values()))) as progress:
            said, count = {}, 1
            for split, pixels in images.items():
                said[split], count = tta.average_views(answer, pixels, crops, mirror, progress.advance)
        add("best/views", "views", said, {given.best: 1}, count)
    return made, rows, intervals.pairs(test, labels, resampled, groups, given.best)


def _scored(
    given: Evaluated,
    name: str,
    kind: str,
    test: dict[str, Any],
    val: dict[str, Any],
    members: dict[str, int],
    views: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures and the row of what has no checkpoint of its own, from its scores.

    Its costs are the sum of its members' and views'.
    """
    from darkroom.evaluation import cost

    costs = [row for row in given.rows if row["model"] in members]
    sizes = [given.figures[member] for member in members]
    figures = {
        "members": members, "views": views,
        **{key: value for key, value in test.items() if value is None or isinstance(value, float)},
        "val_accuracy": val["accuracy"], "val_log_loss": val["log_loss"],
        "parameters": sum(size["parameters"] for size in sizes),
        "multiply_adds": views * sum(size["multiply_adds"] for size in sizes),
    }  # fmt: skip
    row = {
        "model": name, "kind": kind, "accuracy": test["accuracy"], "macro_f1": test["macro_f1"],
        "parameters": figures["parameters"],
        **{key: views * sum(row[key] for row in costs) for key in ("ms_p50", "ms_p95", "ms_per_image")},
        "images_per_second": 1 / (views * sum(1 / row["images_per_second"] for row in costs)),
        "train_seconds": cost.training_seconds(members, given.costs),
    }  # fmt: skip
    return figures, row


def _label_issues(
    settings: Params,
    models: Path,
    given: Evaluated,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    images: dict[str, Rows],
) -> tuple[Rows, dict[str, Any]]:
    """Return the images of all splits whose label may be wrong, and how they were found.

    By the frozen backbone that was best on validation: a network that was trained here has seen the labels. Without one, by pixels.
    """
    from torch import nn

    from darkroom.evaluation import label_issues, pixel_baseline
    from darkroom.inference.classifier import Classifier

    labels = np.concatenate([splits[name][1] for name in SPLITS])
    rows = [row for name in SPLITS for row in images[name]]
    frozen = [name for name in given.trained() if name.startswith("transfer/")]
    judge = max(frozen, key=lambda name: (given.figures[name]["val_accuracy"], name), default="")
    if judge:
        network = Classifier.load(models / judge).network
        function = nn.Sequential(network.normalize, network.features)
        embed = _engine(function, splits["train"][0], settings.compute.threads)
    else:
        embed = pixel_baseline.thumbnails
    with Progress("evaluate: embedding for labels", len(labels)) as progress:
        inputs = np.concatenate([part for name in SPLITS for part in _parts(embed, splits[name][0], progress.advance)])
    groups = [row["group"] for row in rows]
    with Progress("evaluate: judging labels", label_issues.FITS, "fits") as progress:
        c, said = label_issues.out_of_fold(inputs, labels, groups, len(given.classes), settings.compute.seed, progress.advance)
    found = label_issues.issues(said, labels, rows, given.classes)
    how = {
        "inputs": f"embeddings of {judge}" if judge else "pixels", "folds": label_issues.FOLDS, "c": c, "images": len(labels),
        "accuracy": float((said.argmax(1) == labels).mean()), "candidates": len(found),
    }  # fmt: skip
    return found, how


def _parts(
    embed: Callable[[np.ndarray], np.ndarray], images: np.ndarray, done: Callable[[int], None], size: int = 1024
) -> Iterator[np.ndarray]:
    for part in (images[start : start + size] for start in range(0, len(images), size)):
        yield embed(part)
        done(len(part))
