"""Risk and coverage: how accurate a model is on the images that it answers, by the share of them (El-Yaniv and Wiener 2010)."""

from __future__ import annotations

import numpy as np

from darkroom.evaluation.metrics_io import AbstentionMetrics, AnsweredShare
from darkroom.models.abstention import Threshold

POINTS = 50  # of a curve


def of_predictions(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the images are classified correctly (N,), and the doubt of a model in its answers (N,): 1 − confidence."""
    return probabilities.argmax(1) == labels, 1 - probabilities.max(1)


def curve(correct: np.ndarray, doubt: np.ndarray) -> list[AnsweredShare]:
    """Return the accuracy on the images (N,) that are answered if those with the most doubt (N,) are refused first.

    Images with equal doubt are answered together, and count as the mean of them.
    """
    accuracy = _accuracies(correct, doubt)
    places = np.unique(np.linspace(1, len(correct), min(POINTS, len(correct))).round().astype(int))
    return [AnsweredShare(answered=place / len(correct), accuracy=float(accuracy[place - 1])) for place in places]


def area(correct: np.ndarray, doubt: np.ndarray) -> float:
    """Return the area under the curve of risk and coverage (AURC, Geifman and El-Yaniv 2017): the mean share of mistakes over
    all shares of images that can be answered; 0 is best."""
    return float(1 - _accuracies(correct, doubt).mean())


def _accuracies(correct: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """Return the accuracy on the 1, 2, …, N images with the least doubt."""
    order = np.argsort(doubt, kind="stable")
    _, group, sizes = np.unique(doubt[order], return_inverse=True, return_counts=True)
    means = np.bincount(group, correct[order].astype(float)) / sizes
    return means[group].cumsum() / np.arange(1, len(order) + 1)


def abstention(correct: np.ndarray, distances: np.ndarray, threshold: Threshold) -> AbstentionMetrics:
    """Return what the threshold refuses of images (N,) like the data, and the accuracy on the others."""
    unknown = np.array([threshold.is_unknown(distance) for distance in distances.tolist()], bool)
    answered = correct[~unknown]
    return AbstentionMetrics(
        refuse=threshold.refuse,
        refused=float(unknown.mean()),
        accuracy=float(answered.mean()) if len(answered) else None,
        val_images=threshold.images,
        is_fitted=threshold.is_fitted,
    )
