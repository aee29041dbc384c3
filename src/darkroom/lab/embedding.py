"""Maps of images by their embeddings: PCA, which keeps distances, and t-SNE (van der Maaten and Hinton 2008)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from darkroom.core import pages
from darkroom.core.charts import PALETTE
from darkroom.core.errors import SourceError, printable
from darkroom.core.progress import Progress
from darkroom.models.base import Network

MIN_IMAGES = 5
BATCH = 64
THUMBNAIL = 72  # pixels a side


@torch.inference_mode()
def embed(network: Network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (N, D) and logits (N, classes), float32, of images (N, S, S, 3) uint8."""
    embeddings, logits = [], []
    with Progress("embed", len(images)) as progress:
        for batch in torch.from_numpy(images).split(BATCH):
            features = network.features(network.normalize(batch))
            embeddings.append(features.numpy())
            logits.append(network.head(features).numpy())
            progress.advance(len(batch))
    return np.concatenate(embeddings), np.concatenate(logits)


def pca(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components, (N, 2) float64, and the share of the variance of each, (2,).

    Raises SourceError for fewer than MIN_IMAGES images.
    """
    if len(embeddings) < MIN_IMAGES:
        raise SourceError(f"{len(embeddings)} images are too few for a map", f"give {MIN_IMAGES} or more")
    model = PCA(min(2, embeddings.shape[1]), random_state=0, svd_solver="full")
    points = model.fit_transform(embeddings.astype(np.float64))
    shares = model.explained_variance_ratio_
    if points.shape[1] == 1:
        return np.pad(points, ((0, 0), (0, 1))), np.append(shares, 0.0)
    return points, np.nan_to_num(shares)


def tsne(embeddings: np.ndarray, perplexity: float) -> np.ndarray:
    """Return t-SNE coordinates (N, 2) float32 of the first 50 principal components, initialised with PCA."""
    components = min(50, *embeddings.shape)
    if embeddings.shape[1] > components:
        embeddings = PCA(components, random_state=0).fit_transform(embeddings)
    perplexity = min(perplexity, max(1.0, (len(embeddings) - 1) / 3))
    return TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(embeddings.astype(np.float32))


def render_page(title: str, note: str, maps: Mapping[str, np.ndarray], images: np.ndarray, rows: Sequence[tuple[Any, ...]]) -> str:
    """Return the page of points (N, 2) by map; a row begins with path, class, prediction and error."""
    classes = sorted({row[1] for row in rows})
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(classes)}
    captions = [printable(f"{row[0]}: {row[1]}" + (f", predicted {row[2]}" if row[3] else "")) for row in rows]
    return pages.render(
        "lab", "embedding.html.j2", source="embeddings", title=printable(title), note=note, captions=captions,
        rows=[{"colour": colours[row[1]], "error": row[3]} for row in rows],
        legend=[(printable(name), colour) for name, colour in colours.items()], small=images.shape[1] <= 64,
        maps=[(name, _to_square(points)) for name, points in maps.items()],
        pictures=[pages.picture(image, THUMBNAIL) for image in images],
    )  # fmt: skip


def _to_square(points: np.ndarray) -> list[tuple[float, float]]:
    """Return points (N, 2) as positions in a square of 500 with a margin, y upwards."""
    low, high = points.min(0), points.max(0)
    scaled = 15 + 470 * (points - low) / (high - low).clip(1e-12)
    return [(round(float(x), 1), round(float(500 - y), 1)) for x, y in scaled]
