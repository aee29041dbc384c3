"""Predictions for image files, with any function that returns probabilities. It does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkroom.data.decoding import decode


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image file: probabilities (classes,) float64, or the reason why the file cannot
    be read."""

    probabilities: np.ndarray | None
    error: str = ""  # a key of data.quarantine_reasons.REASONS


def predict_files(
    contents: Iterable[bytes], preprocessing: Any, predict: Callable[[np.ndarray], np.ndarray], max_pixels: int | None = None
) -> list[Prediction]:
    """Return a prediction for the bytes of each image file, of any format and size.

    `preprocessing` has `image_size`, `resize` and `background`. `predict` takes (N, S, S, 3) uint8 and
    returns probabilities (N, classes). Files are decoded one after another, so one whole picture is in memory
    at a time, and one file where `contents` is a generator. An image has at most `max_pixels`, by default
    decoding.MAX_PIXELS.
    """
    settings = (preprocessing.image_size, preprocessing.resize, preprocessing.background)
    pixels: list[np.ndarray] = []
    errors: list[str] = []  # empty for an image that is in `pixels`
    for content in contents:
        image = decode(content, *settings, max_pixels=max_pixels)
        errors.append(image.reason)
        if image.pixels is not None:
            pixels.append(image.pixels)
        del image, content
    probabilities = iter(predict(np.stack(pixels)) if pixels else [])
    return [Prediction(None, error) if error else Prediction(next(probabilities)) for error in errors]
