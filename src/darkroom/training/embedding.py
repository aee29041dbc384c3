"""What a frozen network makes of images: computed once, in batches, memory-mapped where it is large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from darkroom.params import Compute
from darkroom.progress import Progress
from darkroom.training.loop import prepare

if TYPE_CHECKING:
    from darkroom.models.backbones import Backbone

BATCH = 32


def device_of(compute: Compute) -> torch.device:
    """Return the device that `compute.accelerator` names; `auto` is the best one there is."""
    if compute.accelerator != "auto":
        return torch.device(compute.accelerator)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def outputs(
    function: Callable[[torch.Tensor], torch.Tensor],
    images: np.ndarray,
    compute: Compute,
    progress: Progress,
    into: np.ndarray | None = None,
) -> np.ndarray:
    """Return what `function` makes of the images, (N, …) float32, in the order of the images.

    `function` takes (B, H, W, 3) uint8 on the device of `compute` and must be frozen. `into` is where to write, for
    results larger than memory.
    """
    device = device_of(compute)
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH])).to(device)
        with torch.inference_mode():
            made = function(batch).float().cpu().numpy()
        if into is None:
            into = np.empty((len(images), *made.shape[1:]), np.float32)
        into[start : start + len(made)] = made
        progress.advance(len(made))
    assert into is not None
    return into


def embed(function: nn.Module, views: np.ndarray, compute: Compute, what: str = "embedding") -> np.ndarray:
    """Return the embeddings of views (K, N, H, W, 3) uint8 as (K, N, D) float32."""
    prepare(compute)
    function = function.to(device_of(compute)).eval()
    with Progress(what, views.shape[0] * views.shape[1]) as progress:
        made = np.stack([outputs(function, view, compute, progress) for view in views])
    function.cpu()
    return made


def calibrate(function: nn.Module, images: np.ndarray, compute: Compute) -> bool:
    """Set the running statistics of batch normalisation to those of the images; tell whether there are any to set.

    `function` takes (B, H, W, 3) uint8. A network with random weights needs this: with statistics as initialised, the
    activations of a deep one vanish, and its embeddings say nothing. The statistics are cumulative averages over batches.
    """
    norms = [m for m in function.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return False
    prepare(compute)
    device = device_of(compute)
    function.to(device).eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad(), Progress("calibrating batch normalisation", len(images)) as progress:
        for start in range(0, len(images), 4 * BATCH):
            batch = np.ascontiguousarray(images[start : start + 4 * BATCH])
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


class Above(nn.Module):
    """Everything from a block on: the feature map (N, C, h, w) to logits (N, classes)."""

    def __init__(self, backbone: Backbone, head: nn.Module, cut: int) -> None:
        super().__init__()
        self.head, self.cut = head, cut
        self.backbone: Backbone = backbone

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = maps.contiguous(memory_format=torch.channels_last) if maps.ndim == 4 else maps
        return self.head(self.backbone.upper(maps, self.cut))


def maps(below: Below, views: np.ndarray, compute: Compute, scratch: Path, what: str) -> np.ndarray:
    """Return the feature maps of views (K, N, H, W, 3) as a memory map (K, N, C, h, w) float32 in the file `scratch`."""
    prepare(compute)
    below = below.to(device_of(compute)).eval()
    with torch.inference_mode():
        shape = below(torch.from_numpy(np.ascontiguousarray(views[0, :1])).to(device_of(compute))).shape[1:]
    scratch.parent.mkdir(parents=True, exist_ok=True)
    made = np.lib.format.open_memmap(scratch, "w+", np.float32, (*views.shape[:2], *shape))
    with Progress(what, views.shape[0] * views.shape[1]) as progress:
        for view, target in zip(views, made, strict=True):
            outputs(below, view, compute, progress, into=target)
    below.cpu()
    return made


class Standardized(nn.Module):
    """A linear head that sees each number of the embedding with mean 0 and deviation 1, which it trains on more easily.

    forward: (N, D) float32 to logits (N, classes). `fold` turns it into a head for the embeddings as they are.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, head: nn.Linear, embeddings: np.ndarray) -> None:
        super().__init__()
        flat = embeddings.reshape(-1, embeddings.shape[-1])
        std = flat.std(0, dtype=np.float64)
        self.head = head
        self.register_buffer("mean", torch.tensor(flat.mean(0, dtype=np.float64), dtype=torch.float32))
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
