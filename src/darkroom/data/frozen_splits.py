"""Frozen splits: `data/splits.csv`, with the columns image, split and, as `darkroom splits freeze` writes it, sha256.

An image is a path, a pixel hash or a group. The SHA-256 of the file finds it again where it was renamed, and does
not depend on the decoder.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Literal

from darkroom.config.params import SPLITS
from darkroom.core import atomic, csv_cells
from darkroom.core.errors import SourceError
from darkroom.data.manifest import Row

FROZEN = Path("data/splits.csv")
PREVIOUS = Path(".darkroom/splits_before.csv")  # the splits before ingest moved images
COLUMNS = ("image", "split", "sha256")
GUARDED = ("test", "val", "train")  # the most guarded first


@dataclass(frozen=True)
class FrozenImage:
    """A line of the file: a path, a pixel hash or a group, its split, and the SHA-256 of the file, if it is known."""

    image: str
    split: str
    sha256: str = ""


def read(path: Path) -> list[FrozenImage]:
    """Return the lines of the file; none where there is no file.

    Raises SourceError where the file has other columns, a line has no split, or two lines disagree.
    """
    if not path.exists():
        return []
    remedy = f"correct {path}: its first line is `image,split` or `image,split,sha256`, then one line per image"
    rows = [[cell.strip() for cell in row] for row in csv_cells.read_rows(path, remedy)]
    header = tuple(cell.lower() for cell in rows[0]) if rows else ()
    if header not in (COLUMNS[:2], COLUMNS):
        raise SourceError(f"{path} does not begin with the line `image,split`", remedy)
    images: dict[tuple[str, str], FrozenImage] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not 2 <= len(row) <= len(header) or not row[0]:
            raise SourceError(f"row {number} of {path} is {row!r} instead of an image and a split", remedy)
        item = FrozenImage(csv_cells.unescaped(row[0]), row[1].lower(), row[2].lower() if len(row) == 3 else "")
        if item.split not in SPLITS:
            raise SourceError(f'row {number} of {path} has the split "{row[1]}"', f"write {', '.join(SPLITS)} there")
        if images.setdefault((item.image, item.sha256), item) != item:
            raise SourceError(f"{path} freezes {item.image} to {images[item.image, item.sha256].split} and to {item.split}", remedy)
    return list(images.values())


def write(path: Path, images: Iterable[FrozenImage]) -> None:
    """Write the file, its lines in the order of their images."""
    rows = sorted((item.image, item.split, item.sha256) for item in images)
    # a carriage return in a name has to be quoted, which the writer forgets
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any("\r" in row[0] for row in rows) else csv.QUOTE_MINIMAL
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(path) as working, working.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n", quoting=quoting).writerows([COLUMNS, *map(csv_cells.escaped, rows)])


def match(frozen: Sequence[FrozenImage], rows: Sequence[Row]) -> tuple[dict[str, str], list[str]]:
    """Return the frozen split of each image that has one, by its path, and the lines that match no image.

    A file is found by its SHA-256, then by its pixel hash, its path and its group. A path whose line belongs to
    another file of the source, which was renamed, is not taken for its image.
    """
    lines = _matching_lines(frozen, rows)
    used = {line for matching in lines.values() for line in matching}
    unused = [line.image for line in frozen if line not in used]
    return {path: reduce(more_guarded, (line.split for line in matching)) for path, matching in lines.items()}, unused


def more_guarded(one: str, other: str) -> str:
    """Return the more guarded of two splits, test before val before train."""
    return min(one, other, key=GUARDED.index)


def _matching_lines(frozen: Sequence[FrozenImage], rows: Sequence[Row]) -> dict[str, list[FrozenImage]]:
    """Return the lines that hold for each image, by its path."""
    if not frozen:
        return {}
    contents = {row.sha256 for row in rows}
    by_content: dict[str, list[FrozenImage]] = {}
    by_name: dict[str, list[FrozenImage]] = {}
    for line in frozen:
        if line.sha256:
            by_content.setdefault(line.sha256, []).append(line)
        if not line.sha256 or line.sha256 not in contents:
            by_name.setdefault(_normal(line.image), []).append(line)
    lines_by_path: dict[str, list[FrozenImage]] = {}
    for row in rows:
        same = by_content.get(row.sha256, [])
        here = [line for line in same if line.image == row.path]
        names = (row.pixel_hash, row.path, row.group, row.group.removeprefix("group "))
        lines = here or same or next((by_name[_normal(name)] for name in names if _normal(name) in by_name), [])
        if lines:
            lines_by_path[row.path] = lines
    return lines_by_path


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def freeze(rows: Sequence[Row], frozen: Sequence[FrozenImage]) -> tuple[list[FrozenImage], int]:
    """Return the lines that freeze every accepted image, and how many of them are new.

    Lines that are there keep their split, and those of files that have changed get their new SHA-256.
    """
    accepted = [row for row in rows if row.status == "accepted"]
    lines = {(line.image, line.sha256): line for line in frozen}
    matching = _matching_lines(frozen, accepted)
    added = 0
    for row in accepted:
        lines_of = matching.get(row.path, [])
        if not lines_of:
            lines[row.path, row.sha256] = FrozenImage(row.path, row.split, row.sha256)
            added += 1
        elif len(lines_of) == 1 and lines_of[0].sha256 not in ("", row.sha256) and lines_of[0].image == row.path:
            del lines[lines_of[0].image, lines_of[0].sha256]
            lines[row.path, row.sha256] = replace(lines_of[0], sha256=row.sha256)
    return list(lines.values()), added
