"""Autoencoders against principal components: the error of a code of k numbers, noise, images between two, and unusual images.

The best linear code is the projection on the first k principal components (Eckart and Young 1936). A linear
autoencoder that is trained on squared error has it as its only minimum, from any initial weights (Baldi and
Hornik 1989). A denoising autoencoder reads images with noise and is trained to write them without (Vincent et al. 2008).
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
from darkroom.evaluation import embedding_map
from darkroom.lab import drawing, plots
from darkroom.models.architectures import autoencoder
from darkroom.models.architectures.autoencoder import Autoencoder
from darkroom.training.batches import batches
from darkroom.training.loop import run_epoch
from darkroom.training.stepper import ParamGroup, Stepper, lr_factor

TRAIN_BATCH, EVAL_BATCH = 64, 500
MAX_IMAGES, TILE = 10, 84  # pictures in a row, and pixels a side of each
MAX_CLASSES = 10  # in the scatter plots
NOISE, HELD_OUT_NOISE = 1, 2  # streams of random numbers
LR = {"autoencoder_linear": 0.01, "autoencoder_conv": 0.004}


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
    centre, axes = _principal_axes(rows)
    errors = {}
    for code in codes:
        train_error, error = (float((_project(x, centre, axes[:, -code:]) - x).square().mean()) for x in (rows, others))
        errors[code] = train_error, error
    return errors


def pca_project(train: torch.Tensor, images: torch.Tensor, code: int) -> torch.Tensor:
    """Return images (N, C, S, S) projected on the first `code` principal components of the training images."""
    centre, axes = _principal_axes(train.flatten(1).double())
    return _project(images.flatten(1).double(), centre, axes[:, -code:]).float().view_as(images)


def _principal_axes(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of rows (N, D), and their principal axes (D, D), in ascending order of variance."""
    centre = rows.mean(0)
    return centre, torch.linalg.eigh((rows - centre).t() @ (rows - centre))[1]


