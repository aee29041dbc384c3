"""Descriptions of networks, as checkpoints keep them: enough to build a network again.

Importing this costs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from darkroom.core.errors import WeightsError


@dataclass(frozen=True)
class NetworkSpec:
    """A network without its last linear layer, for square images; `family` selects its builder."""

    family: ClassVar[str]

    def as_dict(self) -> dict[str, Any]:
        return {"family": self.family, **asdict(self)}


@dataclass(frozen=True)
class CompactSpec(NetworkSpec):
    """Darkroom's own small network; `channels` 1 averages an image's three channels."""

    family = "compact"
    image_size: int
    width: int = 16
    channels: int = 3


@dataclass(frozen=True)
class ArchitectureSpec(NetworkSpec):
    """A network of `models.architectures`; `options` are the keyword arguments of its function."""

    family = "classic"
    name: str
    image_size: int
    channels: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BackboneSpec(NetworkSpec):
    """A torchvision classifier; `head` is `pooled` or `classifier` (see `models.base.Backbone`)."""

    family = "torchvision"
    name: str
    image_size: int
    head: str = "pooled"


def spec_from_dict(content: Mapping[str, Any]) -> NetworkSpec:
    """Return the description that `as_dict` wrote; WeightsError for an unknown family or unknown fields."""
    values = dict(content)
    family = values.pop("family", None)
    kinds = {kind.family: kind for kind in (CompactSpec, ArchitectureSpec, BackboneSpec)}
    try:
        return kinds[family](**values)
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"this checkpoint describes an architecture that this version of Darkroom cannot build: {dict(content)}",
            "use the version of Darkroom that wrote it",
        ) from error
