"""Autoencoders against principal components: how much of images a code of k numbers keeps, and which images it keeps badly.

The best linear code is the projection on the first k principal components (Eckart and Young 1936); a linear autoencoder that is
trained on squared error has it as its only minimum, whatever it begins with (Baldi and Hornik 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.models.architectures import autoencoder
from darkroom.models.architectures.autoencoder import Autoencoder
from darkroom.training.batches import batches
from darkroom.training.loop import rate
from darkroom.training.optimizers import OPTIMIZERS

BATCH, AT_ONCE = 64, 500
LR = {"autoencoder_linear": 0.01, "autoencoder_conv": 0.003}


@dataclass(frozen=True)
class Pixels:
    """Images (N, C, S, S) float32 around the mean image of those to train on, over their common deviation."""

    train: torch.Tensor
    held: torch.Tensor
    mean: torch.Tensor  # (1, C, S, S)
    std: float

    def given(self, images: np.ndarray) -> torch.Tensor:
        """Return images (N, C, S, S) uint8 as the networks take them."""
        return (torch.from_numpy(images).float() / 255 - self.mean) / self.std

    def shown(self, images: torch.Tensor) -> np.ndarray:
        """Return images as the networks give them as (N, C, S, S) uint8."""
        return ((images * self.std + self.mean) * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def pixels(train: np.ndarray, held: np.ndarray) -> Pixels:
    """Return uint8 images (N, C, S, S) as the networks take them."""
    mean = torch.from_numpy(train).float().mean(0, keepdim=True) / 255
    std = float((torch.from_numpy(train).float() / 255 - mean).square().mean().sqrt()) or 1.0
    empty = torch.empty(0)
    given = Pixels(empty, empty, mean, std).given
    return Pixels(given(train), given(held), mean, std)


def principal(train: torch.Tensor, held: torch.Tensor, codes: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Return, by the number of components, PCA's mean squared error on the images that made it and on others.

    Raises ParamsError for a code that is no shorter than the images.
    """
    rows, others = (x.flatten(1).double() for x in (train, held))
    most = min(rows.shape[1], len(rows) - 1)
    if max(codes) >= most:
        raise ParamsError(f"a code of {max(codes)} numbers keeps all of {len(rows)} images of {rows.shape[1]} pixels", "give less")
    centre = rows.mean(0)
    _, axes = torch.linalg.eigh((rows - centre).t() @ (rows - centre))  # in ascending order
    found = {}
    for code in codes:
        kept = axes[:, -code:]
        found[code] = tuple(float(((x - centre) - (x - centre) @ kept @ kept.t()).square().mean()) for x in (rows, others))
    return found  # type: ignore[return-value]


def train(name: str, images: torch.Tensor, code: int, epochs: int, seed: int) -> Autoencoder:
    """Return an autoencoder of the registry, trained on squared error from random weights; labels have no part in it."""
    model = autoencoder.build(name, images.shape[2], images.shape[1], seed, {"code": code})
    model.train()
    optimizer = OPTIMIZERS["adamw"]([{"params": list(model.parameters()), "lr": LR[name]}], 0.0)
    count = len(batches(len(images), BATCH))
    step = 0
    with Progress(f"{name}, code of {code}", epochs, "epochs") as progress:
        for epoch in range(epochs):
            for batch in batches(len(images), BATCH, np.random.default_rng([seed, epoch]).permutation(len(images))):
                x = images[torch.from_numpy(batch)]
                optimizer.param_groups[0]["lr"] = LR[name] * rate(step, epochs * count, 0)
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), x)
                loss.backward()
                optimizer.step()
                step += 1
            progress.advance(note=f"error {float(loss.detach()):.4f}")
    return model.eval()


def errors(model: Autoencoder, images: torch.Tensor) -> np.ndarray:
    """Return the mean squared error of each image, (N,): how badly the code keeps it, which is high for what is unlike the rest."""
    with torch.inference_mode():
        return torch.cat([(model(x) - x).square().flatten(1).mean(1) for x in images.split(AT_ONCE)]).numpy()


def codes(model: Autoencoder, images: torch.Tensor) -> np.ndarray:
    """Return the codes of images, (N, k) float32."""
    with torch.inference_mode():
        return torch.cat([model.encode(x) for x in images.split(AT_ONCE)]).numpy()
