"""Temperature scaling (Guo et al. 2017): divide logits by a number so that confidence matches accuracy."""

from __future__ import annotations

import math

import numpy as np

BOUNDS = (0.05, 20.0)
STEPS = 100
TOLERANCE = 1e-10  # relative change below which the search ends


def fit(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature within `BOUNDS` with the lowest log loss of logits (N, C) for labels (N,) int,
    to six digits.

    The target of each of N images has probability (N + ½) / (N + 1) for the true class, and the rest for the
    likeliest other one, as if half an image more had been a mistake (Jeffreys' prior; compare the targets of
    Platt 1999). Otherwise, where every prediction is right, the log loss would fall until the temperature is
    0 and every confidence 1. Constant, infinite or NaN logits and logits of one class have temperature 1.
    """
    z = logits.astype(np.float64)
    if z.shape[1] < 2 or not np.isfinite(z).all():
        return 1.0
    z -= z.max(1, keepdims=True)
    target = _target_logits(z, labels)
    low, high, beta = 1 / BOUNDS[1], 1 / BOUNDS[0], 1.0  # of beta = 1 / temperature, in which the loss is convex
    for _ in range(STEPS):
        slope, curvature = _derivatives(z, target, beta)
        if slope == 0:
            break
        low, high = (low, beta) if slope > 0 else (beta, high)
        newton = beta - slope / curvature if curvature > 0 else math.inf
        before, beta = beta, newton if low < newton < high else math.sqrt(low * high)
        if abs(beta - before) <= TOLERANCE * before:
            break
    return float(f"{1 / beta:.6g}")


def _target_logits(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean logit (N,) under the target probabilities."""
    images, missed = np.arange(len(z)), 0.5 / (len(z) + 1)
    others = z.copy()
    others[images, labels] = -np.inf
    return (1 - missed) * z[images, labels] + missed * others.max(1)


def _derivatives(z: np.ndarray, target: np.ndarray, beta: float) -> tuple[float, float]:
    """Return the first and second derivative of the mean log loss at `beta`."""
    p = np.exp(beta * z)
    p /= p.sum(1, keepdims=True)
    expected = (p * z).sum(1)
    return float((expected - target).mean()), float(((p * z * z).sum(1) - expected**2).mean())
