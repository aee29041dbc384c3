"""The log of predictions for arriving images: a folder of Parquet files that is read as one table.

Each check adds a file; many small files are merged into one. A row is identified by the image's path, size
and modification time, and by the checkpoint. So a row that is there twice, after a crash during a merge,
counts once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core import atomic

MAX_SMALL_FILES = 64  # from this number on they are merged
ROW_GROUP = 512  # rows that are written and read at a time
MAX_OF_SERIES = 20  # images for each series that is read
MERGED = "-whole"  # suffix of the names of merged files
KEY = ("path", "bytes", "changed", "checkpoint_sha256")
Key = tuple[str, int, int, str]
Bytes = bytes  # LogRow has a column of this name
SCHEMA = pa.schema([
    ("time", pa.timestamp("ms", tz="UTC")), ("path", pa.string()), ("bytes", pa.int64()), ("changed", pa.int64()),
    ("sha256", pa.string()), ("model", pa.string()), ("version", pa.string()), ("checkpoint_sha256", pa.string()),
    ("label", pa.string()), ("confidence", pa.float32()), ("probabilities", pa.map_(pa.string(), pa.float32())),
    ("embedding", pa.list_(pa.float32())), ("flags", pa.list_(pa.string())), ("error", pa.string()),
    ("taken", pa.float64()), ("series", pa.string()), ("fingerprint", pa.binary()), ("distance", pa.float32()),
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
    taken: float | None = None  # seconds since 1970, as the camera wrote it
    series: str | None = None  # the same for images that belong together
    fingerprint: Bytes | None = field(default=None, repr=False)  # data.fingerprints.SUMMARY
    distance: float | None = None  # from the training images; rows of earlier versions lack it


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

    def latest(self, checkpoint: str, count: int, folders: Sequence[Path] | None = None) -> list[LogRow]:
        """Return this checkpoint's last `count` predictions for images, below these folders if any are named, oldest first."""
        return self._latest(checkpoint, folders, lambda images, series: images < count, SCHEMA.names)

    def latest_series(self, checkpoint: str, count: int, folders: Sequence[Path]) -> list[LogRow]:
        """Return the predictions for the last `count` series below these folders, without fingerprints.

        Of very long series the oldest images are left out: there are `MAX_OF_SERIES` times as many images at most.
        """
        columns = [name for name in SCHEMA.names if name != "fingerprint"]
        return self._latest(checkpoint, folders, lambda images, series: series < count and images < MAX_OF_SERIES * count, columns)

    def _latest(
        self, checkpoint: str, folders: Sequence[Path] | None, more: Callable[[int, int], bool], columns: Sequence[str]
    ) -> list[LogRow]:
        """Return the last predictions; `more` tells from the numbers of images and series whether to take another series."""
        chosen: set[Key] = set()
        series: set[str] = set()
        tables: list[pa.Table] = []
        for file, keys in reversed(list(self._keys())):
            numbers = []
            for number in range(len(keys) - 1, -1, -1):
                key, own_series = keys[number]
                is_inside = folders is None or any(Path(key[0]).is_relative_to(folder) for folder in folders)
                if own_series is None or not is_inside or key[3] != checkpoint or key in chosen:
                    continue
                if more(len(chosen), len(series) - (own_series in series)):
                    chosen.add(key)
                    series.add(own_series)
                    numbers.append(number)
            if numbers:
                tables.append(_read_rows(file, numbers[::-1], columns))
            elif not more(len(chosen), len(series)):
                break
        return [LogRow(**row) for table in reversed(tables) for row in table.to_pylist()]

    def _keys(self) -> Iterator[tuple[Path, list[tuple[Key, str | None]]]]:
        """Yield each file, its rows' keys and their series, None without a prediction; a damaged file is set aside.

        A row of an earlier version is a series of its own, named by its path.
        """
        for file in self.files():
            try:
                table = pq.ParquetFile(file)
                names = [name for name in (*KEY, "error", "series") if name in table.schema_arrow.names]
                columns = table.read(names, use_threads=False).to_pydict()
            except (pa.ArrowException, OSError) as error:  # the machine went off during the write
                file.replace(file.with_suffix(".damaged"))
                print(f"{file} cannot be read ({error}): it is set aside, and its images are classified again", file=sys.stderr)
                continue
            keys = list(zip(*(columns[name] for name in KEY), strict=True))
            series = columns.get("series") or [None] * len(keys)
            yield (
                file,
                [
                    (key, (name or key[0]) if error is None else None)
                    for key, error, name in zip(keys, columns["error"], series, strict=True)
                ],
            )

    def append(self, rows: Sequence[LogRow]) -> None:
        """Add rows as a file that is complete or not there at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(pa.Table.from_pylist([asdict(row) for row in rows], SCHEMA))
        files = [file for file in self.files() if not file.stem.endswith(MERGED)]
        if len(files) >= MAX_SMALL_FILES:
            self._write(_concatenate(pq.ParquetFile(file).read(use_threads=False) for file in files), files[-1].stem + MERGED)
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


def _concatenate(tables: Iterable[pa.Table]) -> pa.Table:
    """Return tables as one; columns that those of earlier versions lack are null."""
    return pa.concat_tables(list(tables), promote_options="default").select(SCHEMA.names).cast(SCHEMA)


def _read_rows(file: Path, numbers: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Return the rows with these numbers, in their order; only the row groups that hold them are read."""
    table = pq.ParquetFile(file)
    present = [name for name in columns if name in table.schema_arrow.names]
    parts = []
    for group in sorted({number // ROW_GROUP for number in numbers}):
        rows = [number - group * ROW_GROUP for number in numbers if number // ROW_GROUP == group]
        parts.append(table.read_row_group(group, present, use_threads=False).take(rows))
    return pa.concat_tables(parts)
