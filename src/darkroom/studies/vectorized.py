"""Several networks of one architecture as one module, whose step is the step of each: the same sums, fewer calls.

Their weights are stacked (`torch.func.stack_module_state`). Perceptrons are computed by hand: all members see the same images, so
their first layers are one wide matrix product, and the others batched ones. Other networks go through `torch.vmap`, which makes
grouped convolutions of theirs: slower than one after the other on a CPU, so that is done on GPUs alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from darkroom.models.hooks import watch

POINTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity)


class Alone(nn.Module):
    """One network in the form of a stack: forward: (N, C, S, S) to logits (1, N, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)[None]

    def member(self, number: int) -> nn.Module:
        """Return a copy of a member, to be looked at."""
        return copy.deepcopy(self.network)


class Stack(nn.Module):
    """K networks that share their shapes: forward: (N, C, S, S) to logits (K, N, classes)."""

    def __init__(self, networks: Sequence[nn.Module], example: torch.Tensor) -> None:
        super().__init__()
        self.count = len(networks)
        stacked, _ = stack_module_state(list(networks))
        self.names = list(stacked)
        self.weights = nn.ParameterList([nn.Parameter(stacked[name].detach()) for name in self.names])
        self._template = [copy.deepcopy(networks[0])]  # in a list: not a part of this module
        self.chain = dense_chain(networks[0], example)
        names = {module: name for name, module in networks[0].named_modules()}
        self.places = [self.names.index(f"{names[layer]}.weight") if isinstance(layer, nn.Linear) else -1 for layer in self.chain]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.chain:
            return torch.vmap(self._one, in_dims=(0, None), randomness="error")(dict(zip(self.names, self.weights, strict=True)), x)
        x = x.flatten(1)
        for layer, place in zip(self.chain, self.places, strict=True):
            if place < 0:
                x = layer(x)
                continue
            weight, bias = self.weights[place], self.weights[place + 1]
            if x.dim() == 2:  # the same for all members
                wide = torch.addmm(bias.flatten(), x, weight.flatten(0, 1).t())
                x = wide.unflatten(1, (self.count, -1)).transpose(0, 1)
            else:
                x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
        return x

    def _one(self, weights: dict[str, torch.Tensor], x: torch.Tensor) -> Any:
        return functional_call(self._template[0], weights, (x,))

    def member(self, number: int) -> nn.Module:
        """Return a member as a network of its own, with a copy of its weights."""
        made = copy.deepcopy(self._template[0])
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                parameter.copy_(self.weights[self.names.index(name)][number])
        return made


def dense_chain(network: nn.Module, example: torch.Tensor) -> list[nn.Module]:
    """Return the layers of a perceptron, in order, without what flattens the images; nothing for any other network."""
    leaves = [m for m in network.modules() if next(m.children(), None) is None and not isinstance(m, nn.Sequential)]
    if not all(isinstance(leaf, (nn.Flatten, nn.Linear, *POINTWISE)) for leaf in leaves):
        return []
    if any(leaf.bias is None for leaf in leaves if isinstance(leaf, nn.Linear)):
        return []
    order: list[nn.Module] = []
    watch(network, example, (nn.Linear, *POINTWISE), lambda module, *_: order.append(module))
    return order


def is_worth_it(network: nn.Module, example: torch.Tensor, device: torch.device) -> bool:
    """Tell whether several of these networks are trained faster in one step: perceptrons anywhere, others on a GPU.

    Networks with batch normalisation or dropout are trained one by one.
    """
    if next(network.buffers(), None) is not None or any(isinstance(m, nn.modules.dropout._DropoutNd) for m in network.modules()):
        return False
    return device.type == "cuda" or bool(dense_chain(network, example))


def ensemble(networks: Sequence[nn.Module], example: torch.Tensor) -> Alone | Stack:
    """Return one network, or several of one architecture, as one module."""
    return Alone(networks[0]) if len(networks) == 1 else Stack(networks, example)
