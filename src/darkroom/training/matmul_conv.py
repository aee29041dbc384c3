"""Convolutions on small maps as matrix products: the same functions with the same gradients.

Small images leave maps of 4 × 4 or 2 × 2 pixels in the deep layers, where most of a kernel's taps fall on
padding: of the 36 products of a 3 × 3 kernel on a 2 × 2 map 16 count. General libraries compute or lay out
all of them; here each tap is one matrix product over the pixels that it meets (`TapByTap`). A pointwise
convolution is one product anyway; what a library does to prepare for it costs more than the product. A
depthwise convolution is fast in the library but for the gradient of its kernels, which takes ten times as
long as the rest: here it is the product of every pixel before with every pixel after (`Depthwise`).

torch's products are Intel's MKL's. On AMD's processors with AVX-512 it uses half of their width, so that there
products on 3 × 3 maps and larger ones take longer than the library's convolutions (docs/speed.md has the times).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.models.hooks import observe
from darkroom.models.patching import replaced

DEPTHWISE = 32 * 32  # pixels before times pixels after, above which the library's gradient of a kernel is the faster one
DEPTHWISE_3 = 4 * 4  # the same for kernels of up to 3 × 3, for which libraries have code of their own


class Limits(NamedTuple):
    """Up to where products are faster than the library's convolutions."""

    pointwise: int  # pixels of a map, for a 1 × 1 convolution as a plain matrix product
    dense: float  # share of a kernel's products that are with pixels


FULL_WIDTH, HALF_WIDTH = Limits(25, 0.72), Limits(1, 0.5)

Tap = tuple[int, int, slice, slice, slice, slice]  # row and column in the kernel, pixels of the output, pixels of the input


@cache
def limits(cpuinfo: Path = Path("/proc/cpuinfo")) -> Limits:
    """Return the limits for this processor."""
    try:
        is_of_amd = "AuthenticAMD" in cpuinfo.read_text()
    except OSError:  # not Linux
        return FULL_WIDTH
    return HALF_WIDTH if is_of_amd and torch.backends.cpu.get_cpu_capability() == "AVX512" else FULL_WIDTH


def axis(size: int, kernel: int, stride: int, padding: int) -> list[tuple[slice, slice]]:
    """Return, for each tap along an axis, the output pixels that it reaches and the input pixels for them."""
    outputs = (size + 2 * padding - kernel) // stride + 1
    spans = []
    for tap in range(kernel):
        met = [(o, o * stride - padding + tap) for o in range(outputs) if 0 <= o * stride - padding + tap < size]
        first, last = (met[0], met[-1]) if met else ((0, 0), (-1, -1))
        spans.append((slice(first[0], last[0] + 1), slice(first[1], last[1] + 1, stride) if met else slice(0, 0)))
    return spans


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


def useful_share(convolution: nn.Conv2d, height: int, width: int) -> float:
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
    """(N, h, w, C) and weights (C', C, k, k) to (N, h', w', C')."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, met: list[Tap], shape: tuple[int, int]) -> torch.Tensor:
        x = x.contiguous()
        output = x.new_zeros(len(x), *shape, len(weight))
        for i, j, rows, columns, from_rows, from_columns in met:
            output[:, rows, columns] += x[:, from_rows, from_columns] @ weight[:, :, i, j].t()
        ctx.save_for_backward(x, weight)
        ctx.met = met
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        by_input = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for i, j, rows, columns, from_rows, from_columns in ctx.met:
            pixels, reached = x[:, from_rows, from_columns], gradient[:, rows, columns]
            reached = reached.reshape(-1, reached.shape[-1])
            if by_input is not None:
                by_input[:, from_rows, from_columns] += (reached @ weight[:, :, i, j]).view(*pixels.shape)
            if by_weight is not None:
                by_weight[:, :, i, j] = reached.t() @ pixels.reshape(-1, pixels.shape[-1])
        return by_input, by_weight, None, None


class Depthwise(torch.autograd.Function):
    """(N, C, h, w) channels-last and weights (C, 1, k, k) to (N, C, h', w'), by the library but for the
    gradient of the weights.

    `pairs`, (h * w * h' * w', k * k), is 1 where a tap of the kernel leads from a pixel to a pixel.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int], pairs: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.pairs = stride, padding, pairs
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_input = by_weight = None
        if ctx.needs_input_grad[0]:
            by_input = torch.ops.aten.convolution_backward(
                gradients[0], x, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), len(weight), (True, False, False)
            )[0]
        if ctx.needs_input_grad[1]:
            before, after = _by_channel(x), _by_channel(gradients[0])
            by_weight = (torch.bmm(before.transpose(1, 2), after).flatten(1) @ ctx.pairs).view_as(weight)
        return by_input, by_weight, None, None, None


