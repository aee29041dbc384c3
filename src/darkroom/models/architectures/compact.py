"""The default baseline: a compact convolutional network, small enough to train from scratch on a laptop.

Four stages of two 3×3 convolutions, each followed by batch normalisation (Ioffe and Szegedy 2015) and ReLU,
the plain VGG pattern (Simonyan and Zisserman 2015) at a fraction of its width; global average pooling (Lin et
al. 2014) instead of fully connected layers. Inputs above 64 pixels are first brought down by a strided stem.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from darkroom.models.base import Chain, Features, to_channels
from darkroom.models.init import kaiming
from darkroom.models.specs import CompactSpec

STAGES = (1, 2, 4, 8)  # width of each stage, in multiples of `width`


def _layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Compact(Features):
    """The convolutional part of the baseline.

    forward: (N, 3, S, S) float32, normalised, to (N, `dim`) float32.
    """

    def __init__(self, spec: CompactSpec, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        channels = spec.channels
        stages: list[nn.Module] = []
        if spec.image_size > 64:
            stages.append(_layer(channels, spec.width, kernel=5, stride=2))
            channels = spec.width
        size = spec.image_size // (2 if spec.image_size > 64 else 1)
        for factor in STAGES:
            width = spec.width * factor
            layers: list[nn.Module] = [_layer(channels, width), _layer(width, width)]
            if size >= 4:
                layers.append(nn.MaxPool2d(2))
                size //= 2
            stages.append(nn.Sequential(*layers))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.dim = channels
        kaiming(self, seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stages(to_channels(x, self.spec.channels)).mean((2, 3))

    def chain(self) -> Chain:
        layers = [layer for stage in self.stages for layer in stage.children()]
        return [partial(to_channels, channels=self.spec.channels), *layers], lambda x: x.mean((2, 3))
