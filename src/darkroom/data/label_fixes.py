"""Accepted corrections of labels: `data/label_fixes.csv`, with the columns image (a path or a pixel hash) and
label.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darkroom.core import atomic, csv_cells
from darkroom.core.errors import SourceError, nearest, printable
from darkroom.data import class_names
from darkroom.data.manifest import Row

COLUMNS = ("image", "label")


@dataclass(frozen=True)
class Change:
    """A line that was written, its label, and the label that its image had."""

    image: str
    label: str
    before: str


def read(path: Path) -> dict[str, str]:
    """Return the label of each image that the file names; empty where there is no file.

    Raises SourceError where a row has no label, or two rows name the same image.
    """
    if not path.exists():
        return {}
    remedy = f"correct {path}: its first line is `image,label`, then one line per image"
    rows = csv_cells.read_rows(path, remedy)
    if not rows or tuple(cell.strip().lower() for cell in rows[0]) != COLUMNS:
        raise SourceError(f"{path} does not begin with the line `image,label`", remedy)
    fixes: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise SourceError(f"row {number} of {path} is {row!r} instead of an image and a label", remedy)
        image, label = csv_cells.unescaped(row[0].strip()), class_names.normalise(csv_cells.unescaped(row[1].strip()))
        if fixes.setdefault(image, label) != label:
            raise SourceError(f"{path} gives {image} the labels {fixes[image]!r} and {label!r}", remedy)
    return fixes


def check(fixes: dict[str, str], classes: Iterable[str], path: Path) -> None:
    """Raise SourceError where a fix names a class that the source does not have."""
    names = set(classes)
    for image, label in fixes.items():
        if label not in names:
            raise SourceError(
                f'{path} gives {image} the label "{label}", and there is no such class{nearest(label, names)}',
                f"correct {path}; the classes are {', '.join(sorted(names)[:8])}{', …' if len(names) > 8 else ''}",
            )


def write(path: Path, fixes: Mapping[str, str]) -> None:
    """Write the file, its lines in the order of the mapping."""
    # a carriage return in a name has to be quoted, which the writer forgets
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any("\r" in name for name in fixes) else csv.QUOTE_MINIMAL
    with atomic.new_file(path) as working, working.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n", quoting=quoting).writerows([COLUMNS, *map(csv_cells.escaped, fixes.items())])


def lines_of(fixes: Iterable[str], rows: Collection[Row]) -> list[str]:
    """Return the lines for the images of these rows: by path, in any normal form, or by pixel hash."""
    names = {class_names.normalise(row.path) for row in rows} | {row.pixel_hash for row in rows}
    return [line for line in fixes if class_names.normalise(line) in names - {""}]


def label_of(row: Row, fixes: Mapping[str, str]) -> str:
    """Return the label that the next ingest gives an image: that of its line, or the source's."""
    return next((fixes[line] for line in lines_of(fixes, [row])), row.source_label)


def set_label(path: Path, image: str, rows: Collection[Row], label: str) -> Change | None:
    """Write the label of an image, named by its path or pixel hash; return None where it has that label already.

    `rows` are those that the name stands for. A line that is there keeps its place and its name: one by pixel hash
    holds for all copies of the picture, and a second one by path would contradict it.
    """
    fixes = read(path)
    lines = lines_of(fixes, rows)
    before = sorted({label_of(row, fixes) for row in rows})
    if before == [label]:
        return None
    lines = lines or [class_names.normalise(image)]
    write(path, fixes | dict.fromkeys(lines, label))
    return Change(lines[0], label, "/".join(before))


def remove(path: Path, image: str, rows: Collection[Row]) -> dict[str, str]:
    """Take away the lines of an image, which need not exist any more; return them with their labels.

    Raises SourceError where there is none.
    """
    fixes = read(path)
    lines = {line: fixes[line] for line in fixes if class_names.normalise(line) == class_names.normalise(image)}
    lines |= {line: fixes[line] for line in lines_of(fixes, rows)}
    if not lines:
        raise SourceError(
            printable(f'{path} has no line for "{image}"{nearest(image, fixes)}'), f"its {len(fixes)} lines name others"
        )
    write(path, {line: label for line, label in fixes.items() if line not in lines})
    return lines
