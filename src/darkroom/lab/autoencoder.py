"""Autoencoders against principal components: the error of a code of k numbers, and unusual images.

The best linear code is the projection on the first k principal components (Eckart and Young 1936). A linear
autoencoder that is trained on squared error has it as its only minimum, from any initial weights (Baldi and
Hornik 1989).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.lab import drawing, embedding, plots
from darkroom.models.architectures import autoencoder
from darkroom.models.architectures.autoencoder import Autoencoder
from darkroom.training.batches import batches
from darkroom.training.loop import run_epoch
from darkroom.training.stepper import ParamGroup, Stepper, lr_factor

TRAIN_BATCH, EVAL_BATCH = 64, 500
MAX_IMAGES, TILE = 10, 84  # pictures in a row, and pixels a side of each
MAX_CLASSES = 10  # in the scatter plots
LR = {"autoencoder_linear": 0.01, "autoencoder_conv": 0.003}


@dataclass(frozen=True)
class StandardizedImages:
    """Images (N, C, S, S) float32, minus the mean training image, over the deviation of its pixels."""

    train: torch.Tensor
    held_out: torch.Tensor
    mean: torch.Tensor  # (1, C, S, S)
    std: float

    def standardize(self, images: np.ndarray) -> torch.Tensor:
        """Return images (N, C, S, S) uint8 as the networks take them."""
        return (torch.from_numpy(images).float() / 255 - self.mean) / self.std

    def to_pixels(self, images: torch.Tensor) -> np.ndarray:
        """Return the networks' outputs as (N, C, S, S) uint8."""
        return ((images * self.std + self.mean) * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def standardize(train: np.ndarray, held_out: np.ndarray) -> StandardizedImages:
    """Return images (N, C, S, S) uint8 as the networks take them."""
    mean = torch.from_numpy(train).float().mean(0, keepdim=True) / 255
    std = float((torch.from_numpy(train).float() / 255 - mean).square().mean().sqrt()) or 1.0
    empty = torch.empty(0)
    transform = StandardizedImages(empty, empty, mean, std).standardize
    return StandardizedImages(transform(train), transform(held_out), mean, std)


def pca_errors(train: torch.Tensor, held_out: torch.Tensor, codes: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Return, by the number of components, PCA's mean squared error on training and held-out images.

    Raises ParamsError for a code that is no shorter than the images.
    """
    rows, others = (x.flatten(1).double() for x in (train, held_out))
    most = min(rows.shape[1], len(rows) - 1)
    if max(codes) >= most:
        raise ParamsError(
            f"a code of {max(codes)} numbers is not shorter than {len(rows)} images of {rows.shape[1]} pixels", "give less"
        )
    centre = rows.mean(0)
    _, axes = torch.linalg.eigh((rows - centre).t() @ (rows - centre))  # in ascending order
    errors = {}
    for code in codes:
        components = axes[:, -code:]
        train_error, error = (
            float(((x - centre) - (x - centre) @ components @ components.t()).square().mean()) for x in (rows, others)
        )
        errors[code] = train_error, error
    return errors


def train(name: str, images: torch.Tensor, code: int, epochs: int, seed: int) -> Autoencoder:
    """Return an autoencoder of the registry, trained on squared error from random weights, without labels."""
    model = autoencoder.build(name, images.shape[2], images.shape[1], seed, {"code": code})
    steps = epochs * len(batches(len(images), TRAIN_BATCH))
    stepper = Stepper([ParamGroup(list(model.parameters()))], "adamw", LR[name], schedule=lambda step: lr_factor(step, steps, 0))
    with Progress(f"{name}, code of {code}", epochs, "epochs") as progress:
        for epoch in range(epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(images))
            parts = (images[torch.from_numpy(batch)] for batch in batches(len(images), TRAIN_BATCH, order))
            error = run_epoch(model, ((x, x) for x in parts), F.mse_loss, stepper)
            progress.advance(note=f"error {error:.4f}")
    return model.eval()


def errors(model: Autoencoder, images: torch.Tensor) -> np.ndarray:
    """Return the mean squared error of each image, (N,)."""
    with torch.inference_mode():
        return torch.cat([(model(x) - x).square().flatten(1).mean(1) for x in images.split(EVAL_BATCH)]).numpy()


def codes(model: Autoencoder, images: torch.Tensor) -> np.ndarray:
    """Return the codes of images, (N, k) float32."""
    with torch.inference_mode():
        return torch.cat([model.encode(x) for x in images.split(EVAL_BATCH)]).numpy()


def draw_rows(
    subset: Any, models: Mapping[tuple[str, int], Autoencoder], images: StandardizedImages, pca: Mapping[int, tuple[float, float]]
) -> list[drawing.Row]:
    """Return the rows of a sheet. `subset` has the held-out images and labels, `models` are by kind and code."""
    pixels, labels = subset.held_out
    chosen = np.linspace(0, len(pixels) - 1, min(MAX_IMAGES, len(pixels))).round().astype(int)  # of all classes
    rows = [drawing.Row(_tiles(pixels[chosen]), "held-out images")]
    for (kind, code), model in models.items():
        with torch.inference_mode():
            reconstructed = images.to_pixels(model(images.held_out[torch.from_numpy(chosen)]))
        error = float(errors(model, images.held_out).mean())
        remark = f"{error:.1%} of the variance is lost; PCA {pca[code][1]:.1%}"
        rows.append(drawing.Row(_tiles(reconstructed), f"{kind}, code of {code}", remark))
    names = [subset.classes[i] for i in labels]
    shown = set(sorted(set(names))[:MAX_CLASSES])
    is_shown = np.array([name in shown for name in names])
    maps = {}
    for kind in ("linear", "convolutional"):
        if (kind, max(pca)) in models:
            points, _ = embedding.pca(codes(models[kind, max(pca)], images.held_out))
            maps[f"{kind}: codes of {max(pca)}, two widest axes"] = points[is_shown]
    if len(maps) == 2:
        picture = plots.scatter(maps, [name for name in names if name in shown], np.zeros(int(is_shown.sum()), bool))
        rows.append(drawing.Row([drawing.Tile(picture)], "codes"))
    return rows


def _tiles(images: np.ndarray) -> list[drawing.Tile]:
    return [drawing.Tile(drawing.fit(np.repeat(image[0][..., None], 3, 2), TILE)) for image in images]
