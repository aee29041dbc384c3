"""Every architecture by one name, whatever its family: Darkroom's own, the classic ones, torchvision's. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darkroom.core.errors import ParamsError, nearest
from darkroom.models import torchvision_names
from darkroom.models.architectures import registry

COMPACT = "compact"
THEIRS = "torchvision/"  # before a name that is also ours


def known() -> list[str]:
    """Return the names of all classifiers; torchvision's also with `torchvision/` before them."""
    return [COMPACT, *registry.names(), *torchvision_names.names(), *(THEIRS + name for name in torchvision_names.names())]


def made_for(name: str) -> tuple[int, int]:
    """Return pixels a side and channels of the images that an architecture is made for; torchvision's for ImageNet's."""
    entry = registry.entries().get(name)
    return (entry.size, entry.channels) if entry else (32 if name == COMPACT else 224, 3)


def description(name: str, image_size: int, channels: int = 3, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what `network.build_features` builds and a checkpoint keeps as its `architecture`.

    A name that both have is ours; torchvision's networks have the pooled head. `options` are the keyword arguments of a classic
    architecture, or `width` of `compact`. Raises ParamsError for an unknown name, or one channel where there have to be three.
    """
    if name not in known():
        raise ParamsError(
            f'there is no architecture "{name}"{nearest(name, known())}', "`darkroom models describe --list` shows the names"
        )
    if name == COMPACT:
        return {"family": "compact", "image_size": image_size, "channels": channels, **(options or {})}
    if name in registry.names():
        made = {"name": name, "image_size": image_size, "channels": channels, "options": dict(options or {})}
        return {"family": "classic", **made}
    if channels != 3:
        raise ParamsError(f"{name} takes 3 channels, as all of torchvision's do, not {channels}", "set channels to 3")
    if options:
        raise ParamsError(f"{name} has no options", "only classic architectures have: `darkroom models describe --list`")
    return {"family": "torchvision", "name": name.removeprefix(THEIRS), "image_size": image_size, "head": "pooled"}
