"""Diagnostics beyond the average: corruptions, slices, views, mistakes, and labels that may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from darkroom.config.params import SPLITS, Params
from darkroom.core import large_arrays
from darkroom.core.kept_results import Arrays, compute_anew
from darkroom.core.kept_results import Get as Keep
from darkroom.core.progress import Progress
from darkroom.data import image_rows
from darkroom.evaluation import label_issues, learning_curve, mistakes, pixel_baseline, robustness, slices
from darkroom.evaluation.combinations import Combined, TrainingSeconds
from darkroom.evaluation.diagnostics_file import Counts, Diagnostics, LabelCheck, LearningCurve, Robustness
from darkroom.evaluation.evaluated import Evaluated, Split
from darkroom.evaluation.label_issues import LabelIssue
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.pixel_baseline import PixelRegression
from darkroom.inference import tta
from darkroom.inference.classifier import Classifier
from darkroom.models import engine as engines
from darkroom.models.probabilities import softmax

BATCH = 1024  # images that are embedded between two steps of the progress
Predict = Callable[[np.ndarray], np.ndarray]  # images (N, S, S, 3) uint8 to (N, D)


@dataclass(frozen=True)
class Corruptions:
    """The kind of each corruption; `apply` yields the severities of images, a corruption and a seed."""

    kinds: Mapping[str, str]
    severities: int
    apply: Callable[[np.ndarray, str, int], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Diagnosed:
    """The content of diagnostics.json, the label issues, and the row of averaged views beside those of the leaderboard."""

    diagnostics: Diagnostics
    issues: list[LabelIssue]
    rows: list[Row]


def diagnose(
    settings: Params,
    evaluated: Evaluated,
    baseline: PixelRegression,
    load: Callable[[str], Classifier],
    corruptions: Corruptions,
    can_mirror: bool,
    training_seconds: TrainingSeconds,
    keep: Keep = compute_anew,
) -> Diagnosed:
    """Return all diagnostics of the best model.

    `baseline` is the regression on pixels, `load` returns the classifier of that name, `training_seconds` how long models
    took to train together.
    `can_mirror` tells whether a mirrored image keeps its class. `keep` returns arrays by a key, computed or kept before.
    """
    test, best, classes = evaluated.splits["test"], evaluated.best, evaluated.truth.classes
    classifier = load(best)
    logits = _predictor(classifier.network, classifier.device, test.images, settings.compute.threads)

    def predict(images: np.ndarray) -> np.ndarray:
        return softmax(logits(images), classifier.checkpoint.temperature)

    views = _views(settings, evaluated, predict, can_mirror, training_seconds, keep)
    embedder = _embedder(evaluated)

    @cache
    def embeddings() -> np.ndarray:
        splits = [evaluated.splits[name] for name in SPLITS]
        return keep("embeddings for labels", partial(_embeddings, embedder, splits, settings, load))[0]

    issues, check = _label_issues(settings, evaluated, embedder, embeddings, keep)
    probabilities = evaluated.probabilities[best]["test"]
    predictions = probabilities.argmax(1)
    trained = {name: evaluated.probabilities[name]["test"] for name in evaluated.trained}
    lost, always = mistakes.always_wrong(trained, test.labels, test.rows, classes)
    columns = slices.columns(test.rows, [float(image.mean()) for image in test.images])
    diagnostics = Diagnostics(
        model=best,
        robustness=_robustness(settings, evaluated, baseline, predict, corruptions, keep),
        slices=slices.measure(predictions == test.labels, columns, test.labels, evaluated.truth.groups),
        views=views.content,
        counts=Counts(images=len(test.labels), mistakes=int((predictions != test.labels).sum()), always_wrong=lost),
        mistakes=mistakes.surest(probabilities, test.labels, test.rows, classes),
        confused=mistakes.confused(predictions, test.labels, classes),
        always_wrong=always,
        labels=check,
        learning_curve=_learning_curve(settings, evaluated, embedder, embeddings, keep),
    )
    return Diagnosed(diagnostics, issues, views.rows)


def _predictor(network: nn.Module, device: torch.device, images: np.ndarray, threads: int) -> Predict:
    """Return a function of images (N, S, S, 3) uint8 that runs a network on a device's fastest engine."""
    engine = engines.select_engine(network, images, device, threads)

    def predict(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), engine.batch)
        batches = (np.ascontiguousarray(images[start : start + engine.batch]) for start in starts)
        return np.concatenate([outputs[0] for outputs in engine.stream(batches)])  # of BATCH images, or a sample

    return predict


def _robustness(
    settings: Params, evaluated: Evaluated, baseline: PixelRegression, predict: Predict, corruptions: Corruptions, keep: Keep
) -> Robustness:
    test, seed = evaluated.splits["test"], settings.compute.seed
    chosen = robustness.sample(len(test.labels), settings.diagnose.robustness_images, seed)
    total = len(chosen) * len(corruptions.kinds) * corruptions.severities
    with Progress("diagnose: corrupted images", total) as progress:
        measured = robustness.measure(
            test.images[chosen], test.labels[chosen], predict, baseline.probabilities, corruptions.kinds,
            lambda images, name: corruptions.apply(images, name, seed), progress.advance,
            lambda key, compute: keep(f"{key} by {evaluated.best}", compute),
        )  # fmt: skip
        progress.done = progress.total
    return measured.model_copy(update={"of": len(test.labels)})


