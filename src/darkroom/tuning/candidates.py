"""Backbones beside those of params.yaml that a search may try, since their weights are at hand: none is downloaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from darkroom.core.errors import DarkroomError
from darkroom.models import weight_files
from darkroom.models.backbones import packages, registry

READ = ("imagenet", "package", "folder")  # sources of weights that are read, and not trained or drawn here
_HASH = re.compile(r"-[0-9a-f]{8}$")  # at the end of torchvision's file names


class Candidate(NamedTuple):
    """A backbone, where its weights come from as `weights.source` says it, and their file."""

    name: str
    source: str
    file: Path


def at_hand(folder: Path) -> list[Candidate]:
    """Return the backbones whose weights are in the folder, in an installed package or in a library's cache, small files first."""
    first: dict[tuple[str, str], Candidate] = {}
    for candidate in (*_of_folder(folder), *_of_packages(), *_cached()):
        first.setdefault(registry.find(candidate.name), candidate)
    return sorted(first.values(), key=lambda candidate: (_bytes(candidate.file), candidate.name))


def _of_folder(folder: Path) -> Iterator[Candidate]:
    libraries = [name for name, source in registry.SOURCES.items() if source.is_prefixed]
    for place, prefixes in (
        (folder, ["", *(f"{name}/" for name in libraries)]),
        *((folder / name, [f"{name}/"]) for name in libraries),
    ):
        for file in sorted(place.iterdir()) if place.is_dir() else []:
            names = [prefix + _HASH.sub("", file.stem) for prefix in prefixes] if file.suffix in weight_files.SUFFIXES else []
            yield from [Candidate(name, "folder", file) for name in names if _is_backbone(name)][:1]


def _of_packages() -> Iterator[Candidate]:
    for name in packages.NETWORKS:
        if _is_backbone(f"timm/{name}") and packages.is_installed("timm", name):
            yield Candidate(f"timm/{name}", "package", packages.find("timm", name))


def _cached() -> Iterator[Candidate]:
    for library, source in registry.SOURCES.items():
        for name in source.names():
            file = source.weight_file(name)
            if file is not None and file.is_cached:
                yield Candidate(f"{library}/{name}" if source.is_prefixed else name, "imagenet", file.cached)


def _is_backbone(name: str) -> bool:
    try:
        registry.find(name)
    except DarkroomError:  # the name of something else, or its library is not installed
        return False
    return True


def _bytes(path: Path) -> int:
    """Return the size of a file, or of the files of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
