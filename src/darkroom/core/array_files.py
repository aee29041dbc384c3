"""Arrays on disk: read so that damage is one sentence with a remedy, and written through a memory map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from darkroom.core import json_files, shortage
from darkroom.core.json_files import Remedy


def load(path: Path, remedy: Remedy, mode: Literal["r", "c"] = "c") -> np.ndarray:
    """Return the array of a .npy file as a memory map; with the mode `c` writing to it does not change the file.

    Raises FileNotFoundError, or WorkspaceError where the file is no array.
    """
    try:
        return np.load(path, mmap_mode=mode, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy raises errors of many kinds for a damaged header
        raise shortage.explain(error) or json_files.damaged(path, str(error), remedy) from error


def load_named(path: Path, names: Sequence[str], remedy: Remedy, optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return arrays of an .npz file by name, whose CRC-32 are compared, and those of the optional ones that it has; errors as of
    `load`."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in (*names, *(name for name in optional if name in content))}
    except FileNotFoundError:
        raise
    except Exception as error:  # of many kinds, for damaged archives
        raise shortage.explain(error) or json_files.damaged(path, str(error), remedy) from error


def create(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
    """Return a new .npy file as a memory map to write to, whose space on disk is reserved."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    shortage.reserve_space(path)
    return array


def save(path: Path, array: np.ndarray) -> None:
    """Write an array to a .npy file; where the disk has no room, the error says what it needs."""
    shortage.require_space(path, array.nbytes)
    np.save(path, array)
