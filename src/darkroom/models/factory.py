"""Networks by name: the names, the description of a network, and the network itself.

Names cost no import of torch.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from darkroom.core.errors import ParamsError, nearest
from darkroom.models.architectures import registry
from darkroom.models.specs import ArchitectureSpec, BackboneSpec, CompactSpec, NetworkSpec

if TYPE_CHECKING:
    from darkroom.models.base import Features

COMPACT = "compact"
TORCHVISION = "torchvision/"  # prefix of a torchvision classifier whose name is also one of ours
BUILDERS = {  # each is called with (spec, seed) and is imported only when a network of its family is built
    "compact": "darkroom.models.architectures.compact:Compact",
    "classic": "darkroom.models.architectures.features:Classic",
    "torchvision": "darkroom.models.backbones.torchvision:TorchvisionBackbone",
}
_REGISTERED = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def names() -> list[str]:
    """Return the names of all classifiers; torchvision's also with the prefix `torchvision/`."""
    theirs = torchvision_names()
    return [COMPACT, *registry.names(), *theirs, *(TORCHVISION + name for name in theirs)]


@cache
def torchvision_names() -> tuple[str, ...]:
    """Return the torchvision classifiers that can be a backbone, read from torchvision's source."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ParamsError(
            "torchvision is not installed",
            "install the one that belongs to the installed torch: `make install`, or `pip install torchvision`",
        )
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return tuple(sorted(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))))


def check_torchvision(name: str) -> None:
    """Raise ParamsError unless torchvision has a classifier of this name."""
    if name not in torchvision_names():
        raise ParamsError(
            f'torchvision has no classifier "{name}"{nearest(name, torchvision_names())}',
            "name torchvision classifiers in `backbones`, for example vgg16 or mobilenet_v2",
        )


def native_input(name: str) -> tuple[int, int]:
    """Return the image size and the number of channels that an architecture was designed for."""
    entry = registry.entries().get(name)
    return (entry.size, entry.channels) if entry else (32 if name == COMPACT else 224, 3)


def make_spec(name: str, image_size: int, channels: int = 3, options: Mapping[str, Any] | None = None) -> NetworkSpec:
    """Return the description of a network, which `build_features` builds and checkpoints keep.

    A name that is also torchvision's means ours. Networks of torchvision get the pooled head. `options` are
    the keyword arguments of a classic architecture, or `width` of `compact`. Raises ParamsError for an
    unknown name, for options that the network does not have, and for one channel where torchvision's networks
    need three.
    """
    if name not in names():
        raise ParamsError(
            f'there is no architecture "{name}"{nearest(name, names())}', "`darkroom models describe --list` shows the names"
        )
    options = dict(options or {})
    if name == COMPACT:
        unknown = options.keys() - {"width"}
        if unknown:
            raise ParamsError(f"compact has no option {', '.join(sorted(unknown))}", "its options are: width=16")
        return CompactSpec(image_size, channels=channels, **options)
    if name in registry.names():
        return ArchitectureSpec(name, image_size, channels, options)
    if channels != 3:
        raise ParamsError(f"{name} is a torchvision network and takes 3 channels, not {channels}", "set channels to 3")
    if options:
        raise ParamsError(f"{name} has no options", "only classic architectures have: `darkroom models describe --list`")
    return BackboneSpec(name.removeprefix(TORCHVISION), image_size)


def build_features(spec: NetworkSpec, seed: int = 0) -> Features:
    """Build the network of a description, without its last linear layer, with weights drawn from the seed."""
    features: Features = resolve_name(BUILDERS[spec.family])(spec, seed)
    return features
