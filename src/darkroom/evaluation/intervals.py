"""Bootstrap confidence intervals for metrics, and pairwise comparison of models on the same resamples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.metrics_io import Pair, Range
from darkroom.evaluation.significance import RESAMPLES, draws, holm, mcnemar, percentiles, wilson

LOSSES = {"log_loss", "brier", "ece"}  # the other figures are shares, or averages of shares
Resampled = dict[str, np.ndarray]  # each headline figure, (R,)


def resample(
    figures: Figures, groups: np.ndarray, seed: int = 0, resamples: int = RESAMPLES, *, areas: bool = True
) -> Resampled:  # fmt: skip
    """Return a model's headline figures in each resample; a seed gives all models the same resamples."""
    numbers = np.unique(groups, return_inverse=True)[1]  # which are sorted faster than names, each time

    def draw() -> Iterator[np.ndarray]:
        return draws(numbers, seed, resamples)

    parts = figures.of_each(draw) if areas else [figures.without_areas(times) for times in draw()]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def around(figures: Mapping[str, Any], resampled: Resampled, groups: np.ndarray) -> dict[str, Range]:
    """Return the interval of each headline figure.

    That of a share is Wilson's (1927) at the effective number of images: the number whose shares vary as much
    as those of the resamples. Percentiles of resamples cannot show errors that the sample does not have, and are
    too narrow where errors are few. Losses have percentiles. Resampling adds chance gaps to a calibration error
    which has such gaps itself, so its percentiles are too high: they are mirrored at the figure (the basic
    interval; Davison and Hinkley 1997) and cut at 0.
    """
    intervals = {key: percentiles(values) for key, values in resampled.items()}
    if edges := intervals.get("ece"):
        intervals["ece"] = max(0.0, 2 * figures["ece"] - edges[1]), max(0.0, 2 * figures["ece"] - edges[0])
    count = len(np.unique(groups))
    shares = {key: value for key, value in figures.items() if key not in LOSSES and value is not None}
    return intervals | {
        key: wilson(value, effective_count(value, resampled.get(key), count, len(groups))) for key, value in shares.items()
    }


def effective_count(share: float, resampled: np.ndarray | None, groups: int, images: int) -> float:
    """Return the number of independent images whose shares vary as much as the resampled ones (R,).

    It is at most the number of images. Where nothing varies it is the number of groups.
    """
    variance = 0.0 if resampled is None or np.isnan(resampled).all() else float(np.nanvar(resampled))
    if variance <= 1e-12 or not 0 < share < 1:
        return float(groups)
    return min(share * (1 - share) / variance, float(images))


def pairs(
    probabilities: Mapping[str, np.ndarray],
    labels: np.ndarray,
    resampled: Mapping[str, Resampled],
    groups: np.ndarray,
    against: str = "",
) -> list[Pair]:
    """Return the comparison of each pair of models; with `against`, of each other model and this one.

    `probabilities` are (N, C) of each model, `groups` (N,) those of `draws`. p-values are of McNemar's exact
    test, corrected for the number of pairs (Holm 1979).
    """
    correct = {name: values.argmax(1) == labels for name, values in probabilities.items()}
    names = [(name, against) for name in probabilities if name != against] if against else list(combinations(probabilities, 2))
    ps = [mcnemar(correct[a], correct[b], groups) for a, b in names]
    compared = []
    for (a, b), p, corrected in zip(names, ps, holm(ps), strict=True):
        difference = float(correct[a].mean() - correct[b].mean())
        low, high = percentiles(resampled[a]["accuracy"] - resampled[b]["accuracy"]) or (None, None)
        compared.append(Pair(a=a, b=b, difference=difference, low=low, high=high, mcnemar_p=p, p_holm=corrected))
    return compared
