"""Predictions for image files, with any function that measures images. It does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from darkroom.data.decoding import decode


class Measured(NamedTuple):
    """Calibrated probabilities (N, classes) float64 of images, and their distances (N,) from the training images, of models that
    have them."""

    probabilities: np.ndarray
    distances: np.ndarray | None = None

    def predictions(self) -> list[Prediction]:
        """Return the prediction for each image."""
        distances = [None] * len(self.probabilities) if self.distances is None else self.distances.tolist()
        return [Prediction(row, distance=distance) for row, distance in zip(self.probabilities, distances, strict=True)]


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image file: probabilities (classes,) float64 and the distance from the training images, which
    some models do not have; or the reason why the file cannot be read."""

    probabilities: np.ndarray | None
    error: str = ""  # a key of data.quarantine_reasons.REASONS
    distance: float | None = None


def predict_files(
    contents: Iterable[bytes], preprocessing: Any, measure: Callable[[np.ndarray], Measured], max_pixels: int | None = None
) -> list[Prediction]:
    """Return a prediction for the bytes of each image file, of any format and size.

    `preprocessing` has `image_size`, `resize` and `background`. `measure` takes (N, S, S, 3) uint8. Files are decoded one
    after another, so one whole picture is in memory at a time, and one file where `contents` is a generator. An image has
    at most `max_pixels`, by default decoding.MAX_PIXELS.
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
    predictions = iter(measure(np.stack(pixels)).predictions() if pixels else [])
    return [Prediction(None, error) if error else next(predictions) for error in errors]
