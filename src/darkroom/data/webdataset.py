"""Tars of samples, as WebDataset has them: `key.jpg` with `key.cls`, `key.json` or `key.txt`, in one tar or a folder of shards.

A key is a path up to the first point of its name. The label of an image is, of what its sample has, a text in its `.json`
(`label`, `class`, …), its `.cls` (a number or a name), a number in its `.json`, or its `.txt`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.core import machine_limits, strict_json
from darkroom.core.counts import counted
from darkroom.core.errors import SourceError, printable
from darkroom.data import file_names, file_sources, folder_labels, shards
from darkroom.data.class_names import label_of
from darkroom.data.file_sources import FileSource
from darkroom.data.folder_source import Entry
from darkroom.data.source_file import SourceFile
from darkroom.data.table_columns import GROUPS, LABELS
from darkroom.data.tables import is_table
from darkroom.data.tables import key as title_key

SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARTS = ("cls", "json", "txt")  # that may have the label
MAX_PART = 2**20  # bytes of one
_MANY = 40  # labels of `.txt` from which they are looked at: captions differ
Samples = dict[str, dict[str, Entry]]  # parts by key and suffix; of images the first alone, under its own suffix


class Tars:
    """The files of several tars, whose names begin with that of their tar, and those beside them; see `file_sources.FileSource`."""

    def __init__(self, opened: list[tuple[str, FileSource, list[Entry]]], others: list[str]) -> None:
        self.folders: list[str] = []
        self.notes = [note for _, files, _ in opened for note in files.notes]
        self.tars = [files for _, files, _ in opened]
        self.listed = [
            replace(entry, name=f"{name}/{entry.name}", key=(i, entry.key))
            for i, (name, _, entries) in enumerate(opened)
            for entry in entries
        ] + [Entry(name, None) for name in others]

    def entries(self) -> list[Entry]:
        return self.listed

    def read(self, key: tuple[int, Any]) -> bytes:
        return self.tars[key[0]].read(key[1])


@contextmanager
def open_shards(source: Path, scratch: Path) -> Iterator[Tars | None]:
    """Open the tars of a folder that holds them and no images; None for another folder, or where they hold no samples."""
    paths, others = shards.find(source, SUFFIXES) if source.is_dir() else ([], [])
    with ExitStack() as stack:
        opened = []
        for path in paths:
            files, entries = stack.enter_context(file_sources.open_files(path, scratch))
            opened.append((shards.name_of(source, path), files, entries))
        tars = Tars(opened, [path.relative_to(source).as_posix() for path in others])
        yield tars if holds_samples(tars.listed) else None


def _split_name(name: str) -> tuple[str, str]:
    """Return the key and the suffix of a member's name: ("a/0001", "seg.png") of `a/0001.seg.png`."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _is_image(suffix: str) -> bool:
    return "." not in suffix and file_names.is_image(f"x.{suffix}")


def _samples(entries: list[Entry]) -> Samples:
    """Return the samples that have an image."""
    parts: Samples = defaultdict(dict)
    for entry in entries:
        key, suffix = _split_name(entry.name)
        if entry.refused == "superseded" or file_names.is_litter(entry.name):
            continue
        if suffix not in parts[key] and not (_is_image(suffix) and any(map(_is_image, parts[key]))):
            parts[key][suffix] = entry
    return {key: members for key, members in parts.items() if any(map(_is_image, members))}


def holds_samples(entries: list[Entry]) -> bool:
    """Tell whether the files of tars are samples.

    Half of the images have a `.cls`; or they lie in one folder without a table, and half have another part for the label.
    """
    samples = _samples(entries)
    with_class = sum("cls" in parts for parts in samples.values())
    with_part = sum(any(part in parts for part in PARTS) for parts in samples.values())
    folders = {key.rpartition("/")[0] for key in samples}
    tars = {folder for folder in folders if folder.lower().endswith(SUFFIXES)}
    has_table = any(is_table(entry.name) and not entry.name.lower().endswith((".json", ".txt")) for entry in entries)
    flat = (len(folders) < 2 or tars == folders) and not has_table
    return bool(samples) and (2 * with_class >= len(samples) or (flat and 2 * with_part >= len(samples)))


