"""Multiply-adds and parameters, layer by layer: the cost of a network that does not depend on the machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from darkroom.models.hooks import observe


@dataclass
class Layer:
    """A module that owns parameters, changes the shape or multiplies: one line of a network's summary."""

    name: str
    kind: str
    output: tuple[int, ...]  # without the batch
    parameters: int
    multiply_adds: int  # of one image, over all uses of the module


def multiply_adds(network: nn.Module, image_size: int) -> int:
    """Return the multiply-adds of convolutions, linear layers and attention for one square RGB image."""
    return sum(layer.multiply_adds for layer in layers(network, (3, image_size, image_size)))


def layers(network: nn.Module, image: tuple[int, int, int]) -> list[Layer]:
    """Return the layers of a network, in the order in which they run on one image (C, H, W), by running it
    once.

    Their parameters add up to the network's. The network may be on the meta device, where nothing is
    computed.
    """
    names = {module: name for name, module in network.named_modules()}
    rows: dict[nn.Module, Layer] = {}

    def observer(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        result = output[0] if isinstance(output, tuple) else output  # attention also returns its weights
        products = _PRODUCTS.get(type(module).__name__)
        owned = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        is_leaf = next(module.children(), None) is None
        if not (products or owned or (is_leaf and inputs and inputs[0].shape != result.shape)):
            return
        if module not in rows:
            rows[module] = Layer(names[module], type(module).__name__, tuple(result.shape[1:]), owned, 0)
        if products:
            rows[module].multiply_adds += products(module, inputs[0], result)

    device = next((parameter.device for parameter in network.parameters()), None)
    observe(network, torch.zeros(1, *image, device=device), (nn.Module,), observer)
    for name, module in network.named_modules():  # attention uses the weights of some layers without running them
        if module not in rows:
            owned = sum(parameter.numel() for parameter in module.parameters(recurse=False))
            if owned:
                rows[module] = Layer(name, type(module).__name__, (), owned, 0)
    return list(rows.values())


def products(module: nn.Module, x: torch.Tensor, output: torch.Tensor) -> int:
    """Return the multiply-adds of one use of a module itself, without those of modules in it."""
    count = _PRODUCTS.get(type(module).__name__)
    return count(module, x, output) if count else 0


def _weighted(module: Any, x: torch.Tensor, output: torch.Tensor) -> int:
    return output.numel() * int(module.weight[0].numel())


def _transposed(module: Any, x: torch.Tensor, output: torch.Tensor) -> int:
    return x.numel() * int(module.weight[0].numel())


def _attention(module: Any, x: torch.Tensor, output: torch.Tensor) -> int:
    """Queries, keys, values, their products, the weighted mean, the last projection (Vaswani et al. 2017)."""
    tokens, width = x.shape[1:]
    return 4 * tokens * width * width + 2 * tokens * tokens * width


def _windows(module: Any, x: torch.Tensor, output: torch.Tensor) -> int:
    """Attention within windows (Liu et al. 2021); the map is padded to a whole number of them."""
    height, width, channels = x.shape[1:]
    rows, columns = module.window_size
    tokens = -(-height // rows) * rows * -(-width // columns) * columns
    return 4 * tokens * channels * channels + 2 * tokens * rows * columns * channels


def _grids(module: Any, x: torch.Tensor, output: torch.Tensor) -> int:
    """Attention of MaxViT (Tu et al. 2022), whose projections are layers of their own."""
    return 2 * x.numel() * x.shape[2]


def _products_of_tokens(module: Any, x: torch.Tensor, output: torch.Tensor) -> int:
    """Scores and weighted means of attention whose projections are layers of their own, of tokens (N, T, C)."""
    return 2 * x.numel() * x.shape[1] if x.ndim == 3 else 0


_PRODUCTS: dict[str, Callable[[Any, torch.Tensor, torch.Tensor], int]] = {
    "Attention": _products_of_tokens,  # timm's
    "EvaAttention": _products_of_tokens,
    "WindowAttention": _products_of_tokens,
    "Conv2d": _weighted,
    "Linear": _weighted,
    "ConvTranspose2d": _transposed,
    "MultiheadAttention": _attention,
    "ShiftedWindowAttention": _windows,
    "ShiftedWindowAttentionV2": _windows,
    "RelativePositionalMultiHeadAttention": _grids,
}
