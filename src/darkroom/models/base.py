"""The base classes of networks: features with a linear head, and backbones that are cut between blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn

from darkroom.models.mahalanobis import Mahalanobis
from darkroom.models.specs import MAX_SIZE, BackboneSpec

Step = Callable[[torch.Tensor], torch.Tensor]
Chain = tuple[list[Step], Step]  # from one feature map to the next, (N, C, H, W), and from the last one to the embedding
Mean = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Level = Annotated[int, Field(ge=0, le=255)]
Channels = tuple[float, float, float]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SMALL_IMAGE = 64  # images of at most this many pixels keep their resolution through the first convolution


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes the input that a network was trained on; it is stored with the weights.

    A file is decoded to RGB, brought to (image_size, image_size) uint8 by `resize` with transparent pixels on
    `background`, divided by 255 and normalised with `mean` and `std` per channel.
    """

    image_size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    resize: Literal["crop", "pad", "stretch"]
    background: tuple[Level, Level, Level]
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]


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


class Features(nn.Module):
    """A network without its last linear layer: (N, 3, S, S) float32, normalised, to embeddings (N, `dim`)."""

    dim: int

    def chain(self) -> Chain | None:
        """Return the steps to the embedding; None where there are no feature maps between them."""
        raise NotImplementedError

    def step_count(self) -> int:
        """Return the number of steps between which there are feature maps, or tokens; 0 where there are none."""
        chain = self.chain()
        return len(chain[0]) if chain else 0

    def levels(self, x: torch.Tensor, steps: int) -> tuple[torch.Tensor, ...]:
        """Return the embeddings (N, `dim`) and, for 1 step or more, the means (N, M) of the feature maps after so many."""
        if not steps:
            return (self(x),)
        chain = self.chain()
        assert chain
        for step in chain[0][:steps]:
            x = step(x)
        means = x.mean((2, 3))
        for step in chain[0][steps:]:
            x = step(x)
        return chain[1](x), means


class Backbone(Features):
    """A network of a library, `net`, as a chain of blocks that can be frozen one by one.

    With `spec.head` `pooled` the embedding is the global average of the last feature map; the network's own
    fully connected layers are neither built nor stored. With `classifier` it is the input of the network's
    last linear layer. A network that is no chain, such as a vision transformer, is not `sequential`: it
    cannot be cut, and runs whole.

    forward: (N, 3, S, S) float32, normalised, to (N, `dim`) float32.
    """

    spec: BackboneSpec
    net: nn.Module
    sequential: bool
    _blocks: list[list[nn.Module]]  # plain lists: the parameters belong to `net`
    _neck: list[nn.Module]  # from the last block to the embedding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.upper(self.lower(x, self.block_count), self.block_count) if self.sequential else self.net(x)

    @property
    def block_count(self) -> int:
        return len(self._blocks)

    def block(self, index: int) -> nn.ModuleList:
        """Return the modules of one block, counted from the input."""
        return nn.ModuleList(self._blocks[index])

    def modules_in_order(self) -> list[nn.Module]:
        """Return the modules of all blocks and those from the last block to the embedding, as an image passes them."""
        return [module for block in [*self._blocks, self._neck] for module in block]

    def lower(self, x: torch.Tensor, cut: int) -> torch.Tensor:
        """Run the blocks before `cut`: images (N, 3, S, S) to the feature map (N, C, H, W)."""
        return self.between(x, 0, cut)

    def between(self, x: torch.Tensor, first: int, cut: int) -> torch.Tensor:
        """Run the blocks from `first` to before `cut`, from feature map to feature map."""
        for block in self._blocks[first:cut]:
            x = run_block(block, x)
        return x

    def upper(self, x: torch.Tensor, cut: int) -> torch.Tensor:
        """Run the blocks from `cut` on: the feature map before block `cut` to embeddings (N, `dim`)."""
        for block in [*self._blocks[cut:], self._neck]:
            x = run_block(block, x)
        return x

    def step_count(self) -> int:
        return self.block_count if self.sequential else 0

    def levels(self, x: torch.Tensor, steps: int) -> tuple[torch.Tensor, ...]:
        if not steps:
            return (self(x),)
        x = self.lower(x, steps)
        means = self.mean(x)
        return self.upper(x, steps), means

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Return the means (N, C) over all places of what the blocks pass: maps (N, C, H, W) or (N, H, W, C), tokens (N, T, C)."""
        if x.ndim == 4:
            return x.mean((2, 3) if self.has_feature_maps() else (1, 2))
        return x.mean(1) if x.ndim == 3 else x

    def chain(self) -> Chain | None:
        """Return the blocks as steps; None where they do not pass maps with the channels first."""
        if not self.has_feature_maps():
            return None
        steps: list[Step] = [lambda x, block=block: run_block(block, x) for block in self._blocks]  # type: ignore[misc]
        return steps, lambda x: self.upper(x, self.block_count)

    def has_feature_maps(self) -> bool:
        """Tell whether the blocks pass feature maps (N, C, H, W) to each other."""
        return self.sequential

    def map_grid(self) -> Step | None:
        """Return what converts the outputs of the blocks to maps (N, C, H, W), where they are others; None where they have none."""
        return None

    def check(self) -> None:
        """Raise an error with a remedy where a network that nobody has tested is no backbone; those of libraries are."""

    def adapt(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a state_dict of the library's, converted for this network's image size."""
        return state

    def own_head(self) -> nn.ModuleList:
        """Return the network's own fully connected layers that the embedding passes through, if any."""
        return nn.ModuleList([module for module in self._neck if next(module.parameters(), None) is not None])

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights under the library's own names."""
        return self.net.state_dict()

    def is_head(self, key: str) -> bool:
        """Tell whether a name in a weight file belongs to the classifier that a backbone omits."""
        raise NotImplementedError


