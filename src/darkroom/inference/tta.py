"""Test-time augmentation: predictions averaged over several views of an image (Krizhevsky et al. 2012).

`average_views` makes the views from pixels and works with any function that returns probabilities.
`TTA_MODES` make them from normalised tensors, as the studies train on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from darkroom.core import large_arrays
from darkroom.core.errors import ParamsError, nearest

CROP = 0.875  # of the side of an image: 224 of 256 pixels
BATCH = 256  # images of which views are in memory


def crop_corners(size: int) -> tuple[int, list[tuple[int, int]]]:
    """Return the side of crops of an image of `size` pixels, and top and left of five: corners, middle."""
    side = max(1, round(CROP * size))
    end, middle = size - side, (size - side) // 2
    return side, [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]


def views(images: np.ndarray, crops: bool, mirror: bool) -> Iterator[np.ndarray]:
    """Yield views of images (N, S, S, 3) uint8: unchanged, five crops resized to S, each then mirrored."""
    size = images.shape[1]
    side, corners = crop_corners(size)
    for corner in [None, *(corners if crops and side < size else [])]:
        view = images
        if corner is not None:
            top, left = corner
            cropped = images[:, top : top + side, left : left + side]
            view = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR) for image in cropped])
        yield view
        if mirror:
            yield view[:, :, ::-1]


def average_views(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, crops: bool, mirror: bool,
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """Return the mean of `predict` over an image's views, probabilities (N, C), and the number of views.

    `predict` takes (N, S, S, 3) uint8. After each `BATCH` images, `progress` is called with their number.
    """
    means, count = np.empty((0, 0)), 0
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        total: np.ndarray = np.zeros(())
        count = 0
        for view in views(batch, crops, mirror):
            total, count = total + predict(view), count + 1
        if not start:
            means = large_arrays.zeros((len(images), total.shape[1]))
        means[start : start + len(batch)] = total / count
        progress(len(batch))
    return means, count


def plain(images: torch.Tensor) -> list[torch.Tensor]:
    """The image."""
    return [images]


def mirrored(images: torch.Tensor) -> list[torch.Tensor]:
    """The image and its mirror image."""
    return [images, images.flip(3)]


def center_crop(images: torch.Tensor) -> list[torch.Tensor]:
    """The middle, seven eighths of a side, resized to the image's size: one crop, at the scale of five."""
    return five_crops(images)[-1:]


def five_crops(images: torch.Tensor) -> list[torch.Tensor]:
    """The four corners and the middle, seven eighths of a side each, resized to the image's size."""
    size = images.shape[2]
    side, corners = crop_corners(size)
    crops = [images[:, :, top : top + side, left : left + side] for top, left in corners]
    return [F.interpolate(crop, (size, size), mode="bilinear", align_corners=False) for crop in crops]


def ten_crops(images: torch.Tensor) -> list[torch.Tensor]:
    """The five crops and their mirror images."""
    crops = five_crops(images)
    return crops + [crop.flip(3) for crop in crops]


TTA_MODES: dict[str, Callable[[torch.Tensor], list[torch.Tensor]]] = {
    "plain": plain, "mirrored": mirrored, "center_crop": center_crop, "five_crops": five_crops, "ten_crops": ten_crops,
}  # fmt: skip
VIEW_COUNTS = {"plain": 1, "mirrored": 2, "center_crop": 1, "five_crops": 5, "ten_crops": 10}


def check_mode(name: str) -> None:
    """Raise ParamsError, with the nearest name, if there is no such mode."""
    if name not in TTA_MODES:
        raise ParamsError(f'there is no mode "{name}"{nearest(name, TTA_MODES)}', f"choose from {', '.join(TTA_MODES)}")


@torch.inference_mode()
def predict_modes(network: nn.Module, batches: Iterable[torch.Tensor], modes: Sequence[str]) -> dict[str, list[list[float]]]:
    """Return by mode the mean probabilities over views, (N, classes), rounded to six digits.

    `batches` are normalised images (n, C, S, S).
    """
    network.eval()
    probabilities: dict[str, list[list[float]]] = {mode: [] for mode in modes}
    for images in batches:
        for mode in modes:
            batch_views = TTA_MODES[mode](images)
            mean = sum(network(view).softmax(1) for view in batch_views) / len(batch_views)
            probabilities[mode] += [[round(p, 6) for p in row] for row in torch.as_tensor(mean).tolist()]
    return probabilities
