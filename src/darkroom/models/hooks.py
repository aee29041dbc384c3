"""Observe the inputs and outputs of a network's modules by running it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Observer = Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], None]


def observe(network: nn.Module, example: torch.Tensor, kinds: tuple[type[nn.Module], ...], observer: Observer) -> None:
    """Call `observer(module, inputs, output)` at every use of a module of these kinds, in order.

    The network runs in evaluation mode; afterwards its modes and hooks are those of before.
    """
    hooks = [module.register_forward_hook(observer) for module in network.modules() if isinstance(module, kinds)]
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.inference_mode():
            network.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
