"""Area under the ROC curve and average precision, class against rest, for many resamples at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array


class Areas:
    """The areas of one model's probabilities (N, C) for labels (N,) int, as a function of how often each
    image counts.

    The area under the ROC curve is the probability that an image of the class has a higher probability of it
    than another image, ties counting half (Hanley and McNeil 1982). Average precision is the mean of the
    precision at each image of the class, in the order of probabilities, images with equal ones together (as
    in scikit-learn, without interpolation).
    """

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        self.steps = [_steps(probabilities[:, c], labels == c) for c in range(probabilities.shape[1])]

    def of(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both areas of each class, (C, R), where image i counts `times[i, r]` times.

        NaN where no image of a class counts, or only such images do.
        """
        areas = np.array([_areas(distinct, matrix @ times) for distinct, matrix in self.steps])
        return areas[:, 0], areas[:, 1]


def mean(areas: np.ndarray) -> np.ndarray:
    """Return the macro average (R,) of areas (C, R) over the classes that have one; NaN where none has."""
    defined = ~np.isnan(areas)
    counts = defined.sum(0)
    return np.divide(np.where(defined, areas, 0).sum(0), counts, out=np.full(areas.shape[1], np.nan), where=counts > 0)


def _steps(scores: np.ndarray, positive: np.ndarray) -> tuple[int, Any]:
    """Return K, the number of distinct scores of positive images, and a matrix (3 K + 1, N) that sums over
    images.

    Its first K rows are the positive images of each of these scores, highest first. Then come the other
    images: above the highest, tied with it, between it and the next, and so on.
    """
    distinct = np.unique(-scores[positive])
    place = np.searchsorted(distinct, -scores)
    tied = np.append(distinct, np.nan)[place] == -scores
    rows = np.where(positive, place, len(distinct) + 2 * place + tied)
    order = np.argsort(rows, kind="stable").astype(np.int32)
    ends = np.cumsum(np.bincount(rows, minlength=3 * len(distinct) + 1))
    ones = np.ones(len(scores), np.float32)
    return len(distinct), csr_array((ones, order, np.append(0, ends).astype(np.int32)), shape=(len(ends), len(scores)))


def _areas(distinct: int, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both areas (R,) from the sums of `_steps`, (3 K + 1, R)."""
    positives, negatives = sums[:distinct], sums[distinct:]
    tied = negatives[1::2]
    above = np.cumsum(negatives[:-1:2], 0) + np.cumsum(tied, 0) - tied
    positive, negative = positives.sum(0), negatives.sum(0)
    missed = (positives * (above + tied / 2)).sum(0)
    hits = np.cumsum(positives, 0)
    retrieved = hits + above + tied
    precision = (positives * np.divide(hits, retrieved, out=np.zeros_like(hits), where=retrieved > 0)).sum(0)
    defined, undefined = (positive > 0) & (negative > 0), np.full(sums.shape[1], np.nan)
    roc = 1 - np.divide(missed, positive.astype(np.float64) * negative, out=undefined.copy(), where=defined)
    return roc, np.divide(precision, positive, out=undefined, where=defined)
