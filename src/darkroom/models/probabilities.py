"""Probabilities from logits. It does not import torch: a served model has it too."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities (N, classes) float64 from logits at a temperature (Guo et al. 2017), which keeps
    their order."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
