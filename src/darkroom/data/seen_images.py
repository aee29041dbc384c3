"""The images that a choice may see, before anything is evaluated: those for training and validation, never those for testing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from darkroom.core.errors import WorkspaceError
from darkroom.data import arrays, manifest

LEARNT = ("train", "val")
MOST = 5_000  # images, drawn with the seed where there are more


@dataclass(frozen=True)
class SeenImages:
    """Images (N, S, S, 3) uint8, labels (N,) int, groups (N,), the number of classes, and validation's share of all such images."""

    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    groups: np.ndarray = field(repr=False)
    classes: int
    val_share: float


def load(ingested: Path, seed: int) -> SeenImages:
    """Return at most MOST images of the last ingest. Raises WorkspaceError where its files do not fit each other."""
    splits = [arrays.load_split(ingested / split) for split in LEARNT]
    rows = manifest.read_images(ingested / "manifest.parquet")
    groups = np.array([row.group for split in LEARNT for row in rows[split]])
    labels = np.concatenate([labels for _, labels in splits])
    if len(groups) != len(labels):
        raise WorkspaceError(f"the manifest does not fit the images of {ingested}", "run `dvc repro ingest`")
    keep = drawn(len(labels), seed)
    (train, _), (val, _) = splits
    images = np.concatenate([train[keep[keep < len(train)]], val[keep[keep >= len(train)] - len(train)]])  # the others stay on disk
    classes = len(arrays.load_classes(ingested / "classes.json"))
    return SeenImages(images, labels[keep], groups[keep], classes, len(splits[1][1]) / len(labels))


def drawn(count: int, seed: int) -> np.ndarray:
    """Return the numbers of the images that are used, of so many."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:MOST])
