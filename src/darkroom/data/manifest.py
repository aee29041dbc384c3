"""The manifest, `data/ingested/manifest.parquet`: one row per file of the source."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from darkroom.config import dvc_graph
from darkroom.config.params import SPLITS
from darkroom.core import json_files, shortage

COLUMNS = (
    "path", "label", "source_label", "split", "sha256", "pixel_hash", "perceptual_hash", "group", "copies", "format", "mode",
    "width", "height", "frames", "bytes", "darkest", "brightest", "entropy", "sharpness", "flags", "status", "reason", "detail",
)  # fmt: skip


@dataclass(slots=True)
class ImageFacts:
    """The columns that depend on the content of a file and on the params of ingest alone.

    `darkest`, `brightest`, `entropy` and `sharpness` are those of `quality.Figures`, NaN below 64 pixels a
    side.
    """

    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    pixel_hash: str = ""
    darkest: float = float("nan")
    brightest: float = float("nan")
    entropy: float = float("nan")
    sharpness: float = float("nan")
    flags: tuple[str, ...] = ()
    status: str = "accepted"  # accepted, quarantined, ignored
    reason: str = ""
    detail: str = ""


@dataclass(slots=True)
class Row(ImageFacts):
    """One source file; images of a `group` share a split, `copies` counts its duplicates, itself included."""

    path: str = ""
    label: str = ""
    source_label: str = ""
    split: str = ""
    sha256: str = ""
    perceptual_hash: str = ""
    group: str = ""
    copies: int = 1
    bytes: int = 0


_TYPES = {field.name: {"int": pa.int64(), "float": pa.float64()}.get(str(field.type), pa.string()) for field in fields(Row)}


def write(path: Path, rows: Iterable[Row]) -> None:
    # through CSV, since pyarrow.table imports pandas: a tenth of the time of ingesting a small data set
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(" ".join(row.flags) if name == "flags" else getattr(row, name) for name in COLUMNS)
    content = text.getvalue().encode()
    table = arrow_csv.read_csv(
        pa.BufferReader(content),
        arrow_csv.ReadOptions(use_threads=False, block_size=len(content)),
        arrow_csv.ParseOptions(newlines_in_values=True),
        arrow_csv.ConvertOptions(column_types=_TYPES, null_values=[]),
    )
    pq.write_table(table, path, write_page_checksum=True)


def count(path: Path) -> int:
    """Return the number of rows of a manifest."""
    return int(pq.read_metadata(path).num_rows)


def read(path: Path) -> list[Row]:
    """Return the rows of a manifest; columns that an older one lacks have their defaults. Errors as of `read_table`."""
    columns = read_table(path).to_pydict()
    if "flags" in columns:
        columns["flags"] = [tuple(flags.split()) for flags in columns["flags"]]
    return [Row(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def read_table(path: Path) -> pa.Table:
    """Return the manifest as an Arrow table, with the columns of `COLUMNS` that it has.

    Raises FileNotFoundError, or WorkspaceError where the file is damaged.
    """
    remedy = partial(dvc_graph.how_to_restore, path)
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = [name for name in COLUMNS if name in file.schema_arrow.names]
        # with threads Arrow can abort the process when it exits
        table = file.read(names, use_threads=False)
        table = table.cast(pa.schema([(name, _TYPES[name]) for name in names]))
        table.validate(full=True)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:  # UnicodeDecodeError too
        raise shortage.explain(error) or json_files.damaged(path, str(error), remedy) from error
    if "path" not in table.column_names:
        raise json_files.damaged(path, "it has no column path", remedy)
    return table


def read_images(path: Path) -> dict[str, list[Row]]:
    """Return the accepted rows of every split, in the order of its arrays."""
    accepted = [row for row in read(path) if row.status == "accepted"]
    return {split: [row for row in accepted if row.split == split] for split in SPLITS}
