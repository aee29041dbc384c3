"""The labels that tables beside the images give, and when they count: see docs/data.md, "What a folder means"."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.config.params import SPLITS
from darkroom.core import machine_limits
from darkroom.core.counts import counted
from darkroom.core.errors import SourceError, printable
from darkroom.data import split_names, table_columns, table_paths, tables
from darkroom.data.file_sources import Entry, FileSource
from darkroom.data.folder_labels import escaped
from darkroom.data.source_file import SourceFile
from darkroom.data.table_columns import Line, Reading, Unclear
from darkroom.data.table_paths import FileIndex

_MANY = 40  # tables in one folder above which they belong to single images
_UNREAD = (".xlsx", ".xls", ".ods", ".numbers", ".feather", ".arrow")
_MOST = 0.9  # the share of images that a table must name where its labels are others than those of the folders
_SAMPLE_NAMES = ("submission",)


@dataclass
class FoundTables:
    """The tables beside the images: those understood, those that are not, each with its problem, and notes."""

    readings: list[Reading] = field(default_factory=list)
    unclear: list[Unclear] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> set[str]:
        return {line.file for reading in self.readings for line in reading.lines if line.file}

    def complaint(self) -> str:
        """Return what is wrong with the tables that are not understood; empty where all are."""
        return "; ".join(f"the table {printable(table.table)} {table.problem}" for table in self.unclear[:3])

    def remedy(self) -> str:
        """Return what to do about tables that are not understood."""
        return f"{table_columns.UNDERSTOOD}: rename the columns, or move the table away"


def find(path: Path, entries: list[Entry], reasons: list[str], files: FileSource, by_folder: list[SourceFile]) -> FoundTables:
    """Read the tables beside the images, or one folder below, and understand what they say of them.

    `by_folder` are the files as their folders label them. Where these look like classes, a column counts as
    the label by its name alone.
    """
    names = _classes(by_folder)
    guess_label = len(names) < 2 or split_names.batch_like(names)
    images = [escaped(entry.name) for entry, reason in zip(entries, reasons, strict=True) if not reason]
    candidates = _candidates(entries, reasons)
    tables_read = FoundTables()
    top = min((entry.name.count("/") for entry in candidates), default=0)
    for entry in candidates:
        name = escaped(entry.name)
        if any(word in name.lower().rpartition("/")[2] for word in _SAMPLE_NAMES):
            tables_read.notes.append(f"the table {printable(name)} is left out: a sample of a submission has no labels")
            continue
        if name.lower().endswith(_UNREAD):
            tables_read.unclear.append(Unclear(name, "is of a kind that is not read; save it as CSV", False))
            continue
        outcome = _understand(path, entry, images, files, guess_label)
        if isinstance(outcome, Reading):
            tables_read.readings.append(outcome)
        elif outcome is not None and (outcome.names_files or (entry.name.count("/") == top and not name.lower().endswith(".txt"))):
            tables_read.unclear.append(outcome)
    _check_together(tables_read)
    return tables_read


def _classes(by_folder: list[SourceFile]) -> list[str]:
    return sorted({file.label for file in by_folder if file.label and not file.ignored and not file.refused})


def _candidates(entries: list[Entry], reasons: list[str]) -> list[Entry]:
    """Return the files that may be tables of the images: few in their folder, and not deep in the source."""
    usable = [
        entry
        for entry, reason in zip(entries, reasons, strict=True)
        if reason in ("", "no_image")
        and not entry.refused
        and (tables.is_table(entry.name) or entry.name.lower().endswith(_UNREAD))
    ]
    top = min(
        (entry.name.count("/") for entry, reason in zip(entries, reasons, strict=True) if reason in ("", "no_image")), default=0
    )
    per_folder = Counter(entry.name.rpartition("/")[0] for entry in usable)
    return [entry for entry in usable if entry.name.count("/") <= top + 1 and per_folder[entry.name.rpartition("/")[0]] <= _MANY]


def _understand(path: Path, entry: Entry, images: list[str], files: FileSource, guess_label: bool) -> Reading | Unclear | None:
    name = escaped(entry.name)
    folder, _, base = name.rpartition("/")
    try:
        table = tables.read(name, files.read(entry.key))
    except (OSError, ValueError) as error:
        machine_limits.check(error)
        return Unclear(name, f"cannot be read ({error}); save it as UTF-8 CSV or as Parquet", False)
    if not table.columns:
        other = name.lower().endswith(".json") and not _is_sidecar(name, images)
        return Unclear(name, "has no records of an image and a label, nor images with their labels", False) if other else None
    reading = split_names.read_name(base.rpartition(".")[0])
    below = [image for image in images if image.startswith(folder + "/")] if folder else images
    for among in (below, images):
        outcome = table_columns.understand(table, FileIndex(among, folder, path, reading.kind if reading else ""), guess_label)
        if isinstance(outcome, Reading) or below is images:
            break
    return outcome


def _is_sidecar(name: str, images: list[str]) -> bool:
    """Tell whether a table is named as an image beside it: `1.json` or `1.jpg.meta.json` beside `1.jpg`."""
    return any(name.startswith(f"{image.rpartition('.')[0]}.") for image in images)


def _check_together(tables_read: FoundTables) -> None:
    """Give the lines of several tables the splits that their names say. Raises SourceError where they are too many."""
    if len(tables_read.readings) < 2:
        return
    names = [reading.table for reading in tables_read.readings]
    stems = {name: name.rpartition("/")[2].rpartition(".")[0] for name in names}
    folders = {name: name.rpartition("/")[0] for name in names}
    owners = Counter(line.file for reading in tables_read.readings for line in reading.lines if line.file)
    by_name = split_names.read_names(set(stems.values()))
    if len(set(stems.values())) == len(names) and by_name.splits and not by_name.question:
        splits = {name: by_name.splits[stems[name]] for name in names}
    elif len(set(folders.values())) == len(names) and max(owners.values(), default=0) < 2:
        splits = dict.fromkeys(names, "")
    else:
        raise SourceError(
            f"there are {len(names)} tables of paths and labels: {', '.join(names[:6])}",
            "leave one of them in the folder, or one for each split, named train, val and test",
        )
    merged = []
    for reading in tables_read.readings:
        split = splits[reading.table]
        lines = [Line(line.path, line.label, line.split or split, line.group, line.file) for line in reading.lines]
        merged.append(Reading(reading.table, lines, reading.label_column, reading.has_splits or bool(split), reading.notes))
    tables_read.readings = merged
    listing = ", ".join(f"{name} is {split}" for name, split in splits.items() if split)
    if listing:
        tables_read.notes.append(f"each table is a split: {printable(listing)}")
    twice = next((file for file, count in owners.items() if count > 1), "")
    if twice:
        raise SourceError(f"{twice} is in two of the tables {', '.join(names)}", "name each image in one table")


def check_coverage(tables_read: FoundTables, path: Path, by_folder: list[SourceFile]) -> None:
    """Raise SourceError where a table names but a part of the images of class folders beside it.

    `by_folder` are the files as their folders label them; empty where the folders are no classes. A table with
    other labels than the folders counts where it names nine images in ten; the rest is left out, and said so.
    """
    named = tables_read.files
    usable = [file for file in by_folder if file.label and not file.ignored and not file.refused]
    rest = [file for file in usable if file.path not in named]
    names = sorted({file.label for file in usable})
    if len(names) < 2 or split_names.batch_like(names):
        return
    labels = {line.label for reading in tables_read.readings for line in reading.lines if line.label}
    table = tables_read.readings[0].table
    other = not labels & set(names)
    if rest and not (other and len(rest) <= (1 - _MOST) * len(usable)):
        raise SourceError(
            f"the table {printable(table)} names {len(usable) - len(rest):,} of the {len(usable):,} images in the folders "
            f"{printable(', '.join(names[:4]))}; the first that it does not name is {printable(rest[0].path)}",
            f"if the folders are the classes, move {printable(table)} out of {printable(str(path))}; "
            f"if {tables_read.readings[0].label_column} is the label, add a line for each image, or move the other images away",
        )
    differ = [line for reading in tables_read.readings for line in reading.lines if line.file and line.label]
    folder_of = {file.path: file.label for file in usable}
    if any(folder_of.get(line.file, line.label) != line.label for line in differ):
        tables_read.notes.append(
            f"warning: the labels are those of the table {printable(table)} "
            f"({table_columns.commonest([line.label for line in differ])}), "
            f"not those of the folders ({printable(', '.join(names[:4]))})"
        )


def label(entries: list[Entry], reasons: list[str], tables_read: FoundTables) -> tuple[list[SourceFile], list[SourceFile]]:
    """Return every file, and the lines that name no file."""
    by_file = {line.file: line for reading in tables_read.readings for line in reading.lines if line.file}
    names = {reading.table for reading in tables_read.readings}
    folder_splits = _folder_splits(tables_read)
    files, left_out = [], 0
    for entry, reason in zip(entries, reasons, strict=True):
        name = escaped(entry.name)
        line = by_file.get(name)
        if line is None or reason == "superseded":
            ignored = "superseded" if reason == "superseded" else "table" if name in names else reason or "not_in_table"
            left_out += ignored == "not_in_table"
            files.append(SourceFile(name, ignored=ignored, key=entry.key))
            continue
        split = line.split or folder_splits.get(name.rpartition("/")[0], "")
        refused = entry.refused or ("" if line.label else "unlabelled")
        files.append(SourceFile(name, line.label, split, line.group, "", refused, entry.key))
    missing = [
        SourceFile(
            _shown_path(reading, line), line.label, refused="leaves_source" if table_paths.leads_out(line.path) else "missing"
        )
        for reading in tables_read.readings
        for line in reading.lines
        if not line.file
    ]
    _note(tables_read, left_out)
    return files, missing


def _shown_path(reading: Reading, line: Line) -> str:
    folder, path = reading.table.rpartition("/")[0], table_paths.clean(line.path)
    return f"{folder}/{path}" if folder and not path.startswith("/") else path


def _folder_splits(tables_read: FoundTables) -> dict[str, str]:
    """Return the split of each folder of images that is named as one, where the table itself has no splits."""
    if any(reading.has_splits for reading in tables_read.readings):
        return {}
    folders = {line.file.rpartition("/")[0] for reading in tables_read.readings for line in reading.lines if line.file}
    parts = [folder.split("/") for folder in folders]
    for depth in range(min((len(names) for names in parts), default=0)):
        tops = {names[depth] for names in parts}
        named = split_names.read_names(tops)
        if named.splits and not named.question:
            splits = set(named.splits.values())
            if splits <= set(SPLITS):
                listing = ", ".join(f"{name} is {split}" for name, split in named.splits.items())
                tables_read.notes.append(f"the folders are the splits of the table's images: {printable(listing)}")
                return {"/".join(names): named.splits[names[depth]] for names in parts}
    return {}


def _note(tables_read: FoundTables, left_out: int) -> None:
    first = tables_read.readings[0]
    notes = [f"labels from {reading.label_column} of the table {printable(reading.table)}" for reading in tables_read.readings[:3]]
    tables_read.notes[:0] = [*notes, *(note for reading in tables_read.readings for note in reading.notes)]
    if left_out:
        that = f"that the table {printable(first.table)} does not name"
        tables_read.notes.append(f"warning: {counted(left_out, f'file {that} is', f'files {that} are')} left out")


def describe(tables_read: FoundTables, by_folder: list[SourceFile]) -> None:
    """Say which tables are not used where folders are the classes. Raises SourceError where the folders look like batches."""
    complaint = tables_read.complaint()
    names = _classes(by_folder)
    if complaint and split_names.batch_like(names):
        raise SourceError(
            f"{complaint}; the folders {printable(', '.join(names[:4]))} look like batches and are not taken for classes",
            f"{tables_read.remedy()} if the folders are the classes",
        )
    if complaint:
        tables_read.notes.append(f"warning: {complaint}; the folders are the classes")
