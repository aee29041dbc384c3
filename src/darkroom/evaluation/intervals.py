"""How sure figures are: the bootstrap over test images (Efron 1979), the same resamples for all models, and their pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from darkroom.evaluation.metrics import Figures, number
from darkroom.evaluation.seed_comparison import holm
from darkroom.evaluation.significance import LEVEL, mcnemar

RESAMPLES = 1000
CELLS = 2**20  # of the table of resamples that is worked on at a time: it stays in a core's cache
Resampled = dict[str, np.ndarray]  # each headline figure, (R,)


def draws(groups: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Yield tables (N, r) float32 of how often each image counts in each of r resamples, `resamples` of them in all.

    `groups` (N,) says which images belong together, as copies do: a resample draws as many groups as there are, with replacement.
    """
    draw = np.random.default_rng(seed)
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max()) + 1
    at_once = max(1, CELLS // len(member))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = draw.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield np.ascontiguousarray(times.T.astype(np.float32)[member])


def resample(figures: Figures, groups: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Resampled:
    """Return a model's headline figures in each resample of the images; the same seed gives every model the same resamples."""
    parts = [figures.of(sizes) for sizes in draws(groups, seed, resamples)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """Return the percentiles between which `LEVEL` of resampled figures (R,) lie; None where none of them is defined."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def around(figures: Mapping[str, Any], resampled: Resampled, groups: np.ndarray) -> dict[str, tuple[float, float] | None]:
    """Return the interval of each headline figure.

    Where a model has all images right, or none, resamples cannot say what is not in the sample: the interval of the accuracy is
    then what 3 / N leaves (Hanley and Lippman-Hand 1983), of N groups. Resampling adds gaps of chance to a calibration error which
    has such gaps itself, so that its percentiles are too high: they are mirrored at the figure (the basic interval; Davison and
    Hinkley 1997), and cut at 0.
    """
    found = {key: interval(values) for key, values in resampled.items()}
    if edges := found.get("ece"):
        found["ece"] = max(0.0, 2 * figures["ece"] - edges[1]), max(0.0, 2 * figures["ece"] - edges[0])
    if figures["accuracy"] in (0, 1):
        rare = min(1.0, 3 / len(np.unique(groups)))
        found["accuracy"] = (1 - rare, 1.0) if figures["accuracy"] else (0.0, rare)
    return found


def pairs(
    said: Mapping[str, np.ndarray], labels: np.ndarray, resampled: Mapping[str, Resampled], groups: np.ndarray, against: str = ""
) -> list[dict[str, Any]]:
    """Return the difference in accuracy of each pair of models, its interval, and McNemar's exact p, also corrected (Holm 1979).

    With `against` the pairs are those of each other model and this one.
    `said` are probabilities (N, C) of each model; `groups` (N,) are those of `draws`.
    """
    right = {name: given.argmax(1) == labels for name, given in said.items()}
    made: list[dict[str, Any]] = []
    for a, b in [(name, against) for name in said if name != against] if against else combinations(said, 2):
        low, high = interval(resampled[a]["accuracy"] - resampled[b]["accuracy"]) or (None, None)
        made.append({
            "a": a, "b": b, "difference": number(right[a].mean() - right[b].mean()), "low": low, "high": high,
            "mcnemar_p": mcnemar(right[a], right[b], groups),
        })  # fmt: skip
    for pair, p in zip(made, holm([pair["mcnemar_p"] for pair in made]), strict=True):
        pair["p_holm"] = p
    return made
