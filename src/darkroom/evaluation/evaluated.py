"""What an evaluation hands on: images by split, and the scores of all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, ModelMetrics
from darkroom.evaluation.scoring import Truth


@dataclass(frozen=True)
class Split:
    """The images (N, S, S, 3) uint8 of a split, their labels (N,) int, and their rows of the manifest."""

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    rows: Sequence[Mapping[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Evaluated:
    """Scores of all models: probabilities (N, C) by split, figures, and rows of the leaderboard with all costs."""

    best: str
    truth: Truth
    splits: Mapping[str, Split]
    probabilities: Mapping[str, Mapping[str, np.ndarray]]
    metrics: Mapping[str, ModelMetrics]
    rows: Sequence[Row]

    @property
    def trained(self) -> list[str]:
        """Return the names of the models with a checkpoint."""
        return [name for name in self.probabilities if name != PIXEL_BASELINE]
