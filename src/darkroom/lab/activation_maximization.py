"""Images that a part of a network answers most to (Erhan et al. 2009), kept from being noise.

The image is its Fourier spectrum with decorrelated colours (Olah et al. 2017), or its pixels with total variation held down
(Mahendran and Vedaldi 2015); either is shifted, scaled and turned a little in each step (Mordvintsev et al. 2015), so that no
single pixel counts.
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
Objective = Callable[[torch.Tensor], torch.Tensor]
# how the channels of natural images vary together: columns of the square root of their covariance in ImageNet (Olah et al. 2017)
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


def channels(network: nn.Module, layer: str, wanted: Sequence[int]) -> Objective:
    """Return what gives for images (N, S, S, 3), 0 to 255, the mean of channel `wanted[i]` of a layer for the i-th one, (N,)."""
    module = layers.find(network, layer)

    def objective(images: torch.Tensor) -> torch.Tensor:
        with layers.watched(network, [layer]) as found:
            network(images)
        output = layers.output(network, found, layer)
        shaped = output if output.ndim == 2 else layers.maps(output, module)
        if shaped is None:
            raise ParamsError(f"the output of {layer} has no channels", "name a convolution, an activation or the head")
        _within(layer, wanted, shaped.shape[1])
        picked = shaped[torch.arange(len(images)), list(wanted)]
        return picked.flatten(1).mean(1) if picked.ndim > 1 else picked

    return objective


def classes(network: nn.Module, wanted: Sequence[int]) -> Objective:
    """Return what gives for the i-th image the logit of class `wanted[i]`: the probability could rise by lowering the others."""

    def objective(images: torch.Tensor) -> torch.Tensor:
        return network(images)[torch.arange(len(images)), list(wanted)]

    return objective


def _within(layer: str, wanted: Sequence[int], count: int) -> None:
    for channel in wanted:
        if not 0 <= channel < count:
            raise ParamsError(f"{layer} has no channel {channel}", f"it has {count}: --channel may be 0 to {count - 1}")


def maximize(
    objective: Objective, count: int, size: int, steps: int = 192, lr: float = 0.05, parametrization: str = "fourier",
    grey: bool = False, jitter: bool = True, variation: float = 0.0, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return images (count, size, size, 3) uint8 and the objective at the start and the end, (2, count) float32.

    `grey`: one value for all channels, for networks that saw grey images alone. `variation` weighs the total variation, pixels
    have 1 where it is 0. Raises ParamsError where the objective has no gradient anywhere.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        make, drawn = _fourier(count, size, grey) if parametrization == "fourier" else _pixels(count, size, grey)
        weight = variation or (1.0 if parametrization == "pixels" else 0.0)
        optimizer = torch.optim.Adam([drawn], lr if parametrization == "fourier" else lr * 0.6)
        history: list[torch.Tensor] = []
        moved = False
        with Progress("maximize", steps, "steps") as progress:
            for _ in range(steps):
                images = make()
                if not history:
                    with torch.no_grad():
                        history.append(objective(_given(images)).float())
                value = objective(_given(_moved(images) if jitter else images)).sum()
                optimizer.zero_grad()
                (-value).backward(retain_graph=weight > 0)
                moved = moved or (drawn.grad is not None and bool((drawn.grad != 0).any()))
                if not moved:
                    raise ParamsError(
                        "what is to be maximised does not depend on the image near the start: the channel is silent",
                        "name another channel, or the layer before the activation",
                    )
                if weight:
                    (weight * _variation(images)).backward()
                optimizer.step()
                progress.advance()
        with torch.no_grad():
            images = make()
            history.append(objective(_given(images)).float())
    shown = _given(images).round().clamp(0, 255).to(torch.uint8).numpy()
    return shown, torch.stack(history).numpy()


def _given(images: torch.Tensor) -> torch.Tensor:
    """Return (N, 3, S, S) from 0 to 1 as a network takes them: (N, S, S, 3) from 0 to 255."""
    return images.permute(0, 2, 3, 1) * 255


def _fourier(count: int, size: int, grey: bool) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    """Return what makes images (N, 3, S, S) from 0 to 1, and spectra that it makes them of, each frequency of equal weight."""
    across, down = torch.fft.rfftfreq(size), torch.fft.fftfreq(size)[:, None]
    scale = size / (across**2 + down**2).sqrt().clamp(min=1 / size)
    spectrum = (0.01 * torch.randn(count, 1 if grey else 3, *scale.shape, 2)).requires_grad_()
    colours = torch.tensor(_COLOURS)
    colours = colours / colours.norm(dim=0).max()

    def make() -> torch.Tensor:
        plain = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, (size, size)) / 4
        mixed = plain.expand(-1, 3, -1, -1) if grey else torch.einsum("nchw,dc->ndhw", plain, colours)
        return mixed.sigmoid()

    return make, spectrum


def _pixels(count: int, size: int, grey: bool) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    values = (0.1 * torch.randn(count, 1 if grey else 3, size, size)).requires_grad_()
    return lambda: values.expand(-1, 3, -1, -1).sigmoid(), values


def _variation(images: torch.Tensor) -> torch.Tensor:
    """Return the total variation, as the sum over images of the mean difference between neighbours."""
    return sum(images.diff(dim=axis).abs().mean((1, 2, 3)).sum() for axis in (2, 3) if images.shape[axis] > 1) + images.sum() * 0


def _moved(images: torch.Tensor) -> torch.Tensor:
    """Return images turned by up to 5°, scaled by up to 5% and shifted by up to a sixteenth, drawn anew for all of them."""
    angle, scale = (torch.rand(2) * 2 - 1) * torch.tensor([math.radians(5), 0.05])
    shift = (torch.rand(2) * 2 - 1) / 8
    cos, sin = angle.cos() * (1 + scale), angle.sin() * (1 + scale)
    matrix = torch.stack([torch.stack([cos, -sin, shift[0]]), torch.stack([sin, cos, shift[1]])])
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
