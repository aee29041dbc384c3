"""The networks of a library with what they cost and the licence of their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from darkroom.core.errors import DarkroomError, ParamsError, nearest
from darkroom.models import macs
from darkroom.models.backbones import own_code
from darkroom.models.backbones import registry as backbones

DEFAULT_SIZE = 224  # pixels, of networks of which their library does not say it


@dataclass(frozen=True)
class LibraryNetwork:
    """A network: the input size of its weights in pixels, parameters and multiply-adds with the classifier, and the licence.

    None or an empty text where it is not known, or cannot be counted.
    """

    name: str
    size: int | None
    parameters: int | None
    multiply_adds: int | None
    license: str
    weights: bool


def matching(source: str, pattern: str) -> list[str]:
    """Return the names of a source's networks that fit a pattern with `*` and `?`; one with a dot is compared with tags too.

    Raises ParamsError for an unknown source, or where none fits.
    """
    if source not in backbones.SOURCES:
        choices = ", ".join(backbones.SOURCES)
        raise ParamsError(f'there is no source "{source}"{nearest(source, backbones.SOURCES)}', f"choose from {choices}")
    entry = backbones.SOURCES[source]
    names = entry.names()
    if not names and source in backbones.LIBRARIES:
        raise ParamsError(
            f"the networks of {source} need the package {source}, which is not installed", backbones.LIBRARIES[source]
        )
    if not names and source == own_code.SOURCE:
        raise ParamsError(f"{own_code.FOLDER} has no networks", own_code.HOW_TO_ADD)
    candidates = [name for plain in names for name in ((plain, *entry.tagged(plain)) if "." in pattern else (plain,))]
    matches = [name for name in candidates if fnmatchcase(name, pattern)]
    if not matches:
        raise ParamsError(
            f'{source} has no network "{pattern}"{nearest(pattern.strip("*"), names)}', "a pattern has * and ?: 'vit*'"
        )
    return matches


def describe(source: str, names: Sequence[str], advance: Callable[[int], None] = lambda count: None) -> list[LibraryNetwork]:
    """Return the networks of these names, each built on torch's meta device, which takes no memory."""
    library = backbones.load(source)
    rows = []
    for name in names:
        facts = library.describe_weights(name)
        size = facts["input_size"][-1] if "input_size" in facts else DEFAULT_SIZE
        try:
            layers = macs.layers(library.classifier(name, size, 1000), (3, size, size))
            parameters, products = (sum(getattr(layer, key) for layer in layers) for key in ("parameters", "multiply_adds"))
        except (RuntimeError, NotImplementedError, ValueError, AttributeError, TypeError, DarkroomError):
            parameters = products = None  # it computes with values, which the meta device does not have
        has_weights = backbones.SOURCES[source].weight_file(name) is not None
        rows.append(LibraryNetwork(name, size, parameters, products, str(facts.get("license", "")), has_weights))
        advance(1)
    return rows
