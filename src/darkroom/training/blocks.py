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

INTERVAL = 5.0  # seconds that a block takes
LOG = "blocks.jsonl"


class Blocks:
    """Arrays (K, N, …) in a folder that are filled row by row, of K · N rows.

    A block is the rows of about `INTERVAL` seconds. Its line in the log has its checksum, and is written once it is on disk.
    The name of the folder identifies what decides the arrays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays: list[np.ndarray] = []
        self.rows = 0  # that the log has
        self.saved = time.monotonic()

    def file(self, number: int) -> Path:
        """Return the file of an array."""
        return self.folder / f"{number}.npy"

    def load(self) -> int:
        """Take the blocks of an earlier run that are whole; return the number of their rows."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            count, *lines = (self.folder / LOG).read_text(encoding="utf-8").splitlines()
            arrays = [np.load(self.file(number), mmap_mode="r+") for number in range(int(count))]
            self.arrays = arrays
            for line in map(json.loads, lines):
                if self._digest(line["rows"]) != line["digest"]:
                    break
                self.rows = line["rows"]
        return self.rows

    def allocate(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[DTypeLike]) -> None:
        """Make the arrays, unless an earlier run has begun them."""
        if not self.rows:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (LOG, *(self.file(number).name for number in range(len(shapes)))):
                (self.folder / name).unlink(missing_ok=True)  # the arrays may have a second name elsewhere
            self.arrays = [
                np.lib.format.open_memmap(self.file(number), "w+", dtype, shape)
                for number, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False))
            ]
            (self.folder / LOG).write_text(f"{len(shapes)}\n", encoding="utf-8")

    def add(self, rows: int, is_last: bool) -> None:
        """Note that the arrays are filled up to this row; write a line where one is due."""
        if is_last or time.monotonic() - self.saved >= INTERVAL:
            for array in self.arrays:
                array.flush()  # type: ignore[attr-defined]
            line = json.dumps({"rows": rows, "digest": self._digest(rows)})
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
            self.rows, self.saved = rows, time.monotonic()

    def _digest(self, stop: int) -> str:
        return digest(*(array.reshape(-1, *array.shape[2:])[self.rows : stop] for array in self.arrays))
