"""Many small pictures as a few sheets, as long as they fit into so many bytes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

COLUMNS, ROWS = 16, 16  # of a sheet
SMALL = 64  # pixels a side up to which a picture stays as it is
SIDES = ((600, 112), (1500, 80))  # pictures up to which they have that side; more have `SMALL`
QUALITY = {True: 90, False: 72}  # of WebP; small pictures have nothing to spare
TRIES = 4


@dataclass(frozen=True)
class Sheets:
    """Sheets as data URIs, the pixels a side of a picture on them, and which pictures they hold, in their order."""

    uris: list[str]
    side: int
    held: list[int]


def sheets(images: np.ndarray, order: Sequence[int], most: int) -> Sheets:
    """Return sheets of images (N, S, S, 3) uint8 in this order, as many of them as fit into `most` bytes of text."""
    size = images.shape[1]
    side = size if size <= SMALL else min(size, next((side for count, side in SIDES if len(order) <= count), SMALL))
    uris: list[str] = []
    held: list[int] = []
    left, todo = most, list(order)
    while todo:
        some = todo[: COLUMNS * ROWS]
        uri = _encoded(images, some, side)
        for _ in range(TRIES):  # a smaller last sheet for what is left
            if len(uri) <= left or not some:
                break
            some = some[: int(len(some) * left / len(uri) * 0.95)]
            uri = _encoded(images, some, side) if some else ""
        if not some or len(uri) > left:
            break
        uris.append(uri)
        held += some
        left -= len(uri)
        if len(some) < min(COLUMNS * ROWS, len(todo)):
            break
        todo = todo[len(some) :]
    return Sheets(uris, side, held)


def _encoded(images: np.ndarray, some: Sequence[int], side: int) -> str:
    import cv2

    rows = -(-len(some) // COLUMNS)
    sheet = np.zeros((rows * side, COLUMNS * side, 3), np.uint8)
    for place, i in enumerate(some):
        y, x = side * (place // COLUMNS), side * (place % COLUMNS)
        pixels: Any = images[i]
        if pixels.shape[0] != side:
            pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        sheet[y : y + side, x : x + side] = pixels
    quality = QUALITY[images.shape[1] <= SMALL]
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"
