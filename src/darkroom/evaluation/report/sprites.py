"""Small pictures packed into a few sheets, as many as fit into a number of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from darkroom.core import pages

COLUMNS, ROWS = 16, 16  # of a sheet
SMALL = 64  # pixels a side up to which a picture keeps its size
SIDES = ((600, 112), (1500, 80))  # numbers of pictures up to which they have that side; more have `SMALL`
QUALITY = {True: 90, False: 72}  # of WebP, by whether pictures are small: these have no detail to spare
TRIES = 4


@dataclass(frozen=True)
class Sheets:
    """Sheets as data URIs, and the indices of the pictures on them, in their order."""

    uris: list[str]
    images: list[int]


def sheets(images: np.ndarray, order: Sequence[int], most: int) -> Sheets:
    """Return sheets of images (N, S, S, 3) uint8 in this order, as many as fit into `most` bytes of text."""
    size = images.shape[1]
    side = size if size <= SMALL else min(size, next((side for count, side in SIDES if len(order) <= count), SMALL))
    packed = Sheets([], [])
    left, todo = most, list(order)
    while todo:
        batch = todo[: COLUMNS * ROWS]
        uri = _sheet(images, batch, side)
        for _ in range(TRIES):  # a smaller last sheet for the bytes that are left
            if len(uri) <= left or not batch:
                break
            batch = batch[: int(len(batch) * left / len(uri) * 0.95)]
            uri = _sheet(images, batch, side) if batch else ""
        if not batch or len(uri) > left:
            break
        packed.uris.append(uri)
        packed.images.extend(batch)
        left -= len(uri)
        if len(batch) < min(COLUMNS * ROWS, len(todo)):
            break
        todo = todo[len(batch) :]
    return packed


def _sheet(images: np.ndarray, batch: Sequence[int], side: int) -> str:
    rows = -(-len(batch) // COLUMNS)
    sheet = np.zeros((rows * side, COLUMNS * side, 3), np.uint8)
    for place, i in enumerate(batch):
        y, x = side * (place // COLUMNS), side * (place % COLUMNS)
        pixels: Any = images[i]
        if pixels.shape[0] != side:
            pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        sheet[y : y + side, x : x + side] = pixels
    quality = QUALITY[images.shape[1] <= SMALL]
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return pages.data_uri("image/webp", encoded.tobytes())
