"""Views of training images, each drawn from a seed of its own, so that the order of work changes no pixel."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import xxhash

from darkroom.augmentation.lean import albumentations
from darkroom.augmentation.policies import POLICIES


class SeededPipeline:
    """Albumentations transforms whose random draws depend on the pixels of an image and a text alone."""

    def __init__(self, transforms: list[Any]) -> None:
        self.pipeline = albumentations.Compose(transforms, seed=0)
        # all transforms share one pair of generators, since seeding each costs a fifth of the time of a view
        self.numbers, self.python = np.random.Generator(np.random.PCG64(0)), random.Random(0)
        self.pipeline.set_random_state(self.numbers, self.python)

    def __call__(self, image: np.ndarray, text: str, key: bytes) -> np.ndarray:
        """Return an image (H, W, 3) uint8 transformed; `key` is its `pixel_digest`."""
        digest = hashlib.blake2b(text.encode() + key, digest_size=32).digest()
        first, second = int.from_bytes(digest[:16], "little"), int.from_bytes(digest[16:], "little")
        self.numbers.bit_generator.state = {
            "bit_generator": "PCG64", "state": {"state": first, "inc": second | 1}, "has_uint32": 0, "uinteger": 0,
        }  # fmt: skip
        self.python.seed(second >> 64)
        return self.pipeline(image=image)["image"]


def pixel_digest(image: np.ndarray) -> bytes:
    """Return the digest of the pixels of a contiguous image."""
    return xxhash.xxh3_128_digest(image.data)


class ViewGenerator:
    """Makes the views of one policy for images of `size` pixels a side."""

    def __init__(self, policy: str, size: int, seed: int) -> None:
        self.policy, self.seed, self.size = policy, seed, size
        self.pipeline = SeededPipeline(POLICIES[policy](size)) if policy != "none" else None

    def views(self, image: np.ndarray, numbers: range) -> list[np.ndarray]:
        """Return views of an image (H, W, 3) uint8, each by its pixels, policy, seed and number alone."""
        if self.pipeline is None:
            return [image for _ in numbers]
        image = np.ascontiguousarray(image)
        key = pixel_digest(image)
        return [self.pipeline(image, f"{self.seed}:{self.policy}:{number}:", key) for number in numbers]

    def as_dict(self) -> dict[str, Any]:
        """Return the policy as Albumentations serialises it, with its version."""
        transforms = albumentations.to_dict(self.pipeline.pipeline) if self.pipeline is not None else {"transform": None}
        return {
            "policy": self.policy, "seed": self.seed, "albumentations": albumentations.__version__, "pipeline": transforms,
        }  # fmt: skip


def preview(images: np.ndarray, views: Any) -> np.ndarray:
    """Return a picture (h, w, 3) uint8: each row an image, a gap, and its views (K, N, H, W, 3)."""
    rows = np.linspace(0, len(images) - 1, min(10, len(images))).round().astype(int)
    shown = [views[number][rows] for number in range(min(7, len(views)))]
    scale = max(1, round(96 / images.shape[1]))
    gap = 6
    lines = []
    for row, i in enumerate(rows):
        tiles = [images[i], *(view[row] for view in shown)]
        tiles = [np.repeat(np.repeat(tile, scale, 0), scale, 1) for tile in tiles]
        wide, thin = (np.full((tiles[0].shape[0], width, 3), 255, np.uint8) for width in (3 * gap, gap))
        parts = [tiles[0], wide]
        for tile in tiles[1:]:
            parts += [tile, thin]
        lines.append(np.concatenate(parts[:-1], axis=1))
    between = np.full((gap, lines[0].shape[1], 3), 255, np.uint8)
    stacked = [part for line in lines for part in (line, between)][:-1]
    return np.pad(np.concatenate(stacked), ((gap, gap), (gap, gap), (0, 0)), constant_values=255)
