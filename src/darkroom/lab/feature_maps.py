"""Feature maps of an image: the outputs of layers as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from darkroom.lab import drawing, layers

KINDS = ("convolution", "activation", "pooling")  # of the layers that are shown by default
SIDE, LARGE = 96, 112  # pixels of a map, about, in rows of many layers and of one
MAX_MAPS = 256  # of one layer


def default_layers(network: nn.Module) -> list[str]:
    """Return the convolutions, activations and poolings."""
    return [name for name, module in layers.named_layers(network).items() if layers.kind(module) in KINDS]


def compute(network: nn.Module, images: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return the maps (C, H, W) of layers for the first of images (N, S, S, 3); layers without spatial
    positions are left out."""
    modules = layers.named_layers(network)
    outputs = layers.record(network, images, names)
    maps = {name: layers.to_maps(output, modules[name.partition("#")[0]]) for name, output in outputs.items()}
    return {name: output[0] for name, output in maps.items() if output is not None}


def draw_row(maps: torch.Tensor, module: nn.Module, heading: str, channels: int | None) -> drawing.Row:
    """Return the `channels` maps (C, H, W) that vary most, or all of them, on one scale: around mid-grey if
    any is negative."""
    chosen = list(range(min(MAX_MAPS, len(maps)))) if channels is None else layers.most_varied(maps, channels)
    values = maps[chosen].float().numpy()
    most = float(abs(values).max()) or 1.0
    shade, side = drawing.signed if values.min() < 0 else drawing.heat, LARGE if channels is None else SIDE
    tiles = [drawing.Tile(drawing.fit(shade(item, most), side), str(i)) for i, item in zip(chosen, values, strict=True)]
    size = f"{maps.shape[0]} channels of {maps.shape[1]}×{maps.shape[2]}"
    remark = f"{type(module).__name__}, {size}, {drawing.format_number(values.min())} … {drawing.format_number(values.max())}"
    return drawing.Row(tiles, heading, remark)
