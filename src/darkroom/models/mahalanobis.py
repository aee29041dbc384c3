"""How far an image lies from the training images: the Mahalanobis distance of its embedding.

The distance (Lee et al. 2018) is that to the nearest class mean, with one covariance for all classes, of embeddings of
length 1. The covariance is that of a factor model: the RANK directions with the largest variance within classes, and one
variance for all others (probabilistic PCA, Tipping and Bishop 1999). Both are shrunk towards equal variances, since
training images are fewer than numbers of an embedding. It is RANK + C vectors, where a whole matrix would be D of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

RANK = 32  # directions that are kept: more change the distances little (docs/models.md)
SHRINKAGE = 0.9  # of all variances towards their mean; with less, textures are taken for flowers more often
TINY = 1e-12  # of a variance, where images are all the same
PREFIX = "distance."  # of its tensors among the weights of a network


class Mahalanobis(nn.Module):
    """Embeddings (N, D) to distances (N,) float32, without dimension: about √D for images like those of training."""

    means: torch.Tensor  # (C, D) of embeddings of length 1
    axes: torch.Tensor  # (R, D), orthonormal
    variances: torch.Tensor  # (R,) along the axes
    rest: torch.Tensor  # () in every other direction

    def __init__(self, classes: int, dim: int, rank: int) -> None:
        super().__init__()
        for name, shape in (("means", (classes, dim)), ("axes", (rank, dim)), ("variances", (rank,)), ("rest", ())):
            self.register_buffer(name, torch.ones(shape))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        unit = F.normalize(embeddings.float(), dim=1)
        # the norms are expanded, so that no tensor has images × classes × numbers
        along = (unit @ self.axes.T)[:, None] - (self.means @ self.axes.T)[None]
        squares = (unit**2).sum(1)[:, None] - 2 * unit @ self.means.T + (self.means**2).sum(1)[None]
        across = (squares - (along**2).sum(2)).clamp(min=0)
        return ((along**2 / self.variances).sum(2) + across / self.rest).amin(1).sqrt()

    def measure(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the distances (N,) float32 of embeddings (N, D) float32."""
        with torch.inference_mode():
            device = self.means.device
            return self(torch.from_numpy(np.ascontiguousarray(embeddings)).to(device)).cpu().numpy()


def fit(embeddings: np.ndarray, labels: np.ndarray, classes: int) -> Mahalanobis:
    """Return the distance from training embeddings (N, D) with labels (N,) int below `classes`.

    A class without an image has the mean of all.
    """
    unit = embeddings.astype(np.float64) / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), TINY)
    means = np.tile(unit.mean(0), (classes, 1))
    for number in np.unique(labels):
        means[number] = unit[labels == number].mean(0)
    within = unit - means[labels]
    count, dim = within.shape
    degrees = max(count - len(np.unique(labels)), 1)
    _, singular, axes = np.linalg.svd(within, full_matrices=False)
    spectrum = singular**2 / degrees
    mean = max(float(spectrum.sum()) / dim, TINY)
    rank = min(RANK, len(spectrum), dim - 1)
    rest = float(spectrum[rank:].sum()) / (dim - rank)
    result = Mahalanobis(classes, dim, rank)
    shrunk = [(1 - SHRINKAGE) * value + SHRINKAGE * mean for value in (spectrum[:rank], rest)]
    for name, value in (("means", means), ("axes", axes[:rank]), ("variances", shrunk[0]), ("rest", shrunk[1])):
        getattr(result, name).copy_(torch.as_tensor(np.array(value), dtype=torch.float32))
    return result
