"""The learning-rate range test (Smith 2017)."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from darkroom.studies.batches import SampleLoader
from darkroom.studies.run_config import RunConfig
from darkroom.training.loop import ParamGroup, Stepper, run_epoch

LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 100
SMOOTHING = 0.9  # of the loss, exponentially
DIVERGED = 4.0  # times the lowest loss: the test ends
SKIPPED = 0.1  # share of the test, at its beginning, in which the smoothed loss is not reliable


def find(network: nn.Module, loader: SampleLoader, config: RunConfig) -> tuple[float, list[tuple[float, float]]]:
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
