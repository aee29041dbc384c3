"""Outputs of a frozen network that are kept while they are computed, so that a run after a kill goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from darkroom.core.kept_results import digest
from darkroom.training import processes

INTERVAL = 5.0  # seconds that a block takes
LOG = "blocks.jsonl"


class Blocks:
    """Arrays (K, N, …) in a folder that are filled row by row, of K · N rows.

    A block is the rows of about `INTERVAL` seconds. Its line in the log has its checksum, and is written once it is on disk.
    The name of the folder identifies what decides the arrays. Of several processes each fills a range of rows of the same
    arrays, which rank 0 has made, and has a log of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays: list[np.ndarray] = []
        self.first = self.rows = 0  # where the rows of this process begin, and up to which the log has them
        self.saved = time.monotonic()

    def file(self, number: int) -> Path:
        """Return the file of an array."""
        return self.folder / f"{number}.npy"

    @property
    def log(self) -> Path:
        """The log of this process."""
        return self.folder / (f"{processes.rank()}-{LOG}" if processes.size() > 1 else LOG)

    def load(self, first: int = 0) -> int:
        """Take the blocks of an earlier run that are whole, from row `first` on; return the number of their rows."""
        self.first = self.rows = first
        with suppress(OSError, ValueError, KeyError, TypeError):
            count, *lines = self.log.read_text(encoding="utf-8").splitlines()
            arrays = [np.load(self.file(number), mmap_mode="r+") for number in range(int(count))]
            self.arrays = arrays
            for line in map(json.loads, lines):
                if self._digest(line["rows"]) != line["digest"]:
                    break
                self.rows = line["rows"]
        if processes.all_of(self.rows == first):  # the arrays are made anew
            self.arrays = []
        elif not self.arrays:  # other processes have rows
            self.arrays = self.open()
            self.log.write_text(f"{len(self.arrays)}\n", encoding="utf-8")
        return self.rows - first

    def open(self) -> list[np.ndarray]:
        """Return the arrays that are there."""
        return [np.load(file, mmap_mode="r+") for file in sorted(self.folder.glob("[0-9].npy"))]

    def allocate(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[DTypeLike]) -> None:
        """Make the arrays; several processes, of which each has rows to fill, call it together."""
        with processes.first_alone(f"arrays of {self.folder}") as is_first:
            if is_first:
                self.folder.mkdir(parents=True, exist_ok=True)
                for path in [*self.folder.glob(f"*{LOG}"), *map(self.file, range(len(shapes)))]:
                    path.unlink(missing_ok=True)  # the arrays may have a second name elsewhere
                self.arrays = [
                    np.lib.format.open_memmap(self.file(number), "w+", dtype, shape)
                    for number, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False))
                ]
        if not is_first:
            self.arrays = self.open()
        self.log.write_text(f"{len(shapes)}\n", encoding="utf-8")

    def add(self, rows: int, is_last: bool) -> None:
        """Note that the arrays are filled up to this row; write a line where one is due."""
        if is_last or time.monotonic() - self.saved >= INTERVAL:
            for array in self.arrays:
                array.flush()  # type: ignore[attr-defined]
            line = json.dumps({"rows": rows, "digest": self._digest(rows)})
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
            self.rows, self.saved = rows, time.monotonic()

    def _digest(self, stop: int) -> str:
        return digest(*(array.reshape(-1, *array.shape[2:])[self.rows : stop] for array in self.arrays))
