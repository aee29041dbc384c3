"""Images for commands of the lab, from a file, a folder of classes or a split of `ingest`, and tables as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from darkroom.core import csv_cells, user_paths
from darkroom.core.errors import SourceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import numpy as np

    from darkroom.data import arrays, decoding, quarantine_reasons, sources
    from darkroom.lab import drawing

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelledImages:
    """Images (N, S, S, 3) uint8, with their class names and their paths."""

    pixels: np.ndarray
    names: list[str]
    paths: list[str]


def decode_file(path: Path, size: int, resize: str, background: Colour) -> tuple[np.ndarray, np.ndarray]:
    """Return an image file resized to (size, size, 3), and uncropped (H, W, 3), uint8; raises SourceError."""
    try:
        content = user_paths.read_file(path)
    except (OSError, ValueError) as error:
        problem = (getattr(error, "strerror", None) or str(error)).lower()
        raise SourceError(f"{path}: {problem}", "name an image file that this user may read") from error
    image = decoding.decode(content, size, resize, background)
    if image.pixels is None or image.upright is None:
        reason = quarantine_reasons.REASONS[image.reason]
        raise SourceError(f"{path}: {reason.meaning}", reason.remedy)
    return image.pixels, image.upright


def read_input(path: Path, preprocessing: Any) -> np.ndarray:
    """Return an image file as a network's input, (S, S, 3) uint8."""
    return decode_file(path, preprocessing.image_size, preprocessing.resize, preprocessing.background)[0]


def read_whole(path: Path, max_side: int) -> np.ndarray:
    """Return an image file uncropped, (H, W, 3) uint8, at most `max_side` pixels a side."""
    pixels = decode_file(path, max_side, "crop", (255, 255, 255))[1]
    return drawing.fit(pixels, max_side) if max(pixels.shape[:2]) > max_side else pixels


def read_split(folder: Path, split: str, size: int, max_images: int, description: str) -> LabelledImages:
    """Return images of a split that `ingest` wrote; raises SourceError if they are not of the network's size."""
    classes = arrays.load_classes(folder / "classes.json")
    images, labels = arrays.load_split(folder / split)
    if images.shape[1] != size:
        raise SourceError(
            f"{folder} has images of {images.shape[1]} pixels, {description} takes {size}",
            f"name a folder of image files, or an architecture with --size {images.shape[1]}",
        )
    chosen = spaced(len(images), max_images)
    return LabelledImages(images[chosen], [classes[i] for i in labels[chosen]], [f"{split}/{i}" for i in chosen])


def read_folder(
    folder: Path, max_images: int, size: int, resize: str = "crop", background: Colour = (0, 0, 0), split: str | None = None
) -> LabelledImages:
    """Return the images of a folder of classes; unreadable files are counted on stdout."""
    if not folder.exists():
        raise SourceError(f"there is no folder {folder}", "name one of classes, or run `dvc repro`")
    images, names, paths = [], [], []
    with sources.named_by("FOLDER"), sources.open_source(folder) as source:
        files = [file for file in source.files if not file.ignored and not file.refused and split in (None, file.split)]
        chosen = [files[i] for i in spaced(len(files), max_images)]
        for file in chosen:
            try:
                content = source.read(file)
            except (OSError, ValueError):
                continue
            if isinstance(content, bytes):
                pixels = decoding.decode(content, size, resize, background).pixels
            else:
                pixels = decoding.from_array(content, size, resize, background).pixels
            if pixels is not None:
                images.append(pixels)
                names.append(file.label)
                paths.append(file.path)
    if len(images) < len(chosen):
        click.echo(f"{len(chosen) - len(images)} of {len(chosen)} could not be read")
    if not images:
        raise SourceError(f"there are no images in {folder}", "name a folder with a folder of images for each class")
    return LabelledImages(np.stack(images), names, paths)


def spaced(count: int, most: int) -> list[int]:
    """Return at most `most` indices, evenly from the first to the last."""
    return list(range(count)) if count <= most else sorted({round(i * (count - 1) / max(1, most - 1)) for i in range(most)})


def to_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(csv_cells.escaped, rows))
    return text.getvalue()
