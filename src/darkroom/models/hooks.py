"""Observe the inputs and outputs of a network's modules while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

Observer = Callable[[Any, tuple[torch.Tensor, ...], torch.Tensor], None]


def observe(network: nn.Module, example: torch.Tensor, kinds: tuple[type[nn.Module], ...], observer: Observer) -> None:
    """Run a network once and call `observer(module, inputs, output)` at every use of a module of these kinds."""
    modules = [module for module in network.modules() if isinstance(module, kinds)]
    with observing(network, modules, observer), torch.inference_mode():
        network(example)


@contextmanager
def observing(network: nn.Module, modules: Iterable[nn.Module], observer: Observer) -> Iterator[None]:
    """Call `observer(module, inputs, output)` at every use of a module within the block, in order.

    The network is in evaluation mode; afterwards its modes and hooks are those of before.
    """
    hooks = [module.register_forward_hook(observer) for module in modules]
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
