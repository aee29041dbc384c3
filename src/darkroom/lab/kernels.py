"""Designed kernels, and the user's own, with their responses to a grey image.

Sobel and Feldman 1968, Prewitt 1970, Scharr 2000; the Laplacian; Gabor functions (Gabor 1946), which Daugman
(1985) found in the visual cortex and Krizhevsky et al. (2012) in the first layer of AlexNet.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import cv2
import numpy as np

from darkroom.core.errors import ParamsError
from darkroom.lab import drawing

MAX_SIDE = 63  # rows and columns of a user's kernel
ORIENTATIONS = 6
SIDE = 224  # pixels of a response, about
QUANTILE = 0.995  # of the responses; stronger ones are clipped to black or white


@dataclass(frozen=True)
class Bank:
    """Kernels that belong together; `combination` of their responses is length, strongest or nothing."""

    name: str
    kernels: dict[str, np.ndarray]
    combination: str = ""
    description: str = ""


def gabor(angle: float, wavelength: float = 8.0, sigma: float = 3.5, aspect: float = 0.6, size: int = 21) -> np.ndarray:
    """Return an even Gabor kernel (size, size) float32 for edges along `angle`, in degrees, 0 upright.

    Its sum is zero, so that it does not respond to brightness, and its absolute values sum to one.
    """
    kernel = cv2.getGaborKernel((size, size), sigma, math.radians(angle), wavelength, aspect, 0.0, cv2.CV_64F)
    envelope = cv2.getGaborKernel((size, size), sigma, math.radians(angle), 1e9, aspect, 0.0, cv2.CV_64F)
    kernel -= envelope * (kernel.sum() / envelope.sum())
    return (kernel / np.abs(kernel).sum()).astype(np.float32)


def _gradient_bank(name: str, weights: tuple[int, int, int], description: str) -> Bank:
    kernel = np.array([[-weight, 0, weight] for weight in weights], np.float32)
    return Bank(name, {"across (x)": kernel, "down (y)": np.ascontiguousarray(kernel.T)}, "length", description)


def banks() -> dict[str, Bank]:
    """Return the named kernels."""
    angles = [180 * i / ORIENTATIONS for i in range(ORIENTATIONS)]
    laplacians = {
        "4 neighbours": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32),
        "8 neighbours": np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]], np.float32),
    }
    return {bank.name: bank for bank in (
        _gradient_bank("sobel", (1, 2, 1), "the difference across, smoothed along: 1 2 1 (Sobel and Feldman 1968)"),
        _gradient_bank("prewitt", (1, 1, 1), "the same, smoothed evenly: 1 1 1 (Prewitt 1970)"),
        _gradient_bank("scharr", (3, 10, 3), "3 10 3, so that the length depends least on the direction (Scharr 2000)"),
        Bank("laplacian", laplacians, "", "the second derivative: zero on ramps, a sign change at edges"),
        Bank("gabor", {f"{angle:.0f}°": gabor(angle) for angle in angles}, "strongest",
             "a wave in a Gaussian window: lines of one width and direction (Gabor 1946, Daugman 1985)"),
    )}  # fmt: skip


def to_grey(image: np.ndarray) -> np.ndarray:
    """Return an RGB image (H, W, 3) uint8 as luma (H, W) float32 from 0 to 1 (ITU-R BT.601)."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return grey.astype(np.float32) / 255