def run_block(modules: list[nn.Module], x: torch.Tensor) -> torch.Tensor:
    """Run modules one after the other."""
    for module in modules:
        x = module(x)
    return x


class GlobalPool(nn.Module):
    """Global average pooling (Lin et al. 2014): (N, C, H, W) to (N, C); (N, C) passes unchanged."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.ndim == 4 else x


def to_channels(images: torch.Tensor, channels: int) -> torch.Tensor:
    """Return images as they are, or for 1 channel the mean of theirs, with equal weights: (N, 1, S, S)."""
    return images.mean(1, keepdim=True) if channels == 1 else images


class Levels(nn.Module):
    """The `levels` of features as a module."""

    def __init__(self, features: Features, steps: int) -> None:
        super().__init__()
        self.features: Features = features
        self.steps = steps

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.features.levels(x, self.steps)


class NetworkOutputs(NamedTuple):
    """Embeddings (N, D), logits (N, classes), and distances (N,) from the training images where the network has them."""

    embeddings: torch.Tensor
    logits: torch.Tensor
    distances: torch.Tensor | None


class Network(nn.Module):
    """Preprocessing, features and a linear head: (N, H, W, 3) uint8 to logits (N, classes) float32.

    `distance` is that from the training images; None where it was not fitted.
    """

    distance: Mahalanobis | None

    def __init__(self, features: Features, preprocessing: Preprocessing, classes: int, seed: int = 0) -> None:
        super().__init__()
        self.normalize = Normalize(preprocessing.mean, preprocessing.std)
        self.features: Features = features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = new_head(features.dim, classes, seed)
        self.register_module("distance", None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(images))

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return embeddings (N, D) float32."""
        return self.features(self.normalize(images))

    def outputs(self, images: torch.Tensor) -> NetworkOutputs:
        """Return what a pass of the images gives, the distances too."""
        levels = self.features.levels(self.normalize(images), self.distance.steps if self.distance else 0)
        return NetworkOutputs(levels[0], self.head(levels[0]), self.distance(*levels) if self.distance else None)

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


def new_head(dim: int, classes: int, seed: int) -> nn.Linear:
    """Return a linear layer with weights from N(0, 0.01²), drawn from the seed, and a bias of zero."""
    head = nn.Linear(dim, classes)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head.weight.normal_(0, 0.01)
        head.bias.zero_()
    return head
