"""Receptive fields of layers, theoretical and effective, from gradients (Luo et al. 2016)."""

from __future__ import annotations

from math import isinf

import cv2
import numpy as np
import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.lab import drawing, layers
from darkroom.lab.theoretical_field import WHOLE, Field, FieldTracker, Side

THRESHOLD = 0.0455  # of the largest gradient: two standard deviations of a Gaussian (Luo et al. 2016)
SIDE = 200  # pixels of a picture, about
FRAME = (90, 220, 255)


def fields(network: nn.Module, size: int) -> dict[str, tuple[Field, tuple[int, ...]]]:
    """Return for each layer, in the order of use, the field of a unit and the shape of the output.

    `network` takes (1, size, size, 3) uint8; it is run once, on black. Windows of attention count as the
    whole image.
    """
    result: dict[str, tuple[Field, tuple[int, ...]]] = {}
    tracker = FieldTracker()

    def record_field(name: str, output: torch.Tensor) -> None:
        result.setdefault(name, (tracker.field(output) or (WHOLE, WHOLE), tuple(output.shape[1:])))

    with layers.hooked(layers.named_layers(network), network, record_field):
        image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        with torch.no_grad(), tracker:
            tracker.set_field(image, (Side(), Side()))
            network(image)
    return result


def effective(network: nn.Module, layer: str, images: torch.Tensor) -> np.ndarray:
    """Return the influence of each pixel on the middle unit of a layer, (S, S) float32, at most 1.

    It is the absolute gradient of the unit's channels, each with a random sign, averaged over images (N, S,
    S, 3) and summed over colours (Luo et al. 2016). Raises ParamsError if the layer has no spatial positions.
    """
    module = layers.find_layer(network, layer)
    inputs = images.float().requires_grad_()
    with torch.enable_grad(), layers.recording(network, [layer]) as outputs:
        network(inputs)
    output = layers.to_maps(layers.output_of(network, outputs, layer), module)
    if output is None:
        raise ParamsError(f"the output of {layer} has no spatial positions", "name a convolution or a pooling")
    middle = output[:, :, output.shape[2] // 2, output.shape[3] // 2]
    signs = torch.randint(0, 2, middle.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    (gradient,) = torch.autograd.grad((middle * signs).sum(), inputs)
    influence = gradient.abs().sum(3).mean(0)
    return (influence / (influence.max() or 1)).numpy()


def effective_size(influence: np.ndarray) -> float:
    """Return the side of a square with as many pixels as have more than THRESHOLD of the largest influence."""
    return float(np.sqrt((influence > THRESHOLD * influence.max()).sum())) if influence.max() > 0 else 0.0


def draw(influence: np.ndarray, side: Side, middle: int) -> np.ndarray:
    """Return the influence (S, S) as a picture, the theoretical field of the unit `middle` framed."""
    size = len(influence)
    scale = SIDE / size
    picture = cv2.resize(drawing.heat(np.sqrt(influence), 1.0), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    first = 0 if isinf(side.first) else max(0, side.first + middle * side.step)
    last = size - 1 if isinf(side.last) else min(size - 1, side.last + middle * side.step)
    top, bottom = round(first * scale), round((last + 1) * scale) - 1
    return cv2.rectangle(np.ascontiguousarray(picture), (top, top), (bottom, bottom), FRAME, 1)


def noise(count: int, size: int) -> torch.Tensor:
    """Return random images (count, size, size, 3) uint8."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))
