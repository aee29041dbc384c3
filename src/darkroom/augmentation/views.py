"""Views of training images: each drawn from the image's own seed, so that the order of work cannot change a pixel."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from darkroom.augmentation.policies import POLICIES
from darkroom.progress import Progress


class Viewer:
    """Makes the views of one policy for images of one size."""

    def __init__(self, policy: str, size: int, seed: int) -> None:
        import albumentations as A

        self.policy, self.seed = policy, seed
        self.pipeline = A.Compose(POLICIES[policy](size), seed=0) if policy != "none" else None

    def view(self, image: np.ndarray, number: int) -> np.ndarray:
        """Return view `number` of an image (H, W, 3) uint8; it depends on the pixels, the policy and the seed alone."""
        if self.pipeline is None:
            return image
        key = hashlib.sha256(f"{self.seed}:{self.policy}:{number}:".encode() + image.tobytes()).digest()
        self.pipeline.set_random_seed(int.from_bytes(key[:4], "big"))
        return self.pipeline(image=np.ascontiguousarray(image))["image"]

    def as_dict(self) -> dict[str, Any]:
        """Return the policy as Albumentations serialises it, with the version that made the views."""
        import albumentations as A

        made = A.to_dict(self.pipeline) if self.pipeline is not None else {"transform": None}
        return {"policy": self.policy, "seed": self.seed, "albumentations": A.__version__, "pipeline": made}


def write_views(images: np.ndarray, viewer: Viewer, into: np.ndarray) -> None:
    """Fill `into` (K, N, H, W, 3) with K views of the images (N, H, W, 3)."""
    with Progress(f"augment ({viewer.policy})", into.shape[0] * into.shape[1], "views") as progress:
        for number, view in enumerate(into):
            for i, image in enumerate(images):
                view[i] = viewer.view(image, number)
                progress.advance()


def preview(images: np.ndarray, views: np.ndarray, most_rows: int = 10, most_views: int = 7) -> np.ndarray:
    """Return a picture (h, w, 3) uint8: each row an original, a gap, and its views."""
    rows = np.linspace(0, len(images) - 1, min(most_rows, len(images))).round().astype(int)
    scale = max(1, round(96 / images.shape[1]))
    gap = 6
    lines = []
    for i in rows:
        tiles = [images[i], *(view[i] for view in views[:most_views])]
        tiles = [np.repeat(np.repeat(tile, scale, 0), scale, 1) for tile in tiles]
        height = tiles[0].shape[0]
        wide, thin = (np.full((height, width, 3), 255, np.uint8) for width in (3 * gap, gap))
        line = [tiles[0], wide]
        for tile in tiles[1:]:
            line += [tile, thin]
        lines += [np.concatenate(line[:-1], axis=1)]
    between = np.full((gap, lines[0].shape[1], 3), 255, np.uint8)
    stacked = [part for line in lines for part in (line, between)][:-1]
    return np.pad(np.concatenate(stacked), ((gap, gap), (gap, gap), (0, 0)), constant_values=255)
