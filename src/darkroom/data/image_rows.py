"""Rows of the manifest for the images of a split, held as columns: an image takes some 300 bytes instead of 3 kB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, overload

import pyarrow as pa

from darkroom.data.manifest import Row

DEFAULTS = {field.name: field.default for field in fields(Row)}
BLOCK = 1024  # rows that are made from columns at a time


class ImageRows(Sequence[Mapping[str, Any]]):
    """The rows of an Arrow table with columns of the manifest, as mappings with the fields of `Row`.

    A row is made when it is asked for. What the table lacks has its default; `flags` is a tuple.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> ImageRows: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | ImageRows:
        if isinstance(place, slice):
            return ImageRows(self.table.take(list(range(*place.indices(len(self))))))
        place = int(place) + len(self) * (place < 0)
        if not 0 <= place < len(self):
            raise IndexError(place)
        return next(iter(ImageRows(self.table.slice(place, 1))))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), BLOCK):
            block = ImageRows(self.table.slice(start, BLOCK))
            columns = [block.column(name) for name in DEFAULTS]
            yield from (dict(zip(DEFAULTS, values, strict=True)) for values in zip(*columns, strict=True))

    def column(self, name: str) -> list[Any]:
        """Return the values of a field."""
        if name not in self.table.column_names:
            return [DEFAULTS[name]] * len(self)
        values = self.table.column(name).to_pylist()
        return [tuple(text.split()) for text in values] if name == "flags" else values


def column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """Return a field of rows, however they are held."""
    return rows.column(name) if isinstance(rows, ImageRows) else [row[name] for row in rows]


def joined(parts: Sequence[Sequence[Mapping[str, Any]]]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of several splits, one after the other."""
    tables = [part.table for part in parts if isinstance(part, ImageRows)]
    return ImageRows(pa.concat_tables(tables)) if len(tables) == len(parts) else [row for part in parts for row in part]
