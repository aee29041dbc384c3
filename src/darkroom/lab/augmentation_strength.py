"""The strength of augmentations: draws from a transform's ranges, ordered from the weakest to the strongest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from darkroom.augmentation.lean import albumentations

Draw = Callable[[int], np.ndarray]  # a number → the image (H, W, 3) uint8 transformed by the draw of this number


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Return the root mean square of the difference between two images (H, W, 3) uint8, 0 to 255."""
    return float(np.sqrt(((before.astype(np.float64) - after.astype(np.float64)) ** 2).mean()))


def ladder(image: np.ndarray, draw: Draw, steps: int, draws: int = 64) -> list[tuple[np.ndarray, float]]:
    """Return `steps` of `draws` transformed images with their change, from the smallest to the largest.

    The draws show the ranges of any transform, without knowledge of its parameters.
    """
    images = [draw(number) for number in range(draws)]
    ordered = sorted((change(image, item), number) for number, item in enumerate(images))
    chosen = [ordered[round(i * (draws - 1) / max(1, steps - 1))] for i in range(steps)]
    return [(images[number], size) for size, number in chosen]


def drawer(transform: Any, image: np.ndarray, seed: int) -> Draw:
    """Return a function that applies a transform alone, with probability 1."""
    transform.p = 1.0
    return lambda number: albumentations.Compose([transform], seed=seed * 1000 + number)(image=image)["image"]


def describe(transform: Any) -> str:
    """Return a transform's probability and ranges; for a choice between transforms, those of each."""
    choices = None if hasattr(transform, "get_transform_init_args") else getattr(transform, "transforms", None)
    probability = f"probability {transform.p:g}"
    if choices:
        return f"{probability}, one of {', '.join(f'{type(item).__name__} ({_ranges(item)})' for item in choices)}"
    return ", ".join(filter(None, (probability, _ranges(transform))))


def _ranges(transform: Any) -> str:
    """Return the arguments that are ranges with two different ends."""
    ranges = []
    for name, value in transform.get_transform_init_args().items():
        for key, ends in value.items() if isinstance(value, dict) else [("", value)]:
            is_range = isinstance(ends, (tuple, list)) and len(ends) == 2 and all(isinstance(end, (int, float)) for end in ends)
            if is_range and ends[0] != ends[1]:
                ranges.append(f"{f'{name} {key}'.strip()} {ends[0]:g} to {ends[1]:g}".replace("-", "−"))
    return ", ".join(ranges)
