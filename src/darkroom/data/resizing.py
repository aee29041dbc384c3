"""Resizes RGB pictures to the square that a network takes."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

cv2.setNumThreads(1)  # images are resized by several threads already


def fit(picture: np.ndarray, size: int, resize: str, background: tuple[int, int, int]) -> np.ndarray:
    """Return an RGB image (H, W, 3) uint8 as (size, size, 3): see `shrink`; bicubic where it is enlarged."""
    height, width = picture.shape[:2]
    if resize == "stretch":
        return _scaled(picture, size, size)
    if resize == "pad":
        factor = size / max(width, height)
        inner = _scaled(picture, max(1, round(width * factor)), max(1, round(height * factor)))
        canvas = np.empty((size, size, 3), np.uint8)
        canvas[:] = background
        top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
        canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return canvas
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    return _scaled(picture[top : top + side, left : left + side], size, size)


def _scaled(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    if (height, width) == picture.shape[:2]:
        return np.ascontiguousarray(picture)
    if width <= picture.shape[1] and height <= picture.shape[0]:
        return shrink(picture, width, height)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def shrink(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a smaller image: blocks are averaged down to at most twice the size, the rest is bilinear and
    skips no pixel.

    With one to two source pixels per target pixel, bilinear interpolation weighs all of them. This takes a
    third of the time of averaging areas with fractional borders.
    """
    across, down = -(-image.shape[1] // (2 * width)), -(-image.shape[0] // (2 * height))
    if across > 1 or down > 1:
        inner_width, inner_height = image.shape[1] // across, image.shape[0] // down
        left, top = (image.shape[1] - inner_width * across) // 2, (image.shape[0] - inner_height * down) // 2
        inner = image[top : top + inner_height * down, left : left + inner_width * across]
        image = cv2.resize(inner, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
