"""What a search has gained over the settings that were there before, corrected for the choice of the best of many trials.

The best of many trials looks better than it is: some of its lead is luck on the images that chose it. A bootstrap repeats the
choice on drawn images, and measures what it chose on those that were not drawn (BBC-CV, Tsamardinos et al. 2018). It needs the
out-of-fold predictions of all trials, and trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from darkroom.evaluation import significance
from darkroom.evaluation.significance import Interval

TINY = 1e-12


@dataclass(frozen=True)
class Gain:
    """What the chosen trial gains over the reference, each with a 95% interval: accuracy (more is better) and log loss (less is).

    `naive_accuracy` and `naive_log_loss` are the differences on the images that chose.
    """

    accuracy: Interval
    log_loss: Interval
    naive_accuracy: float
    naive_log_loss: float

    @property
    def is_gained(self) -> bool:
        """Whether either is better beyond chance."""
        return self.is_accuracy_gained or self.is_log_loss_gained

    @property
    def is_accuracy_gained(self) -> bool:
        return self.accuracy.low > 0

    @property
    def is_log_loss_gained(self) -> bool:
        return self.log_loss.high < 0


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log loss (N,) of each image from probabilities (N, C) for labels (N,) int."""
    own: np.ndarray = probabilities[np.arange(len(labels)), labels]
    return -np.log(own.clip(TINY))


def estimate(
    losses: np.ndarray, correct: np.ndarray, reference: Sequence[int], candidates: Sequence[int], groups: np.ndarray, seed: int = 0
) -> Gain:
    """Return the gain of the candidate with the lowest mean loss over the reference with the lowest.

    `losses` (T, N) are the out-of-fold log losses of T trials on N images, `correct` (T, N) bool; `reference` and `candidates` are
    rows, `groups` (N,) images that belong together, which are drawn together. The reference is chosen anew in each resample, too.
    """
    tables = losses.astype(np.float32), correct.astype(np.float32)
    gains: list[np.ndarray] = []
    for times in significance.draws(groups, seed):
        outside = (times == 0).astype(np.float32)
        count = outside.sum(0)
        has_images = count > 0
        chosen, before = _choose(tables[0], times, reference, candidates)
        columns = np.arange(times.shape[1])
        for_each = [
            (table @ outside)[chosen, columns] / count.clip(1) - (table @ outside)[before, columns] / count.clip(1)
            for table in tables
        ]
        gains.append(np.stack(for_each)[:, has_images])
    loss, accuracy = np.concatenate(gains, 1)
    best, first = (int(rows[0]) for rows in _choose(tables[0], np.ones((losses.shape[1], 1), np.float32), reference, candidates))
    return Gain(
        _interval(accuracy),
        _interval(loss),
        float(correct[best].mean() - correct[first].mean()),
        float(losses[best].mean() - losses[first].mean()),
    )


def _choose(
    losses: np.ndarray, times: np.ndarray, reference: Sequence[int], candidates: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows (R,) of the best candidate and of the best reference where image i counts `times[i, r]` times."""
    drawn = losses @ times
    of_candidates, of_reference = np.asarray(candidates), np.asarray(reference)
    return of_candidates[drawn[of_candidates].argmin(0)], of_reference[drawn[of_reference].argmin(0)]


def _interval(values: np.ndarray) -> Interval:
    low, high = significance.percentiles(values) or (0.0, 0.0)
    return Interval(float(values.mean()) if len(values) else 0.0, low, high)
