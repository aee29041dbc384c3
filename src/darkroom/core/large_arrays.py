"""Arrays that may be larger than memory: in a file that has no name, and in blocks of rows."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from darkroom.core import shortage

FOLDER = Path(".darkroom")
IN_MEMORY = 128 * 2**20  # bytes up to which an array is in memory
BLOCK = 32 * 2**20  # bytes of the rows of a block


def zeros(shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return an array of zeros to write to: in memory, or of more than `IN_MEMORY` bytes mapped from a file.

    The system writes mapped pages to the disk where it needs their memory. The file has no name, so that it ends with the
    array, or with the process. Raises WorkspaceError where the disk has no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    FOLDER.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="array-", dir=FOLDER)
    try:
        os.truncate(name, size)
        shortage.reserve_space(Path(name))
        return np.memmap(name, dtype, "r+", shape=shape)
    finally:
        os.close(handle)
        os.unlink(name)


def row_blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Yield slices of rows in turn, whose bytes are about `BLOCK` each."""
    step = max(1, BLOCK // max(row_bytes, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
