"""Multiply-adds: the cost of a network that does not depend on the machine."""

from __future__ import annotations

import torch
from torch import nn

from darkroom.models.watching import watch


def multiply_adds(network: nn.Module, image_size: int) -> int:
    """Return the multiply-adds of convolutions and linear layers for one image (3, `image_size`, `image_size`)."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        total += output.numel() * weight[0].numel()

    watch(network, torch.zeros(1, 3, image_size, image_size), (nn.Conv2d, nn.Linear), count)
    return total