def read_files(source: Path, files: FileSource, entries: list[Entry]) -> list[SourceFile]:
    """Return every file of tars of samples, in order of names; add to the notes what was understood.

    Raises SourceError for texts that are captions, and as `shards.splits` does.
    """
    samples = _samples(entries)
    described = {key: _describe(files, parts) for key, parts in samples.items()}
    _check_captions(source, samples, [label for label, _, _ in described.values()])
    shard_of = {key: _shard(key) for key in samples} if source.is_dir() else {}
    split_of = shards.splits(source, sorted(set(shard_of.values()))) if shard_of else {}
    labelled = {shard_of.get(key, "") for key, (label, _, _) in described.items() if label}
    images = {id(parts[next(filter(_is_image, parts))]): key for key, parts in samples.items()}
    reasons = folder_labels.ignore_reasons(entries)
    result = []
    for entry, reason in zip(entries, reasons, strict=True):
        name = folder_labels.escaped(entry.name)
        key = images.get(id(entry))
        if key is None:
            part = "" if reason in ("litter", "superseded") or _split_name(entry.name)[0] not in samples else "sample_part"
            result.append(SourceFile(name, ignored=part or reason or "no_image", key=entry.key))
            continue
        label, split, group = described[key]
        split = split_of.get(shard_of.get(key, ""), "") or split
        if split == "unlabelled" or shard_of.get(key, "") not in labelled:
            label = split = ""
        refused = entry.refused or ("" if label else "unlabelled")
        result.append(SourceFile(name, label, split, group, "", refused, entry.key))
    _note(files, samples, described, split_of, sorted(set(shard_of.values()) - labelled))
    return result


def _shard(key: str) -> str:
    """Return the name of the tar with which the key of a sample in a folder of them begins."""
    parts = key.split("/")
    depth = next(i for i, part in enumerate(parts) if part.lower().endswith(SUFFIXES))
    return "/".join(parts[: depth + 1])


def _describe(files: FileSource, parts: dict[str, Entry]) -> tuple[str, str, str]:
    """Return the label, the split and the group that the parts of a sample say, each perhaps empty."""
    content: Any = {}
    if "json" in parts:
        try:
            content = strict_json.loads(_text(files, parts["json"]) or "{}")
        except ValueError:
            content = {}
    values = {title_key(str(name)): value for name, value in content.items()} if isinstance(content, dict) else {}
    named = [values[word] for word in LABELS if isinstance(values.get(word), (str, int)) and values[word] != -1]
    text = next((value for value in named if isinstance(value, str)), "")
    group = next((str(values[word]) for word in GROUPS if isinstance(values.get(word), (str, int)) and "fold" not in word), "")
    split = values.get("split", "")
    number = str(named[0]) if named else ""
    label = text or (_text(files, parts["cls"]) if "cls" in parts else "") or number
    if not label and "txt" in parts:
        label = _text(files, parts["txt"])
    label = "" if label == "-1" else label_of(label.partition("\n")[0])
    meaning = shards.split_named(split) if isinstance(split, str) else ""
    return label, meaning, group


def _text(files: FileSource, entry: Entry) -> str:
    """Return the text of a part, without white space around it; none where it cannot be read, or is too long."""
    try:
        content = b"" if entry.refused else files.read(entry.key)
    except (OSError, ValueError) as error:
        machine_limits.check(error)
        content = b""
    return content.decode("utf-8-sig", "backslashreplace").strip() if len(content) <= MAX_PART else ""


def _check_captions(source: Path, samples: Samples, labels: list[str]) -> None:
    """Raise SourceError where the labels are of `.txt` alone, and more than half of them differ."""
    if any("cls" in parts or "json" in parts for parts in samples.values()):
        return
    if len(set(labels)) > max(_MANY, len(labels) // 2):
        raise SourceError(
            f"the .txt of {source} hold {len(set(labels)):,} texts for {len(labels):,} images, for example "
            f"{printable(labels[0])[:60]!r}: captions, not classes",
            "write a .cls with the number or the name of the class for each image",
        )


def _note(
    files: FileSource, samples: Samples, described: dict[str, tuple[str, str, str]], split_of: dict[str, str], bare: list[str]
) -> None:
    used = ", ".join(f".{part}" for part in PARTS if any(part in parts for parts in samples.values()))
    files.notes.append(f"samples of WebDataset: {counted(len(samples), 'image')}, labels in {used}")
    if split_of:
        listing = ", ".join(f"{name} is {split}" for name, split in list(split_of.items())[:4])
        files.notes.append(f"the names of the tars are splits: {printable(listing)}{', …' if len(split_of) > 4 else ''}")
    files.notes += [f"{printable(name)} has no labels: its images are left out" for name in bare if name]
    lacking = sum(not label for label, _, _ in described.values())
    if lacking and not bare:
        files.notes.append(f"warning: {counted(lacking, 'image has', 'images have')} no label in {used}")
