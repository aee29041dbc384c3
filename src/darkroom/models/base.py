"""A classifier that takes pixels: preprocessing, an architecture from the registry, a linear head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn

from darkroom.core.errors import ParamsError, WeightsError

Step = Callable[[torch.Tensor], torch.Tensor]
Chain = tuple[list[Step], Step]  # from one feature map to the next, (N, C, H, W), and from the last one to the embedding
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes what the network was trained on; it travels with the weights.

    A file is decoded to RGB, brought to (image_size, image_size) uint8 by `resize` with transparent pixels on
    `background`, divided by 255 and normalised with `mean` and `std` per channel.
    """

    image_size: int
    resize: str
    background: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Preprocessing:
        plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        return cls(**plain)


class Normalize(nn.Module):
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32, normalised, in channels-last memory."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


class Features(Protocol):
    """What every architecture is, beside an nn.Module: (N, 3, S, S) float32, normalised, to embeddings (N, `dim`)."""

    dim: int

    def chain(self) -> Chain | None:
        """Return the steps that make the embedding, one after the other; None where there are no feature maps between them."""


def grey(images: torch.Tensor) -> torch.Tensor:
    """Return the mean of the channels, with equal weights: (N, C, S, S) to (N, 1, S, S)."""
    return images.mean(1, keepdim=True)


def _compact(spec: dict[str, Any], seed: int) -> nn.Module:
    from darkroom.models import compact

    unknown = spec.keys() - {"image_size", "width", "channels"}
    if unknown:
        raise ParamsError(f"compact has no option {', '.join(sorted(unknown))}", "its options are: width=16")
    return compact.Compact(compact.Spec(**spec), seed)


def _torchvision(spec: dict[str, Any], seed: int) -> nn.Module:
    from darkroom.models import backbones

    return backbones.Backbone(backbones.Spec(**spec), seed)


def _classic(spec: dict[str, Any], seed: int) -> nn.Module:
    from darkroom.models.architectures import features

    return features.Classic(features.Spec(**spec), seed)


BUILDERS: dict[str, Callable[[dict[str, Any], int], nn.Module]] = {
    "compact": _compact,
    "torchvision": _torchvision,
    "classic": _classic,
}


def build_features(architecture: dict[str, Any], seed: int = 0) -> nn.Module:
    """Build what a checkpoint's `architecture` describes: a module from images to embeddings, with its width in `dim`."""
    spec = dict(architecture)
    family = spec.pop("family", None)
    if family not in BUILDERS:
        raise WeightsError(f'the architecture family "{family}" is not known', "use the Darkroom that wrote this checkpoint")
    return BUILDERS[family](spec, seed)


class Network(nn.Module):
    """Preprocessing, features and a linear head.

    forward: (N, H, W, 3) uint8 to logits (N, classes) float32.
    """

    def __init__(self, features: nn.Module, preprocessing: Preprocessing, classes: int, seed: int = 0) -> None:
        super().__init__()
        self.normalize = Normalize(preprocessing.mean, preprocessing.std)
        self.features = features.to(memory_format=torch.channels_last)
        self.head = new_head(width(features), classes, seed)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(self.normalize(images)))

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


def width(features: nn.Module) -> int:
    """Return how many numbers an embedding has."""
    assert isinstance(features.dim, int)
    return features.dim


def chain_of(features: nn.Module) -> Chain | None:
    """Return the chain of an architecture's `Features`."""
    return cast(Features, features).chain()


def new_head(dim: int, classes: int, seed: int) -> nn.Linear:
    """Return a linear layer with small weights drawn from the seed and no bias yet."""
    head = nn.Linear(dim, classes)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head.weight.normal_(0, 0.01)
        head.bias.zero_()
    return head
