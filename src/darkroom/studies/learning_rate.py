"""Learning rates: schedules, a factor for each step after a linear warm-up, and the range test (Smith 2017)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.core.errors import ParamsError, nearest
from darkroom.studies.run_config import RunConfig
from darkroom.studies.samples import SampleLoader
from darkroom.training.loop import run_epoch
from darkroom.training.stepper import ParamGroup, Stepper, lr_factor

Schedule = Callable[[int, int, int], float]  # (step, steps, warm-up steps) to a factor
DROPS = ((0.5, 0.1), (0.75, 0.01))  # (share of the steps, factor from there on), as in He et al. 2016
RISE = 0.3  # share of the steps in which `one_cycle` rises
LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 100  # of the range test
SMOOTHING = 0.9  # of the loss, exponentially
DIVERGED = 4.0  # times the lowest loss: the test ends
SKIPPED = 0.1  # share of the test, at its beginning, in which the smoothed loss is not reliable


def constant(step: int, steps: int, warmup: int) -> float:
    """A constant rate after the warm-up."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def stepwise(step: int, steps: int, warmup: int) -> float:
    """A tenth after half of the steps, a hundredth after three quarters (He et al. 2016)."""
    return constant(step, steps, warmup) * min([1.0, *(factor for share, factor in DROPS if step >= share * steps)])


def linear(step: int, steps: int, warmup: int) -> float:
    """A straight line to zero."""
    return (step + 1) / warmup if step < warmup else 1 - (step - warmup) / max(steps - warmup, 1)


def one_cycle(step: int, steps: int, warmup: int) -> float:
    """A linear rise for three tenths, then a cosine to zero (Smith and Topin 2019), at constant momentum."""
    return lr_factor(step, steps, max(warmup, round(RISE * steps)))


SCHEDULES: dict[str, Schedule] = {
    "cosine": lr_factor, "constant": constant, "step": stepwise, "linear": linear, "one_cycle": one_cycle,
}  # fmt: skip


def schedule(name: str) -> Schedule:
    """Return a schedule. Raises ParamsError, with the nearest name, if there is no such schedule."""
    if name not in SCHEDULES:
        raise ParamsError(f'there is no schedule "{name}"{nearest(name, SCHEDULES)}', f"choose from {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


def range_test(network: nn.Module, loader: SampleLoader, config: RunConfig) -> tuple[float, list[tuple[float, float]]]:
    """Return the learning rate to train with, and the test as (rate, smoothed loss).

    The network is not changed. `network`: (N, C, S, S) to logits (N, classes). The rate grows exponentially
    over `STEPS` steps; the result is the rate at which the smoothed loss falls fastest, over the logarithm of
    the rate. Another common choice, a tenth of the rate with the lowest loss, was too small for SGD
    (docs/lab-notes.md).
    """
    test: list[tuple[float, float]] = []
    average, lowest = 0.0, math.inf

    def record(loss: torch.Tensor, *_: torch.Tensor) -> bool:
        """Return whether the test ends."""
        nonlocal average, lowest
        if not math.isfinite(loss):
            return True
        step = len(test)
        average = SMOOTHING * average + (1 - SMOOTHING) * float(loss)
        smoothed = average / (1 - SMOOTHING ** (step + 1))
        test.append((LOWEST * factor(step), smoothed))
        lowest, diverged = min(lowest, smoothed), smoothed > DIVERGED * lowest
        return diverged

    def factor(step: int) -> float:
        return (HIGHEST / LOWEST) ** (step / (STEPS - 1))

    trained = copy.deepcopy(network)
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    stepper = Stepper([ParamGroup(parameters)], config.optimizer, LOWEST, config.weight_decay, factor)
    run_epoch(trained, loader.batches(config.seed, config.batch_size, STEPS), F.cross_entropy, stepper, record)
    return steepest(test), test


def steepest(test: list[tuple[float, float]]) -> float:
    """Return the rate of a range test at which the loss falls fastest; `LOWEST` if the test is too short."""
    first = max(1, round(SKIPPED * len(test)))
    slopes = [(test[i + 1][1] - test[i - 1][1], test[i][0]) for i in range(first, len(test) - 1)]
    return float(f"{min(slopes)[1] if slopes else LOWEST:.3g}")
