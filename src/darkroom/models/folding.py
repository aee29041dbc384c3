"""Fold batch normalisation with frozen statistics into the convolution before it.

With frozen statistics, batch normalisation is a scale and a shift per channel (Ioffe and Szegedy 2015), which
the convolution's own weights and bias can carry. Computed anew in every step from the parameters of both,
this is the same function with the same gradients, without a pass over the feature maps forth and back for
each normalisation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from darkroom.models.hooks import observe
from darkroom.models.patching import replaced


@contextmanager
def folded(model: nn.Module, example: torch.Tensor, batch: int) -> Iterator[int]:
    """Fold, for the length of a block, every batch normalisation that a convolution feeds; yield their
    number.

    `example` is an input of the model, `batch` the number of inputs at a time: where a convolution has more
    weights than it computes numbers, scaling the weights would cost more than it saves. Running statistics do
    not change inside the block.
    """
    folds = pairs(model, example, batch)
    functions: dict[nn.Module, Callable[[torch.Tensor], torch.Tensor]] = {norm: after(norm) for _, norm in folds}
    functions |= {convolution: _folded_forward(convolution, norm) for convolution, norm in folds}
    with replaced(functions):
        yield len(folds)


def pairs(model: nn.Module, example: torch.Tensor, batch: int) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return the convolutions worth folding, whose only consumer is a batch normalisation; runs the model."""
    sources: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}  # by the id of the output, which is kept alive
    uses: Counter[nn.Module] = Counter()
    consumers: Counter[nn.Module] = Counter()
    norms: dict[nn.Conv2d, nn.BatchNorm2d] = {}

    def observer(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if next(module.children(), None) is not None and not isinstance(module, nn.BatchNorm2d):  # timm's have an activation
            return
        uses[module] += 1
        for tensor in inputs:
            if id(tensor) not in sources:
                continue
            convolution, convolved = sources[id(tensor)]
            consumers[convolution] += 1
            is_large = convolved[0].numel() * batch >= convolution.weight.numel()
            if is_plain(convolution, module) and cast(nn.BatchNorm2d, module).track_running_stats and is_large:
                norms[convolution] = cast(nn.BatchNorm2d, module)
        if isinstance(module, nn.Conv2d):
            sources[id(output)] = module, output

    observe(model, example, (nn.Module,), observer)
    return [(c, n) for c, n in norms.items() if uses[c] == uses[n] == consumers[c] == 1 and c.padding_mode == "zeros"]


def is_plain(convolution: nn.Conv2d, module: nn.Module) -> bool:
    """Tell whether a module is batch normalisation, and both compute what torch's do: timm's convolutions with TensorFlow's
    padding or with standardised weights do not, and its normalisations add an activation alone.
    """
    own = isinstance(module, nn.BatchNorm2d) and (type(module).forward is nn.BatchNorm2d.forward or hasattr(module, "act"))
    return own and type(convolution).forward is nn.Conv2d.forward


def fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights (C', C / groups, k, k) and bias (C',) of a convolution with its normalisation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    mean = norm.running_mean if convolution.bias is None else norm.running_mean - convolution.bias
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    return convolution.weight * scale.view(-1, 1, 1, 1), shift


def _folded_forward(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return convolution._conv_forward(x, *fold(convolution, norm))

    return forward


def identity(x: torch.Tensor) -> torch.Tensor:
    """Return the argument: the forward of a normalisation that is folded away."""
    return x


def after(norm: nn.BatchNorm2d) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what is left of a normalisation that is folded away: the dropout and the activation that timm's have inside."""
    parts = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if isinstance(part, nn.Module)]

    def run(x: torch.Tensor) -> torch.Tensor:  # a function: a module would become a child, and not the `forward`
        for part in parts:
            x = part(x)
        return x

    return run if parts else identity
