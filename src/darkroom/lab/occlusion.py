"""Probabilities while a grey patch covers part of the image (Zeiler and Fergus 2014, figure 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from darkroom.core.errors import ParamsError, printable
from darkroom.core.progress import Progress
from darkroom.lab import drawing

BATCH = 32
SIDE = 260  # pixels of a picture, about


def patch_starts(size: int, patch: int, stride: int) -> list[int]:
    """Return where patches begin along a side: every `stride` pixels, the last one at the border."""
    if not 1 <= patch <= size or stride < 1:
        raise ParamsError(
            f"a patch of {patch} pixels every {stride} does not fit an image of {size} pixels",
            f"--patch may be 1 to {size}, --stride 1 or more",
        )
    starts = list(range(0, size - patch + 1, stride))
    return starts if starts[-1] == size - patch else [*starts, size - patch]


def cover(image: np.ndarray, corners: list[tuple[int, int]], patch: int) -> np.ndarray:
    """Return copies (N, S, S, 3) of an image (S, S, 3) uint8, with a patch of its mean colour at a corner."""
    covered = np.repeat(image[None], len(corners), 0)
    for copy, (top, left) in zip(covered, corners, strict=True):
        copy[top : top + patch, left : left + patch] = image.reshape(-1, 3).mean(0).round()
    return covered


def occlude(predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, patch: int, stride: int) -> np.ndarray:
    """Return the probabilities for each place of the patch, (P, P, classes) float32, rows from the top.

    `image` (S, S, 3) uint8; `predict` takes (N, S, S, 3) uint8 and returns probabilities (N, classes).
    """
    starts = patch_starts(image.shape[0], patch, stride)
    corners = [(top, left) for top in starts for left in starts]
    probabilities = []
    with Progress("occlusion", len(corners), "places") as progress:
        for first in range(0, len(corners), BATCH):
            batch = cover(image, corners[first : first + BATCH], patch)
            probabilities.append(predict(batch))
            progress.advance(len(batch))
    return np.concatenate(probabilities).reshape(len(starts), len(starts), -1).astype(np.float32)


def spread(values: np.ndarray, size: int, patch: int, stride: int) -> np.ndarray:
    """Return values of places (P, P) as a map (size, size) float32, means over the patches at a pixel."""
    starts = patch_starts(size, patch, stride)
    total, count = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for row, top in enumerate(starts):
        for column, left in enumerate(starts):
            total[top : top + patch, left : left + patch] += values[row, column]
            count[top : top + patch, left : left + patch] += 1
    return total / np.maximum(count, 1)


def overlay(image: np.ndarray, drops: np.ndarray, most: float) -> np.ndarray:
    """Return the drops (S, S) as a heat map over the grey image, (S, S, 3) uint8."""
    grey = np.repeat(image.mean(2, keepdims=True), 3, 2)
    return (0.4 * grey + 0.6 * drawing.heat(drops, most)).astype(np.uint8)


def draw_predictions(probabilities: np.ndarray, classes: Sequence[str], size: int) -> drawing.Tile:
    """Return the most probable class for each place of the patch (P, P, classes) as a picture with a legend."""
    best = probabilities.argmax(2)
    shown = sorted(set(best.ravel().tolist()), key=lambda number: -int((best == number).sum()))[: len(drawing.COLOURS)]
    canvas = np.full((*best.shape, 3), 128, np.uint8)
    for number, colour in zip(shown, drawing.COLOURS.values(), strict=False):
        canvas[best == number] = colour
    side = SIDE if size > SIDE else size * max(1, round(SIDE / size))
    picture = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_NEAREST)
    legend = [
        f"{colour}: {printable(classes[number]).split(',')[0][:24]}"
        for colour, number in zip(drawing.COLOURS, shown[:4], strict=False)
    ]
    return drawing.Tile(picture, "the most probable class:\n" + "\n".join(legend))
