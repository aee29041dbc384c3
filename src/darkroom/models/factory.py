"""Networks by name: the names, the description of a network, and the network itself.

Names cost no import of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from darkroom.core.errors import MissingLibraryError, ParamsError, nearest
from darkroom.models.architectures import registry
from darkroom.models.backbones import hub_folders
from darkroom.models.backbones import registry as backbones
from darkroom.models.specs import CLASSIC, COMPACT, ArchitectureSpec, BackboneSpec, CompactSpec, NetworkSpec

if TYPE_CHECKING:
    from darkroom.models.base import Backbone, Features

OWN = {  # families of our own networks; each is called with (spec, seed) and is imported only when one is built
    COMPACT: "darkroom.models.architectures.compact:Compact",
    CLASSIC: "darkroom.models.architectures.features:Classic",
}


def names() -> list[str]:
    """Return the names of all classifiers; those of libraries also with the library as prefix: `torchvision/vgg16`."""
    return [COMPACT, *registry.names(), *backbones.names(), *backbones.prefixed()]


def native_input(name: str) -> tuple[int, int]:
    """Return the image size and the number of channels that an architecture was designed for."""
    entry = registry.entries().get(name)
    return (entry.size, entry.channels) if entry else (32 if name == COMPACT else 224, 3)


def make_spec(name: str, image_size: int, channels: int = 3, options: Mapping[str, Any] | None = None) -> NetworkSpec:
    """Return the description of a network, which `build_features` builds and checkpoints keep.

    A name that is also a library's means ours. Networks of libraries get the pooled head. `options` are
    the keyword arguments of a classic architecture, or `width` of `compact`. Raises ParamsError for an
    unknown name, for options that the network does not have, and for one channel where libraries' networks need
    three.
    """
    if name not in (COMPACT, *registry.names()):
        _check_known(name)
    options = dict(options or {})
    if name == COMPACT:
        unknown = options.keys() - {"width"}
        if unknown:
            raise ParamsError(f"compact has no option {', '.join(sorted(unknown))}", "its options are: width=16")
        return CompactSpec(image_size, channels=channels, **options)
    if name in registry.names():
        return ArchitectureSpec(name, image_size, channels, options)
    source, name_there = backbones.find(name)
    if channels != 3:
        raise ParamsError(f"{name} is a {source} network and takes 3 channels, not {channels}", "set channels to 3")
    if options:
        raise ParamsError(f"{name} has no options", "only classic architectures have: `darkroom models describe --list`")
    return BackboneSpec(name_there, image_size, source=source, options=backbones.options(source, name_there))


def _check_known(name: str) -> None:
    """Raise ParamsError where no library has a network of this name."""
    try:
        backbones.find(name)
    except MissingLibraryError:
        raise
    except ParamsError:
        raise ParamsError(
            f'there is no architecture "{name}"{nearest(name, names())}', "`darkroom models describe --list` shows the names"
        ) from None


def backbone_spec(
    name: str, image_size: int, head: Literal["pooled", "classifier"] = "pooled", weights: Path = Path("data/weights")
) -> BackboneSpec:
    """Return the description of a backbone that `backbones` in params.yaml names; `weights` is the folder of weight files.

    Raises ParamsError for an unknown one, WeightsError for `hf/NAME` without a folder or repository of this name.
    """
    if hub_folders.is_named(name):
        config = hub_folders.read(name, weights)
        return BackboneSpec(config.architecture, image_size, head, "timm", config.options)
    source, name_there = backbones.find(name)
    return BackboneSpec(name_there, image_size, head, source, backbones.options(source, name_there))


def build_features(spec: NetworkSpec, seed: int = 0) -> Features:
    """Build the network of a description, without its last linear layer, with weights drawn from the seed."""
    if isinstance(spec, BackboneSpec):
        return build_backbone(spec, seed)
    features: Features = resolve_name(OWN[spec.family])(spec, seed)
    return features


def build_backbone(spec: BackboneSpec, seed: int = 0) -> Backbone:
    """Build the network of a library, without its last linear layer, with weights drawn from the seed."""
    return backbones.load(spec.source).build(spec, seed)
