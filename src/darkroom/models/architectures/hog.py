"""Histograms of oriented gradients (Dalal and Triggs 2005): features that people designed, below a linear layer that is trained."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.registry import architecture

BINS = 9  # of 20 degrees each; a gradient and its opposite are the same
EPSILON = 1e-3


class Gradients(nn.Module):
    """(N, C, H, W) to (N, 9, H - 2, W - 2): the length of the gradient, shared between the two nearest directions.

    With several channels, the gradient is that of their mean where the paper takes the largest one.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = torch.tensor([[0.0, 0.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]).to(x)
        gradients = F.conv2d(x.mean(1, keepdim=True), torch.stack([kernel, kernel.t()])[:, None])
        across, down = gradients[:, :1], gradients[:, 1:]
        place = torch.atan2(down, across + EPSILON**2) * (BINS / math.pi) % BINS
        bins = torch.arange(BINS, device=x.device, dtype=x.dtype).view(1, -1, 1, 1)
        distance = (place - bins).abs()
        share = (1 - torch.minimum(distance, BINS - distance)).clamp(min=0)
        return share * torch.sqrt(across**2 + down**2 + EPSILON**2)


class Blocks(nn.Module):
    """(N, 9, h, w) histograms of cells to (N, 36, h - 1, w - 1): each 2 × 2 cells divided by their length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = torch.cat([x[..., :-1, :-1], x[..., :-1, 1:], x[..., 1:, :-1], x[..., 1:, 1:]], 1)
        return cells / torch.sqrt((cells**2).sum(1, keepdim=True) + EPSILON)


@architecture("Dalal and Triggs 2005", size=32, classes=10)
def hog(size: int, channels: int, *, cell: int = 4) -> Parts:
    """Nine directions in cells of 4 pixels, or of half the image if that is less, in blocks of 2 × 2: no feature is learned."""
    if cell < 1:
        raise ValueError("a cell has at least one pixel")
    cell = min(cell, (size - 2) // 2)
    side = (size - 2) // cell - 1
    body: Layers = {"gradients": Gradients(), "cells": nn.AvgPool2d(cell), "blocks": Blocks()}
    return Parts(body, {"flatten": nn.Flatten(1)}, 4 * BINS * side * side)
