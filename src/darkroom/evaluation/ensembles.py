"""Ensembles: the mean of the probabilities of several models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from darkroom.core import large_arrays
from darkroom.evaluation.metrics import losses

ROUNDS = 20  # of greedy selection
LESS = 1e-9  # changes of the log loss below this are rounding


def mean(probabilities: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted mean of probabilities (N, C); a model without a weight does not count."""
    total = sum(weights.values())
    images, classes = next(iter(probabilities.values())).shape
    result = large_arrays.zeros((images, classes))
    for rows in large_arrays.row_blocks(images, 8 * classes):
        result[rows] = np.sum([probabilities[name][rows] * (weight / total) for name, weight in weights.items()], axis=0)
    return result


def greedy(probabilities: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, int]:
    """Return how often greedy selection with replacement takes each model (Caruana et al. 2004).

    `probabilities` are (N, C) of each model, `labels` (N,). Each round adds the model with which the mean has
    the lowest log loss, of equals the first by name; the selection of the best round is returned. Accuracy,
    in steps of one image, would select by chance.
    """
    rows = np.arange(len(labels))
    true = {name: probabilities[name][rows, labels].astype(np.float64) for name in sorted(probabilities)}
    total, best_loss, best_size = np.zeros(len(labels)), np.inf, 0
    selected: list[str] = []
    for size in range(1, ROUNDS + 1):
        log_losses = {name: float(losses((total + values) / size).mean()) for name, values in true.items()}
        name = min(log_losses, key=lambda name: log_losses[name])
        selected.append(name)
        total = total + true[name]
        if log_losses[name] < best_loss - LESS:
            best_loss, best_size = log_losses[name], size
    best = selected[:best_size]
    return {name: best.count(name) for name in sorted(set(best))}
