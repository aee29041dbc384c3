"""Temperature scaling: one number by which logits are divided, so that confidence is as high as accuracy (Guo et al. 2017)."""

from __future__ import annotations

import math

import numpy as np

BOUNDS = (0.05, 20.0)
STEPS = 100
CLOSE = 1e-10  # relative change below which the search ends


def fit(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature within `BOUNDS` with the lowest log loss of logits (N, C) for labels (N,) int, to six digits.

    Of N images the true class is asked for with probability (N + ½) / (N + 1), and the likeliest of the others with the rest, as
    if half an image more had been a mistake (Jeffreys' prior; Platt 1999 does the like for his sigmoid): where every image is
    right, the log loss alone would go to a temperature of 0 and to answers without doubt. Logits that say nothing, are no numbers
    or of one class have temperature 1.
    """
    z = logits.astype(np.float64)
    if z.shape[1] < 2 or not np.isfinite(z).all():
        return 1.0
    z -= z.max(1, keepdims=True)
    wanted = _wanted(z, labels)
    low, high, beta = 1 / BOUNDS[1], 1 / BOUNDS[0], 1.0  # of beta = 1 / temperature, in which the loss is convex
    for _ in range(STEPS):
        slope, curvature = _derivatives(z, wanted, beta)
        if slope == 0:
            break
        low, high = (low, beta) if slope > 0 else (beta, high)
        newton = beta - slope / curvature if curvature > 0 else math.inf
        before, beta = beta, newton if low < newton < high else math.sqrt(low * high)
        if abs(beta - before) <= CLOSE * before:
            break
    return float(f"{1 / beta:.6g}")


def _wanted(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean logit (N,) under the probabilities that are asked for."""
    images, missed = np.arange(len(z)), 0.5 / (len(z) + 1)
    others = z.copy()
    others[images, labels] = -np.inf
    return (1 - missed) * z[images, labels] + missed * others.max(1)


def _derivatives(z: np.ndarray, wanted: np.ndarray, beta: float) -> tuple[float, float]:
    """Return the first and second derivative of the log loss at `beta`: what is expected minus what is wanted, and the variance."""
    p = np.exp(beta * z)
    p /= p.sum(1, keepdims=True)
    expected = (p * z).sum(1)
    return float((expected - wanted).mean()), float(((p * z * z).sum(1) - expected**2).mean())
