"""The reference for drift: a model's outputs on a sample of images that it has not learnt.

A network is more confident of its training images, and their embeddings lie further apart, than those of any
image that is new to it. So the sample is drawn from the held-out images.
"""

from __future__ import annotations

from collections.abc import Callable
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


@dataclass(frozen=True)
class Reference(Outputs):
    """The same on images with labels: `correct` (N,) bool are those that are predicted right, `distances` (N,) those from the
    training images. References of earlier versions, and of models without a distance, lack them."""

    correct: np.ndarray | None = None
    distances: np.ndarray | None = None


@dataclass(frozen=True)
class HeldOut:
    """The images of validation and test, (N, S, S, 3) uint8 each, and the label and the group of each image."""

    images: list[np.ndarray]
    labels: list[np.ndarray]
    groups: list[list[str]]


def load_held_out(ingested: Path) -> HeldOut:
    """Return the held-out images of a workspace."""
    rows = manifest.read_images(ingested / "manifest.parquet")
    splits = ("val", "test")
    images, labels = zip(*(arrays.load_split(ingested / split) for split in splits), strict=True)
    groups = [[row.group or row.pixel_hash for row in rows[split]] for split in splits]
    return HeldOut(list(images), list(labels), groups)


def compute(
    examine: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray | None]], held_out: HeldOut, seed: int = 0
) -> Reference:
    """Return the outputs on a random sample of held-out images, MAX_IMAGES at most, one of each group.

    `examine` takes images (N, S, S, 3) uint8 and returns embeddings (N, D), probabilities (N, C) and distances (N,). Of a group
    one image counts: copies of a picture, and images that belong together, are not independent. The sample has the same share
    of each array's groups.
    """
    names = np.concatenate([np.asarray(part, str) for part in held_out.groups])
    order = np.random.default_rng(seed).permutation(len(names))
    drawn = np.sort(order[np.sort(np.unique(names[order], return_index=True)[1])][:MAX_IMAGES])
    starts = np.cumsum([0, *map(len, held_out.images)])
    parts = zip(held_out.images, starts, strict=False)
    sample = [part[drawn[(drawn >= start) & (drawn < start + len(part))] - start] for part, start in parts]
    embeddings, probabilities, distances = examine(np.concatenate(sample))
    predicted = probabilities.argmax(1)
    correct = predicted == np.concatenate(held_out.labels)[drawn]
    return Reference(embeddings, predicted, probabilities.max(1), correct, distances)


def write(path: Path, reference: Reference) -> None:
    """Write a reference as an .npz file."""
    content = vars(reference) | {"embeddings": reference.embeddings.astype(np.float32)}
    with atomic.new_file(path) as working, working.open("wb") as file:
        np.savez(file, **{name: array for name, array in content.items() if array is not None})


def read(path: Path) -> Reference:
    """Read a reference. Raises WorkspaceError where it is damaged."""
    remedy = partial(dvc_graph.how_to_restore, path.absolute().parents[1])  # the copy of a version
    content = array_files.load_named(path, ("embeddings", "predicted", "confidence"), remedy, ("correct", "distances"))
    shapes = [array.shape for array in content.values()]
    if len(shapes[0]) != 2 or not set(shapes[1:]) == {shapes[0][:1]}:
        raise json_files.damaged(path, f"its arrays have the shapes {shapes}", remedy)
    return Reference(**content)
