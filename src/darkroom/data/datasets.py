"""Data sets known by name, which `fetch` writes as a folder of classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np


def write_digits(folder: Path, size: int, count: int, seed: int) -> int:
    """Write scikit-learn's handwritten digits (1,797 of 8×8 pixels) as PNG files in one folder per class."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    return _write(folder, images, [str(label) for label in digits.target])


def write_glyphs(folder: Path, size: int, count: int, seed: int) -> int:
    """Write rendered characters as PNG files in one folder per class; small letters go to folders like `a_small`."""
    from darkroom.data import glyphs

    images, labels, classes = glyphs.render(count, size, seed)
    names = [name if not name.islower() else f"{name}_small" for name in classes]
    return _write(folder, images[..., 0], [names[label] for label in labels])


def _write(folder: Path, images: np.ndarray, labels: list[str]) -> int:
    from PIL import Image

    for label in sorted(set(labels)):
        (folder / label).mkdir(parents=True, exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / label / f"{i:05d}.png")
    return len(images)


DATASETS: dict[str, Callable[[Path, int, int, int], int]] = {"digits": write_digits, "glyphs": write_glyphs}
