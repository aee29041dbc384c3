"""The outputs of a frozen network for many images, computed in batches, memory-mapped where large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import nn

from darkroom.config.params import Compute
from darkroom.core import array_files
from darkroom.core.progress import Progress
from darkroom.models import engine as engines
from darkroom.models.base import Backbone
from darkroom.models.engine import Engine
from darkroom.training import normalization, processes
from darkroom.training.batches import View, Views, batches, load_batches
from darkroom.training.blocks import Blocks
from darkroom.training.devices import AUTOCAST, device_of, prepare

FLOAT16 = float(np.finfo(np.float16).max)
BATCH = 128  # images at a time where batch normalisation is calibrated


def engine_for(network: nn.Module, views: Views, compute: Compute) -> Engine:
    """Return the fastest engine for a frozen network, checked against torch on some of the views (K, N, …)."""
    device = prepare(compute)
    return engines.select_engine(network.eval(), views[0], device, compute.threads, AUTOCAST.get(compute.precision))


def engine_identity(compute: Compute) -> str:
    """Return what of the machine and `compute` decides the last digits of outputs."""
    return engines.identity(device_of(compute.accelerator), AUTOCAST.get(compute.precision))


def run_network(
    engine: Engine,
    views: Views,
    description: str,
    files: Sequence[Path | None] = (None,),
    blocks: Blocks | None = None,
    dtypes: Sequence[DTypeLike] = (np.float32, np.float32),
) -> list[np.ndarray]:
    """Return the outputs of a frozen network for views (K, N, …): an array (K, N, …) of its type for each of its
    outputs. What is beyond the range of float16 becomes its largest number.

    An array with a file is memory-mapped there, for outputs that are larger than memory. With `blocks` they are in its
    files, and a run after a kill goes on. Several processes compute a range of these batches each, so that the bytes are those of
    one, and return when all have done so.
    """
    count = views.shape[1]
    order = batches(count, engine.batch, keep_single=True)
    numbers = np.arange(views.shape[0] * len(order))  # of all batches
    own = processes.share(numbers) if blocks else numbers
    rows = [number // len(order) * count + order[number % len(order)][[0, -1]] for number in own]  # first and last of each
    first, stop = (int(rows[0][0]), int(rows[-1][1]) + 1) if rows else (0, 0)
    done = first + (blocks.load(first) if blocks else 0)
    arrays: list[np.ndarray] = blocks.arrays if blocks else []
    with Progress(f"{description} ({engine.name})", stop - first) as progress:
        progress.advance(done - first)
        for k in range(views.shape[0]):
            rest = [batch for batch in order if done <= k * count + batch[0] < stop]
            for batch, outputs in zip(rest, engine.stream(load_batches(views[k], rest)), strict=True):
                if not arrays:
                    shapes = [(*views.shape[:2], *output.shape[1:]) for output in outputs]
                    if blocks:
                        blocks.allocate(shapes, dtypes)
                    allocated = zip(shapes, files, dtypes, strict=False)
                    arrays = blocks.arrays if blocks else [_allocate(*triple) for triple in allocated]
                for array, output in zip(arrays, outputs, strict=True):
                    if array.dtype == np.float16:
                        output = output.clip(-FLOAT16, FLOAT16)
                    array[k, batch[0] : batch[-1] + 1] = output
                progress.advance(len(batch))
                if blocks:
                    blocks.add(first + progress.done, progress.done == progress.total)
    if blocks:
        processes.all_of(True)  # waits for the others
        return arrays or blocks.open()  # a process may have had no batch
    return arrays


def _allocate(shape: tuple[int, ...], file: Path | None, dtype: DTypeLike) -> np.ndarray:
    return array_files.create(file, dtype, shape) if file else np.empty(shape, dtype)


def calibrate(network: nn.Module, images: View, compute: Compute) -> bool:
    """Set the running statistics of batch normalisation to those of the images; return whether there are any
    to set.

    `network` takes (B, H, W, 3) uint8. A deep network with random weights needs this: with the initial
    statistics its activations vanish. The statistics are cumulative averages over batches.
    """
    if not normalization.layers(network):
        return False
    device = prepare(compute)
    network.to(device).train()
    with Progress("calibrating batch normalisation", len(images)) as progress:

        def batches() -> Iterator[torch.Tensor]:
            for start in range(0, len(images), BATCH):
                batch = np.ascontiguousarray(images[start : start + BATCH])
                yield torch.from_numpy(batch).to(device)
                progress.advance(len(batch))

        normalization.recompute(network, batches())
    network.cpu()
    return True


class LowerPart(nn.Module):
    """A network up to one of its blocks: (N, H, W, 3) uint8 to the feature map (N, C, h, w)."""

    def __init__(self, normalize: nn.Module, backbone: Backbone, cut: int) -> None:
        super().__init__()
        self.normalize, self.cut = normalize, cut
        self.backbone: Backbone = backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.backbone.lower(self.normalize(images), self.cut)


class FeaturesAndMaps(LowerPart):
    """(N, H, W, 3) uint8 to embeddings (N, D), to the feature map (N, C, h, w) before block `cut` and, for `steps` above 0, to the
    means (N, M) of that after so many blocks."""

    def __init__(self, normalize: nn.Module, backbone: Backbone, cut: int, steps: int = 0) -> None:
        super().__init__(normalize, backbone, cut)
        self.steps = steps

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        kept, x, start = {}, self.normalize(images), 0
        for place in sorted({self.cut, self.steps}):
            x = self.backbone.between(x, start, place)
            kept[place], start = x, place
        means = (self.backbone.mean(kept[self.steps]),) if self.steps else ()
        return self.backbone.upper(x, start), kept[self.cut], *means


class UpperPart(nn.Module):
    """A network from a block on: the feature map (N, C, h, w) to logits (N, classes)."""

    def __init__(self, backbone: Backbone, head: nn.Module, cut: int) -> None:
        super().__init__()
        self.head, self.cut = head, cut
        self.backbone: Backbone = backbone

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(maps))

    def embed(self, maps: torch.Tensor) -> torch.Tensor:
        """Return embeddings (N, D) float32."""
        maps = maps.float()
        maps = maps.contiguous(memory_format=torch.channels_last) if maps.ndim == 4 else maps
        return self.backbone.upper(maps, self.cut)


class StandardizedHead(nn.Module):
    """A linear head on standardised embeddings: each number with mean 0, and standard deviation 1 if it varies
    as much as the numbers do on average (root mean square), which is easier to train. Numbers that vary less are
    not enlarged beyond that: of few images they are mostly noise, and other images lie hundreds of deviations away.

    forward: (N, D) float32 to logits (N, classes). `fold` turns `head` into a head for the embeddings as they
    are.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, head: nn.Linear, embeddings: np.ndarray) -> None:
        super().__init__()
        mean = embeddings.mean((0, 1), dtype=np.float64)
        squares = np.zeros_like(mean)
        for view in embeddings:
            for start in range(0, len(view), 4096):  # memory stays constant
                squares += ((view[start : start + 4096] - mean) ** 2).sum(0)
        variance = squares / embeddings[..., 0].size
        std = np.sqrt(np.maximum(variance, variance.mean()))
        self.head = head
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(np.where(std > 0, std, 1.0), dtype=torch.float32))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.head((embeddings - self.mean) / self.std)

    @torch.no_grad()
    def fold(self) -> None:
        """Put the scaling into the head's weights."""
        weight = self.head.weight.double() / self.std.double()
        bias = self.head.bias.double() - weight @ self.mean.double()
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)
