"""From the bytes of image files to answers, whatever computes the probabilities; torch is not imported here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Answer:
    """What a classifier says of one image file: probabilities (classes,) float64, or why it cannot say anything."""

    probabilities: np.ndarray | None
    error: str = ""


def files(contents: list[bytes], preprocessing: Any, answer: Callable[[np.ndarray], np.ndarray]) -> list[Answer]:
    """Answer for the bytes of image files of any format and size; a file that cannot be read gets a reason.

    `preprocessing` has `image_size`, `resize` and `background`; `answer` takes (N, S, S, 3) uint8 and gives probabilities
    (N, classes).
    """
    from darkroom.data.decoding import decode  # four libraries for image files, which no stage needs that has arrays

    seen = [decode(content, preprocessing.image_size, preprocessing.resize, preprocessing.background) for content in contents]
    readable = [item.pixels for item in seen if item.pixels is not None]
    rows = iter(answer(np.stack(readable)) if readable else [])
    return [Answer(None, item.reason) if item.pixels is None else Answer(next(rows)) for item in seen]


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities (N, classes) float64 from logits at a temperature (Guo et al. 2017), which keeps their order."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
