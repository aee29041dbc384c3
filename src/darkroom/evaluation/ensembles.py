"""Ensembles: the mean of the probabilities of several models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from darkroom.evaluation.metrics import losses

ROUNDS = 20  # models put into the bag, one after the other
LESS = 1e-9  # of log loss, below which a change is rounding


def mean(answers: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted mean of probabilities (N, C); a model without a weight does not count."""
    total = sum(weights.values())
    return np.sum([answers[name] * (weight / total) for name, weight in weights.items()], axis=0)


def greedy(answers: Mapping[str, np.ndarray], labels: np.ndarray, rounds: int = ROUNDS) -> dict[str, int]:
    """Return how often each model is in the bag that greedy selection with replacement makes (Caruana et al. 2004).

    Each round adds the model with which the mean has the lowest log loss on (N, C) for `labels` (N,), of equals the first by
    name; the answer is the bag after the round that was best. Accuracy, in steps of one image, would choose by chance.
    """
    rows = np.arange(len(labels))
    given = {name: answers[name][rows, labels].astype(np.float64) for name in sorted(answers)}
    total, best = np.zeros(len(labels)), (np.inf, 0)
    bag: list[str] = []
    for size in range(1, rounds + 1):
        lost = {name: float(losses((total + said) / size).mean()) for name, said in given.items()}
        chosen = min(lost, key=lambda name: lost[name])
        bag.append(chosen)
        total = total + given[chosen]
        if lost[chosen] < best[0] - LESS:
            best = lost[chosen], size
    kept = bag[: best[1]]
    return {name: kept.count(name) for name in sorted(set(kept))}
