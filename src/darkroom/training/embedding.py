"""What a frozen network makes of images: computed once, in batches, memory-mapped where it is large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from darkroom.config.params import Compute
from darkroom.core.progress import Progress
from darkroom.models import engine as engines
from darkroom.models.engine import Engine
from darkroom.training.batches import View, Views, arrays, batches
from darkroom.training.devices import AUTOCAST, prepare

if TYPE_CHECKING:
    from darkroom.models.backbones import Backbone

BATCH = 128  # images at a time where batch normalisation is calibrated


def engine_for(network: nn.Module, views: Views, compute: Compute) -> Engine:
    """Return the fastest engine for a frozen network whose answers to some of the views (K, N, …) are those of torch."""
    device = prepare(compute)
    whole = Whole(network.normalize, network.backbone, network.cut) if isinstance(network, Below) else None
    return engines.fastest(network.eval(), views[0], device, compute.threads, AUTOCAST.get(compute.precision), whole)


def outputs(engine: Engine, views: Views, what: str, files: Sequence[Path | None] = (None,)) -> list[np.ndarray]:
    """Return what a frozen network makes of views (K, N, …), in their order: arrays (K, N, …) float32, one for each of its answers.

    An array with a file is memory-mapped there, for what is larger than memory.
    """
    wanted = batches(views.shape[1], engine.batch, whole=True)
    made: list[np.ndarray] = []
    with Progress(f"{what} ({engine.name})", views.shape[0] * views.shape[1]) as progress:
        for k in range(views.shape[0]):
            for batch, answers in zip(wanted, engine.stream(arrays(views[k], wanted)), strict=True):
                if not made:
                    shapes = [(*views.shape[:2], *answer.shape[1:]) for answer in answers]
                    made = [_array(shape, file) for shape, file in zip(shapes, files, strict=True)]
                for whole, answer in zip(made, answers, strict=True):
                    whole[k, batch[0] : batch[-1] + 1] = answer
                progress.advance(len(batch))
    return made


def _array(shape: tuple[int, ...], file: Path | None) -> np.ndarray:
    return np.lib.format.open_memmap(file, "w+", np.float32, shape) if file else np.empty(shape, np.float32)


def calibrate(function: nn.Module, images: View, compute: Compute) -> bool:
    """Set the running statistics of batch normalisation to those of the images; tell whether there are any to set.

    `function` takes (B, H, W, 3) uint8. A network with random weights needs this: with statistics as initialised, the
    activations of a deep one vanish, and its embeddings say nothing. The statistics are cumulative averages over batches.
    """
    norms = [m for m in function.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return False
    device = prepare(compute)
    function.to(device).eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad(), Progress("calibrating batch normalisation", len(images)) as progress:
        for start in range(0, len(images), BATCH):
            batch = np.ascontiguousarray(images[start : start + BATCH])
            if len(batch) > 1:
                function(torch.from_numpy(batch).to(device))
            progress.advance(len(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    function.cpu().eval()
    return True


class Below(nn.Module):
    """Everything of a network before one of its blocks: (N, H, W, 3) uint8 to the feature map (N, C, h, w)."""

    def __init__(self, normalize: nn.Module, backbone: Backbone, cut: int) -> None:
        super().__init__()
        self.normalize, self.cut = normalize, cut
        self.backbone: Backbone = backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.backbone.lower(self.normalize(images), self.cut)


class Whole(Below):
    """A whole frozen network: (N, H, W, 3) uint8 to embeddings (N, D), and to the feature map (N, C, h, w) before block `cut`."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        passed = super().forward(images)
        return self.backbone.upper(passed, self.cut), passed


class Above(nn.Module):
    """Everything from a block on: the feature map (N, C, h, w) to logits (N, classes)."""

    def __init__(self, backbone: Backbone, head: nn.Module, cut: int) -> None:
        super().__init__()
        self.head, self.cut = head, cut
        self.backbone: Backbone = backbone

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = maps.contiguous(memory_format=torch.channels_last) if maps.ndim == 4 else maps
        return self.head(self.backbone.upper(maps, self.cut))


class Standardized(nn.Module):
    """A linear head that sees each number of the embedding with mean 0 and deviation 1, which it trains on more easily.

    forward: (N, D) float32 to logits (N, classes). `fold` turns it into a head for the embeddings as they are.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, head: nn.Linear, embeddings: np.ndarray) -> None:
        super().__init__()
        mean = embeddings.mean((0, 1), dtype=np.float64)
        squares = np.zeros_like(mean)
        for view in embeddings:
            for start in range(0, len(view), 4096):  # so that memory does not grow with the number of images
                squares += ((view[start : start + 4096] - mean) ** 2).sum(0)
        std = np.sqrt(squares / embeddings[..., 0].size)
        self.head = head
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(np.where(std > 1e-6, std, 1.0), dtype=torch.float32))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.head((embeddings - self.mean) / self.std)

    @torch.no_grad()
    def fold(self) -> None:
        """Put the scaling into the head's weights."""
        weight = self.head.weight.double() / self.std.double()
        bias = self.head.bias.double() - weight @ self.mean.double()
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)
