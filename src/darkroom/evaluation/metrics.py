"""Metrics of probabilities against labels; docs/evaluation.md has the formulas.

scikit-learn has most of them. Its import takes longer than they do, and it does not resample; a test holds
that both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array, hstack

from darkroom.core import large_arrays
from darkroom.evaluation import calibration

SORTED = 2**23  # images times classes whose order is in memory at a time
Draw = Callable[[], Iterable[np.ndarray]]  # tables (N, r) of how often each image counts


class Figures:
    """The headline figures of one model on one split, as a function of how often each image counts.

    `probabilities` is (N, C) float, `labels` (N,) int. Macro averages are over the classes of which an image
    counts. The areas, and averages over them, are NaN where they are not defined.
    """

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray, top_k: int) -> None:
        self.classes = probabilities.shape[1]
        self.top_k = min(top_k, self.classes)
        self.labels, self.predictions = labels, probabilities.argmax(1)
        self.probabilities = probabilities
        self.sums = self._sums(probabilities, labels)

    def _sums(self, probabilities: np.ndarray, labels: np.ndarray) -> Any:
        """Return the terms that are summed over images, a sparse matrix (3 C + 3 + bins, N) float64.

        For each class whether an image is correct, of the class, and predicted as it; then whether the true
        class is among the first, the log loss, the Brier score; then the gap to the confidence, in the row of
        its bin.
        """
        images, predictions, c = np.arange(len(labels)), self.predictions, self.classes
        true = probabilities[images, labels].astype(np.float64)
        blocks = large_arrays.row_blocks(len(labels), 8 * self.classes)
        squares = np.concatenate([np.empty(0), *((probabilities[rows].astype(np.float64) ** 2).sum(1) for rows in blocks)])
        squares = squares - true**2 + (1 - true) ** 2
        bins, gaps = calibration.gaps(probabilities, labels)
        one = np.ones(len(labels))
        rows = [labels, labels + c, predictions + 2 * c, *(np.full(len(labels), 3 * c + i) for i in range(3)), bins + 3 * c + 3]
        values = [predictions == labels, one, one, ranks(probabilities, labels) < self.top_k, losses(true), squares, gaps]
        places = (np.concatenate(rows), np.tile(images, len(rows)))
        return csr_array((np.concatenate(values), places), shape=(3 * c + 3 + calibration.BINS, len(labels)))

    @classmethod
    def of_two(cls, one: Figures, other: Figures) -> Figures:
        """Return the figures, without areas, of the predictions of two models for the same images, one after the other."""
        both = cls.__new__(cls)
        both.classes, both.top_k, both.sums = one.classes, one.top_k, hstack([one.sums, other.sums], format="csr")
        return both

    def counts(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return each class's correct, true and predicted images, (C, R) float64, and the other sums."""
        summed = (self.sums.astype(times.dtype) @ times).astype(np.float64)
        c = self.classes
        return summed[:c], summed[c : 2 * c], summed[2 * c : 3 * c], summed[3 * c :]

    @cached_property
    def areas(self) -> Areas:
        """The areas under the curves; sorting for them takes most of the time."""
        return Areas(self.probabilities, self.labels)

    def of(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Return each figure (R,) where image i counts `times[i, r]` times."""
        roc, precision = self.areas.of(times)
        return self.without_areas(times) | {"roc_auc": mean_area(roc), "average_precision": mean_area(precision)}

    def of_each(self, draw: Draw) -> list[dict[str, np.ndarray]]:
        """Return the figures of `of` for each table of times; `draw` is called several times and yields the same tables."""
        parts = [self.without_areas(times) for times in draw()]
        return [
            part | {"roc_auc": mean_area(roc), "average_precision": mean_area(precision)}
            for part, (roc, precision) in zip(parts, self.areas.of_each(draw), strict=True)
        ]

    def without_areas(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Return the figures of `of` but for the areas."""
        total = times.sum(0, dtype=np.float64)
        correct, support, predicted, others = self.counts(times)
        recall, f1 = _ratio(correct, support), _ratio(2 * correct, support + predicted)
        present = (support > 0).sum(0)
        top_k, log_loss, brier = others[:3] / total
        return {
            "accuracy": correct.sum(0) / total, "balanced_accuracy": recall.sum(0) / present,
            "macro_f1": (f1 * (support > 0)).sum(0) / present, "weighted_f1": (f1 * support).sum(0) / total,
            f"top_{self.top_k}_accuracy": top_k, "log_loss": log_loss, "brier": brier,
            "ece": np.abs(others[3:]).sum(0) / total,
        }  # fmt: skip

    def headlines(self) -> dict[str, float | None]:
        """Return the figures of the images as they are, None where one is not defined."""
        return {name: number(value[0]) for name, value in self.of(np.ones((len(self.labels), 1))).items()}

    def per_class(self, classes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Return the fields of `metrics_io.ClassMetrics` of each class.

        Precision, recall and F1 are 0 for a class without predictions or examples, the areas None where they
        are not defined.
        """
        once = np.ones((len(self.labels), 1))
        correct, support, predicted, _ = self.counts(once)
        columns = {
            "precision": _ratio(correct, predicted), "recall": _ratio(correct, support),
            "f1": _ratio(2 * correct, support + predicted),
        }  # fmt: skip
        columns["roc_auc"], columns["average_precision"] = self.areas.of(once)
        return {
            name: {key: number(values[i, 0]) for key, values in columns.items()} | {"support": int(support[i, 0])}
            for i, name in enumerate(classes)
        }

    def confusion_matrix(self) -> list[list[int]]:
        """Return how often each class (row) is predicted as each class (column)."""
        confusion = np.zeros((self.classes, self.classes), np.int64)
        np.add.at(confusion, (self.labels, self.predictions), 1)
        return confusion.tolist()


def ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many classes come before the true one (N,); of equal probabilities the first class leads."""
    result = np.empty(len(labels), np.int64)
    for rows in large_arrays.row_blocks(len(labels), probabilities.shape[1]):
        own, block = labels[rows, None], probabilities[rows]
        true = np.take_along_axis(block, own, 1)
        earlier = np.arange(block.shape[1]) < own
        result[rows] = (block > true).sum(1) + ((block == true) & earlier).sum(1)
    return result


def losses(true: np.ndarray) -> np.ndarray:
    """Return the negative logarithm of the probabilities (N,) of the true classes, at most 36 per image."""
    return -np.log(np.clip(true, 2.0**-52, 1.0))


def number(value: float) -> float | None:
    """Return a figure as JSON has it: None where it is not defined."""
    return None if np.isnan(value) else float(value)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


class Areas:
    """The areas of a model's probabilities (N, C) for labels (N,) int, by how often each image counts.

    The area under the ROC curve is the probability that an image of the class has a higher probability of it
    than another image, ties counting half (Hanley and McNeil 1982). Average precision is the mean of the
    precision at each image of the class, in the order of probabilities, images with equal ones together (as
    in scikit-learn, without interpolation).
    """

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        self.probabilities, self.labels = probabilities, labels
        at_once = max(1, SORTED // max(len(labels), 1))
        classes = range(probabilities.shape[1])
        self.blocks = [classes[start : start + at_once] for start in range(0, len(classes), at_once)]

    @cached_property
    def _first(self) -> list[tuple[int, Any]]:
        return self._sort(self.blocks[0])

    def _sort(self, classes: range) -> list[tuple[int, Any]]:
        return [_steps(np.ascontiguousarray(self.probabilities[:, c]), self.labels == c) for c in classes]

    def of(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return both areas of each class, (C, R), where image i counts `times[i, r]` times.

        NaN where no image of a class counts, or only such images do.
        """
        return self.of_each(lambda: [times])[0]

    def of_each(self, draw: Draw) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return what `of` does for each table of times; `draw` is called for each block of classes."""
        parts: list[list[np.ndarray]] = []
        for number, classes in enumerate(self.blocks):
            steps = self._sort(classes) if number else self._first
            parts.append([np.array([_areas(distinct, matrix @ times) for distinct, matrix in steps]) for times in draw()])
        tables = [np.concatenate(blocks) for blocks in zip(*parts, strict=True)]
        return [(table[:, 0], table[:, 1]) for table in tables]


def mean_area(areas: np.ndarray) -> np.ndarray:
    """Return the macro average (R,) of areas (C, R) over the classes that have one; NaN where none has."""
    defined = ~np.isnan(areas)
    counts = defined.sum(0)
    return np.divide(np.where(defined, areas, 0).sum(0), counts, out=np.full(areas.shape[1], np.nan), where=counts > 0)


def _steps(scores: np.ndarray, positive: np.ndarray) -> tuple[int, Any]:
    """Return K, the number of distinct scores of positive images, and a matrix (3 K + 1, N) of sums.

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
