"""How well predictions match labels. Schema 1 of `reports/metrics.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

SCHEMA = 1
REFERENCE = "reference"  # has no checkpoint, and is never chosen


def score(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], top_k: int) -> dict[str, Any]:
    """Return the figures of one model on one split.

    `probabilities` is (N, C) float, `labels` (N,) int64. A class without examples or predictions counts as 0 in its own
    figures; the macro average is over the classes that the split holds. The confusion matrix has a row per true class.
    """
    predicted = probabilities.argmax(1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    right, support, given = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision, recall, f1 = (
        np.divide(a, b, where=b > 0, out=np.zeros(len(classes)))
        for a, b in ((right, given), (right, support), (2 * right, given + support))
    )
    held = support > 0
    k = min(top_k, len(classes))
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(f1[held].mean()),
        f"top_{k}_accuracy": float((ranked == labels[:, None]).any(1).mean()),
        "log_loss": log_loss(probabilities, labels),
        "per_class": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
            for name, p, r, f, s in zip(classes, precision, recall, f1, support, strict=True)
        },
        "confusion_matrix": confusion.tolist(),
    }


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative logarithm of the probability given to the true class, at most 36 per image."""
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(given, 2.0**-52, 1.0)).mean())


def best_model(models: dict[str, dict[str, Any]]) -> str:
    """Return the model with the highest validation accuracy; of equals the lowest validation loss decides, then the name."""
    chosen = [name for name in models if name != REFERENCE]
    return min(chosen, key=lambda name: (-models[name]["val_accuracy"], models[name]["val_log_loss"], name))
