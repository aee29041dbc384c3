"""Ways to ask a network about an image: as it is, mirrored too, or by several crops (Krizhevsky et al. 2012)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.core.errors import ParamsError, nearest
from darkroom.studies.batches import Feed

CROP = 7 / 8  # of the side of an image: 224 of 256 pixels
AT_ONCE = 250  # images


def plain(images: torch.Tensor) -> list[torch.Tensor]:
    """The image."""
    return [images]


def mirrored(images: torch.Tensor) -> list[torch.Tensor]:
    """The image and its mirror image."""
    return [images, images.flip(3)]


def five_crops(images: torch.Tensor) -> list[torch.Tensor]:
    """The four corners and the middle, seven eighths of a side each, brought back to its size."""
    size = images.shape[2]
    cut = max(1, round(CROP * size))
    end, middle = size - cut, (size - cut) // 2
    places = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
    return [
        F.interpolate(images[:, :, y : y + cut, x : x + cut], (size, size), mode="bilinear", align_corners=False) for y, x in places
    ]


def ten_crops(images: torch.Tensor) -> list[torch.Tensor]:
    """The five crops and their mirror images."""
    crops = five_crops(images)
    return crops + [crop.flip(3) for crop in crops]


WAYS: dict[str, Callable[[torch.Tensor], list[torch.Tensor]]] = {
    "plain": plain, "mirrored": mirrored, "five_crops": five_crops, "ten_crops": ten_crops,
}  # fmt: skip
VIEWS = {"plain": 1, "mirrored": 2, "five_crops": 5, "ten_crops": 10}


def way(name: str) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """Return a way to answer; ParamsError with the nearest name where there is none."""
    if name not in WAYS:
        raise ParamsError(f'there is no way "{name}"{nearest(name, WAYS)}', f"there are {', '.join(WAYS)}")
    return WAYS[name]


@torch.inference_mode()
def answers(network: nn.Module, feed: Feed, ways: Sequence[str]) -> dict[str, list[list[float]]]:
    """Return for each way the mean probabilities of its views of the held-out images, (N, classes)."""
    network.eval()
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    for images in feed.held_x.split(AT_ONCE):
        given = feed.normalized(images)
        for name in ways:
            views = way(name)(given)
            mean = sum(network(view).softmax(1) for view in views) / len(views)
            found[name] += [[round(p, 6) for p in row] for row in torch.as_tensor(mean).tolist()]
    return found
