"""Areas under curves, one class against the rest, for many resamples of the images at once."""

from __future__ import annotations

from typing import Any

import numpy as np


class Areas:
    """The areas of one model's probabilities (N, C) for labels (N,) int, as a function of how often each image counts.

    The area under the ROC curve is the probability that an image of the class gets a higher probability of it than another image,
    ties counting half (Hanley and McNeil 1982). Average precision is the mean of the precision at each image of the class, in
    the order of probabilities, images with equal ones together (as scikit-learn has it, without interpolation).
    """

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        self.steps = [_steps(probabilities[:, c], labels == c) for c in range(probabilities.shape[1])]

    def of(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both areas of each class, (C, R), where image i counts `sizes[i, r]` times.

        NaN where no image of a class counts, or only such images do.
        """
        found = np.array([_areas(among, matrix @ sizes) for among, matrix in self.steps])
        return found[:, 0], found[:, 1]


def mean(areas: np.ndarray) -> np.ndarray:
    """Return the macro average (R,) of areas (C, R) over the classes that have one; NaN where none has."""
    known = ~np.isnan(areas)
    counts = known.sum(0)
    return np.divide(np.where(known, areas, 0).sum(0), counts, out=np.full(areas.shape[1], np.nan), where=counts > 0)


def _steps(scores: np.ndarray, positive: np.ndarray) -> tuple[int, Any]:
    """Return K, the number of distinct scores of positive images, and a matrix (3 K + 1, N) that sums over images.

    Its first K rows are the positive images of each of these scores, highest first; then come the other images: above the
    highest, tied with it, between it and the next, and so on.
    """
    from scipy.sparse import csr_array

    distinct = np.unique(-scores[positive])
    place = np.searchsorted(distinct, -scores)
    tied = np.append(distinct, np.nan)[place] == -scores
    rows = np.where(positive, place, len(distinct) + 2 * place + tied)
    order = np.argsort(rows, kind="stable").astype(np.int32)
    ends = np.cumsum(np.bincount(rows, minlength=3 * len(distinct) + 1))
    ones = np.ones(len(scores), np.float32)
    return len(distinct), csr_array((ones, order, np.append(0, ends).astype(np.int32)), shape=(len(ends), len(scores)))


def _areas(among: int, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both areas (R,) from what `_steps` sums up, (3 K + 1, R)."""
    found, others = sums[:among], sums[among:]
    tied = others[1::2]
    above = np.cumsum(others[:-1:2], 0) + np.cumsum(tied, 0) - tied
    positives, negatives = found.sum(0), others.sum(0)
    defined = (positives > 0) & (negatives > 0)
    missed = (found * (above + tied / 2)).sum(0)
    hits = np.cumsum(found, 0)
    given = hits + above + tied
    precision = (found * np.divide(hits, given, out=np.zeros_like(hits), where=given > 0)).sum(0)
    unknown = np.full(sums.shape[1], np.nan)
    roc = 1 - np.divide(missed, positives.astype(np.float64) * negatives, out=unknown.copy(), where=defined)
    return roc, np.divide(precision, positives, out=unknown, where=defined)
