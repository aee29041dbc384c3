"""What flows through a network: activations forwards and gradients backwards, layer by layer, on a few fixed images."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.models.init import WEIGHTED
from darkroom.studies.run_config import Row

SATURATED = {nn.Tanh: (-0.97, 0.97), nn.Sigmoid: (0.015, 0.985)}  # beyond which the slope is below 6% of its largest


def probe(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, step: int) -> list[Row]:
    """Return a row for each convolution and linear layer, in their order; the network may be changed by it.

    `std` is that of the layer's outputs, `gradient` the root mean square of the loss's gradient with respect to its weight; of
    the activation that follows, if any, `dead` is the share of units that answer 0 to all images, `saturated` the share of
    answers on a flat part of the curve. Numbers that are not finite are None.
    """
    network.train()
    network.requires_grad_(True)  # gradients reach frozen layers too: what flows is looked at in each
    names = {module: name for name, module in network.named_modules()}
    rows: dict[nn.Module, Row] = {}

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, WEIGHTED):
            layer = names[module].rpartition("neck.")[2].rpartition("body.")[2].removeprefix("features.")
            empty = {"dead": None, "saturated": None}
            rows[module] = {"step": step, "layer": layer, "std": _number(output.detach().std()), **empty}
        elif rows:
            after = next(reversed(rows.values()))
            if after["dead"] is None:
                after.update(_activation(module, output.detach()))

    hooks = [m.register_forward_hook(look) for m in network.modules() if isinstance(m, (*WEIGHTED, nn.ReLU, *SATURATED))]
    for parameter in network.parameters():
        parameter.grad = None
    with torch.enable_grad():
        F.cross_entropy(network(images), labels).backward()
    for hook in hooks:
        hook.remove()
    for module, row in rows.items():
        gradient: Any = module.weight.grad
        row["gradient"] = None if gradient is None else _number(gradient.square().mean().sqrt())
    return list(rows.values())


def _activation(module: nn.Module, output: torch.Tensor) -> Row:
    """Return the shares of dead units and saturated answers; a unit is a channel of a map, or a number of a vector."""
    units = output.transpose(0, 1).flatten(1)
    low, high = SATURATED.get(type(module), (-math.inf, math.inf))  # type: ignore[call-overload]
    return {
        "dead": _number((units == 0).all(1).float().mean()) if isinstance(module, nn.ReLU) else 0.0,
        "saturated": _number(((units < low) | (units > high)).float().mean()),
    }


def _number(value: torch.Tensor) -> float | None:
    made = float(value)
    return made if math.isfinite(made) else None