def respond(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the correlation of a grey image (H, W) with a kernel (h, w), as a convolution computes it.

    The image is mirrored at its border, without repeating the outermost pixels. A kernel of an even size has
    its centre right of and below the middle.
    """
    return cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)


def length(responses: list[np.ndarray]) -> np.ndarray:
    """Return the length of the gradient with these components, (H, W) float32."""
    return np.sqrt(sum((item**2 for item in responses), np.zeros_like(responses[0])))


def strongest(responses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pixel the largest absolute response, (H, W) float32, and its index, (H, W) int64."""
    sizes = np.abs(np.stack(responses))
    return sizes.max(0), sizes.argmax(0)


def parse(text: str, origin: str = "--kernel") -> np.ndarray:
    """Return a kernel (h, w) float32 written as numbers: `0 -1 0; -1 5 -1; 0 -1 0`, or in lines.

    Fractions such as 1/9 are allowed. Raises ParamsError with the row if it is not a rectangle of finite
    numbers.
    """
    remedy = 'write rows of numbers, as in --kernel "0 -1 0; -1 5 -1; 0 -1 0", or a file with a row on each line'
    lines = [line.strip() for line in re.split(r"[;\n]", text.replace("\r", "\n"))]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ParamsError(f"the kernel of {origin} is empty", remedy)
    rows = [[_number(word, number, origin, remedy) for word in re.split(r"[,\s]+", line.strip(", \t"))]
            for number, line in enumerate(lines, 1)]  # fmt: skip
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            counts = f"row {number} has {len(row)} numbers, row 1 has {len(rows[0])}"
            raise ParamsError(f"the kernel of {origin} is not a rectangle: {counts}", remedy)
    if len(rows) > MAX_SIDE or len(rows[0]) > MAX_SIDE:
        raise ParamsError(f"the kernel of {origin} has {len(rows)}×{len(rows[0])} numbers", f"it may have {MAX_SIDE}×{MAX_SIDE}")
    return np.array(rows, np.float32)


def _number(word: str, row: int, origin: str, remedy: str) -> float:
    try:
        numerator, _, denominator = word.partition("/")
        value = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not abs(value) < 1e30:
        raise ParamsError(f'"{word}" in row {row} of the kernel of {origin} is not a finite number', remedy)
    return value


def draw_row(bank: Bank, grey: np.ndarray) -> drawing.Row:
    """Return the kernels of a bank with their responses to a grey image (H, W), and the combination."""
    is_many = len(bank.kernels) > 2
    side = SIDE * 2 // 3 if is_many else SIDE
    responses = [respond(grey, kernel) for kernel in bank.kernels.values()]
    scales = [float(np.quantile(abs(item), QUANTILE)) for item in responses]
    if bank.combination:
        scales = [max(scales)] * len(scales)
    pictures = [_draw_response(*item, side) for item in zip(responses, bank.kernels.values(), scales, strict=True)]
    if is_many:
        hues = _hues(np.ones((1, len(responses))), np.arange(len(responses))[None], len(responses))
        grids = [drawing.fit(drawing.draw_numbers(kernel), side) for kernel in bank.kernels.values()]
        marked = [np.concatenate([grid, np.broadcast_to(hues[:, [i]], (7, grid.shape[1], 3))]) for i, grid in enumerate(grids)]
        tiles = [drawing.Tile(grid, label) for grid, label in zip(marked, bank.kernels, strict=True)] + pictures
    else:
        numbers = [drawing.Tile(drawing.draw_numbers(kernel), label) for label, kernel in bank.kernels.items()]
        tiles = [tile for pair in zip(numbers, pictures, strict=True) for tile in pair]
    if bank.combination == "length":
        combined = length(responses)
        caption = f"length of both: 0 (dark) … {drawing.format_number(combined.max())}"
        tiles.append(drawing.Tile(drawing.fit(drawing.heat(combined), side), caption))
    elif bank.combination == "strongest":
        picture = drawing.fit(_hues(*strongest(responses), len(responses)), side * 2)
        tiles.append(
            drawing.Tile(picture, "the strongest response: the hue is that below its kernel,\nthe brightness its strength")
        )
    return drawing.Row(tiles, bank.name, bank.description)


def _draw_response(response: np.ndarray, kernel: np.ndarray, scale: float, side: int) -> drawing.Tile:
    """Return a response with its range: around mid-grey, or from 0 to 1 if the kernel's sum is not zero."""
    caption = f"{drawing.format_number(response.min())} … {drawing.format_number(response.max())}"
    if abs(float(kernel.sum())) <= 1e-4 * float(abs(kernel).sum()):
        return drawing.Tile(drawing.fit(drawing.signed(response, scale), side), caption)
    return drawing.Tile(drawing.fit(drawing.grey(response), side), f"{caption}, shown from 0 to 1")


def _hues(sizes: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Return the strongest of `count` kernels as hue and its strength as brightness, (h, w, 3) uint8."""
    brightness = np.clip(sizes / (np.quantile(sizes, QUANTILE) or 1) * 255, 0, 255).astype(np.uint8)
    hue = (index * (180 // count)).astype(np.uint8)
    return cv2.cvtColor(np.stack([hue, np.full(sizes.shape, 255, np.uint8), brightness], 2), cv2.COLOR_HSV2RGB)
