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
    refused: str = ""


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
    try:
        folders = sorted(entry.name for entry in source.iterdir() if entry.is_dir() and not _is_litter(entry.name))
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror}", "give yourself the right to read it") from error
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
        refused = "" if ignored else _refused(path, root)
        if path.is_symlink() and path.is_dir():
            ignored, refused = False, "linked_folder"
        label = unicodedata.normalize("NFC", inner[0]) if inner else ""
        found.append(Found(relative.as_posix(), label, split, ignored, refused))
    _check_classes(source, found)
    return found


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER or name == "__MACOSX"


def _refused(path: Path, root: Path) -> str:
    """Return why a path is not read: a link out of the source, or nothing that has bytes; empty where it may be."""
    try:
        if path.is_symlink() and root not in path.resolve(strict=True).parents:
            return "leaves_source"
        return "" if path.is_file() else "unreadable"
    except (OSError, RuntimeError):  # a link to nowhere, or to itself
        return "unreadable"


def _walk(source: Path) -> list[Path]:
    """Return all files below a folder, and links to folders, which are not followed, sorted by their path's bytes."""

    def unreadable(error: OSError) -> None:
        raise SourceError(
            f"{error.filename} cannot be read: {error.strerror}", "give yourself the right to read it, or move it away"
        )

    files = []
    for folder, folders, names in os.walk(source, onerror=unreadable):
        files += [Path(folder) / name for name in names]
        files += [Path(folder) / name for name in folders if (Path(folder) / name).is_symlink()]
    return sorted(files, key=lambda path: os.fsencode(path.relative_to(source)))


def _check_classes(source: Path, found: list[Found]) -> None:
    labels = sorted({item.label for item in found if not item.ignored and item.refused != "linked_folder"})
    for label in labels:
        if not label.isprintable():
            raise SourceError(f"the class folder {label!r} of {source} has a name that cannot be shown", "rename the folder")
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
