"""The libraries whose networks are backbones. Importing this costs no torch.

`SOURCES` is their registry: an entry for each library, whose module is imported when a network is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from darkroom.core.errors import ParamsError, nearest
from darkroom.models.backbones import torchvision_tables
from darkroom.models.backbones.weight_file import WeightFile

if TYPE_CHECKING:
    from torch import nn

    from darkroom.models.base import Backbone, Channels
    from darkroom.models.specs import BackboneSpec


class Library(Protocol):
    """What the module of a source has. It is imported when a network is built, and may import torch."""

    def build(self, spec: BackboneSpec, seed: int) -> Backbone:
        """Return the network without its last linear layer, with weights drawn from the seed."""

    def classifier(self, name: str, image_size: int, classes: int) -> nn.Module:
        """Return the whole network, to be described; on torch's meta device if it can be."""

    def download(self, name: str) -> tuple[Path, dict[str, Any]]:
        """Return the file of its ImageNet weights, and where it comes from; raises WeightsError."""

    def normalization(self, name: str) -> tuple[Channels, Channels]:
        """Return the mean and standard deviation per channel that its ImageNet weights were trained with."""


class Source(NamedTuple):
    """A library of networks: its module, and what is known without importing it.

    `module` is a `Library`. `names` returns the networks' names (a-z, 0-9, _). `weight_file` returns the file of a
    network's ImageNet weights, None where there is none. `example` is a small network, which the tests build.
    """

    module: str
    names: Callable[[], Sequence[str]]
    weight_file: Callable[[str], WeightFile | None]
    example: str


SOURCES = {  # where several have a name, it is that of the first; `SOURCE/NAME` is any one's
    "torchvision": Source(
        "darkroom.models.backbones.torchvision", torchvision_tables.names, torchvision_tables.weight_file, "squeezenet1_1"
    ),
}


def names() -> list[str]:
    """Return the names of all backbones, of each source in turn; where several have a name, it is there once."""
    return list(dict.fromkeys(name for source in SOURCES.values() for name in source.names()))


def find(name: str) -> tuple[str, str]:
    """Return the source of a backbone and its name there, from NAME or SOURCE/NAME.

    Raises ParamsError with the nearest name if there is no such backbone.
    """
    prefix, slash, rest = name.rpartition("/")
    for source in [prefix] if slash else SOURCES:
        if source in SOURCES and rest in SOURCES[source].names():
            return source, rest
    raise ParamsError(
        f'{" or ".join(SOURCES)} has no classifier "{name}"{nearest(rest, names())}',
        f"name classifiers of {' or '.join(SOURCES)} in `backbones`, for example vgg16 or mobilenet_v2",
    )


def is_prefixed(name: str) -> bool:
    """Tell whether a name begins with that of a source and a slash."""
    return name.partition("/")[0] in SOURCES and "/" in name


def prefixed() -> list[str]:
    """Return the names of all backbones as `SOURCE/NAME`."""
    return [f"{source}/{name}" for source, entry in SOURCES.items() for name in entry.names()]


def weight_file(name: str) -> WeightFile | None:
    """Return the file of a backbone's ImageNet weights; None where there is none. Raises ParamsError as `find` does."""
    source, name_there = find(name)
    return SOURCES[source].weight_file(name_there)


def load(source: str) -> Library:
    """Import the module of a source."""
    return cast("Library", importlib.import_module(SOURCES[source].module))
