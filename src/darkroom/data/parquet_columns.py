"""The columns of a Parquet file that holds images, as the Hugging Face Hub writes it.

`image` is struct<bytes, path> or binary; `label` is a whole number, whose names are in the schema's metadata
(`huggingface`, a ClassLabel), or a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core import strict_json
from darkroom.core.errors import SourceError, printable
from darkroom.data import table_splits
from darkroom.data.class_names import label_of
from darkroom.data.table_columns import GROUPS, LABELS
from darkroom.data.tables import Table, key

IMAGES = ("image", "img", "images", "photo", "picture", "pixels", "jpg", "png")
_PATHS = ("path", "filepath", "filename", "file")


@dataclass(frozen=True)
class Columns:
    """The names of the columns: images, their paths (perhaps empty), labels; and what numbers of labels mean."""

    image: str
    is_struct: bool
    path: str
    label: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]  # columns that may have the split
    group: str = ""

    @property
    def bytes(self) -> str:
        """The column of the images' bytes, as Parquet names it."""
        return f"{self.image}.bytes" if self.is_struct else self.image

    @property
    def described(self) -> list[str]:
        """The columns that say what the images are, which are small."""
        return [name for name in (self.path, self.label, self.group, *self.splits) if name]


class Rows(NamedTuple):
    """What a file says of its rows, a text for each: path in the file, label, split and group, each perhaps empty."""

    paths: list[str]
    labels: list[str]
    splits: list[str]
    groups: list[str]
    notes: list[str]


def image_column(schema: pa.Schema) -> str:
    """Return the column that holds images; empty where there is none."""
    names = {field.name: key(field.name) for field in schema}
    embedding = [field.name for field in schema if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0]
    binary = [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)]
    named = [name for word in IMAGES for name in (*embedding, *binary) if names[name] == word]
    return named[0] if named else embedding[0] if len(embedding) == 1 else ""


def find(name: str, schema: pa.Schema) -> Columns:
    """Return the columns of a file that holds images. Raises SourceError where the label is not certain."""
    image = image_column(schema)
    features = _features(schema)
    others = [field.name for field in schema if field.name != image]
    label = next((column for word in LABELS for column in others if key(column) == word), "")
    numbered = [column for column in others if features.get(column, {}).get("_type") == "ClassLabel"]
    if not label and len(numbered) != 1:
        several = f"has the labels {', '.join(numbered)}"
        problem = several if numbered else f"has no column of labels, only {', '.join(others) or image}"
        raise SourceError(
            f"{printable(name)} {printable(problem)}",
            "name the column of the class label: with pyarrow, `table.rename_columns(…)`, with datasets, `ds.rename_column(…)`",
        )
    label = label or numbered[0]
    is_struct = pa.types.is_struct(schema.field(image).type)
    inner = is_struct and schema.field(image).type.get_field_index("path") >= 0
    texts = [column for column in others if column != label and _is_text(schema.field(column).type)]
    path = f"{image}.path" if inner else next((column for word in _PATHS for column in texts if key(column) == word), "")
    group = next((column for word in GROUPS for column in texts if key(column) == word and "fold" not in word), "")
    names = features.get(label, {}).get("names")
    classes = tuple(map(str, names)) if isinstance(names, list) else ()
    return Columns(image, is_struct, path, label, classes, tuple(c for c in texts if table_splits.is_named(c)), group)


def read_rows(name: str, file: pq.ParquetFile, columns: Columns) -> Rows:
    """Return what the small columns say of each row; the images are not read.

    Raises SourceError for a label that its names lack, and for several labels of one image.
    """
    table = file.read(list(dict.fromkeys(columns.described)), use_threads=False)
    count = table.num_rows
    empty = [""] * count
    paths = empty
    if columns.path:
        column = table.column(columns.image if columns.is_struct and columns.path == f"{columns.image}.path" else columns.path)
        chunks = [chunk.field("path") if pa.types.is_struct(chunk.type) else chunk for chunk in column.chunks]
        paths = [text for chunk in chunks for text in _texts(chunk, b"\\\\")]
    labels = _labels(name, table.column(columns.label), columns.classes)
    splits = empty
    notes: list[str] = []
    if columns.splits:
        words = Table(name, {column: _texts(table.column(column)) for column in columns.splits})
        splits, _, notes = table_splits.read(words, list(words.columns))
    groups = _texts(table.column(columns.group)) if columns.group else empty
    return Rows(paths, labels, splits, groups, notes)


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return the columns as the Hub describes them; nothing where a file has no such description."""
    try:
        content = strict_json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = content["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(inner) or pa.types.is_large_string(inner)


def _texts(column: pa.Array | pa.ChunkedArray, backslash: bytes = b"\\") -> list[str]:
    """Return a column of texts; bytes that are no UTF-8 are escaped, nothing is an empty text. Paths escape a backslash too."""
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    contents = plain.cast(pa.large_binary()).to_pylist()
    return [(content or b"").replace(b"\\", backslash).decode("utf-8", "backslashreplace") for content in contents]


def _labels(name: str, column: pa.ChunkedArray, classes: Sequence[str]) -> list[str]:
    """Return the label of each row, empty for none: null, NaN, and −1, which is the Hub's."""
    if _is_text(column.type):
        return [label_of(text) for text in _texts(column)]
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_struct(column.type):
        raise SourceError(f"{printable(name)}: the labels are {column.type}, not one of each image", "write a column of one label")
    labels = []
    for value in column.to_pylist():
        if value is None or value != value or value == -1:
            labels.append("")
            continue
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if classes and not (isinstance(number, int) and 0 <= number < len(classes)):
            raise SourceError(
                f"{printable(name)} has the label {value}, and {len(classes)} names of labels", "write the file with all names"
            )
        labels.append(label_of(classes[number] if classes else str(number)))
    return labels
