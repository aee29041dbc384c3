"""Batch normalisation: its running statistics, and how a network that is trained from scratch gets usable ones.

The statistics that a network predicts with are a moving average over the batches of training (Ioffe and Szegedy
2015). It begins at mean 0 and variance 1 and follows the weights with a delay of about 1 / momentum steps. A
network that has made few steps, or has a small momentum, is at the level of chance with them, however well it has
learned. The remedy is to compute them again from training images (Wu and Johnson 2021, Rethinking "Batch" in
BatchNorm, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

MOMENTUM = 0.1  # PyTorch's default; MobileNetV3 has 0.01 and MNASNet 0.0003, which take thousands of steps to settle
SETTLED = 100  # steps after which the moving average with this momentum follows the weights
IMAGES = 1000  # training images from which statistics are computed again


def layers(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the layers of batch normalisation that keep running statistics."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.track_running_stats]


def set_momentum(network: nn.Module) -> None:
    """Raise the momentum of an untrained network's layers to `MOMENTUM`."""
    for norm in layers(network):
        if norm.momentum is not None:
            norm.momentum = max(norm.momentum, MOMENTUM)


def freeze(network: nn.Module) -> None:
    """Put batch normalisation into evaluation mode, where its running statistics do not change."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@torch.no_grad()
def recompute(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set the running statistics of the layers in training mode to the averages over batches of inputs.

    The network is left in evaluation mode. Batches of one input are left out: they have no variance.
    """
    norms = [norm for norm in layers(network) if norm.training]
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for batch in batches:
        if len(batch) > 1:
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
