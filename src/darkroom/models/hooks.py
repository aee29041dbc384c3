"""Look at what the modules of a network take and give, by running it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Look = Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], None]


def watch(network: nn.Module, example: torch.Tensor, kinds: tuple[type[nn.Module], ...], look: Look) -> None:
    """Call `look(module, inputs, output)` for every use of a module of these kinds, in order; the network is left as it was."""
    hooks = [module.register_forward_hook(look) for module in network.modules() if isinstance(module, kinds)]
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.inference_mode():
            network.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
