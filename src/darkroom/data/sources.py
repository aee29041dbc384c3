"""A source of labelled images: which files it holds, what they are of, and how to read them.

A folder or an archive of classes, with or without ready splits; a flat one with a table; an .npz of arrays.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from darkroom.core.errors import SourceError, printable
from darkroom.data import file_sources, npz, tables
from darkroom.data.file_sources import Entry, Place
from darkroom.data.quarantine_reasons import IGNORED

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
SCRATCH = Path(".darkroom/scratch/sources")
_LITTER = {"thumbs.db", "desktop.ini", ".ds_store", "__macosx"}


@dataclass(frozen=True, slots=True)
class Found:
    """One file of a source: its path there, its label, and the split and group that the source gives it, if any.

    `ignored` and `refused` are reason codes; `key` is what `Source.read` takes.
    """

    path: str
    label: str = ""
    split: str = ""
    group: str = ""
    ignored: str = ""
    refused: str = ""
    key: object = None


@dataclass
class Source:
    """A source that is open: its files in the order of their paths, and files that a table names in vain."""

    path: Path
    found: list[Found]
    missing: list[Found] = field(default_factory=list)
    place: Place | None = None
    arrays: list[np.ndarray] = field(default_factory=list)

    @property
    def ready(self) -> frozenset[str]:
        """The splits that the source brings along."""
        return frozenset(item.split for item in self.found if item.split)

    def read(self, item: Found) -> bytes | np.ndarray:
        """Return a file's bytes, or an image that is an array. Raises OSError or ValueError where it cannot be had."""
        if isinstance(item.key, tuple):
            number, i = item.key
            return np.asarray(self.arrays[number][i])
        assert self.place is not None
        return self.place.read(item.key)


@contextmanager
def opened(path: Path, scratch: Path = SCRATCH) -> Iterator[Source]:
    """Open a source. Raises SourceError, saying what was looked for and what was found, where it holds no classes."""
    if not path.exists():
        raise SourceError(
            f"`ingest.source` is {path}, and there is no such folder or file{_beside(path)}",
            "set it to a folder with one subfolder of images per class, an archive of such, an .npz, or to "
            "data/raw/<name> for a data set that `fetch.datasets` names",
        )
    inner = _lone_npz(path)
    if inner is not None:
        with npz.arrays(inner, scratch) as parts:
            found, arrays = [], []
            for number, (split, images, labels) in enumerate(parts):
                prefix, width = split or "images", len(str(len(images)))
                arrays.append(images)
                found += [
                    Found(f"{prefix}/{i:0{width}}", label, split, refused="" if label else "unlabelled", key=(number, i))
                    for i, label in enumerate(labels)
                ]
            check_classes(path, found)
            yield Source(path, found, arrays=arrays)
        return
    if path.is_file() and path.suffix.lower() in tables.SUFFIXES:  # DVC would not see the images
        raise SourceError(f"{path} is a table", f"set `ingest.source` to its folder, {path.parent}: the table in it is found")
    with file_sources.place(path, scratch) as (place, listed):
        entries = sorted(listed, key=lambda entry: os.fsencode(entry.name))
        lines, unreadable = _table(entries, place)
        if lines is not None:
            found, missing = _by_table(entries, *lines)
        else:
            found, missing = _by_folder(path, entries), []
        try:
            check_classes(path, found)
        except SourceError as error:
            if unreadable:
                raise SourceError(
                    f"{error.problem}; the table {unreadable}", "save the table as UTF-8 CSV or as Parquet"
                ) from error
            raise
        yield Source(path, found, missing, place)


def scan(path: Path) -> None:
    """Raise SourceError where a source cannot be opened or holds no classes."""
    with opened(path):
        pass


def _beside(path: Path) -> str:
    """Return the like of ` (did you mean "photos"?)` for a path that is not there."""
    from darkroom.core.errors import nearest

    try:
        return nearest(path.name, [item.name for item in path.parent.iterdir()])
    except OSError:
        return ""


