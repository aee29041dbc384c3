"""The labels that folders give: `data/layout.py` says which folders are splits and classes."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from darkroom.core.counts import counted
from darkroom.core.errors import printable
from darkroom.data import class_names, file_names, layout, split_names
from darkroom.data.folder_source import Entry
from darkroom.data.layout import ClassFolder, Layout
from darkroom.data.source_file import SourceFile


def escaped(path: str) -> str:
    """Return a path as text for every format: backslashes, and bytes that are no UTF-8, are escaped."""
    return os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def ignore_reasons(entries: list[Entry]) -> list[str]:
    """Return for each file why it is ignored whatever the layout; empty where it may be an image."""
    sidecars = file_names.beside_images(entry.name for entry in entries)
    return [_ignore_reason(entry, sidecars) for entry in entries]


def _ignore_reason(entry: Entry, sidecars: set[str]) -> str:
    if entry.refused == "superseded":
        return "superseded"
    if file_names.is_litter(entry.name):
        return "litter"
    if file_names.is_no_image(entry.name):
        return "no_image"
    return "sidecar" if entry.name in sidecars else ""


def read_layout(path: Path, entries: list[Entry], reasons: list[str], class_folder: ClassFolder) -> Layout:
    """Return what the folders mean in which images lie; raises SourceError where only a person can tell."""
    pairs = zip(entries, reasons, strict=True)
    images = [entry.name for entry, reason in pairs if not reason and entry.refused not in ("leaves_source", "linked_folder")]
    return layout.read(path, images, class_folder)


def label(entries: list[Entry], reasons: list[str], meaning: Layout) -> list[SourceFile]:
    """Label files by their folders; what lies outside of a class folder is ignored."""
    files = []
    places: dict[str, tuple[str, str] | None] = {}  # by folder
    for entry, reason in zip(entries, reasons, strict=True):
        folder = entry.name.rpartition("/")[0]
        if folder not in places:
            split_and_class = meaning.place(entry.name)
            if split_and_class:
                split_and_class = split_and_class[0], class_names.normalise(escaped(split_and_class[1]))
            places[folder] = split_and_class
        place = places[folder]
        ignored, refused = reason, entry.refused
        if not ignored and refused not in ("leaves_source", "linked_folder"):
            ignored = "" if place else "outside_classes"
            refused = refused or ("unread_format" if file_names.is_raw(entry.name) else "")
        split, name = place if place and entry.refused != "leaves_source" else ("", "")
        files.append(
            SourceFile(escaped(entry.name), name, "" if ignored else split, "", ignored, "" if ignored else refused, entry.key)
        )
    return files


def class_folders(meaning: Layout, folders: list[str]) -> list[str]:
    """Return the names of the classes for which there are folders, also where these are empty."""
    visible = [folder for folder in folders if not file_names.in_system_folder(folder)]
    return sorted({class_names.normalise(escaped(name)) for name in meaning.class_folders(visible)} - {""})


def empty_splits(meaning: Layout, folders: list[str]) -> list[str]:
    """Return a warning for each folder beside the splits that is named like one and holds no image."""
    base = "".join(f"{part}/" for part in meaning.base)
    names = sorted(folder[len(base) :] for folder in folders if folder.startswith(base))
    empty = [name for name in names if "/" not in name and name not in meaning.splits and split_names.read_name(name)]
    return [
        f"warning: the folder {printable(name)} holds no image: its split is drawn from train" for name in empty if meaning.splits
    ]


def packed_files(entries: list[Entry], folders: list[str]) -> list[str]:
    """Return a warning for archives beside the folders, which are not read, unless a folder has the same name."""
    archives = [entry.name for entry in entries if "/" not in entry.name and file_names.is_archive(entry.name)]
    packed = [printable(name) for name in archives if name.partition(".")[0] not in folders]
    shown = ", ".join(packed[:4]) + (", …" if len(packed) > 4 else "")
    return [f"warning: archives within the source are not read: {shown}; unpack them if they hold its images"] if packed else []


def hidden_folders(entries: list[Entry]) -> list[str]:
    """Return a warning for each folder whose name begins with a dot, and that holds images and may be a class."""
    counts = Counter(
        hidden
        for entry in entries
        if file_names.is_image(entry.name) and (hidden := file_names.hidden_by_hand(entry.name.rpartition("/")[0]))
    )
    return [
        f"warning: the folder {printable(name)} is hidden, since its name begins with a dot: "
        f"{counted(count, 'image is', 'images are')} left out; rename it if it is a class"
        for name, count in sorted(counts.items())
    ]
