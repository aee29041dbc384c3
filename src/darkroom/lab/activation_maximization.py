"""Images that maximise a channel or a class (Erhan et al. 2009), with priors against noise.

The image is its Fourier spectrum with decorrelated colours (Olah et al. 2017), or its pixels with a penalty
on total variation (Mahendran and Vedaldi 2015). Either is shifted, scaled and rotated a little in each step
(Mordvintsev et al. 2015), so that no single pixel matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.lab import layers

PARAMETRIZATIONS = ("fourier", "pixels")
Objective = Callable[[torch.Tensor], torch.Tensor]  # images (N, S, S, 3), 0 to 255 → what is maximised, (N,)
# columns of the square root of the covariance of the channels in ImageNet (Olah et al. 2017)
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


def channel_objective(network: nn.Module, layer: str, channels: Sequence[int]) -> Objective:
    """Return an objective: for the i-th image the mean of channel `channels[i]` of a layer."""
    module = layers.find_layer(network, layer)

    def objective(images: torch.Tensor) -> torch.Tensor:
        with layers.recording(network, [layer]) as outputs:
            network(images)
        output = layers.to_channels(layers.output_of(network, outputs, layer), module, layer)
        for channel in channels:
            if not 0 <= channel < output.shape[1]:
                raise ParamsError(f"{layer} has no channel {channel}", f"--channel may be 0 to {output.shape[1] - 1}")
        chosen = output[torch.arange(len(images)), list(channels)]
        return chosen.flatten(1).mean(1) if chosen.ndim > 1 else chosen

    return objective


def class_objective(network: nn.Module, classes: Sequence[int]) -> Objective:
    """Return an objective: the logit of class `classes[i]` for the i-th image."""
    return lambda images: network(images)[torch.arange(len(images)), list(classes)]


def maximize(
    objective: Objective, count: int, size: int, steps: int = 192, lr: float = 0.05, parametrization: str = "fourier",
    grey: bool = False, jitter: bool = True, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return images (count, size, size, 3) uint8 and the first and last objective, (2, count) float32.

    `grey`: one value for all channels, for networks that were trained on grey images. Raises ParamsError if
    the objective has no gradient anywhere.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        has_penalty = parametrization == "pixels"
        build, parameters = (_pixels if has_penalty else _fourier)(count, size, grey)
        optimizer = torch.optim.Adam([parameters], lr * 0.6 if has_penalty else lr)
        history: list[torch.Tensor] = []
        has_gradient = False
        with Progress("maximize", steps, "steps") as progress:
            for _ in range(steps):
                images = build()
                if not history:
                    with torch.no_grad():
                        history.append(objective(_to_input(images)).float())
                value = objective(_to_input(_jitter(images) if jitter else images)).sum()
                optimizer.zero_grad()
                (-value).backward(retain_graph=has_penalty)
                has_gradient = has_gradient or (parameters.grad is not None and bool((parameters.grad != 0).any()))
                if not has_gradient:
                    raise ParamsError(
                        "the objective has no gradient near the start: the channel is inactive",
                        "name another channel, or the layer before the activation",
                    )
                if has_penalty:
                    _total_variation(images).backward()
                optimizer.step()
                progress.advance()
        with torch.no_grad():
            images = build()
            history.append(objective(_to_input(images)).float())
    return _to_input(images).round().clamp(0, 255).to(torch.uint8).numpy(), torch.stack(history).numpy()


def _to_input(images: torch.Tensor) -> torch.Tensor:
    """Return (N, 3, S, S) from 0 to 1 as a network's input: (N, S, S, 3) from 0 to 255."""
    return images.permute(0, 2, 3, 1) * 255


def _fourier(count: int, size: int, grey: bool) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    """Return a function that builds images (N, 3, S, S) from 0 to 1, and their spectra."""
    across, down = torch.fft.rfftfreq(size), torch.fft.fftfreq(size)[:, None]
    scale = size / (across**2 + down**2).sqrt().clamp(min=1 / size)
    spectrum = (0.01 * torch.randn(count, 1 if grey else 3, *scale.shape, 2)).requires_grad_()
    colours = torch.tensor(COLOURS)
    colours = colours / colours.norm(dim=0).max()

    def build() -> torch.Tensor:
        plain = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, (size, size)) / 4
        mixed = plain.expand(-1, 3, -1, -1) if grey else torch.einsum("nchw,dc->ndhw", plain, colours)
        return mixed.sigmoid()

    return build, spectrum


def _pixels(count: int, size: int, grey: bool) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    values = (0.1 * torch.randn(count, 1 if grey else 3, size, size)).requires_grad_()
    return lambda: values.expand(-1, 3, -1, -1).sigmoid(), values


def _total_variation(images: torch.Tensor) -> torch.Tensor:
    """Return the sum over images of the mean difference between neighbours."""
    return sum(images.diff(dim=axis).abs().mean((1, 2, 3)).sum() for axis in (2, 3) if images.shape[axis] > 1) + images.sum() * 0


def _jitter(images: torch.Tensor) -> torch.Tensor:
    """Return images alike rotated by up to 5°, scaled by up to 5% and shifted by up to a sixteenth."""
    angle, scale = (torch.rand(2) * 2 - 1) * torch.tensor([math.radians(5), 0.05])
    shift = (torch.rand(2) * 2 - 1) / 8
    cos, sin = angle.cos() * (1 + scale), angle.sin() * (1 + scale)
    matrix = torch.stack([torch.stack([cos, -sin, shift[0]]), torch.stack([sin, cos, shift[1]])])
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def first_channels(network: nn.Module, layer: str, size: int, most: int) -> list[int]:
    """Return the numbers of the first channels of a layer; raises ParamsError if it has none."""
    module = layers.find_layer(network, layer)
    outputs = layers.record(network, torch.zeros(1, size, size, 3, dtype=torch.uint8), [layer])
    channels = layers.to_channels(layers.output_of(network, outputs, layer), module, layer)
    return list(range(min(most, channels.shape[1])))
