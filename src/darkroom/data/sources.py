"""A folder of classes, with or without ready splits: which files it holds, and what they are of."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from darkroom.errors import SourceError

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
LITTER = {"thumbs.db", "desktop.ini", ".ds_store"}


@dataclass(frozen=True)
class Found:
    """One file of a source: its path relative to the source, its class, and the split that the folder gives it, if any."""

    path: str
    label: str
    split: str
    ignored: bool = False
    escapes: bool = False


def scan(source: Path) -> list[Found]:
    """List every file below a folder whose subfolders are classes, or train/val/test folders of classes.

    A class is the first folder below the source or its split; folders below that belong to it. Files outside any class
    folder, and what operating systems leave behind, are listed as ignored. The order is that of the paths.
    Raises SourceError where the folder cannot be a data set.
    """
    if not source.exists():
        raise SourceError(
            f"`ingest.source` is {source}, and there is no such folder",
            "set it to a folder with one subfolder of images per class, or to data/raw/<name> for a named data set",
        )
    if not source.is_dir():
        raise SourceError(f"{source} is a file, not a folder", "unpack it, and set `ingest.source` to the folder of classes")
    folders = sorted(entry.name for entry in source.iterdir() if entry.is_dir() and not _is_litter(entry.name))
    ready = {name: _SPLIT_NAMES[name.lower()] for name in folders if name.lower() in _SPLIT_NAMES}
    if ready and (len(ready) < len(folders) or "train" not in ready.values()):
        ready = {}
    if len(set(ready.values())) < len(ready):
        raise SourceError(f"{source} has two folders for one split: {', '.join(ready)}", "merge them into train, val and test")
    root = source.resolve()
    found = []
    for path in _walk(source):
        relative = path.relative_to(source)
        parts = relative.parts
        split = ready.get(parts[0], "")
        inner = parts[1:] if split else parts
        ignored = any(_is_litter(part) for part in parts) or len(inner) < 2 or (bool(ready) and not split)
        escapes = not ignored and path.resolve() != path.absolute() and root not in path.resolve().parents
        found.append(Found(relative.as_posix(), unicodedata.normalize("NFC", inner[0]) if inner else "", split, ignored, escapes))
    _check_classes(source, found)
    return found


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER or name == "__MACOSX"


def _walk(source: Path) -> list[Path]:
    """Return all files below a folder, sorted by their path's bytes; linked folders are not followed."""
    files = []
    for folder, _, names in os.walk(source):
        files += [Path(folder) / name for name in names]
    return sorted(files, key=lambda path: os.fsencode(path.relative_to(source)))


def _check_classes(source: Path, found: list[Found]) -> None:
    labels = sorted({item.label for item in found if not item.ignored})
    if not labels:
        loose = sum(item.ignored for item in found)
        raise SourceError(
            f"{source} has no image in a class folder" + (f" ({loose} files lie outside any)" if loose else ": it is empty"),
            "give it one subfolder per class, named as the class, with the images in it",
        )
    if len(labels) == 1:
        raise SourceError(
            f'{source} has one class, "{labels[0]}"; a classifier needs two or more',
            "add a subfolder for each further class, or set `ingest.source` to the folder above",
        )
    folded: dict[str, str] = {}
    for label in labels:
        if folded.setdefault(label.casefold(), label) != label:
            raise SourceError(
                f'{source} has the classes "{folded[label.casefold()]}" and "{label}", which differ only by case',
                "rename or merge one of the two folders",
            )
