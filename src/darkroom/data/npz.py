"""An .npz of images and labels, memory-mapped from a scratch folder, so that memory does not grow with it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darkroom.core import atomic, machine_limits
from darkroom.core.errors import SourceError
from darkroom.data import array_values
from darkroom.data.file_sources import DAMAGED, copy_limited

_SPLIT_NAMES = {
    "": ("",), "train": ("train", "training", "trn", "tr"), "val": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing", "tst", "te", "holdout"),
}  # fmt: skip
_IMAGES, _LABELS, _CLASSES = (
    ("images", "image", "x", "data"),
    ("labels", "label", "y", "targets", "target"),
    ("class_names", "classes", "label_names", "target_names"),
)


class SplitArrays(NamedTuple):
    """A split (empty if it is the only one): images (N, H, W) or (N, H, W, 1, 3 or 4) uint8, labels."""

    split: str
    images: np.ndarray
    labels: list[str]
    notes: tuple[str, ...] = ()


@contextmanager
def open_npz(path: Path, scratch: Path) -> Iterator[list[SplitArrays]]:
    """Yield each pair of arrays in the file; SourceError where it has none that are images with labels."""
    with atomic.scratch_folder(scratch / path.name) as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                parts = _read(archive, folder, path)
        except (*DAMAGED, OSError) as error:
            machine_limits.check(error)
            raise SourceError(
                f"{path} cannot be read as an .npz: {error}",
                "copy it again from where it came; or save it again with np.savez, without objects, for example "
                "labels=labels.astype(str)",
            ) from error
        yield parts


def _read(archive: zipfile.ZipFile, folder: Path, path: Path) -> list[SplitArrays]:
    names = {name.removesuffix(".npy").lower(): name for name in archive.namelist() if name.endswith(".npy")}
    pairs = [(split, *pair) for split in _SPLIT_NAMES if (pair := _pair(split, names)) is not None]
    if not pairs:
        raise SourceError(
            f"{path} holds no images with labels: looked for images and labels, or train_images, train_labels, "
            f"test_images, …, and found {', '.join(sorted(names)) or 'no arrays'}",
            "save it as np.savez(file, images=…, labels=…, class_names=…)",
        )

    def load(name: str) -> np.ndarray:
        file = folder / f"{len(list(folder.glob('*.npy')))}.npy"
        with archive.open(names[name]) as packed:
            copy_limited(packed, file, path)
        return np.load(file, mmap_mode="r", allow_pickle=False)

    classes = next((load(name) for name in _CLASSES if name in names), None)
    parts = []
    for split, image_name, label_name in pairs:
        images, note = array_values.as_bytes(load(image_name), image_name, path, folder)
        labels = array_values.label_texts(load(label_name), len(images), label_name, classes, path)
        if len(labels) != len(images):
            raise SourceError(
                f"{path} has {len(images):,} {image_name} and {len(labels):,} {label_name}", "save as many labels as images"
            )
        parts.append(SplitArrays(split, images, labels, (note,) if note else ()))
    used = {name for _, *pair in pairs for name in pair} | set(_CLASSES)
    unused = ", ".join(sorted(set(names) - used))
    if unused:
        note = f"warning: of {path} the arrays {unused} are not used; splits are arrays train_images, train_labels, test_images, …"
        parts[0] = parts[0]._replace(notes=(*parts[0].notes, note))
    return parts


def _pair(split: str, names: dict[str, str]) -> tuple[str, str] | None:
    """Return the names of a split's two arrays, as in train_images and train_labels, or x_train and y_train."""
    for alias in _SPLIT_NAMES[split]:
        for image in _IMAGES:
            for label in _LABELS:
                options = [(f"{alias}_{image}", f"{alias}_{label}"), (f"{image}_{alias}", f"{label}_{alias}")]
                for pair in options if alias else [(image, label)]:
                    if pair[0] in names and pair[1] in names:
                        return pair
    return None
