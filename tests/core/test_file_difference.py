"""How far the numbers in two files are apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from darkroom.core.file_difference import largest


def write(path: Path, numbers: list[float], text: str) -> Path:
    """Write numbers and a text as the suffix of the path has it."""
    path.parent.mkdir(exist_ok=True)
    values = np.array(numbers, np.float32)
    if path.suffix == ".safetensors":
        save_file({"a": values, "b": values.reshape(-1, 1)}, path)
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"name": text, "rows": [{"x": x} for x in numbers]}))
    elif path.suffix == ".csv":
        path.write_text("name,x\n" + "".join(f"{text},{x}\n" for x in numbers))
    else:
        pq.write_table(pa.table({"name": [text] * len(numbers), "x": numbers}), path)
    return path


@pytest.mark.parametrize("suffix", ["safetensors", "npy", "json", "csv", "parquet"])
def test_numbers_are_compared_and_all_else_must_be_equal(suffix, tmp_path):
    """The difference is relative to the largest number; another number of values, a NaN or another text has none."""
    first = write(tmp_path / "one" / f"x.{suffix}", [1.0, 2.0, -4.0], "cat")

    def difference(numbers: list[float], text: str = "cat") -> float | None:
        return largest(first, write(tmp_path / "two" / f"x.{suffix}", numbers, text))

    assert difference([1.0, 2.0, -4.0]) == 0
    assert difference([1.0, 2.0, -4.5]) == pytest.approx(0.5 / 4.5)
    assert difference([1.0, 2.0]) is None
    assert difference([1.0, 2.0, float("nan")]) is None
    if suffix not in ("safetensors", "npy"):
        assert difference([1.0, 2.0, -4.0], "dog") is None


@pytest.mark.parametrize("name", ["x.txt", "x.npy", "x.json", "x.safetensors", "x.parquet"])
def test_what_holds_no_numbers_has_no_difference(name, tmp_path):
    """Texts and damaged files differ without a measure."""
    paths = [tmp_path / folder / name for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"no numbers")
    assert largest(*paths) is None


def test_lists_of_a_column_are_compared_by_their_values(tmp_path):
    """Columns of lists, as probabilities are, differ by their values; where lists have other lengths there is no measure."""
    first, second, longer = (tmp_path / f"{name}.parquet" for name in ("first", "second", "longer"))
    for path, rows in ((first, [[1.0, 2.0], [4.0]]), (second, [[1.0, 2.0], [4.4]]), (longer, [[1.0], [2.0, 4.0]])):
        pq.write_table(pa.table({"name": ["a", "b"], "probabilities": rows}), path)
    assert largest(first, first) == 0
    assert largest(first, second) == pytest.approx(0.4 / 4.4)
    assert largest(first, longer) is None
