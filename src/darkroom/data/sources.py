"""A source of labelled images: its files, their labels, and how to read them.

A source is a folder or an archive of classes, with or without ready splits; one with a table of labels; Parquet files of
images; or an .npz of arrays. What was understood of it is in `Source.notes`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from darkroom.core.errors import SourceError, nearest_file
from darkroom.data import (
    class_names,
    file_names,
    file_sources,
    folder_labels,
    npz,
    parquet_source,
    table_labels,
    tables,
    webdataset,
)
from darkroom.data.file_sources import Entry, FileSource, Reader
from darkroom.data.layout import ClassFolder, Layout
from darkroom.data.source_file import SourceFile
from darkroom.data.table_labels import FoundTables

SCRATCH = Path(".darkroom/scratch/sources")


@dataclass
class Source:
    """An open source: its files in the order of their paths or rows, and files of its table that do not exist.

    `class_folders` are the classes for which there are folders, also empty ones. `notes` say in sentences
    what was understood; those that begin with `warning: ` may be wrong. `kind` says what the files are in,
    where it is neither a folder nor an archive of them.
    """

    path: Path
    files: list[SourceFile]
    missing: list[SourceFile] = field(default_factory=list)
    file_source: Reader | None = None
    arrays: list[np.ndarray] = field(default_factory=list)
    class_folders: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kind: str = ""

    @property
    def ready_splits(self) -> frozenset[str]:
        """The splits that the source has itself."""
        return frozenset(file.split for file in self.files if file.split)

    def read(self, file: SourceFile) -> bytes | np.ndarray:
        """Return the bytes of a file, or an image that is an array.

        Raises OSError or ValueError where it cannot be read.
        """
        if self.arrays:
            number, i = cast("tuple[int, int]", file.key)
            return np.asarray(self.arrays[number][i])
        assert self.file_source is not None
        return self.file_source.read(file.key)


@contextmanager
def named_by(setting: str) -> Iterator[None]:
    """Name `setting` in place of `ingest.source` in what a source is refused for."""
    try:
        yield
    except SourceError as error:
        problem, remedy = (text.replace("`ingest.source`", f"`{setting}`") for text in (error.problem, error.remedy))
        raise SourceError(problem, remedy, error.retryable) from error


@contextmanager
def open_source(path: Path, scratch: Path = SCRATCH, class_folder: ClassFolder = "auto") -> Iterator[Source]:
    """Open a source. Raises SourceError with the expected layout and the one found where it holds no classes.

    `class_folder` says which folder is the class where two levels may be: see `layout.read`.
    """
    if not path.exists():
        raise SourceError(
            f"`ingest.source` is {path}, and there is no such folder or file{nearest_file(path)}",
            "set it to a folder with one subfolder of images per class, an archive of such, Parquet files, an .npz, or to "
            "data/raw/<name> for a data set that `fetch.datasets` names",
        )
    inner = _lone_npz(path)
    if inner is not None:
        with npz.open_npz(inner, scratch) as parts:
            files = [file for number, part in enumerate(parts) for file in _array_files(number, part)]
            class_names.check(path, files)
            notes = [note for part in parts for note in part.notes]
            yield Source(path, files, arrays=[part.images for part in parts], notes=notes, kind="arrays")
        return
    paths, beside = parquet_source.find(path)
    if paths:
        rows = parquet_source.ParquetFiles(path, paths)
        files = parquet_source.read_files(path, rows, beside)
        class_names.check(path, files)
        yield Source(path, files, file_source=rows, notes=rows.notes, kind="Parquet")
        return
    if (
        path.is_file() and tables.is_table(path.name) and path.suffix.lower() not in (".txt", ".json")
    ):  # DVC would not see the images
        raise SourceError(f"{path} is a table", f"set `ingest.source` to its folder, {path.parent}: the table in it is found")
    with webdataset.open_shards(path, scratch) as tars:
        if tars is not None:
            yield _samples(path, tars.entries(), tars)
            return
    with file_sources.open_files(path, scratch) as (file_source, unordered):
        entries = sorted(unordered, key=lambda entry: os.fsencode(entry.name))
        if isinstance(file_source, file_sources.Tar) and webdataset.holds_samples(entries):
            yield _samples(path, entries, file_source)
            return
        yield _label(path, entries, file_source, class_folder)


def _samples(path: Path, entries: list[Entry], files: FileSource) -> Source:
    """Return the images of tars of samples, labelled by the files beside them."""
    source_files = webdataset.read_files(path, files, sorted(entries, key=lambda entry: os.fsencode(entry.name)))
    class_names.check(path, source_files)
    return Source(path, source_files, file_source=files, notes=files.notes, kind="WebDataset")


def _label(path: Path, entries: list[Entry], file_source: FileSource, class_folder: ClassFolder) -> Source:
    """Return the files as the tables beside them label them, or else their folders."""
    reasons = folder_labels.ignore_reasons(entries)
    meaning, by_folder, problem = _read_folders(path, entries, reasons, class_folder)
    tables_read = table_labels.find(path, entries, reasons, file_source, [] if problem else by_folder)
    if problem is not None and not tables_read.readings:
        raise _with_tables(problem, tables_read) from problem
    hidden = folder_labels.hidden_folders(entries)
    if tables_read.readings:
        table_labels.check_coverage(tables_read, path, [] if problem else by_folder)
        files, missing = table_labels.label(entries, reasons, tables_read)
        class_names.check(path, files)
        return Source(path, files, missing, file_source, notes=[*file_source.notes, *tables_read.notes])
    table_labels.describe(tables_read, by_folder)
    assert meaning is not None
    folders = folder_labels.class_folders(meaning, file_source.folders)
    notes = [
        *file_source.notes,
        *meaning.notes,
        *folder_labels.empty_splits(meaning, file_source.folders),
        *folder_labels.packed_files(entries, file_source.folders),
        *tables_read.notes,
        *hidden,
    ]
    return Source(path, by_folder, [], file_source, class_folders=folders, notes=notes)


def _read_folders(
    path: Path, entries: list[Entry], reasons: list[str], class_folder: ClassFolder
) -> tuple[Layout | None, list[SourceFile], SourceError | None]:
    """Return what the folders mean and the files as they label them, or why they are no classes."""
    try:
        meaning = folder_labels.read_layout(path, entries, reasons, class_folder)
        files = folder_labels.label(entries, reasons, meaning)
        class_names.check(path, files)
    except SourceError as error:
        return None, [], error
    return meaning, files, None


def _with_tables(error: SourceError, tables_read: FoundTables) -> SourceError:
    """Return an error about folders that names the tables which might have had the labels."""
    complaint = tables_read.complaint()
    return SourceError(f"{error.problem}; {complaint}", f"{tables_read.remedy()}; or {error.remedy}") if complaint else error


def _array_files(number: int, part: npz.SplitArrays) -> Iterator[SourceFile]:
    prefix, width = part.split or "images", len(str(len(part.images)))
    for i, label in enumerate(part.labels):
        refused = "" if label else "unlabelled"
        yield SourceFile(f"{prefix}/{i:0{width}}", label, part.split, refused=refused, key=(number, i))


def _lone_npz(path: Path) -> Path | None:
    """Return the .npz file that a path is, or the only file of the folder that it is."""
    if path.suffix.lower() == ".npz" and path.is_file():
        return path
    try:
        inside = [item for item in path.iterdir() if not file_names.is_litter(item.name)] if path.is_dir() else []
    except OSError:
        return None
    return inside[0] if len(inside) == 1 and inside[0].suffix.lower() == ".npz" else None