def _lone_npz(path: Path) -> Path | None:
    """Return the .npz file that a path is, or that is alone in the folder that it is."""
    if path.suffix.lower() == ".npz" and path.is_file():
        return path
    try:
        inside = [item for item in path.iterdir() if not _is_litter(item.name)] if path.is_dir() else []
    except OSError:
        return None
    return inside[0] if len(inside) == 1 and inside[0].suffix.lower() == ".npz" else None


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


@cache
def _folder_is_litter(folder: str) -> bool:
    return any(_is_litter(part) for part in folder.split("/") if part not in ("", ".", ".."))


def _ignored(entry: Entry) -> str:
    """Return why a file is no image that anybody wants used; empty where it may be one."""
    if entry.refused == "superseded":
        return "superseded"
    folder, _, name = entry.name.rpartition("/")
    return "litter" if _is_litter(name) or _folder_is_litter(folder) else ""


def _by_folder(path: Path, entries: list[Entry]) -> list[Found]:
    """A class is the first folder below the source or its split; what lies deeper belongs to it, what lies outside is ignored."""
    files = [entry for entry in entries if not _ignored(entry) and entry.refused != "leaves_source"]
    depth = _depth(files) if not path.is_dir() else 0
    names = {entry.name: entry.name.split("/")[depth:] for entry in entries}
    folders = sorted({names[entry.name][0] for entry in files if len(names[entry.name]) > 1})
    ready = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    others = [name for name in folders if name not in ready]
    nested = any(len(parts) > 2 and parts[0] in ready for parts in names.values())
    if others and ready and (len(ready) > 1 or nested):
        raise SourceError(
            f"{path} has the split folders {', '.join(ready)} and beside them {', '.join(others[:3])}",
            "move the others away, or, if all of them are classes, rename these",
        )
    if others:
        ready = {}  # one class that is called train, or test
    elif ready and "train" not in ready.values():
        raise SourceError(
            f"{path} has {', '.join(ready)} and no train folder", "add the training images, or name a folder of classes"
        )
    if len(set(ready.values())) < len(ready):
        raise SourceError(f"{path} has two folders for one split: {', '.join(ready)}", "merge them into train, val and test")
    found = []
    for entry in entries:
        parts = names[entry.name]
        split = ready.get(parts[0], "") if parts else ""
        inner = parts[1:] if split else parts
        ignored = _ignored(entry)
        if not ignored and entry.refused not in ("leaves_source", "linked_folder"):
            ignored = "outside_classes" if len(inner) < 2 or (ready and not split) else ""
        usable = len(inner) > 1 and entry.refused != "leaves_source"
        label = unicodedata.normalize("NFC", shown(inner[0])).strip() if usable else ""
        refused = "" if ignored else entry.refused
        found.append(Found(shown(entry.name), label, "" if ignored else split, "", ignored, refused, entry.key))
    return found


def _depth(files: list[Entry]) -> int:
    """Return how many folders an archive wraps its classes in: as flowers.tar with flowers/daisy/7.jpg does."""
    depth, names = 0, [entry.name.split("/") for entry in files]
    while True:
        inside = [parts for parts in names if len(parts) > depth + 1]
        if len({parts[depth] for parts in inside}) != 1 or not any(len(parts) > depth + 2 for parts in inside):
            return depth
        depth += 1


def _table(entries: list[Entry], place: Place) -> tuple[tuple[Entry, list[tables.Line]] | None, str]:
    """Return the only table of paths and labels that lies beside the files of a source, with its lines, or None without one.

    The second result says which other table cannot be read, and why.
    """
    top = min((entry.name.count("/") for entry in entries if not _ignored(entry)), default=0)
    read, unreadable = [], ""
    for entry in entries:
        beside = entry.name.lower().endswith(tables.SUFFIXES) and entry.name.count("/") == top
        if beside and not entry.refused and not _ignored(entry):
            try:
                lines = tables.read(entry.name, place.read(entry.key))
            except (OSError, ValueError) as error:
                unreadable = f"{printable(shown(entry.name))} cannot be read ({error})"
                continue
            if lines is not None:
                read.append((entry, lines))
    if len(read) > 1:
        raise SourceError(
            f"there are {len(read)} tables of paths and labels: {', '.join(entry.name for entry, _ in read)}",
            "leave one of them in the folder",
        )
    return (read[0] if read else None), unreadable


