"""The libraries whose networks are backbones. Importing this costs no torch.

`SOURCES` is their registry: an entry for each library, whose module is imported when a network is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from darkroom.core.errors import MissingLibraryError, ParamsError, nearest
from darkroom.models.backbones import hub_folders, own_code, packages, timm_tables, torchvision_tables
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

    def describe_weights(self, name: str) -> dict[str, Any]:
        """Return what the library says of a network's weights, such as `input_size` (3, S, S) and `license`; nothing if nothing."""

    def normalization(self, name: str) -> tuple[Channels, Channels]:
        """Return the mean and standard deviation per channel that its ImageNet weights were trained with."""


class Source(NamedTuple):
    """A library of networks: its module, and what is known without importing it.

    `module` is a `Library`. `names` returns the networks' names (a-z, 0-9, _). `weight_file` returns the file of a
    network's ImageNet weights, None where there is none. `example` is a small network, which the tests build, empty where a
    library has none. `knows` tells whether there is a network of a name, where there are more than `names` lists; it may raise
    ParamsError with a remedy. `is_prefixed`: its networks are named as SOURCE/NAME only. `tags` returns those of a network's
    weights, `options` what a description of the network has beside its name.
    """

    module: str
    names: Callable[[], Sequence[str]]
    weight_file: Callable[[str], WeightFile | None]
    example: str
    knows: Callable[[str], bool] | None = None
    is_prefixed: bool = False
    tags: Callable[[str], Sequence[str]] | None = None
    options: Callable[[str], Mapping[str, Any]] | None = None

    def has(self, name: str) -> bool:
        """Tell whether there is a network of this name."""
        return self.knows(name) if self.knows else name in self.names()

    def tagged(self, name: str) -> list[str]:
        """Return NAME.TAG for each of a network's weights that have a tag."""
        return [f"{name}.{tag}" for tag in (self.tags(name) if self.tags else ()) if tag]


SOURCES = {  # where several have a name, it is that of the first; `SOURCE/NAME` is any one's
    "torchvision": Source(
        "darkroom.models.backbones.torchvision", torchvision_tables.names, torchvision_tables.weight_file, "squeezenet1_1"
    ),
    "timm": Source(
        "darkroom.models.backbones.timm",
        timm_tables.names,
        timm_tables.weight_file,
        "test_efficientnet",
        timm_tables.knows,
        True,
        timm_tables.tags,
    ),
    "own": Source(
        "darkroom.models.backbones.own", own_code.names, lambda name: None, "", own_code.knows, True, options=own_code.options
    ),
}
LIBRARIES = {"timm": timm_tables.MISSING}  # packages that are installed by an extra, and how


def names() -> list[str]:
    """Return the names of all backbones that need no prefix; where several sources have a name, it is there once."""
    return list(dict.fromkeys(name for source in SOURCES.values() if not source.is_prefixed for name in source.names()))


def find(name: str) -> tuple[str, str]:
    """Return the source of a backbone and its name there, from NAME or SOURCE/NAME.

    Raises ParamsError with the nearest name if there is no such backbone.
    """
    prefix, slash, rest = name.partition("/")
    if hub_folders.is_named(name):  # the network is timm's; its configuration says which
        SOURCES["timm"].has(rest)
        return "timm", rest
    plain = [source for source, entry in SOURCES.items() if not entry.is_prefixed]
    if slash and prefix in SOURCES:
        if SOURCES[prefix].has(rest):
            return prefix, rest
        close = nearest(name, [f"{prefix}/{other}" for other in SOURCES[prefix].names()])
    else:
        for source in plain if not slash else ():
            if SOURCES[source].has(name):
                return source, name
        close = nearest(name, names()) or nearest(name.rpartition("/")[2], names())
        others = [f"{source}/{name}" for source, entry in SOURCES.items() if entry.is_prefixed and name in entry.names()]
        close = f' (did you mean "{others[0]}"?)' if others else close
    library, bare_name = (prefix, rest) if prefix in SOURCES and slash else (" or ".join(plain), name)
    raise ParamsError(
        f'{library} has no classifier "{bare_name}"{close}',
        f"name classifiers of {' or '.join(plain)} in `backbones`, for example vgg16 or mobilenet_v2, or others with their "
        "library, for example timm/efficientnet_lite0; `darkroom models list --source timm` shows them",
    )


def is_prefixed(name: str) -> bool:
    """Tell whether a name begins with that of a source and a slash."""
    return name.partition("/")[0] in SOURCES and "/" in name


def prefixed() -> list[str]:
    """Return the names of all backbones as `SOURCE/NAME`."""
    return [f"{source}/{name}" for source, entry in SOURCES.items() for name in entry.names()]


def weight_file(name: str) -> WeightFile | None:
    """Return the file of a backbone's ImageNet weights; None where there is none. Raises ParamsError as `find` does."""
    if hub_folders.is_named(name):
        repository = name.removeprefix(hub_folders.PREFIX)
        return WeightFile(f"hf-hub:{repository}", timm_tables.hub_folder(repository) / "snapshots", 0.0)
    source, name_there = find(name)
    return SOURCES[source].weight_file(name_there)


def options(source: str, name: str) -> dict[str, Any]:
    """Return what the description of a source's network has beside its name."""
    entry = SOURCES[source]
    return dict(entry.options(name)) if entry.options else {}


def weights_source(name: str, source: str) -> str:
    """Return where a backbone's weights come from: that of `weights.source`, or `folder` where its library has none of it."""
    has_none = source == "package" and (hub_folders.is_named(name) or not packages.package_of(*find(name)))
    return "folder" if has_none or (source == "imagenet" and own_code.is_named(name)) else source


def load(source: str) -> Library:
    """Import the module of a source. Raises MissingLibraryError where its library is not installed, with what installs it."""
    try:
        return cast("Library", importlib.import_module(SOURCES[source].module))
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        problem = f"the networks of {source} need the package {error.name}, which is not installed"
        raise MissingLibraryError(problem, LIBRARIES[error.name]) from None
