"""Convolutions on small maps as matrix products: pointwise ones whole, those on maps hardly larger than the kernel tap by tap.

Small images leave maps of 4 × 4 or 2 × 2 pixels in the deep layers, where most of a kernel's taps fall on padding: of the 36
products of a 3 × 3 kernel on a 2 × 2 map 16 count, of the 100 of a 5 × 5 kernel 16 as well. General libraries compute or
lay out all of them. Here each tap is one matrix product (or, depthwise, one product of vectors) over the pixels that it
meets: the same function with the same gradients. A pointwise convolution is one product anyway; on small maps, what a library
does to prepare for it costs more than the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.models.replacing import replaced
from darkroom.models.watching import watch

POINTWISE = 25  # pixels of a map, up to which a 1 × 1 convolution is faster as a plain matrix product
DENSE, DEPTHWISE = 0.72, 0.45  # of a kernel's products that count, above which the library's convolution is the faster one

Tap = tuple[int, int, slice, slice, slice, slice]  # row and column in the kernel, pixels of the output, pixels of the input


def axis(size: int, kernel: int, stride: int, padding: int) -> list[tuple[slice, slice]]:
    """Return for each tap along one axis the output pixels that it reaches, and the input pixels that it takes for them."""
    outputs = (size + 2 * padding - kernel) // stride + 1
    made = []
    for tap in range(kernel):
        met = [(o, o * stride - padding + tap) for o in range(outputs) if 0 <= o * stride - padding + tap < size]
        first, last = (met[0], met[-1]) if met else ((0, 0), (-1, -1))
        made.append((slice(first[0], last[0] + 1), slice(first[1], last[1] + 1, stride) if met else slice(0, 0)))
    return made


def taps(convolution: nn.Conv2d, height: int, width: int) -> list[Tap]:
    """Return the taps of a convolution that meet a map of this height and width anywhere."""
    (kh, kw), (sh, sw), (ph, pw) = convolution.kernel_size, convolution.stride, _padding(convolution)
    rows, columns = axis(height, kh, sh, ph), axis(width, kw, sw, pw)
    return [
        (i, j, rows[i][0], columns[j][0], rows[i][1], columns[j][1])
        for i in range(kh)
        for j in range(kw)
        if rows[i][0] != slice(0, 0) and columns[j][0] != slice(0, 0)
    ]


def counting(convolution: nn.Conv2d, height: int, width: int) -> float:
    """Return the share of a convolution's products on a map that are with pixels of it and not with padding."""

    def share(size: int, kernel: int, stride: int, padding: int) -> float:
        parts = axis(size, kernel, stride, padding)
        outputs = (size + 2 * padding - kernel) // stride + 1
        return sum(out.stop - out.start for out, _ in parts) / (kernel * outputs)

    (kh, kw), (sh, sw), (ph, pw) = convolution.kernel_size, convolution.stride, _padding(convolution)
    return share(height, kh, sh, ph) * share(width, kw, sw, pw)


def _padding(convolution: nn.Conv2d) -> tuple[int, int]:
    assert not isinstance(convolution.padding, str)
    return convolution.padding[0], convolution.padding[1]


class TapByTap(torch.autograd.Function):
    """(N, h, w, C) and weights (C', C / groups, k, k) to (N, h', w', C'); groups is 1, or C = C' where `depthwise`."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, met: list[Tap], shape: tuple[int, int], depthwise: bool
    ) -> torch.Tensor:
        x = x.contiguous()
        made = x.new_zeros(len(x), *shape, len(weight))
        for i, j, rows, columns, from_rows, from_columns in met:
            seen, into = x[:, from_rows, from_columns], made[:, rows, columns]
            if depthwise:
                into.addcmul_(seen, weight[:, 0, i, j])
            else:
                into += seen @ weight[:, :, i, j].t()
        ctx.save_for_backward(x, weight)
        ctx.met, ctx.depthwise = met, depthwise
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        given = gradients[0].contiguous()
        by_input = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for i, j, rows, columns, from_rows, from_columns in ctx.met:
            seen, reached = x[:, from_rows, from_columns], given[:, rows, columns]
            if ctx.depthwise:
                if by_input is not None:
                    by_input[:, from_rows, from_columns].addcmul_(reached, weight[:, 0, i, j])
                if by_weight is not None:
                    by_weight[:, 0, i, j] = (seen * reached).sum((0, 1, 2))
            else:
                reached = reached.reshape(-1, reached.shape[-1])
                if by_input is not None:
                    by_input[:, from_rows, from_columns] += (reached @ weight[:, :, i, j]).view(*seen.shape)
                if by_weight is not None:
                    by_weight[:, :, i, j] = reached.t() @ seen.reshape(-1, seen.shape[-1])
        return by_input, by_weight, None, None, None


def pointwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(N, C, h, w) channels-last and weights (C', C, 1, 1) to (N, C', h, w) channels-last: one matrix product."""
    count, channels, height, width = x.shape
    made = F.linear(x.permute(0, 2, 3, 1).reshape(-1, channels), weight.view(len(weight), channels), bias)
    return made.view(count, height, width, -1).permute(0, 3, 1, 2)


@contextmanager
def as_products(model: nn.Module, example: torch.Tensor) -> Iterator[int]:
    """Compute, for the length of a block, the convolutions of a model on small maps as products; yield how many there are.

    `example` is an input of the model on the CPU, of the size that every input will have.
    """
    found = small(model, example)
    with replaced(found, "_conv_forward"):
        yield len(found)


Forward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def small(model: nn.Module, example: torch.Tensor) -> dict[nn.Conv2d, Forward]:
    """Return the convolutions worth computing as products, with their functions; never one that meets maps of several sizes."""
    found: dict[nn.Conv2d, Forward] = {}
    sizes: dict[nn.Conv2d, torch.Size] = {}
    several: set[nn.Conv2d] = set()

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        if module.dilation != (1, 1) or module.padding_mode != "zeros" or isinstance(module.padding, str):
            return
        if sizes.setdefault(module, inputs[0].shape) != inputs[0].shape:
            several.add(module)
        height, width = inputs[0].shape[2:]
        shape = output.shape[2], output.shape[3]
        depthwise = 1 < module.groups == module.in_channels == module.out_channels
        if module.groups == 1 and module.kernel_size == module.stride == (1, 1) and module.padding == (0, 0):
            if height * width <= POINTWISE:
                found[module] = pointwise
        elif depthwise and (height, width) == shape == (1, 1):
            found[module] = _scaling(*taps(module, 1, 1)[0][:2])
        elif counting(module, height, width) <= (DENSE if module.groups == 1 else DEPTHWISE if depthwise else 0.0):
            found[module] = _by_taps(taps(module, height, width), shape, depthwise)

    watch(model, example, (nn.Conv2d,), look)
    return {convolution: forward for convolution, forward in found.items() if convolution not in several}


def _scaling(row: int, column: int) -> Forward:
    """A depthwise convolution of single pixels by the one tap that meets them."""

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        made = x * weight[:, :, row, column].view(1, -1, 1, 1)
        return made if bias is None else made + bias.view(-1, 1, 1)

    return forward


def _by_taps(met: list[Tap], shape: tuple[int, int], depthwise: bool) -> Forward:
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        made = TapByTap.apply(x.permute(0, 2, 3, 1), weight, met, shape, depthwise).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call]
        return made if bias is None else made + bias.view(-1, 1, 1)

    return forward
