"""An .npz of images and labels, memory-mapped from a scratch folder: its size in memory does not grow with it."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from darkroom.core.errors import SourceError
from darkroom.data.file_sources import DAMAGED, MOST_BYTES, copy_limited

_SPLITS = {"": ("",), "train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_IMAGES, _LABELS, _NAMES = ("images", "image", "x", "data"), ("labels", "label", "y", "targets"), ("class_names", "classes")


@contextmanager
def arrays(path: Path, scratch: Path) -> Iterator[list[tuple[str, np.ndarray, list[str]]]]:
    """Yield (split, images, labels) for each pair of arrays in the file; the split is empty where the names give none.

    Images are (N, H, W) or (N, H, W, 1, 3 or 4) uint8. Raises SourceError where the file has no such arrays.
    """
    folder = scratch / f"{os.getpid()}-{path.stem}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy").lower(): name for name in archive.namelist() if name.endswith(".npy")}
            found = [(split, *pair) for split in _SPLITS if (pair := _pair(split, names)) is not None]
            if not found:
                raise SourceError(
                    f"{path} holds no images with labels: looked for images and labels, or train_images, train_labels, "
                    f"test_images, …, and found {', '.join(sorted(names)) or 'no arrays'}",
                    "save it as np.savez(file, images=…, labels=…, class_names=…)",
                )
            classes = next((_load(archive, names[name], folder, path) for name in _NAMES if name in names), None)
            made = []
            for split, images, labels in found:
                pictures = _pictures(_load(archive, names[images], folder, path), images, path)
                given = _texts(_load(archive, names[labels], folder, path), labels, classes, path)
                if len(given) != len(pictures):
                    raise SourceError(
                        f"{path} has {len(pictures):,} {images} and {len(given):,} {labels}", "save as many labels as images"
                    )
                made.append((split, pictures, given))
    except (*DAMAGED, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise SourceError(f"{path} cannot be read as an .npz: {error}", "save it again with np.savez, without objects") from error
    except SourceError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pair(split: str, names: dict[str, str]) -> tuple[str, str] | None:
    """Return the names of a split's two arrays, as in train_images and train_labels, or x_train and y_train."""
    for alias in _SPLITS[split]:
        for image in _IMAGES:
            for label in _LABELS:
                options = [(f"{alias}_{image}", f"{alias}_{label}"), (f"{image}_{alias}", f"{label}_{alias}")]
                for pair in options if alias else [(image, label)]:
                    if pair[0] in names and pair[1] in names:
                        return pair
    return None


def _load(archive: zipfile.ZipFile, name: str, folder: Path, path: Path) -> np.ndarray:
    file = folder / f"{len(list(folder.iterdir()))}.npy"
    with archive.open(name) as packed, file.open("wb") as out:
        copy_limited(packed, out, min(MOST_BYTES, shutil.disk_usage(folder).free * 9 // 10), path)
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _pictures(images: np.ndarray, name: str, path: Path) -> np.ndarray:
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3, 4):
        images = np.moveaxis(images, 1, -1)
    if images.dtype == bool:
        images = images.astype(np.uint8) * 255
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise SourceError(
            f"{name} of {path} is {images.dtype} of shape {images.shape}; images are uint8, (N, H, W) or (N, H, W, channels)",
            "save it as bytes, for example (images * 255).astype(np.uint8)",
        )
    return images


def _texts(labels: np.ndarray, name: str, classes: np.ndarray | None, path: Path) -> list[str]:
    flat = labels.reshape(-1)
    if not np.issubdtype(flat.dtype, np.integer) or classes is None:
        return [_text(label) for label in flat.tolist()]
    if classes.ndim != 1:
        raise SourceError(f"class_names of {path} has the shape {classes.shape}", "save one name per class, in a row")
    if len(flat) and (flat.min() < 0 or flat.max() >= len(classes)):
        raise SourceError(f"{name} of {path} has labels that class_names does not name", "save as many names as there are labels")
    texts = [_text(name) for name in classes.tolist()]
    return [texts[label] for label in flat.tolist()]


def _text(name: object) -> str:
    return (name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)).strip()
