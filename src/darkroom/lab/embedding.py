"""A map of images by their embeddings: axes of greatest variance (PCA), or neighbourhoods (van der Maaten and Hinton 2008)."""

from __future__ import annotations

import numpy as np
import torch

from darkroom.core.errors import SourceError
from darkroom.core.progress import Progress
from darkroom.models.base import Network

FEWEST = 5  # images of which a map says anything
AT_ONCE = 64


def embed(network: Network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (N, D) and logits (N, classes), float32, of images (N, S, S, 3) uint8."""
    made, answers = [], []
    with torch.inference_mode(), Progress("embed", len(images)) as progress:
        for start in range(0, len(images), AT_ONCE):
            some = torch.from_numpy(np.array(images[start : start + AT_ONCE]))
            embedded = network.features(network.normalize(some))
            made.append(embedded.numpy())
            answers.append(network.head(embedded).numpy())
            progress.advance(len(some))
    return np.concatenate(made), np.concatenate(answers)


def pca(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two coordinates of greatest variance, (N, 2) float64, and the share of the variance in each, (2,).

    Raises SourceError for fewer than FEWEST images.
    """
    if len(embeddings) < FEWEST:
        raise SourceError(f"{len(embeddings)} images make no map", f"give {FEWEST} or more")
    from sklearn.decomposition import PCA

    made = PCA(min(2, embeddings.shape[1]), random_state=0, svd_solver="full")
    points = made.fit_transform(embeddings.astype(np.float64))
    shares = made.explained_variance_ratio_
    if points.shape[1] == 1:
        return np.pad(points, ((0, 0), (0, 1))), np.append(shares, 0.0)
    return points, np.nan_to_num(shares)


def tsne(embeddings: np.ndarray, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """Return t-SNE's coordinates (N, 2) float32, begun at those of PCA, whose first 50 axes are looked at."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    wide = min(50, *embeddings.shape)
    if embeddings.shape[1] > wide:
        embeddings = PCA(wide, random_state=seed).fit_transform(embeddings)
    nearby = min(perplexity, max(1.0, (len(embeddings) - 1) / 3))
    return TSNE(2, perplexity=nearby, init="pca", random_state=seed).fit_transform(embeddings.astype(np.float32))
