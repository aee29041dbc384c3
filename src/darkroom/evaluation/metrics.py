"""How well probabilities match labels; docs/evaluation.md has the formulas.

scikit-learn has most of them. Its import takes longer than they do, and it does not resample; a test holds that both agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkroom.evaluation import calibration, rank_metrics

REFERENCE = "reference"  # has no checkpoint, and is never chosen


class Figures:
    """The headline figures of one model on one split, as a function of how often each image counts.

    `probabilities` is (N, C) float, `labels` (N,) int. Macro averages are over the classes of which an image counts; the
    areas, and averages over them, are NaN where they are not defined.
    """

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray, top_k: int) -> None:
        self.classes = probabilities.shape[1]
        self.top_k = min(top_k, self.classes)
        self.labels, self.said = labels, probabilities.argmax(1)
        self.areas = rank_metrics.Areas(probabilities, labels)
        self.sums = self._sums(probabilities, labels)

    def _sums(self, probabilities: np.ndarray, labels: np.ndarray) -> Any:
        """Return what is summed over images, a sparse matrix (3 C + 3 + bins, N) float64.

        For each class whether an image is right, of it, said to be of it; then whether the true class is among the first, the log
        loss, the Brier score; then the gap to the confidence, in the row of its interval.
        """
        from scipy.sparse import csr_array

        images, said, c = np.arange(len(labels)), self.said, self.classes
        given = probabilities[images, labels].astype(np.float64)
        squares = (probabilities.astype(np.float64) ** 2).sum(1) - given**2 + (1 - given) ** 2
        where, gaps = calibration.gaps(probabilities, labels)
        one = np.ones(len(labels))
        rows = [labels, labels + c, said + 2 * c, *(np.full(len(labels), 3 * c + i) for i in range(3)), where + 3 * c + 3]
        values = [said == labels, one, one, ranks(probabilities, labels) < self.top_k, losses(given), squares, gaps]
        places = (np.concatenate(rows), np.tile(images, len(rows)))
        return csr_array((np.concatenate(values), places), shape=(3 * c + 3 + calibration.BINS, len(labels)))

    def counts(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return for each class how many images are right, of it, and said to be of it, (C, R) float64, and the other sums."""
        summed = (self.sums.astype(sizes.dtype) @ sizes).astype(np.float64)
        c = self.classes
        return summed[:c], summed[c : 2 * c], summed[2 * c : 3 * c], summed[3 * c :]

    def of(self, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Return each figure (R,) where image i counts `sizes[i, r]` times."""
        total = sizes.sum(0, dtype=np.float64)
        right, support, given, others = self.counts(sizes)
        recall, f1 = _ratio(right, support), _ratio(2 * right, support + given)
        held = (support > 0).sum(0)
        top_k, log_loss, brier = others[:3] / total
        roc, precision = self.areas.of(sizes)
        return {
            "accuracy": right.sum(0) / total, "balanced_accuracy": recall.sum(0) / held,
            "macro_f1": (f1 * (support > 0)).sum(0) / held, "weighted_f1": (f1 * support).sum(0) / total,
            f"top_{self.top_k}_accuracy": top_k, "log_loss": log_loss, "brier": brier,
            "roc_auc": rank_metrics.mean(roc), "average_precision": rank_metrics.mean(precision),
            "ece": np.abs(others[3:]).sum(0) / total,
        }  # fmt: skip

    def score(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Return the figures of the images as they are, None where one is not defined, and those of each class.

        A class without examples or predictions counts as 0 in its own figures. The confusion matrix has a row per true class.
        """
        once = np.ones((len(self.labels), 1))
        right, support, given, _ = self.counts(once)
        columns = {"precision": _ratio(right, given), "recall": _ratio(right, support), "f1": _ratio(2 * right, support + given)}
        columns["roc_auc"], columns["average_precision"] = self.areas.of(once)
        per_class = {
            name: {key: number(values[i, 0]) for key, values in columns.items()} | {"support": int(support[i, 0])}
            for i, name in enumerate(classes)
        }
        confusion = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(confusion, (self.labels, self.said), 1)
        found = {name: number(value[0]) for name, value in self.of(once).items()}
        return {**found, "per_class": per_class, "confusion_matrix": confusion.tolist()}


def score(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], top_k: int) -> dict[str, Any]:
    """Return the figures of one model on one split; see `Figures.score`."""
    return Figures(probabilities, labels, top_k).score(classes)


def ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many classes come before the true one (N,), of equal probabilities the earlier class first."""
    given = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return (probabilities > given).sum(1) + ((probabilities == given) & earlier).sum(1)


def losses(given: np.ndarray) -> np.ndarray:
    """Return the negative logarithm of the probabilities (N,) given to the true classes, at most 36 per image."""
    return -np.log(np.clip(given, 2.0**-52, 1.0))


def number(value: float) -> float | None:
    """Return a figure as JSON has it: None where it is not defined."""
    return None if np.isnan(value) else float(value)


def best_model(models: dict[str, dict[str, Any]]) -> str:
    """Return the model with the highest validation accuracy; of equals the lowest validation loss decides, then the name."""
    chosen = [name for name in models if name != REFERENCE]
    return min(chosen, key=lambda name: (-models[name]["val_accuracy"], models[name]["val_log_loss"], name))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
