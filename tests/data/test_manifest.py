"""The manifest is read as it was written."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.data import manifest
from darkroom.data.manifest import COLUMNS, Row

ROW = Row(
    path='a "b"\r\n,é日\\xff.png ', label=" nan", split="train", copies=2, bytes=2**40, width=3, height=4, darkest=0.1 + 0.2,
    flags=("dark", "blurry"), detail="null",
)  # fmt: skip


def test_rows_come_back_as_they_were(tmp_path):
    """Quotes, line breaks, blanks, words that look like no value, large numbers and every digit of a float are kept."""
    manifest.write(tmp_path / "manifest.parquet", [ROW, Row(path="b")])
    first, second = manifest.read(tmp_path / "manifest.parquet")
    assert str(first) == str(ROW)  # NaN equals NaN as text
    assert math.isnan(second.sharpness)
    table = pq.read_table(tmp_path / "manifest.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert {str(table.schema.field(name).type) for name in ("width", "entropy", "flags")} == {"int64", "double", "string"}
    assert sum(column.null_count for column in table.columns) == 0


def test_a_manifest_may_have_no_rows(tmp_path):
    """Its columns have their types all the same."""
    manifest.write(tmp_path / "manifest.parquet", [])
    assert manifest.read(tmp_path / "manifest.parquet") == []
    assert pq.read_schema(tmp_path / "manifest.parquet").field("bytes").type == pa.int64()


def test_columns_of_other_versions_are_no_matter(tmp_path):
    """A column that is missing has its default, one that is unknown is not read."""
    pq.write_table(pa.table({"path": ["a"], "camera": ["x"]}), tmp_path / "manifest.parquet")
    (row,) = manifest.read(tmp_path / "manifest.parquet")
    assert (row.path, row.status, row.flags) == ("a", "accepted", ())


def test_images_are_the_accepted_rows_of_each_split(tmp_path):
    """They come in the order of the manifest, which is that of the arrays."""
    rows = [replace(ROW, path=str(i), split=("train", "val")[i % 2], status=("accepted", "ignored")[i == 4]) for i in range(6)]
    manifest.write(tmp_path / "manifest.parquet", rows)
    images = manifest.read_images(tmp_path / "manifest.parquet")
    assert {split: [row.path for row in members] for split, members in images.items()} == {
        "train": ["0", "2"], "val": ["1", "3", "5"], "test": [],
    }  # fmt: skip


def test_pandas_is_not_imported(tmp_path):
    """Its import takes longer than writing the manifest of a small data set."""
    code = (
        "import sys; from pathlib import Path; from darkroom.data import manifest; path = Path(sys.argv[1]); "
        "manifest.write(path, [manifest.Row(path='a')]); manifest.read(path); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "manifest.parquet")], check=True)
