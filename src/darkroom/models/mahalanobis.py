"""How far an image lies from the training images: the Mahalanobis distance of its embedding and of an earlier feature map.

The distance (Lee et al. 2018) is that to the nearest class mean, with one covariance for all classes, of embeddings of
length 1. Beside them stand the means of a feature map inside the network (`steps_of`), of length 1 too: the embedding keeps what
tells the classes of ImageNet apart, and the map more of what an image is made of. The covariance is that of a factor model: the
RANK directions with the largest variance within classes, and one variance for all others (probabilistic PCA, Tipping and Bishop
1999). Both are shrunk towards equal variances, since training images are fewer than numbers of an embedding. It is RANK + C
vectors, where a whole matrix would be D of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F

RANK = 32  # directions that are kept: more change the distances little (docs/models.md)
SHRINKAGE = 0.9  # of all variances towards their mean; with less, textures are taken for flowers more often
TINY = 1e-12  # of a variance, where images are all the same
DEPTH = 0.6  # of the steps of a network, before the feature map beside the embedding
PREFIX = "distance."  # of its tensors among the weights of a network


class Mahalanobis(nn.Module):
    """Embeddings (N, D), and means (N, M) of the feature map after `steps` steps where these are above 0, to distances (N,)
    float32, without dimension: about √(D + M) for images like those of training."""

    means: torch.Tensor  # (C, D + M) of embeddings and means of length 1
    axes: torch.Tensor  # (R, D + M), orthonormal
    variances: torch.Tensor  # (R,) along the axes
    rest: torch.Tensor  # () in every other direction

    def __init__(self, classes: int, dim: int, rank: int, steps: int = 0) -> None:
        super().__init__()
        self.steps = steps
        for name, shape in (("means", (classes, dim)), ("axes", (rank, dim)), ("variances", (rank,)), ("rest", ())):
            self.register_buffer(name, torch.ones(shape))

    def forward(self, *levels: torch.Tensor) -> torch.Tensor:
        unit = torch.cat([F.normalize(level.float(), dim=1) for level in levels], 1)
        # the norms are expanded, so that no tensor has images × classes × numbers
        along = (unit @ self.axes.T)[:, None] - (self.means @ self.axes.T)[None]
        squares = (unit**2).sum(1)[:, None] - 2 * unit @ self.means.T + (self.means**2).sum(1)[None]
        across = (squares - (along**2).sum(2)).clamp(min=0)
        return ((along**2 / self.variances).sum(2) + across / self.rest).amin(1).sqrt()

    def measure(self, *levels: np.ndarray) -> np.ndarray:
        """Return the distances (N,) float32 of embeddings (N, D) float32, and of means (N, M) where it has steps."""
        with torch.inference_mode():
            device = self.means.device
            return self(*(torch.from_numpy(np.ascontiguousarray(level)).to(device) for level in levels)).cpu().numpy()


def steps_of(count: int) -> int:
    """Return after how many of the steps of a network the feature map is taken; 0, for none, of networks without steps."""
    return int(DEPTH * count)


def fit(levels: Sequence[np.ndarray], labels: np.ndarray, classes: int, steps: int = 0) -> Mahalanobis:
    """Return the distance from training embeddings (N, D), with means (N, M) after `steps` steps where these are above 0, and
    labels (N,) int below `classes`.

    A class without an image has the mean of all.
    """
    unit = np.concatenate([_unit(level.astype(np.float64)) for level in levels], 1)
    means = np.tile(unit.mean(0), (classes, 1))
    for number in np.unique(labels):
        means[number] = unit[labels == number].mean(0)
    within = unit - means[labels]
    count, dim = within.shape
    degrees = max(count - len(np.unique(labels)), 1)
    with threadpool_limits(1, "blas"):  # several threads wait for each other far longer than they compute
        _, singular, axes = np.linalg.svd(within, full_matrices=False)
    spectrum = singular**2 / degrees
    mean = max(float(spectrum.sum()) / dim, TINY)
    rank = min(RANK, len(spectrum), dim - 1)
    rest = float(spectrum[rank:].sum()) / (dim - rank)
    result = Mahalanobis(classes, dim, rank, steps)
    shrunk = [(1 - SHRINKAGE) * value + SHRINKAGE * mean for value in (spectrum[:rank], rest)]
    for name, value in (("means", means), ("axes", axes[:rank]), ("variances", shrunk[0]), ("rest", shrunk[1])):
        getattr(result, name).copy_(torch.as_tensor(np.array(value), dtype=torch.float32))
    return result


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)
