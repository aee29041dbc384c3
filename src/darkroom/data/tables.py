"""Tables as people write them: CSV with any usual separator, JSON, lines of JSON, or Parquet, as columns of text.

Text is UTF-8, UTF-16 or Windows' cp1252. `table_columns` says what the columns mean.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from darkroom.core import strict_json
from darkroom.core.lazy import lazy_imports
from darkroom.data import class_names

with lazy_imports():
    import pyarrow as pa
    from pyarrow import parquet as pq

SUFFIXES = (".csv", ".tsv", ".psv", ".tab", ".txt", ".jsonl", ".ndjson", ".json", ".parquet")
_DELIMITERS = ",;\t|"
_WHOLE_FLOAT = re.compile(r"-?\d+\.0*$")
_WHOLE = re.compile(r"-?\d+(\.0*)?$")


@dataclass(frozen=True)
class Table:
    """A table: its name in the source and its columns of text, equally long. `rows` are those of a text file."""

    name: str
    columns: dict[str, list[str]]
    rows: tuple[tuple[str, ...], ...] = ()
    embeds_images: bool = False
    guessed: str = ""  # the encoding, where the text is neither UTF-8 nor UTF-16

    def headless(self) -> Table:
        """Return the table whose first line is no header: its columns have numbers for names."""
        width = max(map(len, self.rows), default=0)
        columns = {f"{i + 1}": [row[i] if i < len(row) else "" for row in self.rows] for i in range(width)}
        return replace(self, columns={name: _without_decimals(values) for name, values in columns.items()})


def key(title: str) -> str:
    """Return the letters and digits of a column's title, in small letters."""
    return re.sub(r"[\W_]+", "", title.lower())


def is_table(name: str) -> bool:
    """Tell whether a name is that of a table which can be read."""
    return PurePosixPath(name.lower()).suffix in SUFFIXES


def read(name: str, content: bytes) -> Table:
    """Return the columns of a table. Raises ValueError or OSError where it cannot be read at all."""
    suffix = PurePosixPath(name.lower()).suffix
    if suffix == ".parquet":
        return _parquet(name, content)
    text, encoding = decode(content)
    try:
        if suffix in (".jsonl", ".ndjson"):
            return _records(name, [strict_json.loads(line) for line in text.splitlines() if line.strip()])
        if suffix == ".json":
            return _json(name, strict_json.loads(text))
        return replace(_csv(name, text), guessed="cp1252" if encoding == "cp1252" else "")
    except (csv.Error, RecursionError) as error:
        raise ValueError(str(error)) from error


def decode(content: bytes) -> tuple[str, str]:
    """Return text and its encoding: UTF-8, UTF-16 (with its mark, or as the zeros between letters tell) or else cp1252."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) and len(content) % 2 == 0:
        return content.decode("utf-16"), "utf-16"
    start = content[:200]
    if len(start) > 3 and start[1::2].count(0) > len(start) // 4:
        return content.decode("utf-16-le"), "utf-16"
    if len(start) > 3 and start[0::2].count(0) > len(start) // 4:
        return content.decode("utf-16-be"), "utf-16"
    try:
        return content.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return content.decode("cp1252"), "cp1252"


def _csv(name: str, text: str) -> Table:
    first, _, rest = text.partition("\n")
    declared = re.fullmatch(r"\"?sep=(.)\"?", first.strip(" \r")) or re.fullmatch(r"\"?sep=(\t)\"?", first.strip("\r"))
    text = rest if declared else text
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return Table(name, {})
    delimiter = declared[1] if declared else _delimiter(lines[:50])
    if delimiter == " ":
        rows = [tuple(line.split()) if len(line.split()) == 2 else tuple(line.rsplit(None, 1)) for line in lines]
    else:
        read = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        rows = [tuple(cell.strip() for cell in row) for row in read]
        rows = [row for row in rows if any(row)]
    if not rows:
        return Table(name, {})
    header = _distinct([cell.lstrip("# ") for cell in rows[0]])
    columns = {title: _without_decimals([row[i] if i < len(row) else "" for row in rows[1:]]) for i, title in enumerate(header)}
    return Table(name, columns, tuple(rows))


def _delimiter(lines: list[str]) -> str:
    """Return the separator that the first line has most of; white space where there is none of the others."""
    best = max(_DELIMITERS, key=lines[0].count)  # of equals the comma
    if lines[0].count(best):
        return best
    return " " if len(lines) > 1 and all(len(line.split()) > 1 for line in lines) else ","


def _distinct(header: list[str]) -> list[str]:
    counts: dict[str, int] = {}
    titles = []
    for title in header:
        counts[title] = counts.get(title, 0) + 1
        titles.append(title if counts[title] == 1 else f"{title} ({counts[title]})")
    return titles


def _without_decimals(values: list[str]) -> list[str]:
    """Return numbers without `.0`, which whole numbers get from a program that has no empty whole number."""
    is_integral = all(_WHOLE.match(value) or value.lower() in class_names.EMPTY for value in values)
    if is_integral and any(_WHOLE_FLOAT.match(value) for value in values):
        return [value.partition(".")[0] for value in values]
    return values


def _json(name: str, content: object) -> Table:
    if isinstance(content, list):
        return _records(name, content)
    if isinstance(content, dict) and content and all(isinstance(value, (str, int, float)) for value in content.values()):
        return Table(name, {"file": list(content), "label": _without_decimals([_text(value) for value in content.values()])})
    lists = [value for value in content.values() if isinstance(value, list)] if isinstance(content, dict) else []
    if isinstance(content, dict) and len(lists) == len(content) and len(set(map(len, lists))) == 1:
        return Table(name, {key: _without_decimals([_text(item) for item in value]) for key, value in content.items()})
    return Table(name, {})


def _records(name: str, records: list[object]) -> Table:
    rows = [record for record in records if isinstance(record, dict)]
    if len(rows) < len(records) or not rows:
        return Table(name, {})
    titles = list(dict.fromkeys(str(key) for row in rows for key in row))
    return Table(name, {title: _without_decimals([_text(row.get(title)) for row in rows]) for title in titles})


def _parquet(name: str, content: bytes) -> Table:
    table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    embeds = any(pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0 for field in table.schema)
    if embeds:
        return Table(name, {column: [] for column in table.column_names}, embeds_images=True)
    texts = {column: [_text(value) for value in table.column(column).to_pylist()] for column in table.column_names}
    return Table(name, {column: _without_decimals(values) for column, values in texts.items()})


def _text(value: object) -> str:
    if value is None or value != value:  # no value, or not a number
        return ""
    if isinstance(value, list):
        return _text(value[0]) if len(value) == 1 else json.dumps(value, ensure_ascii=False) if value else ""
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
