"""Activations and gradients of each layer of a network, on a few fixed images."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.models.init import WEIGHTED
from darkroom.studies.run_config import LayerStats

# the outputs beyond which the slope is below 6% of its largest value
SATURATED = {nn.Tanh: (-0.97, 0.97), nn.Sigmoid: (0.015, 0.985)}


def probe(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[LayerStats]:
    """Return statistics of each convolution and linear layer, in their order.

    Changes the network's mode and gradients. `std` is the standard deviation of the layer's outputs,
    `gradient` the root mean square of the gradient of its weight. Of the activation that follows, `dead` is
    the share of units that are 0 for all images, and `saturated` the share of outputs on a flat part of the
    curve. Values that are not finite are None.
    """
    network.train()
    network.requires_grad_(True)  # frozen layers have gradients here too
    names = {module: name for name, module in network.named_modules()}
    stds: dict[nn.Module, float | None] = {}
    activations: dict[nn.Module, tuple[float | None, float | None]] = {}

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, WEIGHTED):
            stds[module] = _finite(output.detach().std())
        elif stds:
            activations.setdefault(next(reversed(stds)), _activation_shares(module, output.detach()))

    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, (*WEIGHTED, nn.ReLU, *SATURATED))]
    for parameter in network.parameters():
        parameter.grad = None
    with torch.enable_grad():
        F.cross_entropy(network(images), labels).backward()
    for hook in hooks:
        hook.remove()
    rows = []
    for module, std in stds.items():
        layer = names[module].rpartition("neck.")[2].rpartition("body.")[2].removeprefix("features.")
        gradient: Any = module.weight.grad
        rms = None if gradient is None else _finite(gradient.square().mean().sqrt())
        rows.append(LayerStats(step, layer, std, rms, *activations.get(module, (None, None))))
    return rows


def _activation_shares(module: nn.Module, output: torch.Tensor) -> tuple[float | None, float | None]:
    """Return the shares of dead units (channels, or numbers of a vector) and of saturated outputs."""
    units = output.transpose(0, 1).flatten(1)
    low, high = SATURATED.get(type(module), (-math.inf, math.inf))  # type: ignore[call-overload]
    dead = _finite((units == 0).all(1).float().mean()) if isinstance(module, nn.ReLU) else 0.0
    return dead, _finite(((units < low) | (units > high)).float().mean())


def _finite(value: torch.Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
