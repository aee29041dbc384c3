"""Calibration error and reliability curves (Guo et al. 2017)."""

from __future__ import annotations

import numpy as np

from darkroom.evaluation.metrics_io import Bin

BINS = 15  # intervals of confidence of equal width


def error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error of probabilities (N, C): the mean gap between confidence and
    accuracy.

    Gaps are weighted by the number of images in each of `bins` equal intervals of confidence.
    """
    places, differences = gaps(probabilities, labels, bins)
    return float(np.abs(np.bincount(places, differences, minlength=bins)).sum() / len(labels))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Return the bounds, images, mean confidence and accuracy of each interval of confidence."""
    places, confidence, correct = _binned(probabilities, labels, bins)
    counts = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, values, minlength=bins) for values in (confidence, correct)]
    curve = []
    for i, count in enumerate(counts.tolist()):
        mean, accuracy = (float(values[i] / count) if count else None for values in sums)
        curve.append(Bin(low=i / bins, high=(i + 1) / bins, count=count, confidence=mean, accuracy=accuracy))
    return curve


def gaps(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval (N,) int of each image, and 1 or 0, correct or not, minus its confidence (N,)."""
    places, confidence, correct = _binned(probabilities, labels, bins)
    return places, correct - confidence


def _binned(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each image's interval (N,) int, open below, its confidence, and 1.0 if correct, else 0.0."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1), confidence, correct.astype(np.float64)
