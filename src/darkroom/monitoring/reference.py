"""What a model makes of images that it has not learnt: the reference that new images are compared with.

A network remembers the images that it was trained on: it is surer of them, and they lie further apart, than any image that it sees
for the first time. So the reference is a sample of the images that were held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.core import atomic

MOST = 300  # images
Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Images:
    """What a model makes of images: embeddings (N, D), predicted classes (N,) int, confidences (N,)."""

    embeddings: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.predicted)


def make(answer: Answer, held_out: Sequence[np.ndarray], seed: int = 0) -> Images:
    """Return what a model makes of a sample of held-out images, MOST at most.

    `answer` takes images (N, S, S, 3) uint8 and gives embeddings (N, D) and probabilities (N, C); `held_out` are arrays of such
    images, from which the same share is drawn.
    """
    total = sum(map(len, held_out))
    drawn = np.sort(np.random.default_rng(seed).permutation(total)[:MOST])
    starts = np.cumsum([0, *map(len, held_out)])
    chosen = [part[drawn[(drawn >= start) & (drawn < start + len(part))] - start]
              for part, start in zip(held_out, starts, strict=False)]  # fmt: skip
    embeddings, probabilities = answer(np.concatenate(chosen))
    return Images(embeddings, probabilities.argmax(1), probabilities.max(1))


def write(path: Path, known: Images) -> None:
    """Write a reference as an .npz file."""
    with atomic.new_file(path) as working, working.open("wb") as file:
        np.savez(file, embeddings=known.embeddings.astype(np.float32), predicted=known.predicted, confidence=known.confidence)


def read(path: Path) -> Images:
    """Read a reference."""
    with np.load(path, allow_pickle=False) as content:
        return Images(content["embeddings"], content["predicted"], content["confidence"])
