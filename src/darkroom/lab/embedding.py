"""The page of maps of images by their embeddings, which `evaluation.embedding_map` computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from darkroom.core import pages
from darkroom.core.charts import PALETTE
from darkroom.core.errors import printable
from darkroom.core.progress import Progress
from darkroom.models.base import Network

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