def _project(rows: torch.Tensor, centre: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
    return centre + (rows - centre) @ components @ components.t()


def add_noise(images: torch.Tensor, deviation: float, seed: Sequence[int]) -> torch.Tensor:
    """Return images with Gaussian noise, whose deviation is in units of that of the training images."""
    noise = np.random.default_rng(seed).standard_normal(tuple(images.shape), np.float32)
    return images + deviation * torch.from_numpy(noise)


def train(name: str, images: torch.Tensor, code: int, epochs: int, seed: int, noise: float = 0.0, **options: Any) -> Autoencoder:
    """Return an autoencoder of the registry, trained on squared error from random weights, without labels.

    With `noise` it reads images with noise of this deviation, drawn anew in each epoch, and is compared with those without.
    """
    model = autoencoder.build(name, images.shape[2], images.shape[1], seed, {"code": code, **options})
    steps = epochs * len(batches(len(images), TRAIN_BATCH))
    stepper = Stepper([ParamGroup(list(model.parameters()))], "adamw", LR[name], schedule=lambda step: lr_factor(step, steps, 0))
    with Progress(f"{name}, code of {code}{', denoising' if noise else ''}", epochs, "epochs") as progress:
        for epoch in range(epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(images))
            inputs = add_noise(images, noise, [NOISE, seed, epoch]) if noise else images
            parts = (torch.from_numpy(batch) for batch in batches(len(images), TRAIN_BATCH, order))
            error = run_epoch(model, ((inputs[batch], images[batch]) for batch in parts), F.mse_loss, stepper)
            progress.advance(note=f"error {error:.4f}")
    return model.eval()


def reconstruct(model: Autoencoder, images: torch.Tensor) -> torch.Tensor:
    """Return the outputs for images (N, C, S, S)."""
    with torch.inference_mode():
        return torch.cat([model(x) for x in images.split(EVAL_BATCH)])


def errors(model: Autoencoder, images: torch.Tensor) -> np.ndarray:
    """Return the mean squared error of each image, (N,)."""
    return (reconstruct(model, images) - images).square().flatten(1).mean(1).numpy()


@dataclass(frozen=True)
class Denoised:
    """Held-out images with noise, and what is made of them: images (N, C, S, S) by name, and mean squared errors by name."""

    images: dict[str, torch.Tensor]
    errors: dict[str, float]


def denoise(images: StandardizedImages, plain: Autoencoder, denoising: Autoencoder, code: int, noise: float) -> Denoised:
    """Return what PCA, an autoencoder and a denoising one with codes of the same length make of held-out images with noise."""
    noisy = add_noise(images.held_out, noise, [HELD_OUT_NOISE])
    results = {
        "with noise": noisy, f"{code} principal components": pca_project(images.train, noisy, code),
        "autoencoder": reconstruct(plain, noisy), "denoising autoencoder": reconstruct(denoising, noisy),
    }  # fmt: skip
    return Denoised(results, {name: float((x - images.held_out).square().mean()) for name, x in results.items()})


def interpolate(model: Autoencoder, first: torch.Tensor, second: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `count` images from one (C, S, S) to another: means of their pixels, and decoded means of their codes."""
    share = torch.linspace(0, 1, count).view(-1, 1, 1, 1)
    with torch.inference_mode():
        start, end = model.encode(torch.stack([first, second]))
        return (1 - share) * first + share * second, model.decode((1 - share[:, :, 0, 0]) * start + share[:, :, 0, 0] * end)


def codes(model: Autoencoder, images: torch.Tensor) -> np.ndarray:
    """Return the codes of images, (N, k) float32."""
    with torch.inference_mode():
        return torch.cat([model.encode(x) for x in images.split(EVAL_BATCH)]).numpy()


def draw_rows(
    subset: Any, models: Mapping[tuple[str, int], Autoencoder], images: StandardizedImages, pca: Mapping[int, tuple[float, float]],
    denoised: Denoised | None = None,
) -> list[drawing.Row]:  # fmt: skip
    """Return the rows of a sheet. `subset` has the held-out images and labels, `models` are by kind and code."""
    pixels, labels = subset.held_out
    chosen = np.linspace(0, len(pixels) - 1, min(MAX_IMAGES, len(pixels))).round().astype(int)  # of all classes
    rows = [drawing.Row(_tiles(pixels[chosen]), "held-out images")]
    for (kind, code), model in models.items():
        with torch.inference_mode():
            reconstructed = images.to_pixels(model(images.held_out[chosen]))
        error = float(errors(model, images.held_out).mean())
        remark = f"{error:.1%} of the variance is lost; PCA {pca[code][1]:.1%}"
        rows.append(drawing.Row(_tiles(reconstructed), f"{kind}, code of {code}", remark))
    for name, results in (denoised.images if denoised else {}).items():
        remark = f"error {denoised.errors[name]:.1%} of the variance" if denoised else ""
        rows.append(drawing.Row(_tiles(images.to_pixels(results[chosen])), name, remark))
    if ("convolutional", max(pca)) in models and len(chosen) > 1:
        first, *_, last = images.held_out[chosen]
        between = interpolate(models["convolutional", max(pca)], first, last, MAX_IMAGES)
        for part, name in zip(between, ("means of the pixels of two images", "decoded means of their codes"), strict=True):
            rows.append(drawing.Row(_tiles(images.to_pixels(part)), name))
    names = [subset.classes[i] for i in labels]
    shown = set(sorted(set(names))[:MAX_CLASSES])
    is_shown = np.array([name in shown for name in names])
    maps = {}
    for kind in ("linear", "convolutional"):
        if (kind, max(pca)) in models:
            points, _ = embedding_map.pca(codes(models[kind, max(pca)], images.held_out))
            maps[f"{kind}: codes of {max(pca)}, two widest axes"] = points[is_shown]
    if len(maps) == 2:
        picture = plots.scatter(maps, [name for name in names if name in shown], np.zeros(int(is_shown.sum()), bool))
        rows.append(drawing.Row([drawing.Tile(picture)], "codes"))
    return rows


def _tiles(images: np.ndarray) -> list[drawing.Tile]:
    return [drawing.Tile(drawing.fit(np.repeat(image[0][..., None], 3, 2), TILE)) for image in images]
