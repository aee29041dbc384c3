"""Whether a model is right as often as it says (Guo et al. 2017): images put into equal intervals of confidence."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15


def error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error of probabilities (N, C): the mean gap between confidence and accuracy.

    Gaps are weighted by how many images are in each of `bins` equal intervals of confidence.
    """
    where, apart = gaps(probabilities, labels, bins)
    return float(np.abs(np.bincount(where, apart, minlength=bins)).sum() / len(labels))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """Return for each interval of confidence its bounds, images, mean confidence and accuracy: None where it has no images."""
    where, confidence, right = _binned(probabilities, labels, bins)
    counts = np.bincount(where, minlength=bins)
    sums = [np.bincount(where, values, minlength=bins) for values in (confidence, right)]
    made = []
    for i, count in enumerate(counts.tolist()):
        confident, correct = (float(values[i] / count) if count else None for values in sums)
        made.append({"low": i / bins, "high": (i + 1) / bins, "count": count, "confidence": confident, "accuracy": correct})
    return made


def gaps(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's interval (N,) int, and its being right, 0 or 1, minus its confidence (N,)."""
    where, confidence, right = _binned(probabilities, labels, bins)
    return where, right - confidence


def _binned(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each image's interval (N,) int, open below, its confidence and whether it is right, as numbers (N,)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1), confidence, right.astype(np.float64)
