"""Multiply-adds: the cost of a network that does not depend on the machine."""

from __future__ import annotations

import torch
from torch import nn


def multiply_adds(network: nn.Module, image_size: int) -> int:
    """Return the multiply-adds of convolutions and linear layers for one image (3, `image_size`, `image_size`)."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        total += output.numel() * weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    mode = network.training
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, image_size, image_size))
    network.train(mode)
    for hook in hooks:
        hook.remove()
    return total
