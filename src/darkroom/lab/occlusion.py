"""What a classifier says of an image while a grey patch covers a part of it (Zeiler and Fergus 2014, figure 7)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress

AT_ONCE = 32


def places(size: int, patch: int, stride: int) -> list[int]:
    """Return where patches begin along a side: every `stride` pixels, the last one at the border."""
    if not 1 <= patch <= size or stride < 1:
        raise ParamsError(
            f"a patch of {patch} pixels every {stride} does not fit an image of {size} pixels",
            f"--patch may be 1 to {size}, --stride 1 or more",
        )
    starts = list(range(0, size - patch + 1, stride))
    return starts if starts[-1] == size - patch else [*starts, size - patch]


def occlude(answer: Callable[[np.ndarray], np.ndarray], image: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """Return the probabilities for each place of the patch, (P, P, classes) float32, rows from the top.

    `image` (S, S, 3) uint8; `answer` takes (N, S, S, 3) uint8 and gives probabilities (N, classes). The patch has the mean colour.
    """
    starts = places(image.shape[0], patch, stride)
    corners = [(top, left) for top in starts for left in starts]
    grey = image.reshape(-1, 3).mean(0).round().astype(np.uint8)
    made = []
    with Progress("occlusion", len(corners), "places") as progress:
        for first in range(0, len(corners), AT_ONCE):
            some = corners[first : first + AT_ONCE]
            covered = np.repeat(image[None], len(some), 0)
            for one, (top, left) in zip(covered, some, strict=True):
                one[top : top + patch, left : left + patch] = grey
            made.append(answer(covered))
            progress.advance(len(some))
    return np.concatenate(made).reshape(len(starts), len(starts), -1).astype(np.float32)


def spread(values: np.ndarray, size: int, patch: int, stride: int) -> np.ndarray:
    """Return values of places (P, P) as a map (size, size) float32: of each pixel the mean over the patches that cover it."""
    starts = places(size, patch, stride)
    total, count = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for row, top in enumerate(starts):
        for column, left in enumerate(starts):
            total[top : top + patch, left : left + patch] += values[row, column]
            count[top : top + patch, left : left + patch] += 1
    return total / np.maximum(count, 1)
