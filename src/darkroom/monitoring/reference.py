"""The reference for drift: a model's outputs on a sample of images that it has not learnt.

A network is more confident of its training images, and their embeddings lie further apart, than those of any
image that is new to it. So the sample is drawn from the held-out images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from darkroom.config import dvc_graph
from darkroom.core import array_files, atomic, json_files
from darkroom.data import arrays, manifest

MAX_IMAGES = 300


@dataclass(frozen=True)
class Outputs:
    """A model's outputs on images: embeddings (N, D), predicted classes (N,) int, confidences (N,)."""

    embeddings: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.predicted)


def load_held_out(ingested: Path) -> tuple[list[np.ndarray], list[list[str]]]:
    """Return the images of validation and test, (N, S, S, 3) uint8 each, and the group of each image."""
    rows = manifest.read_images(ingested / "manifest.parquet")
    splits = ("val", "test")
    return [arrays.load_split(ingested / split)[0] for split in splits], [
        [row.group or row.pixel_hash for row in rows[split]] for split in splits
    ]


def compute(
    embed: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], held_out: Sequence[np.ndarray],
    groups: Sequence[Sequence[str]], seed: int = 0,
) -> Outputs:  # fmt: skip
    """Return the outputs on a random sample of held-out images, MAX_IMAGES at most, one of each group.

    `embed` takes images (N, S, S, 3) uint8 and returns embeddings (N, D) and probabilities (N, C). `held_out`
    are arrays of such images, and `groups` names the group of each: copies of a picture, and images that belong
    together, are not independent. The sample has the same share of each array's groups.
    """
    names = np.concatenate([np.asarray(part, str) for part in groups])
    order = np.random.default_rng(seed).permutation(len(names))
    drawn = np.sort(order[np.sort(np.unique(names[order], return_index=True)[1])][:MAX_IMAGES])
    starts = np.cumsum([0, *map(len, held_out)])
    sample = [
        part[drawn[(drawn >= start) & (drawn < start + len(part))] - start] for part, start in zip(held_out, starts, strict=False)
    ]
    embeddings, probabilities = embed(np.concatenate(sample))
    return Outputs(embeddings, probabilities.argmax(1), probabilities.max(1))


def write(path: Path, outputs: Outputs) -> None:
    """Write a reference as an .npz file."""
    embeddings = outputs.embeddings.astype(np.float32)
    with atomic.new_file(path) as working, working.open("wb") as file:
        np.savez(file, embeddings=embeddings, predicted=outputs.predicted, confidence=outputs.confidence)


def read(path: Path) -> Outputs:
    """Read a reference. Raises WorkspaceError where it is damaged."""
    remedy = partial(dvc_graph.how_to_restore, path.absolute().parents[1])  # the copy of a version
    outputs = Outputs(*array_files.load_named(path, ("embeddings", "predicted", "confidence"), remedy))
    shapes = [array.shape for array in (outputs.embeddings, outputs.predicted, outputs.confidence)]
    if len(shapes[0]) != 2 or not shapes[1] == shapes[2] == shapes[0][:1]:
        raise json_files.damaged(path, f"its arrays have the shapes {shapes}", remedy)
    return outputs
