"""Accepted corrections of labels: `data/label_fixes.csv`, with the columns image (a path or a pixel hash) and
label.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from darkroom.core.errors import SourceError, nearest
from darkroom.data import class_names

COLUMNS = ("image", "label")


def read(path: Path) -> dict[str, str]:
    """Return the label of each image that the file names; empty where there is no file.

    Raises SourceError where a row has no label, or two rows name the same image.
    """
    if not path.exists():
        return {}
    remedy = f"correct {path}: its first line is `image,label`, then one line per image"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} cannot be read: {error}", remedy) from error
    if not rows or tuple(cell.strip().lower() for cell in rows[0]) != COLUMNS:
        raise SourceError(f"{path} does not begin with the line `image,label`", remedy)
    fixes: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise SourceError(f"row {number} of {path} is {row!r} instead of an image and a label", remedy)
        image, label = row[0].strip(), class_names.normalise(row[1])
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
