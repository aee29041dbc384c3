"""The log of predictions for arriving images: a folder of Parquet files that is read as one table.

Each check adds a file; many small files are merged into one. A row is identified by the image's path, size
and modification time, and by the checkpoint. So a row that is there twice, after a crash during a merge,
counts once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core import atomic

MAX_SMALL_FILES = 64  # from this number on they are merged
ROW_GROUP = 512  # rows that are written and read at a time
MERGED = "-whole"  # suffix of the names of merged files
KEY = ("path", "bytes", "changed", "checkpoint_sha256")
Key = tuple[str, int, int, str]
SCHEMA = pa.schema([
    ("time", pa.timestamp("ms", tz="UTC")), ("path", pa.string()), ("bytes", pa.int64()), ("changed", pa.int64()),
    ("sha256", pa.string()), ("model", pa.string()), ("version", pa.string()), ("checkpoint_sha256", pa.string()),
    ("label", pa.string()), ("confidence", pa.float32()), ("probabilities", pa.map_(pa.string(), pa.float32())),
    ("embedding", pa.list_(pa.float32())), ("flags", pa.list_(pa.string())), ("error", pa.string()),
])  # fmt: skip


@dataclass
class LogRow:
    """The prediction for one image file, or the reason why there is none."""

    time: datetime  # of the prediction
    path: str
    bytes: int
    changed: int  # modification time, nanoseconds since 1970
    model: str
    version: str
    checkpoint_sha256: str
    sha256: str = ""  # empty if the file could not be opened
    label: str | None = None
    confidence: float | None = None
    probabilities: list[tuple[str, float]] | None = None
    embedding: Sequence[float] | np.ndarray | None = None
    flags: list[str] | None = field(default_factory=list)  # faults of the image: dark, blurry, …
    error: str | None = None  # a key of data.quarantine_reasons.REASONS, or the system's message


class PredictionLog:
    """A folder of Parquet files with the columns of SCHEMA; their names sort by when they were written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def logged_files(self, checkpoint: str) -> set[tuple[str, int, int]]:
        """Return path, size and modification time of every file that this checkpoint has classified."""
        return {key[:3] for _, keys in self._keys() for key, _ in keys if key[3] == checkpoint}

    def newest(self) -> str:
        """Return the name of the file that was added last, or nothing."""
        files = self.files()
        return files[-1].stem.removesuffix(MERGED) if files else ""

    def latest(self, checkpoint: str, count: int, folders: Sequence[Path]) -> list[LogRow]:
        """Return this checkpoint's last `count` predictions for images below these folders, oldest first."""
        chosen: set[Key] = set()
        tables: list[pa.Table] = []
        for file, keys in reversed(list(self._keys())):
            numbers = []
            for number in range(len(keys) - 1, -1, -1):
                key, is_predicted = keys[number]
                is_inside = any(Path(key[0]).is_relative_to(folder) for folder in folders)
                if is_predicted and is_inside and key[3] == checkpoint and key not in chosen and len(chosen) < count:
                    chosen.add(key)
                    numbers.append(number)
            if numbers:
                tables.append(_read_rows(file, numbers[::-1]))
            if len(chosen) == count:
                break
        return [LogRow(**row) for table in reversed(tables) for row in table.to_pylist()]

    def _keys(self) -> Iterator[tuple[Path, list[tuple[Key, bool]]]]:
        """Yield each file, its rows' keys and whether they have a prediction; a damaged file is set aside."""
        for file in self.files():
            try:
                columns = pq.ParquetFile(file).read([*KEY, "error"], use_threads=False).to_pydict()
            except (pa.ArrowException, OSError) as error:  # the machine went off during the write
                file.replace(file.with_suffix(".damaged"))
                print(f"{file} cannot be read ({error}): it is set aside, and its images are classified again", file=sys.stderr)
                continue
            keys = zip(*(columns[name] for name in KEY), strict=True)
            yield file, [(key, error is None) for key, error in zip(keys, columns["error"], strict=True)]

    def append(self, rows: Sequence[LogRow]) -> None:
        """Add rows as a file that is complete or not there at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(pa.Table.from_pylist([asdict(row) for row in rows], SCHEMA))
        files = [file for file in self.files() if not file.stem.endswith(MERGED)]
        if len(files) >= MAX_SMALL_FILES:
            self._write(pa.concat_tables([pq.ParquetFile(file).read(use_threads=False) for file in files]), files[-1].stem + MERGED)
            for file in files:
                file.unlink()

    def _write(self, table: pa.Table, name: str = "") -> None:
        if not name:
            seconds, nanoseconds = divmod(time.time_ns(), 10**9)
            name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}-{nanoseconds:09}-{os.getpid()}"
            if name <= (newest := self.newest()):  # the clock was set back
                name = f"{newest}~"
        with atomic.new_file(self.folder / f"{name}.parquet") as working:
            pq.write_table(table, working, compression="zstd", row_group_size=ROW_GROUP)
            with working.open("rb+") as file:
                os.fsync(file.fileno())


def _read_rows(file: Path, numbers: Sequence[int]) -> pa.Table:
    """Return the rows with these numbers, in their order; only the row groups that hold them are read."""
    table = pq.ParquetFile(file)
    parts = []
    for group in sorted({number // ROW_GROUP for number in numbers}):
        rows = [number - group * ROW_GROUP for number in numbers if number // ROW_GROUP == group]
        parts.append(table.read_row_group(group, use_threads=False).take(rows))
    return pa.concat_tables(parts)
