"""Printed characters rendered from matplotlib's fonts: labelled images without a network.

The classes are those of EMNIST's balanced split (Cohen et al. 2017): ten digits, 26 capitals and the 11 small
letters whose shape differs from that of their capital. Each image is white on black, distorted by a random
affine map and an elastic displacement (Simard et al. 2003), thickened or thinned, and reduced to a random
lower resolution.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import zipfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from darkroom.core import atomic

CLASSES = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Oblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "cmti10", "STIXGeneral",
    "STIXGeneralItalic", "STIXGeneralBol", "cmr10", "cmss10", "cmtt10", "cmb10",
)  # fmt: skip
_CANVAS = 64
CACHE = Path(".darkroom/glyphs")


@cache
def package_folder(name: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    package = importlib.util.find_spec(name)
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent


@cache
def _draw(character: str, font: str) -> np.ndarray:
    """Return a character centred on a (64, 64) uint8 canvas with ink about 40 pixels high."""
    path = package_folder("matplotlib") / f"mpl-data/fonts/ttf/{font}.ttf"
    canvas = Image.new("L", (_CANVAS, _CANVAS), 0)
    draw = ImageDraw.Draw(canvas)
    face = ImageFont.truetype(str(path), 52)
    left, top, right, bottom = draw.textbbox((0, 0), character, font=face)
    size = max(8, round(52 * 42 / max(bottom - top, (right - left) * 0.8, 1)))
    face = ImageFont.truetype(str(path), size)
    left, top, right, bottom = draw.textbbox((0, 0), character, font=face)
    draw.text(((_CANVAS - right - left) / 2, (_CANVAS - bottom - top) / 2), character, fill=255, font=face)
    return np.asarray(canvas)


@cache
def _grid() -> np.ndarray:
    """Return row and column of every pixel of the canvas, (2, 64, 64) float32."""
    return np.mgrid[:_CANVAS, :_CANVAS].astype(np.float32)


def _distort(glyph: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a glyph as (size, size) uint8: thickened or thinned, bent, at a lower resolution."""
    kernel = np.ones((int(rng.integers(2, 6)),) * 2, np.uint8)
    stroke = rng.random()
    image = cv2.dilate(glyph, kernel) if stroke < 0.45 else cv2.erode(glyph, kernel[:2, :2]) if stroke < 0.6 else glyph

    angle, shear = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.25, 0.25)
    scale = rng.uniform(0.85, 1.45) * np.array([rng.uniform(0.75, 1.2), 1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(scale)
    centre = np.full(2, (_CANVAS - 1) / 2)
    offset = centre + rng.uniform(-4, 4, 2) - matrix @ centre
    image = cv2.warpAffine(image, np.column_stack([matrix, offset]), (_CANVAS, _CANVAS), flags=cv2.INTER_LINEAR)

    shift = cv2.GaussianBlur(rng.uniform(-1, 1, (_CANVAS, _CANVAS, 2)).astype(np.float32), (0, 0), 6)
    shift = shift * np.float32(rng.uniform(0, 4) / max(float(np.abs(shift).max()), 1e-6))
    row, column = _grid()
    image = cv2.remap(image, column + shift[..., 0], row + shift[..., 1], cv2.INTER_LINEAR)

    low = int(rng.integers(8, max(size, 9) + 1))
    image = cv2.resize(image, (low, low), interpolation=cv2.INTER_AREA)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    noisy = image * rng.uniform(0.7, 1.2) + rng.normal(0, rng.uniform(0, 8), image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def render(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return `count` glyphs of all classes in turn: images (count, size, size, 3) uint8, labels (count,)
    int64, classes.

    Image i depends on `seed` and i alone, so a larger count only adds images.
    """
    images = np.empty((count, size, size, 3), np.uint8)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        glyph = _draw(CLASSES[labels[i]], FONTS[rng.integers(len(FONTS))])
        images[i] = _distort(glyph, size, rng)[..., None]
    return images, labels, CLASSES


def render_cached(count: int, size: int, seed: int, folder: Path = CACHE) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return the result of `render` from a file in `folder`: several backbones are pretrained on the same
    glyphs.

    The file is named by the digest of this code, the libraries and the arguments. A missing or damaged one is
    written again.
    """
    libraries = [version(name) for name in ("numpy", "opencv-python-headless", "pillow", "matplotlib")]
    identity = [hashlib.sha256(Path(__file__).read_bytes()).hexdigest(), *libraries, count, size, seed]
    file = folder / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]}.npz"
    try:
        with np.load(file) as arrays:
            return np.repeat(arrays["images"][..., None], 3, 3), arrays["labels"], CLASSES
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        images, labels, classes = render(count, size, seed)
        with atomic.new_file(file) as working, working.open("wb") as out:
            np.savez(out, images=images[..., 0], labels=labels)
        return images, labels, classes
