"""The images that runs are trained and evaluated on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import cv2
import numpy as np

ARRAYS = ("train_images", "train_labels", "val_images", "val_labels")
ROTATIONS, INNER = "rotations", "inner"  # names of samples that are made from a study's own
TURNS = 4


@dataclass(frozen=True)
class Sample:
    """Training and held-out images (N, C, S, S) uint8, labels (N,) int64, and a digest of all of them."""

    train_images: np.ndarray
    train_labels: np.ndarray
    val_images: np.ndarray
    val_labels: np.ndarray
    classes: int
    digest: str

    def subset(self, images: int, image_size: int) -> Sample:
        """Return the first `images` training images and all held-out ones at `image_size`; 0: unchanged."""
        count = images or len(self.train_labels)
        train, val = (resize(array, image_size) for array in (self.train_images[:count], self.val_images))
        return replace(self, train_images=train, train_labels=self.train_labels[:count], val_images=val)

    def head(self, count: int) -> Sample:
        """Return the first images of each part."""
        return replace(self, **{name: getattr(self, name)[:count] for name in ARRAYS})


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Return images (N, C, S, S) uint8 at `size` pixels a side, by means of areas; 0 changes nothing."""
    if size in (0, images.shape[2]):
        return images
    interpolation = cv2.INTER_AREA if size < images.shape[2] else cv2.INTER_LINEAR
    planes = images.reshape(-1, *images.shape[2:])
    resized = np.stack([cv2.resize(np.ascontiguousarray(plane), (size, size), interpolation=interpolation) for plane in planes])
    return resized.reshape(*images.shape[:2], size, size)


def rotate(sample: Sample) -> Sample:
    """Return a sample whose classes are rotations by 0, 90, 180 and 270 degrees (Gidaris et al. 2018).

    Every image appears in all four positions; the training images are shuffled. The labels of `sample` are
    not used.
    """
    order = np.random.default_rng(0).permutation(TURNS * len(sample.train_images))
    (images, labels), val = (_rotations(images) for images in (sample.train_images, sample.val_images))
    return Sample(images[order], labels[order], *val, TURNS, _digest(f"rotations of {sample.digest}"))


def _rotations(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rotated = [np.rot90(images, turn, axes=(2, 3)) for turn in range(TURNS)]
    return np.ascontiguousarray(np.concatenate(rotated)), np.repeat(np.arange(TURNS, dtype=np.int64), len(images))


def split_inner(sample: Sample, share: float) -> Sample:
    """Return the training images alone, the last `share` of them as held-out images."""
    cut = len(sample.train_labels) - max(1, round(share * len(sample.train_labels)))
    images, labels = sample.train_images, sample.train_labels
    digest = _digest(f"inner {share} of {sample.digest}")
    return Sample(images[:cut], labels[:cut], images[cut:], labels[cut:], sample.classes, digest)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
