"""Logistic regression on the pixels: what no network should be beaten by."""

from __future__ import annotations

import numpy as np

SIDE = 32  # images are averaged down to at most this many pixels a side
SUBSET = 5_000


class PixelRegression:
    """Multinomial logistic regression on standardised pixels of thumbnails, fitted on at most 5,000 training images."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> None:
        from sklearn.linear_model import LogisticRegression

        chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:SUBSET])
        pixels = thumbnails(images[chosen])
        self.mean, self.std = pixels.mean(0), pixels.std(0).clip(1e-3)
        self.classes = classes
        self.model = LogisticRegression(C=0.01, max_iter=200)
        with np.errstate(all="ignore"):
            self.model.fit((pixels - self.mean) / self.std, labels[chosen])

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities (N, classes) for images (N, H, W, 3) uint8."""
        made = np.zeros((len(images), self.classes))
        made[:, self.model.classes_] = self.model.predict_proba((thumbnails(images) - self.mean) / self.std)
        return made

    @property
    def parameter_count(self) -> int:
        return int(self.model.coef_.size + self.model.intercept_.size)


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 as (N, D) float64 on the scale 0 to 1."""
    factor = max(1, -(-images.shape[1] // SIDE))
    side = images.shape[1] // factor
    if images.shape[1] % factor:
        images = images[:, : side * factor, : side * factor]
    small = np.asarray(images).reshape(len(images), side, factor, side, factor, 3).mean((2, 4)) / 255

    return small.reshape(len(images), -1)
