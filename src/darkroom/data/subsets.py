"""A fixed part of a source as arrays: what an experiment trains on, and images held out from it.

An .npz, which MNIST, Fashion-MNIST and CIFAR-10 become, is taken as it was published. Anything else is read by `ingest`, so that
copies of a picture are never on both sides. A source's own test images are held out; of one without them a share is.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.errors import SourceError
from darkroom.data import datasets, decoding, npz
from darkroom.data.decode_cache import DECODED
from darkroom.data.ingest import ingest

BACKGROUND = (0, 0, 0)
Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Wanted:
    """What is asked for: a named data set or a path, pixels a side, 1 (grey) or 3 channels, training images at most (None: all).

    `held_out` is the share that is held out of a source without test images; `source` is where named data sets are had from.
    """

    data: str
    size: int
    channels: int = 3
    images: int | None = None
    held_out: float = 0.2
    source: str = "download"


@dataclass(frozen=True)
class Subset:
    """Images (N, channels, size, size) uint8 and labels (N,) int64, to train on and held out, and what identifies them."""

    train: Labelled
    held: Labelled
    classes: tuple[str, ...]
    digest: str


def subset(wanted: Wanted) -> Subset:
    """Return a part of a source, always the same one. Raises SourceError where there are too few images or classes."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(wanted.data).expanduser()
        if wanted.data in datasets.DATASETS:
            path = Path(scratch) / wanted.data
            path.mkdir()
            count = math.ceil(wanted.images / (1 - wanted.held_out)) if wanted.images else datasets.Wanted.count
            asked = datasets.Wanted(wanted.size, count, 0, wanted.source)
            datasets.DATASETS[wanted.data](path, asked)
            path = next(path.glob("*.npz"), path)
        if path.suffix == ".npz" and path.is_file():
            train, held, classes = _published(path, Path(scratch), wanted)
        else:
            train, held, classes = _ingested(path, wanted)
    if len(classes) < 2 or not len(train[1]) or not len(held[1]):
        raise SourceError(
            f"{wanted.data} has {len(train[1])} images of {len(classes)} classes to train on, {len(held[1])} held out",
            "name a folder with more images, one subfolder per class, or raise `held_out`",
        )
    order = np.random.default_rng(0).permutation(len(train[1]))[: wanted.images]
    train = _laid_out(train[0][order], wanted.channels), train[1][order]
    held = _laid_out(held[0], wanted.channels), held[1]
    sha = hashlib.sha256("\n".join(classes).encode())
    for array in (*train, *held):
        sha.update(str(array.shape).encode() + np.ascontiguousarray(array).data)
    return Subset(train, held, classes, sha.hexdigest())


def _ingested(path: Path, wanted: Wanted) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    how = Ingest(
        source=str(path), image_size=wanted.size, resize="crop", background=BACKGROUND, min_size=1, split_by="stratified",
        val_share=0.0, test_share=wanted.held_out, on_conflict="quarantine", on_leak="quarantine", max_quarantined=1.0, seed=0,
    )  # fmt: skip
    remembered = DECODED.with_name("decoded-for-studies")
    with ingest(path, how, what=f"reading {wanted.data}", remembered=remembered) as data:
        return data.arrays("train"), data.arrays("test"), data.classes


def _published(path: Path, scratch: Path, wanted: Wanted) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    with npz.arrays(path, scratch) as parts:
        classes = tuple(sorted({label for _, _, labels in parts for label in labels}))
        number = {label: i for i, label in enumerate(classes)}
        found = {
            split: (_sized(images, wanted.size), np.array([number[label] for label in labels], np.int64))
            for split, images, labels in parts
        }
    train = found.get("train") or found.get("")
    if train is None:
        raise SourceError(f"{path} has no training images", "save them as train_images and train_labels")
    if "test" in found:
        return train, found["test"], classes
    taken = _held_out(train[1], wanted.held_out)
    return (train[0][~taken], train[1][~taken]), (train[0][taken], train[1][taken]), classes


def _held_out(labels: np.ndarray, share: float) -> np.ndarray:
    """Return which images are held out, (N,) bool: the same share of each class."""
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = np.random.default_rng([1, int(label)]).permutation(np.flatnonzero(labels == label))
        taken[places[: round(len(places) * share)]] = True
    return taken


def _sized(images: np.ndarray, size: int) -> np.ndarray:
    """Return images (N, size, size, 1 or 3) uint8 in memory."""
    if images.shape[1:3] == (size, size) and (images.ndim == 3 or images.shape[3] in (1, 3)):
        return np.array(images).reshape(len(images), size, size, -1)
    made: Sequence[np.ndarray | None] = [decoding.from_array(image, size, "crop", BACKGROUND).pixels for image in images]
    return np.stack([pixels for pixels in made if pixels is not None])


def _laid_out(images: np.ndarray, channels: int) -> np.ndarray:
    """Return (N, size, size, 1 or 3) uint8 as (N, channels, size, size); grey is the mean of the channels."""
    if images.shape[3] == 3 and channels == 1:
        same = not len(images) or bool((images == images[..., :1]).all())
        images = images[..., :1] if same else images.mean(3, keepdims=True).round().astype(np.uint8)
    elif images.shape[3] == 1 and channels == 3:
        images = np.repeat(images, 3, 3)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
