"""A source of labelled images: its files, their labels, and how to read them.

A source is a folder or an archive of classes, with or without ready splits; a flat one with a table; or an
.npz of arrays.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from darkroom.core.errors import SourceError, nearest, printable
from darkroom.data import file_sources, npz, tables
from darkroom.data.file_sources import Entry, FileSource
from darkroom.data.quarantine_reasons import IGNORE_REASONS

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
SCRATCH = Path(".darkroom/scratch/sources")
_LITTER = {"thumbs.db", "desktop.ini", ".ds_store", "__macosx"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source: its path there, its label, and the split and group that the source gives it, if
    any.

    `ignored` and `refused` are reasons; `key` is what `Source.read` takes.
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
    """An open source: its files in the order of their paths, and files of its table that do not exist."""

    path: Path
    files: list[SourceFile]
    missing: list[SourceFile] = field(default_factory=list)
    file_source: FileSource | None = None
    arrays: list[np.ndarray] = field(default_factory=list)

    @property
    def ready_splits(self) -> frozenset[str]:
        """The splits that the source has itself."""
        return frozenset(file.split for file in self.files if file.split)

    def read(self, file: SourceFile) -> bytes | np.ndarray:
        """Return the bytes of a file, or an image that is an array.

        Raises OSError or ValueError where it cannot be read.
        """
        if isinstance(file.key, tuple):
            number, i = file.key
            return np.asarray(self.arrays[number][i])
        assert self.file_source is not None
        return self.file_source.read(file.key)


@contextmanager
def open_source(path: Path, scratch: Path = SCRATCH) -> Iterator[Source]:
    """Open a source. Raises SourceError with the expected layout and the one found where it holds no classes."""
    if not path.exists():
        raise SourceError(
            f"`ingest.source` is {path}, and there is no such folder or file{_suggest(path)}",
            "set it to a folder with one subfolder of images per class, an archive of such, an .npz, or to "
            "data/raw/<name> for a data set that `fetch.datasets` names",
        )
    inner = _lone_npz(path)
    if inner is not None:
        with npz.open_npz(inner, scratch) as parts:
            files = [file for number, part in enumerate(parts) for file in _array_files(number, part)]
            check_classes(path, files)
            yield Source(path, files, arrays=[part.images for part in parts])
        return
    if path.is_file() and path.suffix.lower() in tables.SUFFIXES:  # DVC would not see the images
        raise SourceError(f"{path} is a table", f"set `ingest.source` to its folder, {path.parent}: the table in it is found")
    with file_sources.open_files(path, scratch) as (file_source, unordered):
        entries = sorted(unordered, key=lambda entry: os.fsencode(entry.name))
        table, unreadable = _find_table(entries, file_source)
        files, missing = _label_by_table(entries, *table) if table else (_label_by_folder(path, entries), [])
        try:
            check_classes(path, files)
        except SourceError as error:
            if unreadable:
                raise SourceError(
                    f"{error.problem}; the table {unreadable}", "save the table as UTF-8 CSV or as Parquet"
                ) from error
            raise
        yield Source(path, files, missing, file_source)


def _array_files(number: int, part: npz.SplitArrays) -> Iterator[SourceFile]:
    prefix, width = part.split or "images", len(str(len(part.images)))
    for i, label in enumerate(part.labels):
        refused = "" if label else "unlabelled"
        yield SourceFile(f"{prefix}/{i:0{width}}", label, part.split, refused=refused, key=(number, i))


def _suggest(path: Path) -> str:
    """Return the like of ` (did you mean "photos"?)` for a path that does not exist."""
    try:
        return nearest(path.name, [item.name for item in path.parent.iterdir()])
    except OSError:
        return ""


def _lone_npz(path: Path) -> Path | None:
    """Return the .npz file that a path is, or the only file of the folder that it is."""
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


def _ignore_reason(entry: Entry) -> str:
    """Return why a file is ignored whatever the layout; empty where it may be an image."""
    if entry.refused == "superseded":
        return "superseded"
    folder, _, name = entry.name.rpartition("/")
    return "litter" if _is_litter(name) or _folder_is_litter(folder) else ""


def _label_by_folder(path: Path, entries: list[Entry]) -> list[SourceFile]:
    """Label by the first folder below the source or its split; what lies outside of one is ignored."""
    candidates = [entry for entry in entries if not _ignore_reason(entry) and entry.refused != "leaves_source"]
    depth = _wrapping_depth(candidates) if not path.is_dir() else 0
    parts_of = {entry.name: entry.name.split("/")[depth:] for entry in entries}
    ready = _ready_folders(path, parts_of, candidates)
    files = []
    for entry in entries:
        parts = parts_of[entry.name]
        split = ready.get(parts[0], "") if parts else ""
        inner = parts[1:] if split else parts
        ignored = _ignore_reason(entry)
        if not ignored and entry.refused not in ("leaves_source", "linked_folder"):
            ignored = "outside_classes" if len(inner) < 2 or (ready and not split) else ""
        usable = len(inner) > 1 and entry.refused != "leaves_source"
        label = unicodedata.normalize("NFC", escaped(inner[0])).strip() if usable else ""
        refused = "" if ignored else entry.refused
        files.append(SourceFile(escaped(entry.name), label, "" if ignored else split, "", ignored, refused, entry.key))
    return files


def _ready_folders(path: Path, parts_of: dict[str, list[str]], candidates: list[Entry]) -> dict[str, str]:
    """Return the split of each folder that is one. Raises SourceError where the layout has two readings."""
    folders = sorted({parts_of[entry.name][0] for entry in candidates if len(parts_of[entry.name]) > 1})
    ready = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    others = [name for name in folders if name not in ready]
    nested = any(len(parts) > 2 and parts[0] in ready for parts in parts_of.values())
    if others and ready and (len(ready) > 1 or nested):
        raise SourceError(
            f"{path} has the split folders {', '.join(ready)} and beside them {', '.join(others[:3])}",
            "move the others away, or, if all of them are classes, rename these",
        )
    if others:
        return {}  # one class that is called train, or test
    if ready and "train" not in ready.values():
        raise SourceError(
            f"{path} has {', '.join(ready)} and no train folder", "add the training images, or name a folder of classes"
        )
    if len(set(ready.values())) < len(ready):
        raise SourceError(f"{path} has two folders for one split: {', '.join(ready)}", "merge them into train, val and test")
    return ready


def _wrapping_depth(candidates: list[Entry]) -> int:
    """Return how many folders an archive wraps its classes in: 1 for flowers.tar with flowers/daisy/7.jpg."""
    depth, names = 0, [entry.name.split("/") for entry in candidates]
    while True:
        inside = [parts for parts in names if len(parts) > depth + 1]
        if len({parts[depth] for parts in inside}) != 1 or not any(len(parts) > depth + 2 for parts in inside):
            return depth
        depth += 1


def _find_table(entries: list[Entry], file_source: FileSource) -> tuple[tuple[Entry, list[tables.Line]] | None, str]:
    """Return the only table of paths and labels beside the files, and one that cannot be read, and why."""
    top = min((entry.name.count("/") for entry in entries if not _ignore_reason(entry)), default=0)
    readable, unreadable = [], ""
    for entry in entries:
        beside = entry.name.lower().endswith(tables.SUFFIXES) and entry.name.count("/") == top
        if not beside or entry.refused or _ignore_reason(entry):
            continue
        try:
            lines = tables.read(entry.name, file_source.read(entry.key))
        except (OSError, ValueError) as error:
            unreadable = f"{printable(escaped(entry.name))} cannot be read ({error})"
            continue
        if lines is not None:
            readable.append((entry, lines))
    if len(readable) > 1:
        raise SourceError(
            f"there are {len(readable)} tables of paths and labels: {', '.join(entry.name for entry, _ in readable)}",
            "leave one of them in the folder",
        )
    return (readable[0] if readable else None), unreadable


def _label_by_table(entries: list[Entry], table: Entry, lines: list[tables.Line]) -> tuple[list[SourceFile], list[SourceFile]]:
    """Return every file, and the lines that name no file. Paths in the table are relative to it."""
    base = table.name.rpartition("/")[0]
    by_path = {_composed(f"{base}/{line.path}" if base else line.path): line for line in lines}
    wrong = [line.split for line in lines if line.split and line.split.lower() not in SPLIT_NAMES]
    if wrong:
        raise SourceError(f"the table {table.name} has the split {wrong[0]!r}", "splits are train, val and test")
    files, present = [], set()
    for entry in entries:
        name = escaped(entry.name)
        line = by_path.get(_composed(name))
        ignored = "table" if entry is table else ("" if line else _ignore_reason(entry) or "not_in_table")
        if entry.refused == "superseded":
            ignored = "superseded"
        if ignored or line is None:
            files.append(SourceFile(name, ignored=ignored, key=entry.key))
            continue
        present.add(_composed(name))
        refused = entry.refused or ("" if line.label else "unlabelled")
        label, split = unicodedata.normalize("NFC", line.label), SPLIT_NAMES.get(line.split.lower(), "")
        files.append(SourceFile(name, label, split, line.group, "", refused, entry.key))
    missing = [
        SourceFile(name, line.label, refused="leaves_source" if file_sources.leads_out(line.path) else "missing")
        for name, line in by_path.items()
        if name not in present
    ]
    if lines and not present:
        raise SourceError(
            f"the table {table.name} names {len(lines)} files, and none of them exists; the first is {lines[0].path!r}",
            "write paths relative to the table's folder",
        )
    return files, missing


def _composed(path: str) -> str:
    """Return a path with composed accents, which file systems and tables write in different ways."""
    return unicodedata.normalize("NFC", path)


def escaped(path: str) -> str:
    """Return a path as text for every format: backslashes, and bytes that are no UTF-8, are escaped."""
    return os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def check_classes(source: Path, files: list[SourceFile]) -> None:
    """Raise SourceError unless there are two or more classes whose names can be told apart."""
    usable = [file for file in files if not file.ignored and file.refused != "linked_folder"]
    labels = sorted({file.label for file in usable if file.label})
    for label in labels:
        if not label.isprintable():
            raise SourceError(f"the class {label!r} of {source} has a name that cannot be shown", "rename the folder")
    if not labels:
        remedy = "give it one subfolder per class, named as the class, or a table with the columns path and label"
        if any("-ubyte" in file.path for file in files):
            remedy = "set `fetch.source` to it, `fetch.datasets` to [mnist] and `ingest.source` to data/raw/mnist"
        raise SourceError(f"{source} has no image in a class folder; {_describe(files)}", remedy)
    if len(labels) == 1:
        inside = {file.path.split("/")[1] for file in usable if file.label and file.path.count("/") > 1}
        below = f" or, if {', '.join(sorted(inside)[:3])} are classes, to {source / labels[0]}" if len(inside) > 1 else ""
        raise SourceError(
            f'found 1 class in {source}, "{labels[0]}"; at least 2 are needed',
            f"add a subfolder for each further class, or set `ingest.source` to the folder above{below}",
        )
    folded: dict[str, str] = {}
    for label in labels:
        if folded.setdefault(label.casefold(), label) != label:
            raise SourceError(
                f'{source} has the classes "{folded[label.casefold()]}" and "{label}", which differ only by case',
                "rename or merge one of the two",
            )


def _describe(files: list[SourceFile]) -> str:
    if not files:
        return "it is empty"
    kinds = Counter(IGNORE_REASONS.get(file.ignored, "") or file.refused or "in a class folder" for file in files)
    parts = ", ".join(f"{count} ({kind})" for kind, count in kinds.items())
    return f"looked for <class>/<image> and <split>/<class>/<image>, found {parts}; the first is {files[0].path!r}"
