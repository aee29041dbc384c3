"""Pictures of layers: learned filters, the first layer's in colour (Krizhevsky et al. 2012), and feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.lab import drawing, layers

MOSAIC_WIDTH = 520  # pixels of filters by channels, about
MAPPED_KINDS = ("convolution", "activation", "pooling")  # of the layers whose maps are shown by default
SIDE, LARGE = 96, 112  # pixels of a map, about, in rows of many layers and of one
MAX_MAPS = 256  # of one layer


def find_convolution(network: nn.Module, name: str | None) -> tuple[str, nn.Conv2d]:
    """Return a convolution with its name, by default the first. Raises ParamsError for another layer."""
    convolutions = {name: module for name, module in layers.named_layers(network).items() if isinstance(module, nn.Conv2d)}
    if not convolutions:
        raise ParamsError("this model has no convolution", "name a convolutional network")
    if name is None:
        return next(iter(convolutions.items()))
    module = layers.find_layer(network, name)
    if not isinstance(module, nn.Conv2d):
        near = [other for other in convolutions if other.startswith(f"{name}.")] or list(convolutions)
        some = ", ".join(near[:8]) + (", …" if len(near) > 8 else "")
        raise ParamsError(f'the layer "{name}" is a {type(module).__name__}, not a convolution', f"name one of {some}")
    return name, module


def correlations(before: nn.Module, after: nn.Module) -> dict[str, float]:
    """Return the correlation of the weights of each convolution in two networks of one architecture, by its name."""
    pairs = zip(layers.named_layers(before).items(), layers.named_layers(after).values(), strict=True)
    weights = {
        name: (weights_of(first).ravel(), weights_of(second).ravel())
        for (name, first), second in pairs if isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
    }  # fmt: skip
    return {name: float(np.corrcoef(*both)[0, 1]) for name, both in weights.items()}


def weights_of(module: nn.Conv2d) -> np.ndarray:
    """Return the weights of a convolution (outputs, inputs of a group, h, w) float32."""
    return module.weight.detach().float().cpu().numpy()


def largest(weights: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Return in order the outputs (axis 0) or inputs (axis 1) with the largest norm, (count,) int64."""
    others = tuple(i for i in range(4) if i != axis)
    norms = np.sqrt((weights.astype(np.float64) ** 2).sum(others))
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def colours(weights: np.ndarray) -> np.ndarray:
    """Return RGB filters (N, 3, h, w) as (N, h, w, 3) uint8, each by its largest weight; 0 is mid-grey."""
    most = np.abs(weights).max((1, 2, 3), keepdims=True)
    scaled = 127.5 + 127.5 * weights / np.where(most > 0, most, 1)
    return scaled.transpose(0, 2, 3, 1).round().clip(0, 255).astype(np.uint8)


def shades(weights: np.ndarray) -> np.ndarray:
    """Return weights as grey uint8 of the same shape: zero is mid-grey, scaled by the largest weight of all."""
    most = float(np.abs(weights).max()) or 1.0
    return (127.5 + 127.5 * weights / most).round().clip(0, 255).astype(np.uint8)


def mosaic(filters: np.ndarray, cell: int, gap: int = 2) -> np.ndarray:
    """Return grey pictures (rows, columns, h, w) uint8 as one (H, W, 3) on white, each pixel `cell` wide."""
    rows, columns, height, width = filters.shape
    tall, wide = height * cell, width * cell
    canvas = np.full((rows * (tall + gap) - gap, columns * (wide + gap) - gap), 255, np.uint8)
    large = filters.repeat(cell, 2).repeat(cell, 3)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (tall + gap), column * (wide + gap)
            canvas[top : top + tall, left : left + wide] = large[row, column]
    return np.repeat(canvas[..., None], 3, 2)


def draw_filters(module: nn.Conv2d, most: int, heading: str, chosen_by: nn.Conv2d | None = None) -> drawing.Row:
    """Return the filters of a convolution as tiles, or as a mosaic of filters by channels.

    They are those with the largest weights in `chosen_by`, by default the convolution itself.
    """
    weights, criterion = weights_of(module), weights_of(chosen_by or module)
    outputs, inputs, height, width = weights.shape
    if inputs in (1, 3):
        chosen = largest(criterion, 0, max(most, 64))
        side = 60 if len(chosen) <= 64 else 40
        pictures = colours(weights[chosen] if inputs == 3 else np.repeat(weights[chosen], 3, 1))
        tiles = [drawing.Tile(drawing.fit(item, side), str(i)) for i, item in zip(chosen, pictures, strict=True)]
        return drawing.Row(tiles, heading)
    if height == width == 1:
        most = max(most, 128)
    rows, columns = largest(criterion, 0, most), largest(criterion, 1, most)
    gap = 0 if height == 1 else 2
    cell = min(max(1, (MOSAIC_WIDTH // len(columns) - gap) // width), 12)
    picture = mosaic(shades(weights[rows][:, columns]), cell, gap)
    remark = f"rows: filters {_range(len(rows), outputs)}; columns: their channels {_range(len(columns), inputs)}"
    return drawing.Row([drawing.Tile(picture)], heading, remark)


def _range(count: int, total: int) -> str:
    return f"0 to {total - 1}" if count == total else f"({count} of {total}, of the largest norm)"


def default_layers(network: nn.Module) -> list[str]:
    """Return the convolutions, activations and poolings."""
    return [name for name, module in layers.named_layers(network).items() if layers.kind(module) in MAPPED_KINDS]


def compute_maps(network: nn.Module, images: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return the maps (C, H, W) of layers with spatial positions, for the first of images (N, S, S, 3)."""
    modules = layers.named_layers(network)
    outputs = layers.record(network, images, names)
    maps = {name: layers.to_maps(output, modules[name.partition("#")[0]]) for name, output in outputs.items()}
    return {name: output[0] for name, output in maps.items() if output is not None}


def choose_channels(maps: torch.Tensor, count: int | None) -> list[int]:
    """Return the channels of maps (C, H, W) that are shown: the `count` that vary most, or all of them for None."""
    return list(range(min(MAX_MAPS, len(maps)))) if count is None else layers.most_varied(maps, count)


def draw_maps(maps: torch.Tensor, module: nn.Module, heading: str, chosen: Sequence[int], side: int = SIDE) -> drawing.Row:
    """Return these channels of maps (C, H, W) as pictures on one scale."""
    values = maps[list(chosen)].float().numpy()
    most = float(abs(values).max()) or 1.0
    shade = drawing.signed if values.min() < 0 else drawing.heat
    tiles = [drawing.Tile(drawing.fit(shade(item, most), side), str(i)) for i, item in zip(chosen, values, strict=True)]
    size = f"{maps.shape[0]} channels of {maps.shape[1]}×{maps.shape[2]}"
    remark = f"{type(module).__name__}, {size}, {drawing.format_number(values.min())} … {drawing.format_number(values.max())}"
    return drawing.Row(tiles, heading, remark)
