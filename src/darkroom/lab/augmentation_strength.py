"""How strongly transforms of an image work: draws from their ranges, from the weakest to the strongest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Draw = Callable[[int], np.ndarray]  # a number → the transform, drawn by it, of one image (H, W, 3) uint8


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Return how far an image (H, W, 3) uint8 is from another of its size: the root mean square of the difference, 0 to 255."""
    return float(np.sqrt(((before.astype(np.float64) - after.astype(np.float64)) ** 2).mean()))


def ladder(image: np.ndarray, draw: Draw, steps: int, draws: int = 64) -> list[tuple[np.ndarray, float]]:
    """Return `steps` of `draws` drawn images with their change, evenly from the least changed to the most changed.

    What a range holds shows in what is drawn from it, so this needs to know nothing of a transform.
    """
    made = [draw(number) for number in range(draws)]
    ordered = sorted(((change(image, item), number) for number, item in enumerate(made)))
    chosen = [ordered[round(i * (draws - 1) / max(1, steps - 1))] for i in range(steps)]
    return [(made[number], far) for far, number in chosen]
