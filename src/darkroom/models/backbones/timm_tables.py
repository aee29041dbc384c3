"""timm's networks and their weights by name, read from its source: without torch, in a twentieth of a second.

A name is that of an architecture, `efficientnet_lite0`, or with the tag of its weights, `efficientnet_lite0.ra_in1k`. Without a
tag the weights are those that timm takes by default.
"""

from __future__ import annotations

import importlib.util
import os
import re
from functools import cache
from pathlib import Path

from darkroom.core.errors import MissingLibraryError
from darkroom.models.backbones.weight_file import WeightFile

MISSING = "install it: `pip install timm`; in Darkroom's own repository `make install-dev`"
_REGISTERED = re.compile(r"^@register_model\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
_TAGGED = re.compile(r"^    ['\"](\w+)(?:\.(\w+))?['\"]: ", re.MULTILINE)  # a key of `generate_default_cfgs`
_UNTRAINED = "untrained"


def names() -> tuple[str, ...]:
    """Return the names of the architectures; none where timm is not installed."""
    return tuple(_tags())


def tags(name: str) -> tuple[str, ...]:
    """Return the tags of an architecture's weights, the default first; an empty text where they have none."""
    return _tags().get(name, ())


def knows(name: str) -> bool:
    """Tell whether timm has a network of this name, which may have a tag; MissingLibraryError where timm is not installed."""
    if not is_installed():
        raise MissingLibraryError(f"timm/{name} needs the package timm, which is not installed", MISSING)
    architecture, dot, tag = name.partition(".")
    return architecture in _tags() and (not dot or tag in _tags()[architecture])


def weight_file(name: str) -> WeightFile | None:
    """Return where the weights of a network come from; None where it has none. Their size is not known without the network."""
    architecture, dot, tag = name.partition(".")
    tag = tag if dot else next(iter(tags(architecture)), "")
    if tag == _UNTRAINED:
        return None
    repository = f"timm/{architecture}.{tag}" if tag else f"timm/{architecture}"
    return WeightFile(f"hf-hub:{repository}", hub_folder(repository) / "snapshots", 0.0)


def hub_folder(repository: str) -> Path:
    """Return the folder in which the Hugging Face Hub's library keeps a repository, `OWNER/NAME`."""
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))
    cached = os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub"))
    return Path(os.path.expanduser(cached), f"models--{repository.replace('/', '--')}")


def is_installed() -> bool:
    """Tell whether timm is installed, without importing it."""
    return importlib.util.find_spec("timm") is not None


@cache
def _tags() -> dict[str, tuple[str, ...]]:
    """Return the tags of each architecture's weights, in timm's order."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        return {}
    texts = [path.read_text(encoding="utf-8") for path in sorted((Path(spec.origin).parent / "models").glob("*.py"))]
    result: dict[str, list[str]] = {name: [] for name in sorted(name for text in texts for name in _REGISTERED.findall(text))}
    for text in texts:
        for name, tag in _TAGGED.findall(text):
            if name in result:
                result[name].append(tag)
    return {name: tuple(of_architecture) for name, of_architecture in result.items()}
