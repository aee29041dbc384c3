"""Adam, AdamW and SGD, by torch's functional form of them.

The classes of `torch.optim` import torch's compiler, which takes as long as torch itself; the arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd


class Optimizer:
    """What `torch.optim` and `torch.amp.GradScaler` expect of an optimizer, as far as the training loop needs it.

    `param_groups` is a list of {"params": [parameters], "lr": learning rate}, whose rates may be changed between steps.
    Parameters without a gradient are left alone.
    """

    def __init__(self, param_groups: list[dict[str, Any]], weight_decay: float) -> None:
        self.param_groups, self.weight_decay = param_groups, weight_decay

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self.update(parameters, [parameter.grad for parameter in parameters], group["lr"])

    def update(self, parameters: list[nn.Parameter], gradients: list[torch.Tensor], lr: float) -> None:
        raise NotImplementedError


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): weight decay is a part of the gradient."""

    rule: Callable[..., None] = staticmethod(adam)

    def __init__(self, param_groups: list[dict[str, Any]], weight_decay: float) -> None:
        super().__init__(param_groups, weight_decay)
        self.state: dict[nn.Parameter, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def update(self, parameters: list[nn.Parameter], gradients: list[torch.Tensor], lr: float) -> None:
        for parameter in parameters:
            if parameter not in self.state:
                steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
                self.state[parameter] = torch.zeros_like(parameter), torch.zeros_like(parameter), steps
        means, squares, steps_ = (list(part) for part in zip(*(self.state[p] for p in parameters), strict=True))
        self.rule(
            parameters, gradients, means, squares, [], steps_, fused=True, amsgrad=False,  # type: ignore[arg-type]
            beta1=0.9, beta2=0.999, lr=lr, weight_decay=self.weight_decay, eps=1e-8, maximize=False,
        )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    rule = staticmethod(adamw)


class SGD(Optimizer):
    """Stochastic gradient descent, by default with Nesterov's momentum (Sutskever et al. 2013)."""

    def __init__(
        self, param_groups: list[dict[str, Any]], weight_decay: float, momentum: float = 0.9, nesterov: bool = True
    ) -> None:
        super().__init__(param_groups, weight_decay)
        self.momentum, self.nesterov = momentum, nesterov
        self.state: dict[nn.Parameter, torch.Tensor | None] = {}

    def update(self, parameters: list[nn.Parameter], gradients: list[torch.Tensor], lr: float) -> None:
        buffers = [self.state.get(parameter) for parameter in parameters]
        sgd(
            parameters, gradients, buffers, fused=True, weight_decay=self.weight_decay,  # type: ignore[arg-type]
            momentum=self.momentum, lr=lr, dampening=0.0, nesterov=self.nesterov, maximize=False,
        )  # fmt: skip
        self.state.update(zip(parameters, buffers, strict=True))


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], float], Optimizer]] = {
    "adamw": AdamW,
    "sgd": SGD,
    "adam": Adam,
    "heavy_ball": partial(SGD, nesterov=False),  # Polyak 1964
    "plain_sgd": partial(SGD, momentum=0.0, nesterov=False),
}
