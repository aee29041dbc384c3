"""Maps of images by their embeddings: PCA, which keeps distances, and t-SNE (van der Maaten and Hinton 2008)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from darkroom.core.errors import SourceError

MIN_IMAGES = 5
MOST = 2_000  # images of the report's map
FEW = 30  # images up to which their neighbours say little: the map is made by PCA alone
COMPONENTS, PERPLEXITY = 50, 30.0
ITERATIONS = 500  # of the report's map; twice as many change the Kullback-Leibler divergence by a few percent
SIDE = 1_000  # of the square in which the report's map lies


@dataclass(frozen=True)
class EmbeddingMap:
    """The numbers of test images (M,), their places (M, 2) int from 0 to SIDE, y upwards, and the method in words."""

    images: np.ndarray = field(repr=False)
    places: np.ndarray = field(repr=False)
    method: str


def project(images: np.ndarray, embeddings: np.ndarray) -> EmbeddingMap | None:
    """Return the map of embeddings (M, D) of the test images of these numbers (M,); None of fewer than MIN_IMAGES.

    Equal embeddings give an equal map on one machine: one thread computes, whose sums have one order.
    """
    if len(embeddings) < MIN_IMAGES:
        return None
    with threadpool_limits(1):
        points, shares = pca(embeddings)
        if len(embeddings) <= FEW or not shares.all():
            return EmbeddingMap(images, _places(points), f"PCA: the axes have {shares[0]:.0%} and {shares[1]:.0%} of the variance")
        neighbours = tsne(embeddings, PERPLEXITY, ITERATIONS)
    components = min(COMPONENTS, *embeddings.shape)
    return EmbeddingMap(
        images,
        _places(neighbours),
        f"PCA to {components} components, then t-SNE: neighbours are alike, larger distances say little",
    )


def pca(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components, (N, 2) float64, and the share of the variance of each, (2,).

    Raises SourceError for fewer than MIN_IMAGES images.
    """
    if len(embeddings) < MIN_IMAGES:
        raise SourceError(f"{len(embeddings)} images are too few for a map", f"give {MIN_IMAGES} or more")
    model = PCA(min(2, embeddings.shape[1]), random_state=0, svd_solver="full")
    with np.errstate(invalid="ignore"):  # equal embeddings have no variance to share
        points = model.fit_transform(embeddings.astype(np.float64))
    shares = model.explained_variance_ratio_
    if points.shape[1] == 1:
        return np.pad(points, ((0, 0), (0, 1))), np.append(shares, 0.0)
    return points, np.nan_to_num(shares)


def tsne(embeddings: np.ndarray, perplexity: float, iterations: int = 1_000) -> np.ndarray:
    """Return t-SNE coordinates (N, 2) float32 of the first COMPONENTS principal components, initialised with PCA."""
    components = min(COMPONENTS, *embeddings.shape)
    if embeddings.shape[1] > components:
        embeddings = PCA(components, random_state=0).fit_transform(embeddings)
    perplexity = min(perplexity, max(1.0, (len(embeddings) - 1) / 3))
    model = TSNE(2, perplexity=perplexity, init="pca", random_state=0, max_iter=iterations)
    return model.fit_transform(embeddings.astype(np.float32))


def _places(points: np.ndarray) -> np.ndarray:
    """Return points (N, 2) as whole numbers in the square, in the middle and at one scale for both axes."""
    low, high = points.min(0), points.max(0)
    scale = SIDE / max(float((high - low).max()), 1e-12)
    return np.rint(SIDE / 2 + (points - (low + high) / 2) * scale).astype(int)
