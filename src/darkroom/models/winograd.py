"""3 × 3 convolutions of a frozen network with a quarter of the multiplications (Lavin and Gray 2016, F(4 × 4,
3 × 3)).

A tile of 4 × 4 outputs takes 6 × 6 inputs. Transformed by Winograd's matrices, tile and kernel are multiplied
element by element, 36 products in place of 144 for each pair of channels: one matrix product over the
channels for each of the 36. The transforms cost as much for few channels as for many, so that only wide
layers gain. In float32 the outputs differ from the direct ones by 1e-5 of the largest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from darkroom.models.folding import fold, identity, pairs
from darkroom.models.hooks import observe
from darkroom.models.patching import replaced

TILE = 4  # outputs a side
TILES = 128  # tiles at a time: enough for the matrix products, few enough for the caches
MAX_COST = 0.9  # relative to a direct convolution, below which a layer is computed this way

_INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL = torch.tensor([[6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
_OUTPUT = torch.tensor([[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
_TO_WINOGRAD = torch.kron(_INPUT, _INPUT)  # (36, 36): a tile's 36 numbers to the 36 that are multiplied
_FROM_WINOGRAD = torch.kron(_OUTPUT, _OUTPUT)  # (16, 36): the 36 products to the 16 outputs


def transform_kernels(weight: torch.Tensor) -> torch.Tensor:
    """Return kernels (C', C, 3, 3) float32 as (36, C, C') float32, computed in float64."""
    transformed = torch.einsum("ia,kcab,jb->ijck", _KERNEL, weight.double(), _KERNEL)
    return transformed.flatten(0, 1).float().contiguous()


def convolve(x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return a 3 × 3 convolution with stride 1 and padding 1: (N, C, H, W) float32 to (N, C', H, W),
    channels-last.

    `kernels` come from `transform_kernels`, `bias` is (C',).
    """
    x = x.permute(0, 2, 3, 1)
    count, height, width, _ = x.shape
    down, across = _tiles(height), _tiles(width)
    output = x.new_empty(count, down, TILE, across, TILE, kernels.shape[2])
    images = -(-TILES // (down * across))  # at a time
    for start in range(0, count, images):
        _convolve(x[start : start + images], kernels, bias, output[start : start + images])
    output = output.view(count, down * TILE, across * TILE, -1)[:, :height, :width]
    return output.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _convolve(x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor, output: torch.Tensor) -> None:
    """Convolve a few images (n, H, W, C) into `output` (n, rows of tiles, 4, columns of tiles, 4, C')."""
    count, height, width, channels = x.shape
    down, across, outputs = output.shape[1], output.shape[3], output.shape[5]
    padded = _scratch("padded", count, down * TILE + 2, across * TILE + 2, channels).zero_()
    padded[:, 1 : height + 1, 1 : width + 1] = x
    image, row, column, one = padded.stride()
    rows = max(1, TILES // across)  # of tiles at a time: all of a small image, a few of a large one
    for first in range(0, down, rows):
        height_in_tiles = min(rows, down - first)
        tiles = count * height_in_tiles * across
        cut = _scratch("one", 6, 6, count, height_in_tiles, across, channels)
        strides = row, column, image, TILE * row, TILE * column, one
        cut.copy_(padded.as_strided(cut.shape, strides, padded.storage_offset() + first * TILE * row))
        inputs = torch.mm(_TO_WINOGRAD, cut.view(36, -1), out=_scratch("other", 36, tiles * channels)).view(36, tiles, channels)
        products = torch.bmm(inputs, kernels, out=_scratch("one", 36, tiles, outputs)).view(36, -1)
        result = torch.mm(_FROM_WINOGRAD, products, out=_scratch("other", 16, tiles * outputs))
        result = result.view(TILE, TILE, count, height_in_tiles, across, outputs).permute(2, 3, 0, 4, 1, 5)
        torch.add(result, bias, out=output[:, first : first + height_in_tiles])


_buffers = threading.local()


def _scratch(name: str, *shape: int) -> torch.Tensor:
    """Return memory of this thread that is used again: allocating it costs more than the transforms."""
    size = torch.Size(shape).numel()
    buffer: torch.Tensor | None = getattr(_buffers, name, None)
    if buffer is None or buffer.numel() < size:
        with torch.inference_mode(False):  # writable inside and outside of inference mode
            buffer = torch.empty(size)
        setattr(_buffers, name, buffer)
    return buffer[:size].view(shape)


def _tiles(size: int) -> int:
    return -(-size // TILE)


def cost(convolution: nn.Conv2d, height: int, width: int) -> float:
    """Return the estimated cost of a convolution relative to the direct one; infinite where it is impossible.

    It has a quarter of the products, on whole tiles, and transforms whose share falls with the number of
    channels.
    """
    possible = (
        convolution.kernel_size == (3, 3)
        and convolution.stride == convolution.padding == convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
    )
    if not possible:
        return float("inf")
    padding = _tiles(height) * _tiles(width) * TILE * TILE / (height * width)
    return padding * (0.25 + 30 / convolution.in_channels + 30 / convolution.out_channels)


@dataclass(frozen=True)
class Replacements:
    """Faster functions for the convolutions of a frozen network; normalisations are folded into them."""

    wide: dict[nn.Conv2d, tuple[torch.Tensor, torch.Tensor]]  # transformed kernels and bias
    other: dict[nn.Conv2d, tuple[torch.Tensor, torch.Tensor]]  # weights and bias
    norms: list[nn.BatchNorm2d]

    def applied(self) -> AbstractContextManager[None]:
        """Apply them for the length of a block, one block at a time."""
        functions: dict[nn.Module, Callable[[torch.Tensor], torch.Tensor]] = dict.fromkeys(self.norms, identity)
        functions |= {layer: partial(convolve, kernels=kernels, bias=bias) for layer, (kernels, bias) in self.wide.items()}
        functions |= {layer: partial(layer._conv_forward, weight=weight, bias=bias) for layer, (weight, bias) in self.other.items()}
        return replaced(functions)


@torch.no_grad()
def replacements(network: nn.Module, example: torch.Tensor) -> Replacements:
    """Return the replacements for a network in evaluation mode; all inputs have the size of `example`."""
    normed = dict(pairs(network, example, len(example)))
    wide = {convolution for convolution, (_, share) in _costs(network, example).items() if share < MAX_COST}
    folded = {convolution: fold(convolution, norm) for convolution, norm in normed.items()}
    for convolution in wide - folded.keys():
        bias = torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias
        folded[convolution] = convolution.weight, bias
    return Replacements(
        {c: (transform_kernels(weight), bias) for c, (weight, bias) in folded.items() if c in wide},
        {c: parameters for c, parameters in folded.items() if c not in wide},
        list(normed.values()),
    )


def estimate_gain(network: nn.Module, example: torch.Tensor) -> float:
    """Return an estimate, by shapes alone and so repeatable, of the speed-up of a network's convolutions."""
    costs = _costs(network, example).values()
    total = sum(products for products, _ in costs)
    return total / max(sum(products * min(share, 1.0) for products, share in costs), 1) if total else 1.0


def _costs(network: nn.Module, example: torch.Tensor) -> dict[nn.Conv2d, tuple[int, float]]:
    """Return for each convolution its multiply-adds, summed over its uses, and the largest `cost` of them."""
    costs: dict[nn.Conv2d, tuple[int, float]] = {}

    def observer(module: nn.Conv2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        products, share = costs.get(module, (0, 0.0))
        height, width = inputs[0].shape[2:]
        costs[module] = products + output.numel() * module.weight[0].numel(), max(share, cost(module, height, width))

    observe(network, example, (nn.Conv2d,), observer)
    return costs
