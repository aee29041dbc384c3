"""3 × 3 convolutions of a frozen network with a quarter of the multiplications (Lavin and Gray 2016, F(4 × 4, 3 × 3)).

A tile of 4 × 4 outputs takes 6 × 6 inputs. Transformed by Winograd's matrices, tile and kernel are multiplied number by number,
36 products in place of 144 for each pair of channels: one matrix product over the channels for each of the 36. The transforms cost
as much for few channels as for many, so that only wide layers gain. In float32 the answers differ from the direct ones by 1e-5
of the largest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from darkroom.models.folding import carried, pairs, unchanged
from darkroom.models.hooks import watch
from darkroom.models.patching import replaced

TILE = 4  # outputs a side
TILES = 128  # tiles at a time: enough for the matrix products, few enough for the caches
WORTH = 0.9  # of a direct convolution's cost, below which a layer is computed this way

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
_INTO = torch.kron(_INPUT, _INPUT)  # (36, 36): a tile's 36 numbers to the 36 that are multiplied
_OUT_OF = torch.kron(_OUTPUT, _OUTPUT)  # (16, 36): the 36 products to the 16 outputs


def transformed(weight: torch.Tensor) -> torch.Tensor:
    """Return kernels (C', C, 3, 3) float32 as (36, C, C') float32, computed in float64."""
    made = torch.einsum("ia,kcab,jb->ijck", _KERNEL, weight.double(), _KERNEL)
    return made.flatten(0, 1).float().contiguous()


def convolve(x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return a 3 × 3 convolution with stride 1 and padding 1: (N, C, H, W) float32 to (N, C', H, W), channels-last.

    `kernels` are those of `transformed`, `bias` is (C',).
    """
    x = x.permute(0, 2, 3, 1)
    count, height, width, _ = x.shape
    down, across = _tiles(height), _tiles(width)
    made = x.new_empty(count, down, TILE, across, TILE, kernels.shape[2])
    some = -(-TILES // (down * across))
    for start in range(0, count, some):
        _convolve(x[start : start + some], kernels, bias, made[start : start + some])
    made = made.view(count, down * TILE, across * TILE, -1)[:, :height, :width]
    return made.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _convolve(x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor, made: torch.Tensor) -> None:
    """Put the convolution of a few images (n, H, W, C) into `made` (n, rows of tiles, 4, columns of tiles, 4, C')."""
    count, height, width, channels = x.shape
    down, across, outputs = made.shape[1], made.shape[3], made.shape[5]
    padded = _scratch("padded", count, down * TILE + 2, across * TILE + 2, channels).zero_()
    padded[:, 1 : height + 1, 1 : width + 1] = x
    image, row, column, one = padded.stride()
    rows = max(1, TILES // across)  # of tiles at a time: all of a small image, a few of a large one
    for first in range(0, down, rows):
        some = min(rows, down - first)
        tiles = count * some * across
        cut = _scratch("one", 6, 6, count, some, across, channels)
        strides = row, column, image, TILE * row, TILE * column, one
        cut.copy_(padded.as_strided(cut.shape, strides, padded.storage_offset() + first * TILE * row))
        given = torch.mm(_INTO, cut.view(36, -1), out=_scratch("other", 36, tiles * channels)).view(36, tiles, channels)
        products = torch.bmm(given, kernels, out=_scratch("one", 36, tiles, outputs)).view(36, -1)
        answer = torch.mm(_OUT_OF, products, out=_scratch("other", 16, tiles * outputs))
        answer = answer.view(TILE, TILE, count, some, across, outputs).permute(2, 3, 0, 4, 1, 5)
        torch.add(answer, bias, out=made[:, first : first + some])


_buffers = threading.local()


def _scratch(name: str, *shape: int) -> torch.Tensor:
    """Return memory of this thread's, used again: asking for it anew costs more than the transforms themselves."""
    size = torch.Size(shape).numel()
    buffer: torch.Tensor | None = getattr(_buffers, name, None)
    if buffer is None or buffer.numel() < size:
        with torch.inference_mode(False):  # to be written to with and without it
            buffer = torch.empty(size)
        setattr(_buffers, name, buffer)
    return buffer[:size].view(shape)


def _tiles(size: int) -> int:
    return -(-size // TILE)


def cost(convolution: nn.Conv2d, height: int, width: int) -> float:
    """Return an estimate of a convolution's cost on a map in this way, as a share of the direct one's; infinite if impossible.

    A quarter of the products, on whole tiles, and transforms whose share falls with the number of channels.
    """
    possible = (
        convolution.kernel_size == (3, 3)
        and convolution.stride == convolution.padding == convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
    )
    if not possible:
        return float("inf")
    whole = _tiles(height) * _tiles(width) * TILE * TILE / (height * width)
    return whole * (0.25 + 30 / convolution.in_channels + 30 / convolution.out_channels)


@dataclass(frozen=True)
class Faster:
    """What replaces the convolutions of a frozen network: kernels, and normalisations that go into them."""

    wide: dict[nn.Conv2d, tuple[torch.Tensor, torch.Tensor]]  # kernels of `transformed` and bias
    other: dict[nn.Conv2d, tuple[torch.Tensor, torch.Tensor]]  # weights and bias
    norms: list[nn.BatchNorm2d]

    def applied(self) -> AbstractContextManager[None]:
        """Make the network compute the same function in less time, for the length of a block, one block at a time."""
        functions: dict[nn.Module, Callable[[torch.Tensor], torch.Tensor]] = dict.fromkeys(self.norms, unchanged)
        functions |= {layer: partial(convolve, kernels=kernels, bias=bias) for layer, (kernels, bias) in self.wide.items()}
        functions |= {layer: partial(layer._conv_forward, weight=weight, bias=bias) for layer, (weight, bias) in self.other.items()}
        return replaced(functions)


@torch.no_grad()
def faster(network: nn.Module, example: torch.Tensor) -> Faster:
    """Return the replacements for a network on the CPU in evaluation mode whose inputs have the size of `example`."""
    normed = dict(pairs(network, example, len(example)))
    wide = {convolution for convolution, (_, share) in _costs(network, example).items() if share < WORTH}
    held = {convolution: carried(convolution, norm) for convolution, norm in normed.items()}
    for convolution in wide - held.keys():
        bias = torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias
        held[convolution] = convolution.weight, bias
    return Faster(
        {c: (transformed(weight), bias) for c, (weight, bias) in held.items() if c in wide},
        {c: made for c, made in held.items() if c not in wide},
        list(normed.values()),
    )


def gain(network: nn.Module, example: torch.Tensor) -> float:
    """Return an estimate, by shapes alone and so repeatable, of how many times faster the convolutions of a network become."""
    costs = _costs(network, example).values()
    total = sum(products for products, _ in costs)
    return total / max(sum(products * min(share, 1.0) for products, share in costs), 1) if total else 1.0


def _costs(network: nn.Module, example: torch.Tensor) -> dict[nn.Conv2d, tuple[int, float]]:
    """Return for each convolution its multiply-adds and `cost`, summed over its uses and the larger one of them."""
    found: dict[nn.Conv2d, tuple[int, float]] = {}

    def look(module: nn.Conv2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        products, share = found.get(module, (0, 0.0))
        height, width = inputs[0].shape[2:]
        found[module] = products + output.numel() * module.weight[0].numel(), max(share, cost(module, height, width))

    watch(network, example, (nn.Conv2d,), look)
    return found
