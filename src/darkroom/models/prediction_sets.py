"""Prediction sets: the classes that an image may have, with a stated probability that the true one is among them.

Split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates 2021) with the score 1 − p of a class, which has the
smallest sets on average (Sadinle et al. 2019). Whatever the network is, a set holds the true class of a new image with at
least the requested probability, if the image comes from where the calibration images come from. A set may be empty: then no
class is as probable as true classes usually are. A class with MIN_PER_CLASS calibration images or more, and as many as the
coverage needs, has a threshold of its own, so that the statement holds for its images too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from darkroom.core.errors import ParamsError

MIN_PER_CLASS = 50
MAX_SCORES = 5_000  # that are kept: more thresholds than a coverage can be told apart by
DIGITS = 6
COVERAGES = (0.8, 0.9, 0.95, 0.99)  # that are evaluated, and whose thresholds exported programs have
MARGIN = 1e-9  # of a product of floats that should be a whole number

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Class = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class ConformalScores:
    """1 − p of the true class of calibration images, ascending, and these classes."""

    scores: tuple[Score, ...]
    labels: tuple[Class, ...]

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.labels):
            raise ValueError("a score has no label, or a label no score")

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> ConformalScores:
        """Return the scores of calibrated probabilities (N, C) for labels (N,); of very many images evenly drawn ones."""
        scores = 1 - probabilities[np.arange(len(labels)), labels]
        order = np.argsort(scores, kind="stable")
        if len(order) > MAX_SCORES:
            order = order[np.linspace(0, len(order) - 1, MAX_SCORES).round().astype(int)]
        rounded = (np.ceil(scores[order] * 10**DIGITS) / 10**DIGITS).clip(0, 1)  # up, which makes no set smaller
        return cls(tuple(map(float, rounded.round(DIGITS))), tuple(map(int, labels[order])))

    def thresholds(self, coverage: float, classes: int) -> np.ndarray:
        """Return the largest score (classes,) float64 that is in a set, by class."""
        scores, labels = np.array(self.scores), np.array(self.labels)
        result = np.full(classes, _quantile(scores, coverage))
        for number in range(classes):
            own = scores[labels == number]
            if len(own) >= max(MIN_PER_CLASS, _needed(coverage)):
                result[number] = _quantile(own, coverage)
        return result

    def coverages(self) -> list[float]:
        """Return those of COVERAGES that the calibration images suffice for."""
        return [coverage for coverage in COVERAGES if len(self.scores) >= _needed(coverage)]

    def table(self, classes: int) -> dict[str, list[float]]:
        """Return the thresholds (classes,) by coverage, for `coverages`."""
        return {f"{coverage:g}": self.thresholds(coverage, classes).tolist() for coverage in self.coverages()}

    def check(self, coverage: float) -> None:
        """Raise ParamsError for a coverage that is no share, or that needs more calibration images than there were."""
        if not 0 < coverage < 1:
            raise ParamsError(f"a coverage of {coverage} is no share", "choose one between 0 and 1, such as 0.9")
        if not self.scores:
            raise ParamsError("the model was trained before there were prediction sets", "train it again: `dvc repro`")
        images = len(self.scores)
        if images < _needed(coverage):
            raise ParamsError(
                f"a coverage of {coverage:g} needs {_needed(coverage):,} validation images, and the model had {images:,}",
                f"choose one of at most {math.floor(1000 * images / (images + 1)) / 1000:g}",
            )

    def sets(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Return which classes (N, C) bool are in the set of each image, from calibrated probabilities (N, C).

        Raises ParamsError as `check` does.
        """
        self.check(coverage)
        return 1 - probabilities <= self.thresholds(coverage, probabilities.shape[1])

    def named_sets(self, probabilities: np.ndarray, coverage: float, classes: Sequence[str]) -> list[list[str]]:
        """Return the names of the classes in the set of each image, most probable first."""
        order = np.argsort(-probabilities, axis=1, kind="stable")
        return [
            [classes[i] for i in places if included[i]]
            for places, included in zip(order.tolist(), self.sets(probabilities, coverage), strict=True)
        ]


NO_SCORES = ConformalScores((), ())  # of models that were trained before there were any


def _needed(coverage: float) -> int:
    """Return how many calibration images a coverage needs, so that a set is not always every class."""
    return math.ceil(coverage / (1 - coverage) - MARGIN)


def _quantile(scores: np.ndarray, coverage: float) -> float:
    """Return the score that ⌈(n + 1) · coverage⌉ of n ascending ones do not exceed; 1, which is every class, if n is too small."""
    place = math.ceil((len(scores) + 1) * coverage - MARGIN)
    return float(scores[place - 1]) if place <= len(scores) else 1.0
