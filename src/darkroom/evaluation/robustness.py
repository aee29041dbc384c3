"""Accuracy on corrupted images: noise, blur, fog, compression (Hendrycks and Dietterich 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np

from darkroom.core.kept_results import Arrays, Get, compute_anew
from darkroom.evaluation.diagnostics_file import Corruption, Robustness

Predict = Callable[[np.ndarray], np.ndarray]  # images (N, S, S, 3) uint8 to probabilities (N, classes)


def sample(count: int, most: int, seed: int) -> np.ndarray:
    """Return at most `most` indices below `count`, drawn from the seed, in their order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def measure(
    images: np.ndarray,
    labels: np.ndarray,
    model: Predict,
    pixel_baseline: Predict,
    corruptions: Mapping[str, str],
    corrupted: Callable[[np.ndarray, str], Iterable[np.ndarray]],
    advance: Callable[[int], None] = lambda count: None,
    keep: Get = compute_anew,
) -> Robustness:
    """Return a model's accuracy on images (N, S, S, 3), unchanged and in each severity of corruptions.

    `corruptions` has the kind of each, `corrupted` yields the images of its severities, mildest first. The
    corruption error is the mean error over corruptions and severities. For the relative one, each
    corruption's error, summed over severities, is divided by the pixel baseline's, and these are averaged.
    That is the mCE of the paper, which divides by the errors of AlexNet; None where the pixel baseline makes
    no mistake.
    """

    def measured(name: str) -> Arrays:
        accuracies = []
        for changed in corrupted(images, name):
            accuracies.append([_accuracy(predict, changed, labels) for predict in (model, pixel_baseline)])
            advance(len(images))
        return (np.array(accuracies),)

    curves = {}
    for name, kind in corruptions.items():
        (accuracies,) = keep(f"corruption {name}", partial(measured, name))
        curves[name] = Corruption(kind=kind, accuracy=accuracies[:, 0].tolist(), pixel_baseline=accuracies[:, 1].tolist())
    errors = np.array([1 - np.array(curve.accuracy) for curve in curves.values()])
    baseline_errors = np.array([1 - np.array(curve.pixel_baseline) for curve in curves.values()])
    sums, baseline_sums = errors.sum(1), baseline_errors.sum(1)
    return Robustness(
        of=len(images),
        images=len(images),
        accuracy=_accuracy(model, images, labels),
        corruption_error=float(errors.mean()),
        pixel_baseline_accuracy=_accuracy(pixel_baseline, images, labels),
        pixel_baseline_corruption_error=float(baseline_errors.mean()),
        mean_corruption_error=float((sums / baseline_sums).mean()) if baseline_sums.all() else None,
        corruptions=curves,
    )


def _accuracy(predict: Predict, images: np.ndarray, labels: np.ndarray) -> float:
    return float((predict(images).argmax(1) == labels).mean())
