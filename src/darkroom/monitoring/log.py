"""The log of what a model said of images that arrived: Parquet files in a folder, which is read as one table.

Each check adds a file; many small ones are put together into one. A row is known by the file's path, size and time of change and by
the checkpoint that answered, so that a row that is there twice, after a crash while files were put together, counts once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from darkroom import atomic
from darkroom.errors import WorkspaceError

SMALL = 64  # files that are put together
KEY = ("path", "bytes", "changed", "checkpoint_sha256")
SCHEMA = pa.schema([
    ("time", pa.timestamp("ms", tz="UTC")),  # when it was answered
    ("path", pa.string()), ("bytes", pa.int64()), ("changed", pa.int64()),  # nanoseconds since 1970
    ("sha256", pa.string()),
    ("model", pa.string()), ("version", pa.string()), ("checkpoint_sha256", pa.string()),
    ("label", pa.string()), ("confidence", pa.float32()),
    ("probabilities", pa.map_(pa.string(), pa.float32())),
    ("embedding", pa.list_(pa.float32())),
    ("flags", pa.list_(pa.string())),  # what is wrong with the picture: dark, blurry, …
    ("error", pa.string()),  # why there is no answer
])  # fmt: skip


class Log:
    """A folder of Parquet files with the columns of SCHEMA; their names sort in the order in which they were written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def known(self, checkpoint: str) -> set[tuple[str, int, int]]:
        """Return path, size and time of change of every file that this checkpoint has answered for."""
        found = set()
        for file in self.files():
            columns = _read(file, list(KEY)).to_pydict()
            rows = zip(*(columns[name] for name in KEY), strict=True)
            found |= {(path, size, changed) for path, size, changed, model in rows if model == checkpoint}
        return found

    def latest(self, checkpoint: str, count: int) -> list[dict[str, Any]]:
        """Return the last `count` rows that have an answer of this checkpoint, oldest first."""
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for file in reversed(self.files()):
            for row in reversed(_read(file).to_pylist()):
                if row["checkpoint_sha256"] == checkpoint and not row["error"]:
                    found.setdefault(tuple(row[name] for name in KEY), row)
                if len(found) == count:
                    return list(found.values())[::-1]
        return list(found.values())[::-1]

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, which have the columns of SCHEMA, as a file that is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(pa.Table.from_pylist(list(rows), SCHEMA))
        files = [file for file in self.files() if not file.stem.endswith("-whole")]
        if len(files) >= SMALL:
            self._write(pa.concat_tables([_read(file) for file in files]), files[-1].stem + "-whole")
            for file in files:
                file.unlink()

    def _write(self, table: pa.Table, name: str = "") -> None:
        name = name or f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{time.time_ns() % 10**9:09}-{os.getpid()}"
        with atomic.new_file(self.folder / f"{name}.parquet") as working:
            pq.write_table(table, working, compression="zstd", row_group_size=8192)


def _read(file: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(file).read(columns)
    except (pa.ArrowException, OSError) as error:
        remedy = "move it away: what it holds is then answered again"
        raise WorkspaceError(f"{file} of the log cannot be read: {error}", remedy) from error
