"""Image arrays on disk: `images.npy` (N, H, W, 3) uint8 and `labels.npy` (N,) int64, memory-mapped when read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from darkroom.core.errors import WorkspaceError


def load(path: Path) -> np.ndarray:
    """Return a .npy file as a memory map; writing to it does not change the file."""
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} does not exist", "run `dvc repro`, which runs the stages that write it") from error


def load_split(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W, 3) uint8 and labels (N,) int64 of an ingested split."""
    return load(folder / "images.npy"), np.asarray(load(folder / "labels.npy"))


def load_classes(path: Path) -> tuple[str, ...]:
    """Return the class names in the order of their labels."""
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise WorkspaceError(f"{path} does not exist", "run `dvc repro`, which runs the stages that write it") from error
