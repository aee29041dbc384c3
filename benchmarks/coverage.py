"""How often intervals hold the true value: those of `evaluate`, and percentiles of the bootstrap.

Sets of test images are drawn from a population whose figures are known; the share of sets whose interval holds the true
figure should be 0.95. `python benchmarks/coverage.py [--sets 400]`.
"""

from __future__ import annotations

import argparse

import numpy as np

from darkroom.evaluation import intervals
from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.significance import percentiles

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "average_precision")
SETTINGS = [  # groups, images of a group, classes, accuracy
    (67, 1, 2, 0.80), (67, 1, 2, 0.95), (352, 1, 5, 0.99), (200, 1, 20, 0.80), (100, 4, 5, 0.90), (40, 10, 2, 0.95),
]  # fmt: skip
RESAMPLES = 400
POPULATION = 200_000
SHARED = 0.8  # of the variance of an image's difficulty that its group shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=400)
    sets = parser.parse_args().sets
    print(f"{'groups':>6} {'of':>3} {'classes':>7} {'accuracy':>8}  " + "  ".join(f"{name:>22}" for name in FIGURES))
    for groups, members, classes, accuracy in SETTINGS:
        margin = find_margin(classes, accuracy)
        truth = figures_of(*draw(POPULATION, 1, classes, margin, 0)).headlines()
        covered = {name: np.zeros(2) for name in FIGURES}
        for number in range(sets):
            probabilities, labels = draw(groups, members, classes, margin, number + 1)
            figures, own = figures_of(probabilities, labels), np.arange(groups).repeat(members)
            resampled = intervals.resample(figures, own, number, RESAMPLES)
            edges = intervals.around(figures.headlines(), resampled, own)
            for name in FIGURES:
                for place, interval in enumerate((edges[name], percentiles(resampled[name]))):
                    covered[name][place] += bool(interval) and interval[0] <= truth[name] <= interval[1]
        cells = (f"{ours:.3f} ({bootstrap:.3f})".rjust(22) for ours, bootstrap in (covered[name] / sets for name in FIGURES))
        print(f"{groups:>6} {members:>3} {classes:>7} {accuracy:>8}  " + "  ".join(cells), flush=True)
    print("in brackets: percentiles of the bootstrap")


def figures_of(probabilities: np.ndarray, labels: np.ndarray) -> Figures:
    return Figures(probabilities, labels, 1)


def draw(groups: int, members: int, classes: int, margin: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (N, C) and labels (N,) of groups of images; images of a group have the same label and mostly the
    same difficulty."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, groups).repeat(members)
    common = rng.normal(size=(groups, classes)).repeat(members, 0)
    logits = SHARED**0.5 * common + (1 - SHARED) ** 0.5 * rng.normal(size=common.shape)
    logits[np.arange(len(labels)), labels] += margin
    values = np.exp(logits)
    return values / values.sum(1, keepdims=True), labels


def find_margin(classes: int, accuracy: float) -> float:
    """Return the margin of the true class with which this accuracy is reached."""
    low, high = 0.0, 20.0
    for _ in range(20):
        middle = (low + high) / 2
        probabilities, labels = draw(POPULATION // 4, 1, classes, middle, 0)
        low, high = (middle, high) if (probabilities.argmax(1) == labels).mean() < accuracy else (low, middle)
    return (low + high) / 2


if __name__ == "__main__":
    main()
