"""Descriptions of networks, as checkpoints keep them: enough to build a network again.

Importing this costs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from darkroom.core.errors import WeightsError
from darkroom.models.backbones.registry import SOURCES

COMPACT, CLASSIC = "compact", "classic"  # families of our own networks; the others are sources of backbones
MAX_SIZE = 4096  # pixels a side of images
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]


def _check_channels(channels: int) -> int:
    if channels not in (1, 3):
        raise ValueError(f"an image has 1 or 3 channels, not {channels}")
    return channels


OneOrThree = Annotated[int, AfterValidator(_check_channels)]


@dataclass(frozen=True)
class NetworkSpec:
    """A network without its last linear layer, for square images."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (pydantic's own form)

    @property
    def family(self) -> str:
        """The kind of network, which a description names."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        return {"family": self.family, **asdict(self)}


@dataclass(frozen=True)
class CompactSpec(NetworkSpec):
    """Darkroom's own small network; `channels` 1 averages an image's three channels."""

    image_size: Size
    width: Annotated[int, Field(ge=1, le=512)] = 16
    channels: OneOrThree = 3

    @property
    def family(self) -> str:
        return COMPACT


@dataclass(frozen=True)
class ArchitectureSpec(NetworkSpec):
    """A network of `models.architectures`; `options` are the keyword arguments of its function."""

    name: str
    image_size: Size
    channels: OneOrThree = 3
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        return CLASSIC


@dataclass(frozen=True)
class BackboneSpec(NetworkSpec):
    """A network of a library; `head` is `pooled` or `classifier` (see `models.base.Backbone`). Its family is its source.

    `options` are keyword arguments of the library's, as the config.json of a folder of weights has them.
    """

    name: str
    image_size: Size
    head: Literal["pooled", "classifier"] = "pooled"
    source: str = "torchvision"  # of models.backbones.registry
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        return self.source

    @property
    def label(self) -> str:
        """The name as a part of a path: that of torchvision's alone, of others with the source before it."""
        return self.name if self.source == "torchvision" else f"{self.source}-{self.name}"

    def as_dict(self) -> dict[str, Any]:
        own = {key: value for key, value in asdict(self).items() if key != "source" and (key != "options" or value)}
        return {"family": self.source, **own}


def spec_from_dict(content: Any) -> NetworkSpec:
    """Return the description that `as_dict` wrote; WeightsError for an unknown family, unknown fields or impossible values."""
    try:
        values = dict(content)
        family = values.pop("family", "")
        if family in SOURCES:
            values["source"] = family
        kind = BackboneSpec if family in SOURCES else {COMPACT: CompactSpec, CLASSIC: ArchitectureSpec}[family]
        return TypeAdapter(kind).validate_python(values)
    except (KeyError, TypeError, ValueError) as error:  # pydantic's is a ValueError
        raise WeightsError(
            f"this checkpoint describes an architecture that this version of Darkroom cannot build: {content!r:.200}",
            "use the version of Darkroom that wrote it",
        ) from error
