"""The accuracy to expect on images without labels, with an interval, or why it cannot be estimated.

It is the accuracy on the reference images, changed by as much as the mean confidence has changed (difference of confidences,
Guillory et al. 2021). The interval has the sampling error of both groups of images, and a part of the change itself: the
further the confidence has moved, the less it says about the accuracy. On images unlike the data a network may be sure and
wrong, so that nothing is estimated where more of them are unknown than MAX_UNKNOWN, or than chance makes of those like them.
`benchmarks/expected_accuracy.py` compares this with others and counts how often the interval holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from darkroom.monitoring.reference import Outputs, Reference

MIN_IMAGES = 20  # of the reference, and of the new ones
MAX_UNKNOWN = 0.2  # share of new images that are unlike the data
Z = 1.645  # of a normal distribution, for 90%
CHANGE = 0.5  # of the difference of confidences, that is added to the interval on both sides


@dataclass(frozen=True)
class ExpectedAccuracy:
    """An estimate with its interval, of 90%; or only a reason why there is none. `unknown` is the share of unknown images."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    unknown: float | None = None
    images: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"expected accuracy: cannot be estimated: {self.reason}"
        return f"expected accuracy {self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def estimate(reference: Reference, new: Outputs, unknown: np.ndarray | None) -> ExpectedAccuracy:
    """Return the accuracy to expect on new images; `unknown` (N,) bool are those unlike the data, None where nothing tells."""
    images = len(new)
    share = None if unknown is None or not images else float(np.mean(unknown))
    reason = _hindrance(reference, images, share)
    if reason:
        return ExpectedAccuracy(unknown=share, images=images, reason=reason)
    assert reference.correct is not None
    return interval(reference.correct, reference.confidence, new.confidence, share)


def _hindrance(reference: Reference, images: int, share: float | None) -> str:
    """Return why there is no estimate; empty where there is one."""
    if reference.correct is None:
        return "the version was registered before; `dvc repro` registers one that has it"
    if share is None:
        return "the model has no abstention, which tells whether the images are like its data"
    if min(images, len(reference)) < MIN_IMAGES:
        return f"{min(images, len(reference))} images are too few, at least {MIN_IMAGES} are needed"
    if share > MAX_UNKNOWN:
        return f"{share:.0%} of the images are unlike the data"
    return ""


def interval(correct: np.ndarray, known: np.ndarray, new: np.ndarray, share: float | None = None) -> ExpectedAccuracy:
    """Return the estimate from reference images, (M,) bool whether right and (M,) confidence, and the confidence (N,) of new
    ones."""
    change = float(new.mean() - known.mean())
    value = min(max(float(correct.mean()) + change, 0.0), 1.0)
    variance = _variance(float(correct.mean()), len(correct)) + _variance(value, len(new))
    half = Z * math.sqrt(variance) + CHANGE * abs(change)
    return ExpectedAccuracy(value, max(value - half, 0.0), min(value + half, 1.0), share, len(new))


def _variance(share: float, count: int) -> float:
    """Return the variance of a share of `count` images, as if one had been right and one wrong besides (Laplace)."""
    smoothed = (share * count + 1) / (count + 2)
    return smoothed * (1 - smoothed) / count