def _by_channel(x: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) channels-last to (C, N, h * w)."""
    count, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(-1, channels).t().contiguous().view(channels, count, height * width)


def _pairs(met: list[Tap], convolution: nn.Conv2d, before: tuple[int, int], after: tuple[int, int]) -> torch.Tensor:
    """Return which tap leads from a pixel before to a pixel after: `Depthwise`'s `pairs`."""
    pairs = torch.zeros(*before, *after, *convolution.kernel_size, dtype=convolution.weight.dtype)
    for i, j, rows, columns, from_rows, from_columns in met:
        for row, from_row in zip(range(after[0])[rows], range(before[0])[from_rows], strict=True):
            for column, from_column in zip(range(after[1])[columns], range(before[1])[from_columns], strict=True):
                pairs[from_row, from_column, row, column, i, j] = 1
    return pairs.view(before[0] * before[1] * after[0] * after[1], -1)


def pointwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """One matrix product: (N, C, h, w) and weights (C', C, 1, 1) to (N, C', h, w), channels-last."""
    count, channels, height, width = x.shape
    output = F.linear(x.permute(0, 2, 3, 1).reshape(-1, channels), weight.view(len(weight), channels), bias)
    return output.view(count, height, width, -1).permute(0, 3, 1, 2)


@contextmanager
def as_products(model: nn.Module, example: torch.Tensor) -> Iterator[int]:
    """Compute, for the length of a block, the convolutions of a model on small maps as products; yield how
    many there are.

    `example` is an input of the model on the CPU, of the size that every input will have.
    """
    functions = replacements(model, example)
    with replaced(functions, "_conv_forward"):
        yield len(functions)


Forward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def replacements(model: nn.Module, example: torch.Tensor) -> dict[nn.Conv2d, Forward]:
    """Return the functions of convolutions worth computing as products; each meets maps of one size."""
    functions: dict[nn.Conv2d, Forward] = {}
    sizes: dict[nn.Conv2d, torch.Size] = {}
    several: set[nn.Conv2d] = set()

    def observer(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        if module.dilation != (1, 1) or module.padding_mode != "zeros" or isinstance(module.padding, str):
            return
        if sizes.setdefault(module, inputs[0].shape) != inputs[0].shape:
            several.add(module)
        before, after = (inputs[0].shape[2], inputs[0].shape[3]), (output.shape[2], output.shape[3])
        if module.groups == 1 and module.kernel_size == module.stride == (1, 1) and module.padding == (0, 0):
            if math.prod(before) <= limits().pointwise:
                functions[module] = pointwise
        elif module.groups == 1:
            if useful_share(module, *before) <= limits().dense:
                functions[module] = _by_taps(taps(module, *before), after)
        elif module.groups == module.in_channels == module.out_channels:
            if before == after == (1, 1):
                functions[module] = _scaling(*taps(module, 1, 1)[0][:2])
            elif math.prod(before) * math.prod(after) <= (DEPTHWISE if max(module.kernel_size) > 3 else DEPTHWISE_3):
                functions[module] = _depthwise(module, before, after)

    observe(model, example, (nn.Conv2d,), observer)
    return {convolution: forward for convolution, forward in functions.items() if convolution not in several}


def _scaling(row: int, column: int) -> Forward:
    """A depthwise convolution of single pixels by the one tap that meets them."""

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        output = x * weight[:, :, row, column].view(1, -1, 1, 1)
        return output if bias is None else output + bias.view(-1, 1, 1)

    return forward


def _by_taps(met: list[Tap], shape: tuple[int, int]) -> Forward:
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        output = TapByTap.apply(x.permute(0, 2, 3, 1), weight, met, shape).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call]
        return output if bias is None else output + bias.view(-1, 1, 1)

    return forward


def _depthwise(convolution: nn.Conv2d, before: tuple[int, int], after: tuple[int, int]) -> Forward:
    stride, padding = (convolution.stride[0], convolution.stride[1]), _padding(convolution)
    pairs = _pairs(taps(convolution, *before), convolution, before, after)

    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        output: torch.Tensor = Depthwise.apply(x, weight, stride, padding, pairs)  # type: ignore[no-untyped-call]
        return output if bias is None else output + bias.view(-1, 1, 1)

    return forward
