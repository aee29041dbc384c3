"""Images by class, and the mean of each class: what a data set looks like before a network is trained on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darkroom.core.errors import printable
from darkroom.lab import drawing

SIDE = 56  # pixels of a picture, about
SHOWN = 12  # images of a class
MAX_CLASSES = 30

Labelled = tuple[np.ndarray, np.ndarray]


def draw_rows(train: Labelled, classes: Sequence[str], count: int = SHOWN) -> list[drawing.Row]:
    """Return a row for each class: its mean image, framed, and `count` of its images, drawn at random, always the same ones.

    `train` are images (N, C, S, S) uint8, of 1 or 3 channels, and labels (N,). Of many classes the first `MAX_CLASSES` are shown.
    """
    images, labels = train
    rows = []
    for label, mean in list(class_means(train, len(classes)).items())[:MAX_CLASSES]:
        members = np.flatnonzero(labels == label)
        chosen = np.random.default_rng(0).permutation(members)[:count]
        pictures = [_framed(_picture(mean.round().astype(np.uint8))), *(_picture(images[i]) for i in chosen)]
        heading, remark = printable(classes[label]), f"{len(members):,} image{'s' if len(members) > 1 else ''}"
        rows.append(drawing.Row([drawing.Tile(pixels) for pixels in pictures], heading, remark))
    return rows


def class_means(train: Labelled, classes: int) -> dict[int, np.ndarray]:
    """Return the mean image (C, S, S) float64 of each class that has images, by its number."""
    images, labels = train
    return {label: images[labels == label].mean(0) for label in range(classes) if (labels == label).any()}


def nearest_mean_accuracy(train: Labelled, held_out: Labelled, classes: int) -> float:
    """Return the share of held-out images whose nearest class mean, by the squared distance of pixels, is that of their class."""
    means = class_means(train, classes)
    centres = np.stack([mean.ravel() for mean in means.values()]).astype(np.float32)
    rows = held_out[0].reshape(len(held_out[0]), -1).astype(np.float32)
    distances = (centres**2).sum(1) - 2 * rows @ centres.T  # and the image's own square, which is the same for all classes
    return float((np.array(list(means))[distances.argmin(1)] == held_out[1]).mean())


def _picture(image: np.ndarray) -> np.ndarray:
    """Return an image (C, S, S) as RGB of about `SIDE` pixels."""
    return drawing.fit(np.repeat(image, 3 // len(image), 0).transpose(1, 2, 0), SIDE)


def _framed(pixels: np.ndarray) -> np.ndarray:
    framed = pixels.copy()
    framed[[0, 1, -2, -1]] = framed[:, [0, 1, -2, -1]] = drawing.COLOURS["blue"]
    return framed
