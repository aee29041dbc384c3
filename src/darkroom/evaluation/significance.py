"""Paired comparison of two models on the same images, the bootstrap over groups, and Holm's correction.

Images of a group, such as copies of a picture, are not independent: in a test a group counts once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import ndtri

LEVEL = 0.95  # of confidence intervals
SIGNIFICANT = 0.05  # below which a corrected p-value is called significant
POWER = 0.8  # probability with which a difference is to be detected
DISAGREEMENT = 0.1  # expected share of images that exactly one of two models classifies correctly
RESAMPLES = 1000
CELLS = 2**20  # of the table of resamples that is computed at a time, which stays in a core's cache


@dataclass(frozen=True)
class Interval:
    """A difference, second minus first, and its interval at confidence `LEVEL`."""

    difference: float
    low: float
    high: float


def mcnemar(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Return the exact two-sided p-value of two models, correct (N,) bool, equally often (McNemar 1947).

    Only images that exactly one model classifies correctly count: each should be won by either with
    probability one half, which is a binomial test. A group (`groups`, (N,)) counts once, for the model that
    has more of it correct: an exact sign test.
    """
    won, lost = wins(first, second, groups)
    return min(1.0, 2 * _binomial_tail(min(won, lost), won + lost))


def sign_test(won: int, lost: int) -> float:
    """Return the exact one-sided p-value of `won` wins or more of the one against `lost` of the other."""
    return _binomial_tail(lost, won + lost)


def wins(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> tuple[int, int]:
    """Return in how many groups (N,), or images, the second model has more correct (N,) bool, and in how many
    the first."""
    better = second.astype(int) - first.astype(int)
    if groups is not None:
        better = np.bincount(np.unique(groups, return_inverse=True)[1], better)
    return int((better > 0).sum()), int((better < 0).sum())


def _binomial_tail(most: int, trials: int) -> float:
    """Return the probability of `most` heads or fewer in `trials` throws of a coin."""
    coefficient = tail = 1
    for k in range(1, most + 1):
        coefficient = coefficient * (trials - k + 1) // k  # integers of any size: nothing is rounded
        tail += coefficient
    return tail / 2**trials


def detectable(images: int, disagreement: float = DISAGREEMENT) -> float | None:
    """Return the smallest difference of two accuracies that McNemar's test detects with probability `POWER`.

    Exactly one model classifies the share `disagreement` of the images correctly, or a share of the size of
    the difference where that is larger. The normal approximation with a continuity correction (Connor 1987).
    None where the test detects no difference.
    """
    level, power = (NormalDist().inv_cdf(share) for share in ((1 + LEVEL) / 2, POWER))

    def is_detected(difference: float) -> bool:
        unequal = max(disagreement, difference)
        needed = level * math.sqrt(images * unequal) + power * math.sqrt(images * (unequal - difference**2))
        return images * difference - 1 >= needed

    if not is_detected(1.0):
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if is_detected(middle) else (middle, high)
    return high


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979). NaN stays NaN; its comparison was made too, and counts."""
    ordered = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    corrected, least = list(ps), 0.0
    for rank, (p, i) in enumerate(ordered):
        least = max(least, min(1.0, p * (len(ps) - rank)))
        corrected[i] = least
    return corrected


def draws(groups: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Yield tables (N, r) float32 of how often each image counts in r of all `resamples` (Efron 1979).

    `groups` (N,) are images that belong together, such as copies. A resample draws as many groups as there
    are, with replacement.
    """
    rng = np.random.default_rng(seed)
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    at_once = max(1, CELLS // len(member))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield np.ascontiguousarray(times.T.astype(np.float32)[member])


def percentiles(values: np.ndarray) -> tuple[float, float] | None:
    """Return the percentiles that hold the share `LEVEL` of values (R,) but NaN; None where all are NaN."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def wilson(share: float, count: float) -> tuple[float, float]:
    """Return the score interval of a share of `count` independent images, any number (Wilson 1927); 0 to 1 for 0."""
    if not count:
        return 0.0, 1.0
    z = float(ndtri(0.5 + LEVEL / 2))
    centre, square = share + z**2 / (2 * count), 1 + z**2 / count
    room = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, (centre - room) / square), min(1.0, (centre + room) / square)


def bootstrap(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    classes: int,
    groups: np.ndarray,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return the differences of `accuracy` and `macro_f1`, with percentile intervals over `draws`.

    `labels`, `groups` and the predictions of both models are (N,) int. The macro average is over the classes
    in a resample.
    """
    once = np.ones((len(labels), 1), np.float32)
    drawn = [once, *draws(groups, seed, resamples)]
    scores = [np.concatenate([_scores(labels, predicted, classes, times) for times in drawn], 1) for predicted in (first, second)]
    intervals = {}
    for name, (observed, *resampled) in zip(("accuracy", "macro_f1"), scores[1] - scores[0], strict=True):
        low, high = percentiles(np.array(resampled)) or (math.nan, math.nan)
        intervals[name] = Interval(float(observed), low, high)
    return intervals


def _scores(labels: np.ndarray, predicted: np.ndarray, classes: int, times: np.ndarray) -> np.ndarray:
    """Return accuracy and macro F1, (2, R), where image i counts `times[i, r]` times."""
    true, positive = (np.eye(classes, dtype=np.float32)[numbers].T for numbers in (labels, predicted))
    correct, support, positives = ((rows @ times).astype(np.float64) for rows in (true * positive, true, positive))
    f1 = np.divide(2 * correct, support + positives, out=np.zeros_like(correct), where=support + positives > 0)
    present = support > 0
    return np.stack([correct.sum(0) / times.sum(0), (f1 * present).sum(0) / present.sum(0)])


def class_drops(labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int) -> np.ndarray:
    """Return for each class (C,) by how much its recall is lower for the second model; 0 without examples."""
    support = np.bincount(labels, minlength=classes)
    correct = [np.bincount(labels[predicted == labels], minlength=classes) for predicted in (first, second)]
    return np.divide(correct[0] - correct[1], support, out=np.zeros(classes), where=support > 0)


def class_ps(labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int, groups: np.ndarray) -> list[float]:
    """Return for each class (C,) the p-value of no lower recall of the second model: one-sided sign tests by
    groups, corrected by Holm; NaN without examples."""
    ps: dict[int, float] = {}
    for label in np.unique(labels).tolist():
        of_class = labels == label
        won, lost = wins(first[of_class] == label, second[of_class] == label, groups[of_class])
        ps[label] = sign_test(lost, won)
    corrected = dict(zip(ps, holm(list(ps.values())), strict=True))
    return [corrected.get(label, math.nan) for label in range(classes)]
