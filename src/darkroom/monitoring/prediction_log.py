"""The log of what a model said of images that arrived: Parquet files in a folder, which is read as one table.

Each check adds a file; many small ones are put together into one. A row is known by the file's path, size and time of change and by
the checkpoint that answered, so that a row that is there twice, after a crash while files were put together, counts once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.core import atomic

SMALL = 64  # files that are put together
GROUP = 512  # rows that are written and read at a time
WHOLE = "-whole"  # how the names of files end that were put together
KEY = ("path", "bytes", "changed", "checkpoint_sha256")
Key = tuple[str, int, int, str]
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
        for _, rows in self._keys():
            found |= {key[:3] for key, answered in rows if key[3] == checkpoint}
        return found

    def newest(self) -> str:
        """Return the name of the file that was added last, nothing where there is none."""
        files = self.files()
        return files[-1].stem.removesuffix(WHOLE) if files else ""

    def latest(self, checkpoint: str, count: int, under: Sequence[Path]) -> list[dict[str, Any]]:
        """Return the last `count` rows of images below some folders that have an answer of this checkpoint, oldest first."""
        seen: set[Key] = set()
        parts: list[pa.Table] = []
        for file, rows in reversed(list(self._keys())):
            chosen = []
            for number in range(len(rows) - 1, -1, -1):
                key, answered = rows[number]
                within = any(Path(key[0]).is_relative_to(folder) for folder in under)
                if answered and within and key[3] == checkpoint and key not in seen and len(seen) < count:
                    seen.add(key)
                    chosen.append(number)
            if chosen:
                parts.append(_rows(file, chosen[::-1]))
            if len(seen) == count:
                break
        return [row for part in reversed(parts) for row in part.to_pylist()]

    def _keys(self) -> Iterator[tuple[Path, list[tuple[Key, bool]]]]:
        """Yield every file, with the key of each of its rows and whether it has an answer; a damaged file is put aside."""
        for file in self.files():
            try:
                columns = pq.ParquetFile(file).read([*KEY, "error"]).to_pydict()
            except (pa.ArrowException, OSError) as error:  # the machine went off while it was written
                file.replace(file.with_suffix(".damaged"))
                print(f"{file} cannot be read ({error}): it is put aside, and its images are answered again", file=sys.stderr)
                continue
            keys = zip(*(columns[name] for name in KEY), strict=True)
            yield file, [(key, error is None) for key, error in zip(keys, columns["error"], strict=True)]

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, which have the columns of SCHEMA, as a file that is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(pa.Table.from_pylist(list(rows), SCHEMA))
        files = [file for file in self.files() if not file.stem.endswith(WHOLE)]
        if len(files) >= SMALL:
            self._write(pa.concat_tables([pq.ParquetFile(file).read() for file in files]), files[-1].stem + WHOLE)
            for file in files:
                file.unlink()

    def _write(self, table: pa.Table, name: str = "") -> None:
        if not name:
            seconds, rest = divmod(time.time_ns(), 10**9)
            name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}-{rest:09}-{os.getpid()}"
            if name <= (newest := self.newest()):  # the clock was set back
                name = f"{newest}~"
        with atomic.new_file(self.folder / f"{name}.parquet") as working:
            pq.write_table(table, working, compression="zstd", row_group_size=GROUP)
            with working.open("rb+") as file:
                os.fsync(file.fileno())


def _rows(file: Path, chosen: Sequence[int]) -> pa.Table:
    """Return the rows of these numbers, in their order; of a large file no more is read than the groups that hold them."""
    table = pq.ParquetFile(file)
    parts = []
    for group in sorted({number // GROUP for number in chosen}):
        wanted = [number - group * GROUP for number in chosen if number // GROUP == group]
        parts.append(table.read_row_group(group).take(wanted))
    return pa.concat_tables(parts)
