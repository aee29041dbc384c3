"""Calibration error and reliability curves (Guo et al. 2017)."""

from __future__ import annotations

import numpy as np

from darkroom.evaluation.metrics_io import Bin

BINS = 15  # intervals of confidence of equal width


def error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error of probabilities (N, C): the mean gap of confidence to accuracy.

    Gaps are weighted by the number of images in each of `BINS` equal intervals of confidence.
    """
    places, differences = gaps(probabilities, labels)
    return float(np.abs(np.bincount(places, differences, minlength=BINS)).sum() / len(labels))


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[Bin]:
    """Return the bounds, images, mean confidence and accuracy of each interval of confidence."""
    places, confidence, correct = _binned(probabilities, labels)
    counts = np.bincount(places, minlength=BINS)
    sums = [np.bincount(places, values, minlength=BINS) for values in (confidence, correct)]
    curve = []
    for i, count in enumerate(counts.tolist()):
        mean, accuracy = (float(values[i] / count) if count else None for values in sums)
        curve.append(Bin(low=i / BINS, high=(i + 1) / BINS, count=count, confidence=mean, accuracy=accuracy))
    return curve


def gaps(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval (N,) int of each image, and 1 or 0, correct or not, minus its confidence (N,)."""
    places, confidence, correct = _binned(probabilities, labels)
    return places, correct - confidence


def _binned(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each image's interval (N,) int, open below, its confidence, and 1.0 if correct, else 0.0."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1), confidence, correct.astype(np.float64)
