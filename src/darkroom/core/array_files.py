"""Arrays that are written through a memory map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from darkroom.core import shortage


def create(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """Return a new .npy file as a memory map to write to, whose space on disk is reserved."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    shortage.reserve_space(path)
    return array
