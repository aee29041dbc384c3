"""Weight initialisation: the schemes of papers by name, and the one that Darkroom's own networks use
(`kaiming`).

A scheme draws the weight of each convolution and linear layer, the last one too; biases start at zero,
normalisations as the identity. n is the number of inputs of a unit, m the number of units that it feeds
(kernel included). A kernel counts as a matrix (units, n).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from darkroom.core.errors import ParamsError, nearest
from darkroom.models.hooks import observe

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
WEIGHTED = (nn.Conv2d, nn.Linear)
_FILLERS = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_, torch.Tensor.erfinv_}
TOLERANCE, MAX_ROUNDS = 0.01, 10  # of LSUV: distance from unit variance, corrections
MIN_VARIANCE = 1e-12  # below it the outputs of a layer are the same for all images, and no factor helps


@dataclass(frozen=True)
class Scheme:
    """How a weight is drawn in place, and the paper; `by_data` then scales layers by their outputs."""

    draw: Callable[[torch.Tensor], object]
    summary: str
    paper: str = ""
    by_data: bool = False


SCHEMES: dict[str, Scheme] = {
    "zeros": Scheme(nn.init.zeros_, "all 0: no gradient reaches any layer but the last"),
    "ones": Scheme(nn.init.ones_, "all 1: all units of a layer are the same one"),
    "constant": Scheme(partial(nn.init.constant_, val=0.01), "all 0.01: the same, with smaller sums"),
    "uniform": Scheme(nn.init.uniform_, "U(0, 1): of one sign, and too large"),
    "uniform_fan": Scheme(
        lambda weight: nn.init.uniform_(weight, -1 / math.sqrt(weight[0].numel()), 1 / math.sqrt(weight[0].numel())),
        "U(±1/√n), variance 1/(3n): the common heuristic, a third of the variance of LeCun et al. (1998)",
        "Glorot and Bengio 2010, eq. 1",
    ),
    "normal": Scheme(partial(nn.init.normal_, std=0.01), "N(0, 0.01²), whatever n is", "Krizhevsky et al. 2012"),
    "xavier": Scheme(nn.init.xavier_normal_, "variance 2/(n + m); a ReLU halves it", "Glorot and Bengio 2010"),
    "kaiming": Scheme(partial(nn.init.kaiming_normal_, nonlinearity="relu"), "variance 2/n, for ReLU", "He et al. 2015"),
    "orthogonal": Scheme(nn.init.orthogonal_, "a random orthogonal matrix; a ReLU halves the variance", "Saxe et al. 2014"),
    "lsuv": Scheme(nn.init.orthogonal_, "orthogonal, then scaled to outputs of variance 1", "Mishkin and Matas 2016", by_data=True),
}  # fmt: skip


def scheme(name: str) -> Scheme:
    """Return a scheme by name; ParamsError with the nearest one where there is none."""
    if name not in SCHEMES:
        raise ParamsError(f'there is no initialisation "{name}"{nearest(name, SCHEMES)}', f"there are {', '.join(SCHEMES)}")
    return SCHEMES[name]


@torch.no_grad()
def initialize(network: nn.Module, name: str, seed: int, example: torch.Tensor | None = None) -> None:
    """Draw all weights of a network anew by a scheme, without changing the global random state.

    `example` is a batch of the network's inputs, which `lsuv` needs. With the same seed, schemes that draw
    from the same distribution draw the same numbers.
    """
    chosen = scheme(name)
    _draw_weights(network, seed, lambda module: chosen.draw(module.weight))
    if chosen.by_data:
        if example is None:
            raise ValueError(f"{name} needs a batch of inputs")
        unit_variance(network, example)


@torch.no_grad()
def unit_variance(network: nn.Module, example: torch.Tensor) -> None:
    """Scale each weight, in the order of the layers, until the outputs of its layer have variance 1 (Mishkin
    and Matas 2016).

    Layers with constant outputs are left alone. The network runs in evaluation mode; its mode is restored.
    """
    mode = network.training
    network.eval()
    order: dict[nn.Module, None] = {}
    observe(network, example, WEIGHTED, lambda module, *_: order.setdefault(module))
    for module in order:
        variances: list[torch.Tensor] = []
        hook = module.register_forward_hook(lambda _module, _inputs, output, out=variances: out.append(output.var()))
        for _ in range(MAX_ROUNDS):
            variances.clear()
            network(example)
            variance = float(variances[0])
            if abs(variance - 1) < TOLERANCE or variance < MIN_VARIANCE:
                break
            assert isinstance(module, WEIGHTED)
            module.weight /= math.sqrt(variance)
        hook.remove()
    network.train(mode)


@torch.no_grad()
def kaiming(network: nn.Module, seed: int, dense: float | None = 0.01) -> None:
    """Draw every weight anew, as torchvision does: He et al. (2015) for convolutions, N(0, `dense`²) for
    linear layers.

    With `dense=None` linear layers are drawn after He et al. as well, by the number of their inputs, which
    networks without normalisation need. Normalisations become the identity. The global random state does not
    change.
    """

    def draw(module: nn.Conv2d | nn.Linear) -> None:
        if isinstance(module, nn.Linear) and dense is not None:
            nn.init.normal_(module.weight, 0, dense)
        else:
            is_kernel = isinstance(module, nn.Conv2d)
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if is_kernel else "fan_in", nonlinearity="relu")

    _draw_weights(network, seed, draw)


def _draw_weights(network: nn.Module, seed: int, draw: Callable[[nn.Conv2d | nn.Linear], object]) -> None:
    """Draw each weight in place; biases become 0, normalisations the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, WEIGHTED):
                draw(module)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, NORMS):
                module.reset_parameters()


def is_drawn(module: nn.Module) -> bool:
    """Tell whether `kaiming` draws everything that a module itself owns."""
    owned = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return not owned or isinstance(module, (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm))


class SkipInit(TorchFunctionMode):
    """A context in which initialisers leave tensors as they are, for networks whose weights are drawn or
    loaded later.

    On the meta device, where tensors have shapes and no values, drawing them would import torch's compiler.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func in _FILLERS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
