"""Weights of hidden units before and after training: equal ones stay equal, since they get equal gradients.

A perceptron with one hidden layer is trained from each scheme of `models/init.py`. Its units are pictures, one weight a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from darkroom.lab import drawing
from darkroom.models import init
from darkroom.training.loop import run_epoch
from darkroom.training.stepper import ParamGroup, Stepper

BATCH, LR = 64, 0.01
SIDE = 72  # pixels of the picture of a unit
EQUAL = 1e-5  # of the largest weight: units that differ by less are the same


@dataclass(frozen=True)
class HiddenUnits:
    """The first weights of a perceptron, (units, S, S), before and after training, and its held-out accuracy."""

    scheme: str
    before: np.ndarray
    after: np.ndarray
    accuracy: float

    @property
    def distinct(self) -> int:
        """The number of units that differ from all others after training."""
        return count_distinct(self.after)


def count_distinct(weights: np.ndarray) -> int:
    """Return how many of the first axis' entries differ."""
    scale = EQUAL * max(float(np.abs(weights).max()), 1e-12)
    return len(np.unique(np.round(weights.reshape(len(weights), -1) / scale), axis=0))


def train(
    scheme: str, images: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray], units: int, steps: int, seed: int
) -> HiddenUnits:
    """Train a perceptron on grey images (N, 1, S, S) uint8 with labels (N,), from the weights of a scheme."""
    classes, side = int(images[1].max()) + 1, images[0].shape[2]
    mean, std = images[0].mean() / 255, max(images[0].std() / 255, 0.01)

    def standardize(pixels: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(pixels).float() / 255 - mean) / std

    first = nn.Linear(side * side, units)
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(units, classes))
    x, y = standardize(images[0]), torch.from_numpy(images[1])
    init.initialize(network, scheme, seed, x[:256])
    before = first.weight.detach().view(units, side, side).numpy().copy()
    stepper = Stepper([ParamGroup(list(network.parameters()))], "heavy_ball", LR)
    run_epoch(network, ((x[batch], y[batch]) for batch in _batches(len(x), steps, seed)), F.cross_entropy, stepper)
    with torch.inference_mode():
        accuracy = float((network(standardize(held_out[0])).argmax(1) == torch.from_numpy(held_out[1])).float().mean())
    return HiddenUnits(scheme, before, first.weight.detach().view(units, side, side).numpy(), accuracy)


def _batches(count: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        yield torch.from_numpy(generator.integers(0, count, BATCH))


def draw_rows(results: Sequence[HiddenUnits]) -> list[drawing.Row]:
    """Return a row of pictures before training and one after it for each scheme; zero is mid-grey."""
    rows = []
    for result in results:
        most = float(max(np.abs(result.before).max(), np.abs(result.after).max()))
        for name, weights in (("before", result.before), ("after training", result.after)):
            count = count_distinct(weights)
            remark = f"{count} of {len(weights)} units differ" if count > 1 else f"all {len(weights)} units are the same"
            if weights is result.after:
                remark += f"; held-out accuracy {result.accuracy:.3f}"
            tiles = [drawing.Tile(drawing.fit(drawing.signed(unit, most), SIDE)) for unit in weights]
            rows.append(drawing.Row(tiles, f"{result.scheme}, {name}", remark))
    return rows
