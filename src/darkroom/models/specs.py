"""Descriptions of networks, as checkpoints keep them: enough to build a network again.

Importing this costs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from darkroom.core.errors import WeightsError

MAX_SIZE = 4096  # pixels a side of images
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]


def _check_channels(channels: int) -> int:
    if channels not in (1, 3):
        raise ValueError(f"an image has 1 or 3 channels, not {channels}")
    return channels


OneOrThree = Annotated[int, AfterValidator(_check_channels)]


@dataclass(frozen=True)
class NetworkSpec:
    """A network without its last linear layer, for square images; `family` selects its builder."""

    family: ClassVar[str]
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (pydantic's own form)

    def as_dict(self) -> dict[str, Any]:
        return {"family": self.family, **asdict(self)}


@dataclass(frozen=True)
class CompactSpec(NetworkSpec):
    """Darkroom's own small network; `channels` 1 averages an image's three channels."""

    family = "compact"
    image_size: Size
    width: Annotated[int, Field(ge=1, le=512)] = 16
    channels: OneOrThree = 3


@dataclass(frozen=True)
class ArchitectureSpec(NetworkSpec):
    """A network of `models.architectures`; `options` are the keyword arguments of its function."""

    family = "classic"
    name: str
    image_size: Size
    channels: OneOrThree = 3
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BackboneSpec(NetworkSpec):
    """A torchvision classifier; `head` is `pooled` or `classifier` (see `models.base.Backbone`)."""

    family = "torchvision"
    name: str
    image_size: Size
    head: Literal["pooled", "classifier"] = "pooled"


KINDS: dict[str, type[NetworkSpec]] = {kind.family: kind for kind in (CompactSpec, ArchitectureSpec, BackboneSpec)}


def spec_from_dict(content: Any) -> NetworkSpec:
    """Return the description that `as_dict` wrote; WeightsError for an unknown family, unknown fields or impossible values."""
    try:
        values = dict(content)
        kind = KINDS[values.pop("family", "")]
        return TypeAdapter(kind).validate_python(values)
    except (KeyError, TypeError, ValueError) as error:  # pydantic's is a ValueError
        raise WeightsError(
            f"this checkpoint describes an architecture that this version of Darkroom cannot build: {content!r:.200}",
            "use the version of Darkroom that wrote it",
        ) from error
