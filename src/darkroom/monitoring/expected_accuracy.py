"""The accuracy to expect on images without labels, with an interval, or why it cannot be estimated.

It is the mean of the calibrated confidence. The interval has the sampling error of both groups of images, and a part of the
difference from the accuracy on the reference images: the more is claimed to have changed, the less sure it is.

Confidence tells how hard images like the data are. Of images unlike the data a network may be sure and wrong, so that nothing
is estimated where the new images lie farther from the training images than the reference images do (`mahalanobis`).
`benchmarks/expected_accuracy.py` counts how often the interval holds, and compares with the difference of confidences (Guillory
et al. 2021) and the average thresholded confidence (Garg et al. 2022), which go wrong on the same images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from darkroom.monitoring.reference import Outputs, Reference

MIN_IMAGES = 20  # of the reference, and of the new ones
MAX_FARTHER = 0.75  # how often a new image is farther than one of the reference; 0.5 where they are alike
MAX_UNKNOWN = 0.2  # share of new images that are unknown
Z = 1.645  # of a normal distribution, for 90%
CHANGE = 0.5  # of the difference from the reference, that is added to the interval on both sides


@dataclass(frozen=True)
class Novelty:
    """How far images are: `farther`, how often a new image is farther from the training images than one of the reference, and
    the share of new images that is unknown."""

    farther: float
    unknown: float

    @classmethod
    def of(cls, reference: np.ndarray, new: np.ndarray, unknown: np.ndarray) -> Novelty:
        """Compare distances (M,) and (N,) of which the (N,) bool are unknown; equal distances count half."""
        ordered = np.sort(reference)
        below, above = (np.searchsorted(ordered, new, side) for side in ("left", "right"))
        return cls(float((below + above).mean() / 2 / len(ordered)), float(unknown.mean()))


@dataclass(frozen=True)
class ExpectedAccuracy:
    """An estimate with its interval, of 90%; or only a reason why there is none. `farther` and `unknown` are those of Novelty."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    images: int = 0
    farther: float | None = None
    unknown: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"expected accuracy: cannot be estimated: {self.reason}"
        return f"expected accuracy {self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def estimate(reference: Reference, new: Outputs, novelty: Novelty | None) -> ExpectedAccuracy:
    """Return the accuracy to expect on new images; `novelty` is None where nothing tells whether they are like the data."""
    farther, unknown = (novelty.farther, novelty.unknown) if novelty else (None, None)
    reason = _hindrance(reference, len(new), novelty)
    if reason or reference.correct is None:
        return ExpectedAccuracy(images=len(new), farther=farther, unknown=unknown, reason=reason)
    return ExpectedAccuracy(*interval(reference.correct, new.confidence), len(new), farther, unknown)


def _hindrance(reference: Reference, images: int, novelty: Novelty | None) -> str:
    """Return why there is no estimate; empty where there is one."""
    if min(images, len(reference)) < MIN_IMAGES:
        return f"{min(images, len(reference))} images are too few, at least {MIN_IMAGES} are needed"
    if reference.correct is None:
        return "the version was registered before there were estimates; a new one has them: `dvc repro`"
    if novelty is None:
        return "the model has no abstention, which tells whether the images are like its data"
    if novelty.unknown > MAX_UNKNOWN:
        return f"{novelty.unknown:.0%} of the images are unlike the data"
    if novelty.farther > MAX_FARTHER:
        return f"the images are unlike the data: {novelty.farther:.0%} are farther from it than held-out ones, where 50% is chance"
    return ""


def interval(correct: np.ndarray, confidence: np.ndarray) -> tuple[float, float, float]:
    """Return the estimate, low and high edge, from which reference images are right, (M,) bool, and the confidence (N,) of new
    ones."""
    value, accuracy = float(confidence.mean()), float(correct.mean())
    half = Z * math.sqrt(_variance(accuracy, len(correct)) + _variance(value, len(confidence))) + CHANGE * abs(value - accuracy)
    return value, max(value - half, 0.0), min(value + half, 1.0)


def _variance(share: float, count: int) -> float:
    """Return the variance of a share of `count` images, as if one had been right and one wrong besides (Laplace)."""
    smoothed = (share * count + 1) / (count + 2)
    return smoothed * (1 - smoothed) / count
