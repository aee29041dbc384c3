"""Predictions for image files, with any function that returns probabilities. It does not import torch."""

from __future__ import annotations

from collections.abc import Callable
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


def predict_files(contents: list[bytes], preprocessing: Any, predict: Callable[[np.ndarray], np.ndarray]) -> list[Prediction]:
    """Return a prediction for the bytes of each image file, of any format and size.

    `preprocessing` has `image_size`, `resize` and `background`. `predict` takes (N, S, S, 3) uint8 and
    returns probabilities (N, classes).
    """
    images = [decode(content, preprocessing.image_size, preprocessing.resize, preprocessing.background) for content in contents]
    pixels = [image.pixels for image in images if image.pixels is not None]
    probabilities = iter(predict(np.stack(pixels)) if pixels else [])
    return [Prediction(None, image.reason) if image.pixels is None else Prediction(next(probabilities)) for image in images]


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities (N, classes) float64 from logits at a temperature (Guo et al. 2017), which keeps
    their order."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
