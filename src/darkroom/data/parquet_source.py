"""Images in Parquet files, as the Hugging Face Hub has them: a file, or a folder of shards `train-00000-of-00002.parquet`.

The small columns are read when a source is opened. Images are read as they are needed, some rows at a time, so that memory
does not grow with the files. It holds a page or two of a row group, which Arrow reads whole: at most the row group.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from darkroom.core import machine_limits
from darkroom.core.errors import SourceError, printable
from darkroom.core.lazy import lazy_imports
from darkroom.data import shards
from darkroom.data.file_sources import MAX_FILES, leads_out
from darkroom.data.folder_labels import escaped
from darkroom.data.folder_source import MAX_FILE_BYTES, TOO_LONG
from darkroom.data.source_file import SourceFile

with lazy_imports():
    import pyarrow as pa
    from pyarrow import parquet as pq

    from darkroom.data import parquet_columns

SUFFIXES = (".parquet",)
BATCH_BYTES = 4 * 2**20  # of images that are read at a time, and
BATCH_ROWS = 256  # at most so many
CACHE_BYTES = 64 * 2**20  # of batches that are kept, since threads read a little ahead of each other
LARGE_GROUP = 2**30  # bytes of a row group from which its memory is warned of
BUFFER = 2**20  # bytes of a column that are read from the disk at once


class Shard:
    """A Parquet file of images: its name in the source, the first row of each row group, and the number of rows in all."""

    def __init__(self, source: Path, path: Path) -> None:
        self.path, self.name = path, shards.name_of(source, path)
        with self.open() as file:
            if file.metadata.num_rows > MAX_FILES:  # a thousand bytes may say so
                raise SourceError(
                    f"{path} holds {file.metadata.num_rows:,} rows; the limit is {MAX_FILES:,}", "split it, and name a part of it"
                )
            self.columns = parquet_columns.find(self.name, file.schema_arrow)
            try:
                self.rows = parquet_columns.read_rows(self.name, file, self.columns)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(path, error) from error
            sizes = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        self.largest = max((group.total_byte_size for group in sizes), default=0)
        self.starts = [0]
        self.batches: list[int] = []
        for group in sizes:
            self.starts.append(self.starts[-1] + group.num_rows)
            self.batches.append(max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1))))

    def __len__(self) -> int:
        return self.starts[-1]

    def open(self) -> pq.ParquetFile:
        """Open the file. Raises SourceError where it is damaged."""
        try:
            return pq.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    """Return the error about a file. Raises WorkspaceError (retry) where the machine lacks memory or open files for it."""
    machine_limits.check(error)
    reason = str(error).partition("\n")[0].rstrip(".")
    return SourceError(f"{path} cannot be read as a Parquet file: {printable(reason)}", "copy it again from where it came")


def find(source: Path) -> tuple[list[Path], list[Path]]:
    """Return the shards of a source, and the files beside them; nothing where no Parquet file of it holds images.

    Raises SourceError for a file that is damaged.
    """
    files, others = shards.find(source, SUFFIXES)
    with_images = [path for path in files if _holds_images(path)]
    if not with_images:
        return [], []
    return with_images, [*others, *(path for path in files if path not in set(with_images))]


def _holds_images(path: Path) -> bool:
    try:
        return bool(parquet_columns.image_column(pq.read_schema(path)))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


class ParquetFiles:
    """The images of shards, by the number of their row in all of them; see `file_sources.FileSource`."""

    def __init__(self, source: Path, paths: list[Path]) -> None:
        self.folders: list[str] = []
        self.notes: list[str] = []
        self.shards = [Shard(source, path) for path in paths]
        self.starts = [0]
        for shard in self.shards:
            self.starts.append(self.starts[-1] + len(shard))
        self.lock = threading.Lock()
        self.cache: dict[tuple[int, int, int], pa.Array] = {}
        self.damage: dict[tuple[int, int], str] = {}
        self.place = (-1, -1)
        self.next = 0
        self.reader: Iterator[Any] = iter(())

    def read(self, key: int) -> bytes:
        """Return the bytes of an image, none where the row has none; errors as of `file_sources.FileSource`."""
        number = bisect_right(self.starts, key) - 1
        shard, row = self.shards[number], key - self.starts[number]
        group = bisect_right(shard.starts, row) - 1
        batch, offset = divmod(row - shard.starts[group], shard.batches[group])
        with self.lock:
            values = self.cache.get((number, group, batch))
            if values is None:
                values = self._read_batch(number, group, batch)
        content = values[offset].as_py()
        if isinstance(content, dict):
            content = content["bytes"]
        if content is not None and len(content) > MAX_FILE_BYTES:
            raise OSError(TOO_LONG)
        return content or b""

    def _read_batch(self, number: int, group: int, batch: int) -> pa.Array:
        """Return a batch of a row group; those before it are read again where the reader is beyond them."""
        if damage := self.damage.get((number, group)):
            raise ValueError(damage)
        shard = self.shards[number]
        if self.place != (number, group) or self.next > batch:
            file = shard.open()
            self.place, self.next = (number, group), 0
            self.reader = file.iter_batches(shard.batches[group], [group], [shard.columns.bytes], use_threads=False)
        try:
            while self.next <= batch:
                values = next(self.reader).column(0)
                self.cache[number, group, self.next] = values
                self.next += 1
        except (pa.ArrowException, OSError, StopIteration) as error:
            self.place = (-1, -1)
            machine_limits.check(error)
            reason = str(error).partition("\n")[0] or "it ends before its last row"
            self.damage[number, group] = f"a part of {printable(shard.name)} cannot be read: {reason}"
            raise ValueError(self.damage[number, group]) from error
        size = sum(kept.nbytes for kept in self.cache.values())
        while size > CACHE_BYTES and len(self.cache) > 1:
            size -= self.cache.pop(next(iter(self.cache))).nbytes
        return values


def read_files(source: Path, opened: ParquetFiles, others: list[Path]) -> list[SourceFile]:
    """Return the file of each row, and those beside the shards, which are ignored; add to the notes what was understood.

    A row is named by its path, where no other row has it, else by its shard and number. Raises SourceError as
    `shards.splits` does.
    """
    split_of = shards.splits(source, [shard.name for shard in opened.shards])
    counts = Counter(path for shard in opened.shards for path in shard.rows.paths)
    files: list[SourceFile] = []
    for start, shard in zip(opened.starts, opened.shards, strict=False):
        split, rows, width = split_of.get(shard.name, ""), shard.rows, len(str(len(shard)))
        has_labels = split != "unlabelled" and any(rows.labels)
        if len(shard) and not has_labels:
            opened.notes.append(f"{printable(shard.name)} has no labels: its images are left out")
        for i, (path, label, own) in enumerate(zip(rows.paths, rows.labels, rows.splits, strict=True)):
            is_name = path and counts[path] == 1 and not leads_out(path)
            name = path if is_name else f"{escaped(shard.name)}/{i:0{width}}"
            label = label if has_labels else ""
            refused = "" if label else "unlabelled"
            files.append(SourceFile(name, label, (split or own) if has_labels else "", rows.groups[i], "", refused, start + i))
    _note(opened, split_of)
    files += [SourceFile(escaped(other.relative_to(source).as_posix()), ignored="no_image") for other in others]
    return files


def _note(opened: ParquetFiles, split_of: dict[str, str]) -> None:
    first = opened.shards[0]
    named = f", named by {len(first.columns.classes)} names" if first.columns.classes else ""
    notes = [f"images of the column {first.columns.image}, labels of {first.columns.label}{named}"]
    if split_of:
        counts = Counter(split_of.values())
        shown = ", ".join(f"{count} of {split}" for split, count in sorted(counts.items()))
        notes.append(f"the names of the files are splits: {shown}")
    else:
        notes += first.rows.notes
    large = max(opened.shards, key=lambda shard: shard.largest)
    if large.largest > LARGE_GROUP:
        notes.append(
            f"warning: {printable(large.name)} has a row group of {large.largest / 2**30:.1f} GiB, which may take as much memory: "
            "write it with `row_group_size=100`"
        )
    empty = [shard.name for shard in opened.shards if not len(shard)]
    if empty:
        notes.append(f"without rows: {printable(', '.join(empty[:4]))}")
    opened.notes[:0] = notes
