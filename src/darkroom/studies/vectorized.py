"""Several networks of one architecture as one module whose training step is the step of each of them.

Their weights are stacked (`torch.func.stack_module_state`). A perceptron has a forward pass of its own: all
networks see the same images, so their first layers are one wide matrix product, the others batched products.
Other networks go through `torch.vmap`, which turns their convolutions into grouped ones. That is slower than
one network after another on a CPU, so it is done on GPUs only.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from darkroom.models.hooks import observe

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity)


class SingleNetwork(nn.Module):
    """One network with the interface of a stack: (N, C, S, S) to logits (1, N, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.only = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.only(x)[None]

    def network(self, number: int) -> nn.Module:
        """Return a copy of the network."""
        return copy.deepcopy(self.only)


class StackedNetworks(nn.Module):
    """K networks of the same shape: (N, C, S, S) to logits (K, N, classes)."""

    def __init__(self, networks: Sequence[nn.Module], example: torch.Tensor) -> None:
        super().__init__()
        self.count = len(networks)
        stacked, _ = stack_module_state(list(networks))
        self.names = list(stacked)
        self.weights = nn.ParameterList([nn.Parameter(stacked[name].detach()) for name in self.names])
        self._template = [copy.deepcopy(networks[0])]  # in a list, so that its parameters are not this module's
        self.chain = dense_chain(networks[0], example)
        names = {module: name for name, module in networks[0].named_modules()}
        self.indices = [self.names.index(f"{names[layer]}.weight") if isinstance(layer, nn.Linear) else -1 for layer in self.chain]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.chain:
            weights = dict(zip(self.names, self.weights, strict=True))
            return torch.vmap(self._forward_one, in_dims=(0, None), randomness="error")(weights, x)
        x = x.flatten(1)
        for layer, index in zip(self.chain, self.indices, strict=True):
            if index < 0:
                x = layer(x)
                continue
            weight, bias = self.weights[index], self.weights[index + 1]
            if x.dim() == 2:  # the images, which all networks share
                wide = torch.addmm(bias.flatten(), x, weight.flatten(0, 1).t())
                x = wide.unflatten(1, (self.count, -1)).transpose(0, 1)
            else:
                x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
        return x

    def _forward_one(self, weights: dict[str, torch.Tensor], x: torch.Tensor) -> Any:
        return functional_call(self._template[0], weights, (x,))

    def network(self, number: int) -> nn.Module:
        """Return a copy of a network of the stack."""
        network = copy.deepcopy(self._template[0])
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(self.weights[self.names.index(name)][number])
        return network


def dense_chain(network: nn.Module, example: torch.Tensor) -> list[nn.Module]:
    """Return the layers of a perceptron in order, without `nn.Flatten`; an empty list for any other network."""
    leaves = [m for m in network.modules() if next(m.children(), None) is None and not isinstance(m, nn.Sequential)]
    if not all(isinstance(leaf, (nn.Flatten, nn.Linear, *ACTIVATIONS)) for leaf in leaves):
        return []
    if any(leaf.bias is None for leaf in leaves if isinstance(leaf, nn.Linear)):
        return []
    order: list[nn.Module] = []
    observe(network, example, (nn.Linear, *ACTIVATIONS), lambda module, *_: order.append(module))
    return order


def is_faster(network: nn.Module, example: torch.Tensor, device: torch.device) -> bool:
    """Tell whether several such networks are trained faster as a stack: perceptrons always, others on a GPU.

    Networks with batch normalisation or dropout cannot be stacked.
    """
    if next(network.buffers(), None) is not None or any(isinstance(m, nn.modules.dropout._DropoutNd) for m in network.modules()):
        return False
    return device.type == "cuda" or bool(dense_chain(network, example))


def ensemble(networks: Sequence[nn.Module], example: torch.Tensor) -> SingleNetwork | StackedNetworks:
    """Return one network, or several of one architecture, as one module."""
    return SingleNetwork(networks[0]) if len(networks) == 1 else StackedNetworks(networks, example)
