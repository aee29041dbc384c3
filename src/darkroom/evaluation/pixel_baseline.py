"""The pixel baseline: logistic regression on thumbnails, which every network should outperform."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from darkroom.core import large_arrays

SIDE = 32  # images are averaged down to at most this many pixels a side
SUBSET = 5_000  # training images at most
C = 0.01
BATCH = 4096  # images whose thumbnails are in memory


class Regression:
    """Multinomial logistic regression on standardised inputs (N, D) float32; unseen classes get 0.

    The weights are penalised by half their squares and the log-likelihood counts `c`-fold, as in
    scikit-learn, whose solution this is; its import and its float64 take longer than the fit.
    """

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, classes: int, c: float = C) -> None:
        self.mean, self.std = inputs.mean(0), inputs.std(0).clip(1e-3)
        self.classes = classes
        self.present, numbers = np.unique(labels, return_inverse=True)
        self.weights = fit((inputs - self.mean) / self.std, numbers, len(self.present), c)

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Return probabilities (N, classes) for inputs (N, D)."""
        probabilities = np.zeros((len(inputs), self.classes))
        logits = ((inputs - self.mean) / self.std) @ self.weights[:-1] + self.weights[-1]
        probabilities[:, self.present] = _softmax(logits)[0]
        return probabilities


class PixelRegression(Regression):
    """Logistic regression on the pixels of thumbnails, fitted on at most `SUBSET` training images."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> None:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:SUBSET])
        super().__init__(thumbnails(images[chosen]), labels[chosen], classes)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities (N, classes) for images (N, H, W, 3) uint8."""
        result = large_arrays.zeros((len(images), self.classes))
        for start in range(0, len(images), BATCH):
            result[start : start + BATCH] = super().probabilities(thumbnails(images[start : start + BATCH]))
        return result


def fit(inputs: np.ndarray, labels: np.ndarray, classes: int, c: float = C, steps: int = 200) -> np.ndarray:
    """Return the weights (D + 1, classes) of logistic regression on inputs (N, D) float32; last row: bias.

    One thread computes: the products are small, BLAS' threads take longer to meet, and sums have one order.
    """
    targets = np.eye(classes, dtype=np.float32)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, classes).astype(np.float32)
        probabilities, log_loss = _softmax(inputs @ weights[:-1] + weights[-1], targets)
        errors = probabilities - targets
        penalty = weights.copy()
        penalty[-1] = 0
        gradient = c * np.concatenate([inputs.T @ errors, errors.sum(0, keepdims=True)]) + penalty
        return c * log_loss + 0.5 * float((penalty * penalty).sum()), gradient.ravel().astype(np.float64)

    # the scale of the gradient at which scikit-learn stops
    options = {"maxiter": steps, "gtol": 1e-4 * c * len(inputs), "ftol": 64 * np.finfo(float).eps}
    start = np.zeros((inputs.shape[1] + 1) * classes)
    with threadpool_limits(1):
        result = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return result.x.reshape(-1, classes).astype(np.float32)


def _softmax(logits: np.ndarray, targets: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Return probabilities (N, classes), and the summed log loss against one-hot targets (N, classes)."""
    shifted = logits - logits.max(1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(1, keepdims=True)
    loss = 0.0 if targets is None else float(np.log(sums, dtype=np.float64).sum() - (shifted * targets).sum(dtype=np.float64))
    return exponentials / sums, loss


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 as (N, D) float32 on the scale 0 to 1."""
    factor = max(1, -(-images.shape[1] // SIDE))
    side = images.shape[1] // factor
    if images.shape[1] % factor:
        images = images[:, : side * factor, : side * factor]
    small = np.asarray(images).reshape(len(images), side, factor, side, factor, 3).mean((2, 4)) / 255
    return small.reshape(len(images), -1).astype(np.float32)