def _by_table(entries: list[Entry], table: Entry, lines: list[tables.Line]) -> tuple[list[Found], list[Found]]:
    """Return a row for every file, and the lines that name no file. Paths in the table are relative to it."""
    base = table.name.rpartition("/")[0]
    said = {_same(f"{base}/{line.path}" if base else line.path): line for line in lines}
    wrong = [line.split for line in lines if line.split and line.split.lower() not in SPLIT_NAMES]
    if wrong:
        raise SourceError(f"the table {table.name} has the split {wrong[0]!r}", "splits are train, val and test")
    found, seen = [], set()
    for entry in entries:
        name = shown(entry.name)
        line = said.get(_same(name))
        ignored = "table" if entry is table else ("" if line else _ignored(entry) or "not_in_table")
        if entry.refused == "superseded":
            ignored = "superseded"
        if ignored or line is None:
            found.append(Found(name, ignored=ignored, key=entry.key))
            continue
        seen.add(_same(name))
        item = Found(
            name, unicodedata.normalize("NFC", line.label), SPLIT_NAMES.get(line.split.lower(), ""), line.group, "",
            entry.refused or ("" if line.label else "unlabelled"), entry.key,
        )  # fmt: skip
        found.append(item)
    missing = [
        Found(name, line.label, refused="leaves_source" if file_sources.leads_out(line.path) else "missing")
        for name, line in said.items()
        if name not in seen
    ]
    if lines and not seen:
        raise SourceError(
            f"the table {table.name} names {len(lines)} files, and none of them is there; the first is {lines[0].path!r}",
            "write paths relative to the table's folder",
        )
    return found, missing


def _same(path: str) -> str:
    """Return a path in the one way that its letters can be written in: file systems and tables compose accents differently."""
    return unicodedata.normalize("NFC", path)


def shown(path: str) -> str:
    """Return a path as text that every file format takes: bytes that are no UTF-8, and backslashes, are escaped."""
    return os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def check_classes(source: Path, found: list[Found]) -> None:
    """Raise SourceError unless there are two or more classes whose names can be told apart."""
    usable = [item for item in found if not item.ignored and item.refused != "linked_folder"]
    labels = sorted({item.label for item in usable if item.label})
    for label in labels:
        if not label.isprintable():
            raise SourceError(f"the class {label!r} of {source} has a name that cannot be shown", "rename the folder")
    if not labels:
        remedy = "give it one subfolder per class, named as the class, or a table with the columns path and label"
        if any("-ubyte" in item.path for item in found):
            remedy = "set `fetch.source` to it, `fetch.datasets` to [mnist] and `ingest.source` to data/raw/mnist"
        raise SourceError(f"{source} has no image in a class folder; {_what_is_there(found)}", remedy)
    if len(labels) == 1:
        inside = {item.path.split("/")[1] for item in usable if item.label and item.path.count("/") > 1}
        below = f" or, if {', '.join(sorted(inside)[:3])} are classes, to {source / labels[0]}" if len(inside) > 1 else ""
        raise SourceError(
            f'{source} has one class, "{labels[0]}"; a classifier needs two or more',
            f"add a subfolder for each further class, or set `ingest.source` to the folder above{below}",
        )
    folded: dict[str, str] = {}
    for label in labels:
        if folded.setdefault(label.casefold(), label) != label:
            raise SourceError(
                f'{source} has the classes "{folded[label.casefold()]}" and "{label}", which differ only by case',
                "rename or merge one of the two",
            )


def _what_is_there(found: list[Found]) -> str:
    if not found:
        return "it is empty"
    kinds: dict[str, int] = {}
    for item in found:
        kind = IGNORED.get(item.ignored, "") or item.refused or "in a class folder"
        kinds[kind] = kinds.get(kind, 0) + 1
    parts = ", ".join(f"{count} ({kind})" for kind, count in kinds.items())
    return f"looked for <class>/<image> and <split>/<class>/<image>, found {parts}; the first is {found[0].path!r}"
