"""Learned filters of a convolution as pictures: the first layer's in colour (Krizhevsky et al. 2012), others by channel."""

from __future__ import annotations

import numpy as np
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.lab import layers


def convolution(network: nn.Module, wanted: str | None) -> tuple[str, nn.Conv2d]:
    """Return a convolution and its name, by default the first one; raises ParamsError where the layer is something else."""
    found = {name: module for name, module in layers.layers(network).items() if isinstance(module, nn.Conv2d)}
    if not found:
        raise ParamsError("this model has no convolution", "name a convolutional network")
    if wanted is None:
        return next(iter(found.items()))
    module = layers.find(network, wanted)
    if not isinstance(module, nn.Conv2d):
        inside = [name for name in found if name.startswith(f"{wanted}.")]
        near = inside or list(found)
        named = ", ".join(near[:8]) + (", …" if len(near) > 8 else "")
        raise ParamsError(f'the layer "{wanted}" is a {type(module).__name__}, not a convolution', f"name one of {named}")
    return wanted, module


def weights(module: nn.Conv2d) -> np.ndarray:
    """Return the weights of a convolution (outputs, inputs of a group, h, w) float32."""
    return module.weight.detach().float().cpu().numpy()


def largest(weights: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Return which outputs (axis 0) or inputs (axis 1) have the largest norm, in their own order, (count,) int64."""
    others = tuple(i for i in range(4) if i != axis)
    norms = np.sqrt((weights.astype(np.float64) ** 2).sum(others))
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def colours(weights: np.ndarray) -> np.ndarray:
    """Return filters of RGB (outputs, 3, h, w) as (outputs, h, w, 3) uint8: zero is mid-grey, each by its own largest weight."""
    most = np.abs(weights).max((1, 2, 3), keepdims=True)
    scaled = 127.5 + 127.5 * weights / np.where(most > 0, most, 1)
    return scaled.transpose(0, 2, 3, 1).round().clip(0, 255).astype(np.uint8)


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


def shades(weights: np.ndarray) -> np.ndarray:
    """Return weights as grey uint8 of the same shape: zero is mid-grey, by the largest weight of all."""
    most = float(np.abs(weights).max()) or 1.0
    return (127.5 + 127.5 * weights / most).round().clip(0, 255).astype(np.uint8)
