"""Two models on the same images: is the difference more than chance?

Every test is paired: both models answered the same images, so that what they have in common cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
CELLS = 2**24  # of the tables of resamples that are kept in memory at a time


@dataclass(frozen=True)
class Interval:
    """A difference, the second minus the first, and the interval that holds it with `LEVEL` certainty."""

    difference: float
    low: float
    high: float


def mcnemar(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Return the exact two-sided p-value that two models, right (N,) bool, are right equally often (McNemar 1947).

    Only images that one of them has right count: of these each should win half, which is a binomial test. Images of one of the
    `groups` (N,) are not independent, so a group counts once, for the model that has more of it right: an exact sign test.
    """
    better = second.astype(int) - first.astype(int)
    if groups is not None:
        better = np.bincount(np.unique(groups, return_inverse=True)[1], better)
    won, lost = int((better > 0).sum()), int((better < 0).sum())
    unequal = won + lost
    ways = tail = 1
    for k in range(1, min(won, lost) + 1):
        ways = ways * (unequal - k + 1) // k  # of k among them: whole numbers of any size
        tail += ways
    return min(1.0, 2 * tail / 2**unequal)


def bootstrap(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int, seed: int = 0, resamples: int = 2000
) -> dict[str, Interval]:
    """Return the differences of `accuracy` and `macro_f1`, with intervals over resampled images (Efron 1979, percentiles).

    `labels` and what the models predicted are (N,) int. Both models see the same resamples. The macro average is over the classes
    that a resample holds.
    """
    draw = np.random.default_rng(seed)
    count = len(labels)
    sizes = np.ones((1, count), np.float32)
    observed = [_figures(labels, predicted, classes, sizes) for predicted in (first, second)]
    found: list[np.ndarray] = []
    at_once = max(1, CELLS // max(count, 3 * classes))
    for start in range(0, resamples, at_once):
        drawn = draw.multinomial(count, np.full(count, 1 / count), min(at_once, resamples - start)).astype(np.float32)
        one, two = (_figures(labels, predicted, classes, drawn) for predicted in (first, second))
        found.append(two - one)
    edges = np.percentile(np.concatenate(found), [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    difference = (observed[1] - observed[0])[0]
    return {
        name: Interval(float(difference[i]), float(edges[0, i]), float(edges[1, i]))
        for i, name in enumerate(("accuracy", "macro_f1"))
    }


def _figures(labels: np.ndarray, predicted: np.ndarray, classes: int, sizes: np.ndarray) -> np.ndarray:
    """Return accuracy and macro-F1, (R, 2), where image i counts `sizes[r, i]` times."""
    known, said = (np.eye(classes, dtype=np.float32)[numbers] for numbers in (labels, predicted))
    right, support, given = ((sizes @ counted).astype(np.float64) for counted in (known * said, known, said))
    f1 = np.divide(2 * right, support + given, out=np.zeros_like(right), where=support + given > 0)
    held = support > 0
    return np.stack([right.sum(1) / sizes.sum(1), (f1 * held).sum(1) / held.sum(1)], 1)


def class_drops(labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int) -> np.ndarray:
    """Return for each class (C,) how much of its recall the second model loses against the first; 0 without examples."""
    support = np.bincount(labels, minlength=classes)
    right = [np.bincount(labels[predicted == labels], minlength=classes) for predicted in (first, second)]
    return np.divide(right[0] - right[1], support, out=np.zeros(classes), where=support > 0)
