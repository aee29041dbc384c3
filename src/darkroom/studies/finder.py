"""The learning-rate range test (Smith 2017): the rate grows exponentially, and the loss says where it is too high."""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import nn

from darkroom.studies.feeding import Feed
from darkroom.studies.members import Member
from darkroom.training.optimizers import OPTIMIZERS

LOWEST, HIGHEST, STEPS = 1e-5, 10.0, 100
SMOOTH = 0.9  # of the loss, exponentially
ENOUGH = 4.0  # times the least loss: the test ends
BELOW = 10.0  # the rate that is taken is this part of the one with the least loss


def find(network: nn.Module, feed: Feed, member: Member, steps: int = STEPS) -> tuple[float, list[list[float]]]:
    """Return the learning rate to train with, and the test as pairs of rate and smoothed loss; the network stays as it is.

    `network`: (N, C, S, S) to logits (N, classes). The rate is a tenth of that at which the smoothed loss is least.
    """
    from torch.nn import functional as F

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
    lowest = min(tested, key=lambda pair: pair[1])[0] if tested else LOWEST * BELOW
    return float(f"{lowest / BELOW:.3g}"), tested
