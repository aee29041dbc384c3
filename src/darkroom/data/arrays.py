"""Image arrays on disk: `images.npy` (N, H, W, 3) uint8 and `labels.npy` (N,) int64, memory-mapped when read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from darkroom.config import dvc_graph
from darkroom.core import array_files, json_files
from darkroom.core.errors import WorkspaceError


def load(path: Path) -> np.ndarray:
    """Return a .npy file as a memory map; writing to it does not change the file.

    Raises WorkspaceError where it is missing or damaged.
    """
    try:
        return array_files.load(path, partial(dvc_graph.how_to_restore, path))
    except FileNotFoundError as error:
        raise _missing(path) from error


def load_split(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W, 3) uint8 and labels (N,) int64 of an ingested split; errors as of `load`."""
    images, labels = load(folder / "images.npy"), np.asarray(load(folder / "labels.npy"))
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        _refuse(folder / "images.npy", f"{images.dtype} of shape {images.shape} are no images")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        _refuse(folder / "labels.npy", f"{labels.dtype} of shape {labels.shape} are no labels of {len(images):,} images")
    return images, labels


def load_classes(path: Path) -> tuple[str, ...]:
    """Return the class names in the order of their labels; errors as of `load`."""
    try:
        return json_files.read(path, tuple[str, ...], partial(dvc_graph.how_to_restore, path))
    except FileNotFoundError as error:
        raise _missing(path) from error


def _missing(path: Path) -> WorkspaceError:
    return WorkspaceError(f"{path} does not exist", "run `dvc repro`, which runs the stages that write it")


def _refuse(path: Path, problem: str) -> NoReturn:
    raise json_files.damaged(path, problem, partial(dvc_graph.how_to_restore, path))
