"""How much of a model's accuracy is left when images are noisy, blurred, foggy, compressed (Hendrycks and Dietterich 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

Answer = Callable[[np.ndarray], np.ndarray]  # images (N, S, S, 3) uint8 to probabilities or logits (N, classes)


def sample(count: int, most: int, seed: int) -> np.ndarray:
    """Return at most `most` indices below `count`, drawn from the seed, in their order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def measure(
    images: np.ndarray,
    labels: np.ndarray,
    model: Answer,
    reference: Answer,
    corruptions: Mapping[str, str],
    corrupted: Callable[[np.ndarray, str], Iterable[np.ndarray]],
    done: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Return the accuracy of a model on images (N, S, S, 3), as they are and with every corruption in each severity.

    `corruptions` says of what kind each is, `corrupted` yields the images of its severities, mildest first. The corruption error is
    the mean error over corruptions and severities; relative to the reference, each corruption's error, summed over severities, is
    divided by the reference's, and these are averaged. That is the mCE of the paper, whose reference is AlexNet; None where
    the reference is never wrong.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, kind in corruptions.items():
        made: dict[str, Any] = {"kind": kind, "accuracy": [], "reference": []}
        for worse in corrupted(images, name):
            made["accuracy"].append(_accuracy(model, worse, labels))
            made["reference"].append(_accuracy(reference, worse, labels))
            done(len(images))
        found[name] = made
    errors = {key: np.array([1 - np.array(made[key]) for made in found.values()]) for key in ("accuracy", "reference")}
    ours, theirs = errors["accuracy"].sum(1), errors["reference"].sum(1)
    return {
        "images": len(images),
        "accuracy": _accuracy(model, images, labels),
        "corruption_error": float(errors["accuracy"].mean()),
        "reference_accuracy": _accuracy(reference, images, labels),
        "reference_corruption_error": float(errors["reference"].mean()),
        "relative_corruption_error": float((ours / theirs).mean()) if theirs.all() else None,
        "corruptions": found,
    }


def _accuracy(model: Answer, images: np.ndarray, labels: np.ndarray) -> float:
    return float((model(images).argmax(1) == labels).mean())
