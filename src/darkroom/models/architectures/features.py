"""A classic architecture as features (images to embeddings) or, with its last linear layer, as the paper's
classifier.

**Small images.** Networks for ImageNet's 224 pixels would throw away most of an image of 28 or 32. Up to 64
pixels the first convolution has stride 1 (`layers.stem`), as a backbone's; pooling is left out where its
window is larger than the map (`layers.pooled`); fully connected layers take a map of the paper's size or of
the image's, whichever is smaller (`layers.Grid`). Above 64 pixels networks are the paper's own. Networks for
32 pixels keep their strides at any size.

**Grey.** With one channel an RGB image becomes the mean of its three channels, with equal weights, after
normalisation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from darkroom.models.architectures import registry
from darkroom.models.base import Chain, Features, new_head, to_channels
from darkroom.models.init import SkipInit, is_drawn, kaiming
from darkroom.models.specs import ArchitectureSpec

Layers = dict[str, nn.Module]


class Parts(NamedTuple):
    """A family's result: a chain of feature maps, the layers from the last one to the embedding, its width."""

    body: Layers
    neck: Layers
    dim: int


class Classic(Features):
    """A classic architecture without its last linear layer.

    forward: (N, 3, S, S) float32, normalised, to (N, `dim`) float32; with `spec.channels` 1 also (N, 1, S,
    S). The weights are drawn from `seed`; with None they have shapes and no values. Raises ParamsError for an
    unknown name or option.
    """

    def __init__(self, spec: ArchitectureSpec, seed: int | None = 0) -> None:
        super().__init__()
        self.spec = spec
        with SkipInit():  # drawn once, below
            parts: Parts = registry.make(spec.name, spec.image_size, spec.channels, spec.options)
        self.body = nn.Sequential(OrderedDict(parts.body))
        self.neck = nn.Sequential(OrderedDict(parts.neck))
        self.dim = parts.dim
        draw(self, seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neck(self.body(to_channels(x, self.spec.channels)))

    def chain(self) -> Chain | None:
        return ([partial(to_channels, channels=self.spec.channels), *self.body], self.neck) if len(self.body) else None


def draw(network: nn.Module, seed: int | None) -> None:
    """Draw all weights of a new network after He et al. (2015), linear layers too; None leaves them without
    values.

    Raises TypeError for a module whose weights would stay without values.
    """
    undrawn = [type(module).__name__ for module in network.modules() if not is_drawn(module)]
    if undrawn:
        raise TypeError(f"the weights of {', '.join(sorted(set(undrawn)))} would stay undrawn: use Conv2d, Linear and BatchNorm2d")
    if seed is not None:
        kaiming(network, seed, dense=None)


def classifier(
    name: str,
    classes: int | None = None,
    channels: int | None = None,
    size: int | None = None,
    seed: int | None = 0,
    options: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return the paper's whole classifier, `features` and `head`: (N, channels, S, S) float32 to logits (N,
    classes).

    By default the classes, channels and size are those of its paper.
    """
    entry = registry.entry(name)
    classes = classes or entry.classes
    features = Classic(ArchitectureSpec(name, size or entry.size, channels or entry.channels, options or {}), seed)
    if seed is None:
        with SkipInit():
            head = nn.Linear(features.dim, classes)
    else:
        head = new_head(features.dim, classes, seed)
    return nn.Sequential(OrderedDict(features=features, head=head))
