"""The table of a flat folder: CSV or Parquet with the path and label of each file, and perhaps its split and
group.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from darkroom.core.errors import SourceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import pyarrow as pa
    from pyarrow import parquet as pq

SUFFIXES = (".csv", ".parquet")
_COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image"),
    "label": ("label", "class"),
    "split": ("split",),
    "group": ("group",),
}


@dataclass(frozen=True, slots=True)
class Line:
    """The entries of a table for one file."""

    path: str
    label: str
    split: str
    group: str


def read(name: str, content: bytes) -> list[Line] | None:
    """Return the lines of a table, or None where it has no column for the path or none for the label.

    Raises ValueError or OSError where it cannot be read at all, SourceError where two lines contradict each
    other.
    """
    try:
        columns = _parquet(content) if name.lower().endswith(".parquet") else _csv(content)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    lowered = {column.strip().lower(): column for column in columns}
    names = {key: next((lowered[alias] for alias in aliases if alias in lowered), "") for key, aliases in _COLUMNS.items()}
    if not names["path"] or not names["label"]:
        return None
    count = len(columns[names["path"]])
    values = {key: columns[column] if column else [""] * count for key, column in names.items()}
    lines: dict[str, Line] = {}
    for path, label, split, group in zip(*(values[key] for key in _COLUMNS), strict=True):
        line = Line(_clean(path), label, split, group)
        if lines.setdefault(line.path, line) != line:
            raise SourceError(
                f"the table {name} contradicts itself about {line.path}: {lines[line.path].label!r} and {label!r}",
                "leave one line for each file",
            )
    return list(lines.values())


def _clean(path: str) -> str:
    path = path.strip().replace("\\", "/")
    return path[2:] if path.startswith("./") else path


def _csv(content: bytes) -> dict[str, list[str]]:
    text = content.decode("utf-8-sig")
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)  # of equals the comma
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return {}
    width = len(rows[0])
    return {name: [(row + [""] * width)[i].strip() for row in rows[1:]] for i, name in enumerate(rows[0])}


def _parquet(content: bytes) -> dict[str, list[str]]:
    table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    return {name: [_text(value) for value in table.column(name).to_pylist()] for name in table.column_names}


def _text(value: object) -> str:
    if value is None or value != value:  # no value, or not a number
        return ""
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
