"""How the weights of a new network are drawn."""

from __future__ import annotations

import torch
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


@torch.no_grad()
def kaiming(network: nn.Module, seed: int, dense: float | None = 0.01) -> None:
    """Draw every weight anew, as torchvision does: He et al. (2015) for convolutions, N(0, `dense`²) for linear layers.

    With `dense=None` linear layers are drawn after He et al. as well, by the number of their inputs, which networks without
    normalisation need. Normalisations become the identity. The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                if dense is None:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, 0, dense)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, NORMS):
                module.reset_parameters()


def is_drawn(module: nn.Module) -> bool:
    """Tell whether `kaiming` draws everything that a module itself owns."""
    owned = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return not owned or isinstance(module, (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm))
