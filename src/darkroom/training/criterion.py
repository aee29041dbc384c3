"""The loss of a classifier: cross-entropy with class weights and smoothed labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from darkroom.config.params import Training

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def class_weights(labels: np.ndarray, classes: int, kind: str) -> torch.Tensor | None:
    """Return (classes,) float32 weights that give classes the same total, or None for `kind="none"`."""
    if kind == "none":
        return None
    counts = np.bincount(labels, minlength=classes).clip(1)
    return torch.tensor(len(labels) / (classes * counts), dtype=torch.float32)


@dataclass(frozen=True)
class Criterion:
    """The cross-entropy of a classifier, with smoothed labels while it is trained (Szegedy et al. 2016).

    With class weights (classes,) the loss of examples is the sum of their weighted losses by the sum of their
    weights, for a batch and for all batches.
    """

    weights: torch.Tensor | None
    label_smoothing: float

    def loss(self, is_training: bool) -> LossFunction:
        return partial(F.cross_entropy, weight=self.weights, label_smoothing=self.label_smoothing if is_training else 0.0)

    def weight_of(self, labels: torch.Tensor) -> Any:
        return len(labels) if self.weights is None else self.weights[labels].sum()


def make_criterion(labels: np.ndarray, classes: int, hyper: Training, device: torch.device) -> Criterion:
    """Return the loss of `fit` for training labels (N,)."""
    weights = class_weights(labels, classes, hyper.class_weights)
    return Criterion(None if weights is None else weights.to(device), hyper.label_smoothing)
