"""How far the numbers in two files are apart."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file

from darkroom.core import strict_json


def largest(first: Path, second: Path) -> float | None:
    """Return the largest difference between numbers at the same place of two files, relative to the largest number there.

    Numbers are those of a tensor or array (.safetensors, .npy), of a column (.csv, .parquet) or of a value (.json). None where
    the files differ in anything else, as in a text or a shape, and where they have no numbers to compare.
    """
    try:
        values, others = (dict(_numbers(path)) for path in (first, second))
    except (OSError, ValueError, KeyError, RecursionError, SafetensorError):
        return None
    if not values or values.keys() != others.keys():
        return None
    differences = [_difference(value, others[key]) for key, value in values.items()]
    comparable = [item for item in differences if item is not None]
    return max(comparable, default=0.0) if len(comparable) == len(differences) else None


def _difference(first: Any, second: Any) -> float | None:
    """Return the relative difference of two arrays or numbers; 0 of equal texts, else None."""
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.dtype.kind not in "iufb" or second.dtype.kind not in "iufb":
        return 0.0 if first.shape == second.shape and bool((first == second).all()) else None
    first, second = first.astype(np.float64), second.astype(np.float64)
    is_number = np.isfinite(first)
    if not (is_number == np.isfinite(second)).all():
        return None
    apart = np.abs(first[is_number] - second[is_number]).max(initial=0.0)
    scale = max(np.abs(first[is_number]).max(initial=0.0), np.abs(second[is_number]).max(initial=0.0))
    return float(apart / scale) if apart else 0.0


def _numbers(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield what a file holds by its place."""
    if path.suffix == ".safetensors":
        yield from load_file(path).items()
    elif path.suffix == ".npy":
        yield "", np.load(path, mmap_mode="r", allow_pickle=False)
    elif path.suffix == ".parquet":
        table = pq.read_table(path)
        for name, column in zip(table.column_names, table.columns, strict=True):
            yield from _parts(name, column)
    elif path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        for number in range(max(map(len, rows), default=0)):
            yield str(number), _column([row[number] if number < len(row) else "" for row in rows])
    elif path.suffix == ".json":
        yield from _values(strict_json.loads(path.read_text(encoding="utf-8")), "")


def _parts(name: str, column: pa.ChunkedArray) -> Iterator[tuple[str, Any]]:
    """Yield the values of a column, of lists their lengths and their values."""
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type):
        yield f"{name} lengths", np.array(pc.list_value_length(column).to_pylist(), object)
        column, name = pc.list_flatten(column), f"{name} items"
    yield name, column.to_numpy(zero_copy_only=False)


def _column(cells: list[str]) -> np.ndarray:
    """Return a column below its header as numbers, or with it as texts."""
    try:
        return np.array([float(cell) for cell in cells[1:]])
    except ValueError:
        return np.array(cells)


def _values(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        yield place, f"{type(value).__name__} of {len(value)}"
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _values(inner, f"{place}/{key}")
    else:
        yield place, value
