"""The choice of the best model on validation images, and which others these images cannot tell from it.

Few images rank models by chance. So the best fine-tuned network is chosen, unless the images show another model to be
better beyond what chance makes of equal models; docs/evaluation.md has the measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.metrics_io import Selection
from darkroom.evaluation.significance import SIGNIFICANT, holm

EXCHANGES = 1000
CELLS = 2**23  # of the table of exchanges that is computed at a time
KINDS = ("finetune", "transfer", "baseline")  # the preferred first; the part of a name before its slash
DEVIATIONS = 1.0  # that a difference has to exceed, so that it overrules the preference


@dataclass(frozen=True)
class Judged:
    """Predictions on images that no model was trained on: labels and groups (N,), probabilities (N, C) by model."""

    labels: np.ndarray = field(repr=False)
    groups: np.ndarray = field(repr=False)
    probabilities: Mapping[str, np.ndarray] = field(repr=False)
    classes: tuple[str, ...]
    folds: int = 0  # of a cross-validation; 0: the images are the validation split

    @cached_property
    def figures(self) -> dict[str, Figures]:
        """The figures of each model."""
        return {name: Figures(values, self.labels, 1) for name, values in self.probabilities.items()}


def select(metric: str, judged: Judged) -> tuple[str, Selection]:
    """Return the best model by a metric of `METRICS`, and what the choice rests on.

    A class without images counts in no metric, and the models that never predict it would win: then the best of the
    preferred kind stays.
    """
    names = list(judged.probabilities)
    absent = [name for i, name in enumerate(judged.classes) if not (judged.labels == i).any()]
    values = {name: _score(metric, figures) for name, figures in judged.figures.items()}
    losses = {name: _score("log_loss", figures) for name, figures in judged.figures.items()}
    ranks = {name: (-values[name], -losses[name], name) for name in names}
    leader = min(names, key=ranks.__getitem__)
    kind = min((name.partition("/")[0] for name in names), key=KINDS.index)
    best = min((name for name in names if name.partition("/")[0] == kind), key=ranks.__getitem__)
    if not absent and best != leader and is_ahead(exchange(metric, judged, leader, best)):
        best = leader
    others = [name for name in names if name != best]
    ps = holm([exchange(metric, judged, best, name).p for name in others])
    return best, Selection(
        metric=metric, leader=leader, folds=judged.folds, images=len(judged.labels), groups=len(np.unique(judged.groups)),
        indistinguishable=[name for name, p in zip(others, ps, strict=True) if p >= SIGNIFICANT], absent_classes=absent,
    )  # fmt: skip


def score(metric: str, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return a metric of probabilities (N, C) for labels (N,); higher is better, so that a loss is negative."""
    return _score(metric, Figures(probabilities, labels, 1))


def _score(metric: str, figures: Figures) -> float:
    return float(_scores(metric, figures, np.ones((len(figures.labels), 1)))[0])


def _scores(metric: str, figures: Figures, times: np.ndarray) -> np.ndarray:
    values = figures.without_areas(times)[metric]
    return -values if metric == "log_loss" else values


@dataclass(frozen=True)
class Exchange:
    """The lead of a model over another, its deviation where both are equal, and the two-sided p-value."""

    lead: float
    deviation: float
    p: float


def exchange(metric: str, judged: Judged, one: str, other: str) -> Exchange:
    """Compare two models by exchanging their predictions at random, group by group (a paired permutation test).

    Equal models are as likely to have made each other's predictions, so the leads after `EXCHANGES` such exchanges are
    those that chance makes (Fisher 1935; Good 2005).
    """
    count = len(judged.labels)
    figures = Figures.of_two(judged.figures[one], judged.figures[other])
    _, member = np.unique(judged.groups, return_inverse=True)
    rng = np.random.default_rng(0)

    def leads(exchanged: np.ndarray) -> np.ndarray:
        times = np.concatenate([1.0 - exchanged, exchanged])
        return _scores(metric, figures, times) - _scores(metric, figures, 1.0 - times)

    lead = float(leads(np.zeros((count, 1)))[0])
    at_once = max(1, CELLS // (2 * count))
    parts = [min(at_once, EXCHANGES - start) for start in range(0, EXCHANGES, at_once)]
    chance = np.concatenate([leads(rng.integers(0, 2, (member.max() + 1, part)).astype(float)[member]) for part in parts])
    as_large = int((np.abs(chance) >= abs(lead) - 1e-12).sum())
    return Exchange(lead, float(np.sqrt((chance**2).mean())), (1 + as_large) / (1 + EXCHANGES))


def is_ahead(compared: Exchange) -> bool:
    """Tell whether a lead is larger than chance usually gives one of two equal models."""
    return compared.lead > DEVIATIONS * compared.deviation + 1e-12
