"""How test accuracy grows with the number of training images: linear classifiers on frozen features, and on pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from darkroom.core.kept_results import Arrays
from darkroom.evaluation import significance
from darkroom.evaluation.diagnostics_file import Accuracies, LearningCurve
from darkroom.evaluation.pixel_baseline import Regression

FEATURES, PIXELS = "frozen features", "pixels"  # names of inputs
DRAWS = 3  # subsets of each size but the largest
SIZES = 7  # at most, each half of the one before
FEWEST = 10  # images, and two of each class
MOST = 2_000  # images
WORK = 1_000_000_000  # images × dimensions × classes, at most
TINY = 1e-9  # of an accuracy: sums in another order differ


class Task(NamedTuple):
    """The labels (N,) of training and (M,) of test images, the groups (M,) of test images, and the number of classes."""

    train: np.ndarray
    test: np.ndarray
    groups: np.ndarray
    classes: int


def sizes(images: int, classes: int, dimensions: int) -> list[int]:
    """Return the numbers of training images that are tried, the largest first; none where there would be no two."""
    most = min(images, MOST, WORK // (dimensions * classes))
    halves = [most >> number for number in range(SIZES)]
    tried = [size for size in halves if size >= max(FEWEST, 2 * classes)]
    return tried if len(tried) > 1 else []


def spread(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of labels (N,) in a random order, of which every beginning has about the shares of the classes."""
    places = np.empty(len(labels))
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        places[rng.permutation(own)] = (np.arange(len(own)) + rng.uniform()) / len(own)
    return np.argsort(places, kind="stable")


def correct(
    train: Callable[[np.ndarray], np.ndarray],
    test: np.ndarray,
    task: Task,
    tried: list[int],
    seed: int,
    advance: Callable[[int], None],
) -> Arrays:
    """Return for each size which test images are classified correctly, (draws, M) bool; all training images are one draw.

    A logistic regression is fitted on the inputs of the first training images, in an order of each draw, and classifies test
    inputs (M, D). `train` returns the inputs (n, D) of training images at indices (n,). `advance` is called after each fit.
    """
    results = []
    order = [spread(task.train, np.random.default_rng((seed, draw))) for draw in range(DRAWS)]
    for size in tried:
        rows = []
        for draw in range(1 if size == len(task.train) else DRAWS):
            chosen = np.sort(order[draw][:size])
            fitted = Regression(train(chosen), task.train[chosen], task.classes)
            rows.append(fitted.probabilities(test).argmax(1) == task.test)
            advance(1)
        results.append(np.stack(rows))
    return tuple(results)


def fits(images: int, tried: list[int]) -> int:
    """Return how many fits `correct` makes."""
    return sum(1 if size == images else DRAWS for size in tried)


def summarize(measured: Mapping[str, Arrays], task: Task, tried: list[int], embedder: str | None, seed: int) -> LearningCurve:
    """Return the curves of what `correct` returned, by name of the inputs, the one that matters first.

    The gain is that of its last doubling; the 95% interval is of a bootstrap over groups of test images (Efron 1979), the
    subsets of training images being given.
    """
    curves = {
        name: [Accuracies(mean=float(rows.mean()), low=float(rows.mean(1).min()), high=float(rows.mean(1).max())) for rows in parts]
        for name, parts in measured.items()
    }
    first = next(iter(measured.values()))
    differences = first[0].mean(0) - first[1].mean(0)
    resampled = [times.T @ differences / times.sum(0) for times in significance.draws(task.groups, seed)]
    interval = significance.percentiles(np.concatenate(resampled).astype(np.float64))
    return LearningCurve(
        embedder=embedder, of=len(task.train), test_images=len(task.test), images=tried[::-1],
        curves={name: points[::-1] for name, points in curves.items()}, gain=float(differences.mean()), gain_interval=interval,
    )  # fmt: skip


def images_for(curve: LearningCurve, name: str, accuracy: float) -> int | None:
    """Return with how many training images the inputs of this name reach an accuracy, None where no number that was tried does.

    Between two sizes the accuracy is interpolated along the logarithm of the number.
    """
    points = [point.mean for point in curve.curves[name]]
    for place, (size, reached) in enumerate(zip(curve.images, points, strict=True)):
        if reached >= accuracy - TINY:
            if place == 0:
                return size
            share = (accuracy - points[place - 1]) / (reached - points[place - 1])
            return round(float(curve.images[place - 1] * (size / curve.images[place - 1]) ** share))
    return None


def describe(curve: LearningCurve) -> str:
    """Return in a sentence what frozen features are worth with few images, or without them, how accuracy grows."""
    few, most = curve.images[0], curve.images[-1]
    pixels = [f"{point.mean:.3f}" for point in curve.curves[PIXELS]]
    if curve.embedder is None:
        return f"Logistic regression on pixels has {pixels[0]} with {few} training images, {pixels[-1]} with {most:,}."
    features = [f"{point.mean:.3f}" for point in curve.curves[FEATURES]]
    return (
        f"With {few} training images a linear head on the frozen features of {curve.embedder} has {features[0]}, on pixels "
        f"{pixels[0]}; with {most:,} they have {features[-1]} and {pixels[-1]}."
    )
