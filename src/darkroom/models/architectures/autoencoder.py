"""Autoencoders (Hinton and Salakhutdinov 2006): images through a narrow code and back, without labels.

The linear one, trained on squared error, spans the space of the first principal components (Baldi and Hornik
1989). The convolutional one enlarges maps by repeating pixels before it convolves them, which leaves no
checkerboard (Odena et al. 2016).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from darkroom.models.architectures import registry
from darkroom.models.architectures.features import draw
from darkroom.models.architectures.layers import normed
from darkroom.models.architectures.registry import AUTOENCODER, architecture
from darkroom.models.init import SkipInit, initialize

# He et al.'s variance, 2/n, is for layers with a ReLU after them; it makes the outputs of one channel, and codes, far too large
SCHEME = "uniform_fan"


class Autoencoder(nn.Module):
    """An encoder and a decoder: (N, C, S, S) float32, normalised, to codes (N, k) and back."""

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(images)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return self.decoder(codes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(images))


def build(name: str, size: int, channels: int = 3, seed: int | None = 0, options: Mapping[str, Any] | None = None) -> Autoencoder:
    """Return an autoencoder with weights drawn from `seed` (None: without values).

    Raises ParamsError for an unknown name or option.
    """
    with SkipInit():
        model: Autoencoder = registry.make(name, size, channels, options or {}, AUTOENCODER)
    draw(model, None)
    if seed is not None:
        initialize(model, SCHEME, seed)
    return model


@architecture("Baldi and Hornik 1989", size=28, channels=1, kind="autoencoder")
def autoencoder_linear(size: int, channels: int, *, code: int = 32) -> Autoencoder:
    """One linear layer to the code and one back."""
    pixels = channels * size * size
    decoder = nn.Sequential(nn.Linear(code, pixels), nn.Unflatten(1, (channels, size, size)))
    return Autoencoder(nn.Sequential(nn.Flatten(1), nn.Linear(pixels, code)), decoder)


@architecture("Hinton and Salakhutdinov 2006", size=28, channels=1, kind="autoencoder")
def autoencoder_conv(size: int, channels: int, *, code: int = 32, width: int = 16, relu: bool = True) -> Autoencoder:
    """Two strided convolutions and a linear layer to the code; the same back, with maps enlarged. Without `relu` it is linear."""
    half = (size + 1) // 2
    quarter = (half + 1) // 2
    numbers = 2 * width * quarter * quarter
    encoder = nn.Sequential(
        normed(channels, width, stride=2, activation=_relu(relu)),
        normed(width, 2 * width, stride=2, activation=_relu(relu)),
        nn.Flatten(1), nn.Linear(numbers, code),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(code, numbers), *([nn.ReLU()] * relu), nn.Unflatten(1, (2 * width, quarter, quarter)),
        nn.Upsample(half), normed(2 * width, width, activation=_relu(relu)),
        nn.Upsample(size), nn.Conv2d(width, channels, 3, padding=1),
    )  # fmt: skip
    return Autoencoder(encoder, decoder)


def _relu(is_wanted: bool) -> nn.ReLU | None:
    return nn.ReLU() if is_wanted else None
