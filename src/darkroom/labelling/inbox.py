"""An inbox: a folder of images that are in no source yet. Its labels are the table `labels.csv` in it."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from darkroom.core import atomic, csv_cells, machine_limits
from darkroom.core.errors import SourceError, printable
from darkroom.data import class_names, parquet_source, shards, webdataset
from darkroom.data.manifest import Row

TABLE, COLUMNS = "labels.csv", ("path", "label")


@dataclass(frozen=True)
class Added:
    """Images of an inbox that were copied into the source, those that were there already, and those that could not be, with the
    reason."""

    copied: list[str]
    present: list[str]
    left_out: dict[str, str]


def read(folder: Path) -> dict[str, str]:
    """Return the label of each image, named by its path below the folder; empty where there is no table.

    Raises SourceError where the table is not one of two columns, path and label.
    """
    path = folder / TABLE
    if not path.exists():
        return {}
    remedy = f"rename {path}, or correct it: its first line is `path,label`, then one line per image"
    rows = csv_cells.read_rows(path, remedy)
    if not rows or tuple(cell.strip().lower() for cell in rows[0]) != COLUMNS or any(len(row) != 2 for row in rows):
        raise SourceError(f"{path} is no table of the columns path and label", remedy)
    return {_plain(name): class_names.normalise(csv_cells.unescaped(label)) for name, label in rows[1:]}


def _plain(name: str) -> str:
    """Return a path without the `./` that `write` puts before what a spreadsheet would run."""
    return csv_cells.unescaped(name).removeprefix("./")


def write(folder: Path, labels: Mapping[str, str]) -> None:
    """Write the table, in the order of the mapping; stage ingest reads such a table, too."""
    rows = [(f"./{path}" if csv_cells.FORMULA.match(path) else path, label) for path, label in labels.items()]
    with atomic.new_file(folder / TABLE) as working, working.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *map(csv_cells.escaped, rows)])


def check_class(label: str) -> str:
    """Return the name of a class, known or new, in NFC; raise SourceError where a folder cannot have it."""
    name = class_names.normalise(label)
    if not class_names.label_of(name) or name in (".", "..") or name.startswith(".") or "/" in name or "\\" in name:
        raise SourceError(f'"{printable(label)}" cannot be the name of a class', "a class becomes a folder: use letters and digits")
    if not class_names.is_showable(name) or len(name.encode()) > 200:
        raise SourceError(f"{label!a} cannot be shown as the name of a class", "use letters and digits, 200 bytes at most")
    return name


def class_folders(rows: Iterable[Row]) -> dict[str, str]:
    """Return the folder, below the source, in which the training images of each class lie.

    Raises SourceError where the folders of the source are not its classes.
    """
    parents: dict[str, set[str]] = {}
    for row in rows:
        if row.status == "accepted" and row.split == "train":
            parents.setdefault(row.source_label, set()).add(os.path.dirname(row.path))
    folders = {label: os.path.commonpath(names) if all(names) else "" for label, names in parents.items()}
    for label, folder in folders.items():
        if label not in [class_names.normalise(part) for part in folder.split("/")]:
            raise SourceError(
                f'the images of class "{printable(label)}" lie in "{printable(folder) or "."}": its classes are no folders',
                f"copy the images of the inbox into the source, and add the lines of its {TABLE} to the source's own table",
            )
    return folders


def add(folder: Path, labels: Mapping[str, str], source: Path, rows: Iterable[Row]) -> Added:
    """Copy the images that have labels into the class folders of a source; a new class gets a folder beside the others.

    Nothing of the inbox is moved. A file that is there with the same content stays. Raises SourceError where the source is no
    folder of class folders.
    """
    if not source.is_dir():
        raise SourceError(
            f"{source} is no folder, so images cannot be added to it", "unpack it, and set ingest.source to the folder"
        )
    within = shards.find(source, (*parquet_source.SUFFIXES, *webdataset.SUFFIXES))[0]
    if within:  # an image beside them would be the source in their place
        raise SourceError(
            f"the images of {source} lie within files, such as {printable(within[0].name)}, so that none can be added",
            "unpack them into one folder per class, and set `ingest.source` to the folder around these",
        )
    folders = class_folders(rows)
    parents = Counter(os.path.dirname(name) for name in folders.values())
    place = parents.most_common(1)[0][0] if parents else ""
    done = Added([], [], {})
    for name, label in labels.items():
        file = folder / name
        target = source / folders.get(label, os.path.join(place, label)) / name.replace("/", "-")
        try:
            content = file.read_bytes() if file.is_file() else None
        except OSError as error:
            machine_limits.check(error)
            done.left_out[name] = error.strerror or str(error)
            continue
        if content is None:
            done.left_out[name] = "there is no such file"
        elif target.exists():
            if target.read_bytes() == content:
                done.present.append(name)
            else:
                done.left_out[name] = f"{target} is another image"
        else:
            with atomic.new_file(target) as working:
                working.write_bytes(content)
            done.copied.append(target.relative_to(source).as_posix())
    return done
