"""Kernels that people designed before networks learned them, and the user's own: what each makes of a grey image.

Sobel and Feldman 1968, Prewitt 1970, Scharr 2000; the Laplacian; Gabor functions (Gabor 1946), which Daugman (1985) found in the
visual cortex and Krizhevsky et al. (2012) in the first layer of AlexNet.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import cv2
import numpy as np

from darkroom.core.errors import ParamsError

MOST = 63  # rows and columns of a user's kernel
ORIENTATIONS = 6


@dataclass(frozen=True)
class Bank:
    """Kernels that belong together; `joined` says how their responses become one: length, sum, strongest, or nothing does."""

    name: str
    kernels: dict[str, np.ndarray]
    joined: str
    about: str


def _pair(across: list[list[float]]) -> dict[str, np.ndarray]:
    kernel = np.array(across, np.float32)
    return {"across (x)": kernel, "down (y)": np.ascontiguousarray(kernel.T)}


def gabor(angle: float, wavelength: float = 8.0, sigma: float = 3.5, aspect: float = 0.6, size: int = 21) -> np.ndarray:
    """Return an even Gabor kernel (size, size) float32 for edges and lines along `angle`, in degrees, 0 upright.

    Its sum is zero, so that it says nothing of brightness, and its absolute values sum to one.
    """
    kernel = cv2.getGaborKernel((size, size), sigma, math.radians(angle), wavelength, aspect, 0.0, cv2.CV_64F)
    envelope = cv2.getGaborKernel((size, size), sigma, math.radians(angle), 1e9, aspect, 0.0, cv2.CV_64F)
    kernel -= envelope * (kernel.sum() / envelope.sum())
    return (kernel / np.abs(kernel).sum()).astype(np.float32)


def banks() -> dict[str, Bank]:
    """Return the kernels that have a name."""
    angles = [180 * i / ORIENTATIONS for i in range(ORIENTATIONS)]
    made = (
        Bank("sobel", _pair([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), "length",
             "the difference across, smoothed along: 1 2 1 (Sobel and Feldman 1968)"),
        Bank("prewitt", _pair([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]), "length", "the same, smoothed evenly: 1 1 1 (Prewitt 1970)"),
        Bank("scharr", _pair([[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]), "length",
             "3 10 3, so that the length depends least on the direction (Scharr 2000)"),
        Bank("laplacian", {"4 neighbours": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32),
                           "8 neighbours": np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]], np.float32)}, "",
             "the second derivative: zero on ramps, a sign change at edges"),
        Bank("gabor", {f"{angle:.0f}°": gabor(angle) for angle in angles}, "strongest",
             "a wave under a bell: lines of one width and direction (Gabor 1946, Daugman 1985)"),
    )  # fmt: skip
    return {bank.name: bank for bank in made}


def grey(image: np.ndarray) -> np.ndarray:
    """Return an RGB image (H, W, 3) uint8 as luma (H, W) float32 from 0 to 1 (ITU-R BT.601)."""
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255


def respond(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the correlation of a grey image (H, W) with a kernel (h, w), all float32, as a convolutional layer computes it.

    The image is mirrored at its border (its outermost pixels are not repeated). A kernel of an even size has its centre right of
    and below the middle.
    """
    return cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)


def length(responses: list[np.ndarray]) -> np.ndarray:
    """Return the length of the gradient whose components are given, (H, W) float32."""
    return np.sqrt(sum((item**2 for item in responses), np.zeros_like(responses[0])))


def strongest(responses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pixel the largest absolute response, (H, W) float32, and which of them it is, (H, W) int64."""
    sizes = np.abs(np.stack(responses))
    return sizes.max(0), sizes.argmax(0)


def parse(text: str, origin: str = "--kernel") -> np.ndarray:
    """Return a kernel (h, w) float32 written as numbers: `0 -1 0; -1 5 -1; 0 -1 0`, or lines with spaces, commas or tabs.

    A fraction such as 1/9 is a number too. Raises ParamsError that names the row where it is not a rectangle of finite numbers.
    """
    lines = [
        line.strip() for line in re.split(r"[;\n]", text.replace("\r", "\n")) if line.strip() and not line.lstrip().startswith("#")
    ]
    remedy = 'write rows of numbers, as in --kernel "0 -1 0; -1 5 -1; 0 -1 0", or a file with a row on each line'
    if not lines:
        raise ParamsError(f"the kernel of {origin} is empty", remedy)
    rows = [
        [_number(word, number, origin, remedy) for word in re.split(r"[,\s]+", line.strip(", \t"))]
        for number, line in enumerate(lines, 1)
    ]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            counts = f"row {number} has {len(row)} numbers, row 1 has {len(rows[0])}"
            raise ParamsError(f"the kernel of {origin} is no rectangle: {counts}", remedy)
    if len(rows) > MOST or len(rows[0]) > MOST:
        raise ParamsError(f"the kernel of {origin} has {len(rows)}×{len(rows[0])} numbers", f"it may have {MOST}×{MOST}")
    return np.array(rows, np.float32)


def _number(word: str, row: int, origin: str, remedy: str) -> float:
    try:
        above, _, below = word.partition("/")
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not abs(value) < 1e30:
        raise ParamsError(f'"{word}" in row {row} of the kernel of {origin} is not a finite number', remedy)
    return value
