"""The learning-rate range test (Smith 2017): the rate grows exponentially, and the loss says where it is too high."""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import nn
from torch.nn import functional as F

from darkroom.studies.batches import Feed
from darkroom.studies.run_config import Member
from darkroom.training.optimizers import OPTIMIZERS

LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 100
SMOOTH = 0.9  # of the loss, exponentially
ENOUGH = 4.0  # times the least loss: the test ends
EDGES = 0.1  # share of the test, at its beginning, in which the smoothed loss says little


def find(network: nn.Module, feed: Feed, member: Member, steps: int = STEPS) -> tuple[float, list[list[float]]]:
    """Return the learning rate to train with, and the test as pairs of rate and smoothed loss; the network stays as it is.

    `network`: (N, C, S, S) to logits (N, classes). The rate is that at which the smoothed loss falls fastest, by the logarithm of
    the rate: a tenth of the rate with the least loss, which is also in use, was too small for SGD (docs/lab-notes.md).
    """
    trained = copy.deepcopy(network)
    trained.train()
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    options: list[dict[str, Any]] = [{"params": parameters, "lr": LOWEST}]
    optimizer = OPTIMIZERS[member.optimizer](options, member.weight_decay)
    average, least, tested = 0.0, math.inf, []
    for step, (x, y) in enumerate(feed.batches(member.seed, member.batch_size, steps)):
        lr = LOWEST * (HIGHEST / LOWEST) ** (step / max(steps - 1, 1))
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss = F.cross_entropy(trained(x), y)
        value = float(loss.detach())
        if not math.isfinite(value):
            break
        average = SMOOTH * average + (1 - SMOOTH) * value
        smoothed = average / (1 - SMOOTH ** (step + 1))
        tested.append([lr, smoothed])
        if smoothed > ENOUGH * least:
            break
        least = min(least, smoothed)
        loss.backward()
        optimizer.step()
    return steepest(tested), tested


def steepest(tested: list[list[float]]) -> float:
    """Return the rate of a range test at which the loss falls fastest; `LOWEST` where there is no test to speak of."""
    first = max(1, round(EDGES * len(tested)))
    falls = [(tested[i + 1][1] - tested[i - 1][1], tested[i][0]) for i in range(first, len(tested) - 1)]
    return float(f"{min(falls)[1] if falls else LOWEST:.3g}")
