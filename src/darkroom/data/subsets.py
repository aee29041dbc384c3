"""A fixed part of a source as arrays: training images of an experiment, and images held out from it.

An .npz, such as MNIST, Fashion-MNIST and CIFAR-10, is used as it was published. Other sources are read by
`ingest`, so that copies of a picture are never on both sides. A source's own test images are held out, else a
share of its images.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.errors import SourceError, nearest
from darkroom.data import decoding, npz
from darkroom.data.datasets import DATASETS, DatasetOptions, named_or_path
from darkroom.data.decode_cache import DECODED
from darkroom.data.file_sample import draw_files
from darkroom.data.ingest import ingest
from darkroom.data.sources import SourceFile, named_by

BACKGROUND = (0, 0, 0)
READ = 5000  # images that are read in any case, so that few training images do not leave few held out
CACHE = DECODED.with_name("decoded-for-studies")
Labelled = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SubsetOptions:
    """A named data set or a path, pixels a side, 1 (grey) or 3 channels, the maximum of training images
    (None: all).

    `held_out` is the share that is held out of a source without test images; `source` is `fetch.source` for
    named data sets.
    """

    data: str
    size: int
    channels: int = 3
    images: int | None = None
    held_out: float = 0.2
    source: str = "download"


@dataclass(frozen=True)
class Subset:
    """Training and held-out images (N, channels, size, size) uint8 and labels (N,) int64, and their sha256."""

    train: Labelled
    held_out: Labelled
    classes: tuple[str, ...]
    digest: str


def load_subset(options: SubsetOptions, further: Sequence[str] = ()) -> Subset:
    """Return a part of a source, always the same; SourceError where there is none, or too few images or classes.

    `further` are names that the caller takes besides those of data sets.
    """
    if options.data not in DATASETS and not Path(options.data).expanduser().exists():
        names = [*DATASETS, *further]
        raise SourceError(
            f'there are no images "{options.data}"{nearest(options.data, names)}',
            f"name a folder, an archive, an .npz, or {', '.join(names)}",
        )
    with named_by("data"):
        return _load(options)


def _load(options: SubsetOptions) -> Subset:
    count = math.ceil(options.images / (1 - options.held_out)) if options.images else DatasetOptions.count
    with named_or_path(options.data, DatasetOptions(options.size, count, 0, options.source, setting="source")) as path:
        file = next(path.glob("*.npz"), path) if options.data in DATASETS else path
        is_published = file.suffix == ".npz" and file.is_file()
        train, held_out, classes = (_published if is_published else _ingested)(file, options)
    if len(classes) < 2 or not len(train[1]) or not len(held_out[1]):
        raise SourceError(
            f"{options.data} has {len(train[1])} images of {len(classes)} classes to train on, {len(held_out[1])} held out",
            "name a folder with more images, one subfolder per class, or raise `held_out`",
        )
    order = np.random.default_rng(0).permutation(len(train[1]))[: options.images]
    train = _channels_first(train[0][order], options.channels), train[1][order]
    held_out = _channels_first(held_out[0], options.channels), held_out[1]
    sha = hashlib.sha256("\n".join(classes).encode())
    for array in (*train, *held_out):
        sha.update(str(array.shape).encode() + np.ascontiguousarray(array).data)
    return Subset(train, held_out, classes, sha.hexdigest())


def _ingested(path: Path, options: SubsetOptions) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    params = Ingest(
        source=str(path), image_size=options.size, resize="crop", background=BACKGROUND, min_size=1, split_by="stratified",
        val_share=0.0, test_share=options.held_out, near_duplicates="group", on_conflict="quarantine",
        on_leak="quarantine", max_quarantined=1.0, seed=0,
    )  # fmt: skip
    with ingest(path, params, description=f"reading {options.data}", cache_folder=CACHE, choose=partial(_choose, options)) as data:
        return data.arrays("train"), data.arrays("test"), data.classes


def _choose(options: SubsetOptions, files: list[SourceFile]) -> list[SourceFile]:
    """Return all test images of the source, and as many others as are needed, of which some are held out."""
    if options.images is None:
        return files
    test = [file for file in files if file.split == "test"]
    others = [file for file in files if file.split != "test"]
    needed = options.images if test else max(READ, math.ceil(options.images / (1 - options.held_out)))
    return test + draw_files(others, needed, 0)


def _published(path: Path, options: SubsetOptions) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as scratch, npz.open_npz(path, Path(scratch)) as parts:
        classes = tuple(sorted({label for part in parts for label in part.labels} - {""}))
        number = {label: i for i, label in enumerate(classes)}
        splits = {}
        for part in parts:
            labelled = [i for i, label in enumerate(part.labels) if label]
            images = part.images if len(labelled) == len(part.labels) else part.images[labelled]
            labels = np.array([number[part.labels[i]] for i in labelled], np.int64)
            splits[part.split] = (_resize(images, options.size), labels)
    train = splits.get("train") or splits.get("")
    if train is None:
        raise SourceError(f"{path} has no training images", "save them as train_images and train_labels")
    if "test" in splits:
        return train, splits["test"], classes
    mask = _held_out(train[1], options.held_out)
    return (train[0][~mask], train[1][~mask]), (train[0][mask], train[1][mask]), classes


def _held_out(labels: np.ndarray, share: float) -> np.ndarray:
    """Return a mask (N,) bool that holds out the same share of each class."""
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        indices = np.random.default_rng([1, int(label)]).permutation(np.flatnonzero(labels == label))
        mask[indices[: round(len(indices) * share)]] = True
    return mask


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    """Return images (N, size, size, 1 or 3) uint8 in memory."""
    if images.shape[1:3] == (size, size) and (images.ndim == 3 or images.shape[3] in (1, 3)):
        return np.array(images).reshape(len(images), size, size, -1)
    resized = [decoding.from_array(image, size, "crop", BACKGROUND).pixels for image in images]
    return np.stack([pixels for pixels in resized if pixels is not None])


def _channels_first(images: np.ndarray, channels: int) -> np.ndarray:
    """Return (N, size, size, 1 or 3) uint8 as (N, channels, size, size); grey is the mean of the channels."""
    if images.shape[3] == 3 and channels == 1:
        is_grey = not len(images) or bool((images == images[..., :1]).all())
        images = images[..., :1] if is_grey else images.mean(3, keepdims=True).round().astype(np.uint8)
    elif images.shape[3] == 1 and channels == 3:
        images = np.repeat(images, 3, 3)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
