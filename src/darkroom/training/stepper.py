"""An optimizer under a learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from darkroom.training.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning rate, given as a factor of the base rate.

    Those of `stacked` networks have a leading dimension, the number of the network.
    """

    parameters: list[nn.Parameter] = field(repr=False)
    factor: float = 1.0
    stacked: bool = False

    def by_decay(self) -> dict[bool, list[nn.Parameter]]:
        """Return the weights, which decay, and what does not: biases, and scales and shifts of normalisation."""
        parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in self.parameters:
            parts[parameter.ndim - self.stacked > 1].append(parameter)
        return {decays: part for decays, part in parts.items() if part}


def lr_factor(step: int, steps: int, warmup: int) -> float:
    """Return the factor of the learning rate: linear warm-up, then a cosine (Loshchilov and Hutter 2017)."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


class Stepper:
    """An optimizer under a learning-rate schedule; a call makes one step from a loss.

    `schedule` maps the number of a step, counted from 0, to a factor of the learning rate. `count` is the
    number of steps made. With `norm_interval` n, the norm of the gradient is computed at every n-th step. Only
    weights decay, not biases and normalisation. `reduce` is called with the parameters before each step, where other
    processes have computed a part of their gradients.
    """

    def __init__(
        self,
        groups: Sequence[ParamGroup],
        optimizer: str,
        lr: float,
        weight_decay: float = 0.0,
        schedule: Callable[[int], float] = lambda step: 1.0,
        *,
        scaler: torch.amp.GradScaler | None = None,
        norm_interval: int = 0,
        reduce: Callable[[Sequence[nn.Parameter]], None] | None = None,
    ) -> None:
        options = [
            {"params": part, "lr": lr * group.factor, "factor": group.factor, "weight_decay": weight_decay if decays else 0.0}
            for group in groups
            for decays, part in group.by_decay().items()
        ]
        self.optimizer = OPTIMIZERS[optimizer](options)
        self.groups, self.lr, self.schedule = groups, lr, schedule
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.norm_interval, self.reduce = norm_interval, reduce
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        self.norms: list[torch.Tensor] = []
        self.count = 0

    def __call__(self, loss: torch.Tensor) -> None:
        for option in self.optimizer.param_groups:
            option["lr"] = self.lr * option["factor"] * self.schedule(self.count)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.reduce:
            self.reduce(self.parameters)
        if self.norm_interval and self.count % self.norm_interval == 0:
            self.scaler.unscale_(self.optimizer)
            self.norms.append(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.count += 1

    def gradient_norm(self) -> float:
        """Return the mean of the norms since the last call."""
        norms, self.norms = self.norms, []
        return float(torch.stack(norms).mean())