def _views(
    settings: Params, evaluated: Evaluated, predict: Predict, can_mirror: bool, training_seconds: TrainingSeconds, keep: Keep
) -> Combined:
    """Return the best model averaged over the views of the params."""
    combined, views = Combined(evaluated, training_seconds), settings.diagnose.views
    crops, mirror = views == "crops", views != "none" and can_mirror
    if crops or mirror:
        images = {split: evaluated.splits[split].images for split in ("val", "test")}
        with Progress("diagnose: views of the best model's images", sum(map(len, images.values()))) as progress:
            means, count = {}, 1
            for split, pixels in images.items():
                average = partial(_average_views, predict, pixels, crops, mirror, progress.advance)
                means[split], views_of = keep(f"views of {split} by {evaluated.best}", average)
                count = int(views_of)
            progress.done = progress.total  # also those that a run before a kill has computed
        combined.add("best/views", "views", means, {evaluated.best: 1}, count)
    return combined


def _average_views(*arguments: Any) -> Arrays:
    """Return the mean probabilities and the number of views as arrays."""
    mean, count = tta.average_views(*arguments)
    return mean, np.asarray(count)


def _embedder(evaluated: Evaluated) -> str:
    """Return the model whose frozen backbone is best on validation, empty without any: a fine-tuned one has seen the labels."""
    frozen = [name for name in evaluated.trained if name.startswith("transfer/")]
    return min(frozen, key=lambda name: (evaluated.metrics[name].val_log_loss, name), default="")


def _label_issues(
    settings: Params, evaluated: Evaluated, embedder: str, embeddings: Callable[[], np.ndarray], keep: Keep
) -> tuple[list[LabelIssue], LabelCheck]:
    """Return the images of all splits whose label may be wrong, and how they were found; the inputs are `embeddings`."""
    splits = [evaluated.splits[name] for name in SPLITS]
    labels = np.concatenate([split.labels for split in splits])
    rows = image_rows.joined([split.rows for split in splits])
    groups, classes = image_rows.column(rows, "group"), evaluated.truth.classes

    def judge() -> Arrays:
        inputs = embeddings()
        with Progress("diagnose: judging labels", label_issues.FITS, "fits") as progress:
            c, probabilities = label_issues.out_of_fold(
                inputs, labels, groups, len(classes), settings.compute.seed, progress.advance
            )
        return np.asarray(c), probabilities

    c, probabilities = keep("labels", judge)
    issues, noise = label_issues.find(probabilities, labels, rows, classes)
    check = LabelCheck(
        inputs=f"embeddings of {embedder}" if embedder else "pixels", folds=label_issues.FOLDS, c=float(c), images=len(labels),
        accuracy=float((probabilities.argmax(1) == labels).mean()), candidates=len(issues),
        draws=label_issues.DRAWS, temperature=noise.temperature, wrong_share=noise.share,
        expected_precision=label_issues.expected_precision(issues),
        expected_precision_at_10=label_issues.expected_precision(issues[:10]),
    )  # fmt: skip
    return issues, check


def _learning_curve(
    settings: Params, evaluated: Evaluated, embedder: str, embeddings: Callable[[], np.ndarray], keep: Keep
) -> LearningCurve | None:
    """Return how test accuracy grows with the number of training images, by `embeddings` of all splits and by pixels.

    None with too few images, or too many classes.
    """
    train, test, classes = evaluated.splits["train"], evaluated.splits["test"], len(evaluated.truth.classes)
    pixels = pixel_baseline.thumbnails(train.images[:1]).shape[1]
    dimensions = max(pixels, embeddings().shape[1])
    tried = learning_curve.sizes(len(train.labels), classes, dimensions)
    if not tried:
        return None
    task = learning_curve.Task(train.labels, test.labels, evaluated.truth.groups, classes)
    names = [learning_curve.FEATURES, learning_curve.PIXELS] if embedder else [learning_curve.PIXELS]
    fits = len(names) * learning_curve.fits(len(train.labels), tried)
    with Progress("diagnose: learning curve", fits, "fits") as progress:

        def inputs(name: str, split: Split, own: slice) -> Callable[[np.ndarray], np.ndarray]:
            if name == learning_curve.PIXELS:
                return lambda chosen: pixel_baseline.thumbnails(split.images[chosen])
            return lambda chosen: embeddings()[own][chosen]

        def measure(name: str) -> Arrays:
            of_train, of_test = inputs(name, train, slice(len(train.labels))), inputs(name, test, slice(-len(test.labels), None))
            held_out = of_test(np.arange(len(test.labels)))
            return learning_curve.correct(of_train, held_out, task, tried, settings.compute.seed, progress.advance)

        measured = {name: keep(f"learning curve on {name}", partial(measure, name)) for name in names}
        progress.done = progress.total
    return learning_curve.summarize(measured, task, tried, embedder or None, settings.compute.seed)


def _embeddings(embedder: str, splits: Sequence[Split], settings: Params, load: Callable[[str], Classifier]) -> Arrays:
    """Return the embeddings (N, D) of all splits by the frozen backbone of a model, or without one their pixels."""
    embed: Predict = pixel_baseline.thumbnails
    if embedder:
        classifier = load(embedder)
        frozen_part = nn.Sequential(classifier.network.normalize, classifier.network.features)
        embed = _predictor(frozen_part, classifier.device, splits[0].images, settings.compute.threads)
    total = sum(len(split.labels) for split in splits)
    embeddings = np.empty((0, 0), np.float32)
    with Progress("diagnose: embedding images", total) as progress:
        for images in (split.images for split in splits):
            for start in range(0, len(images), BATCH):
                part = embed(images[start : start + BATCH])
                if not progress.done:
                    embeddings = large_arrays.zeros((total, part.shape[1]), part.dtype)
                embeddings[progress.done : progress.done + len(part)] = part
                progress.advance(len(part))
    return (embeddings,)
