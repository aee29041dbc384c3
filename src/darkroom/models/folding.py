"""Batch normalisation with frozen statistics as part of the convolution before it.

Where statistics do not change, batch normalisation is a scale and a shift per channel (Ioffe and Szegedy 2015), which the
convolution's own weights and bias can carry. Computed anew in every step from the parameters of both, this is the same
function with the same gradients, without a pass over the feature maps forth and back for each normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from darkroom.models.hooks import watch
from darkroom.models.patching import replaced


@contextmanager
def folded(model: nn.Module, example: torch.Tensor, batch: int) -> Iterator[int]:
    """Fold, for the length of a block, every batch normalisation that a convolution feeds; yield how many there are.

    `example` is an input of the model, `batch` how many inputs it will be given at a time: where a convolution has more weights
    than it makes numbers, scaling the weights would cost more than it saves. Running statistics do not change inside the block.
    """
    found = pairs(model, example, batch)
    functions: dict[nn.Module, Callable[[torch.Tensor], torch.Tensor]] = dict.fromkeys((norm for _, norm in found), unchanged)
    functions |= {convolution: _forward(convolution, norm) for convolution, norm in found}
    with replaced(functions):
        yield len(found)


def pairs(model: nn.Module, example: torch.Tensor, batch: int) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return the convolutions worth folding whose answer goes to a batch normalisation alone, by running the model once."""
    made: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}
    seen: dict[nn.Module, int] = {}
    taken: dict[nn.Module, int] = {}  # by how many modules
    found: dict[nn.Conv2d, Any] = {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if next(module.children(), None) is not None:
            return
        seen[module] = seen.get(module, 0) + 1
        for given in inputs:
            if id(given) not in made:
                continue
            convolution, answer = made[id(given)]
            taken[convolution] = taken.get(convolution, 0) + 1
            normalizes = isinstance(module, nn.BatchNorm2d) and module.track_running_stats
            if normalizes and answer[0].numel() * batch >= convolution.weight.numel():
                found[convolution] = module
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module, output

    watch(model, example, (nn.Module,), note)
    return [(c, n) for c, n in found.items() if seen[c] == seen[n] == taken[c] == 1 and c.padding_mode == "zeros"]


def carried(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights (C', C / groups, k, k) and the bias (C',) of a convolution that does its normalisation as well."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    mean = norm.running_mean if convolution.bias is None else norm.running_mean - convolution.bias
    shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
    return convolution.weight * scale.view(-1, 1, 1, 1), shift


def _forward(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return convolution._conv_forward(x, *carried(convolution, norm))

    return forward


def unchanged(x: torch.Tensor) -> torch.Tensor:
    """Return its argument: the forward of a normalisation that a convolution carries."""
    return x
