"""What stride, padding and pooling do to a map, written out with windows (Dumoulin and Visin 2016).

Along a side of n, a window of k that moves by s over a map with p more positions at each end has
⌊(n + 2p − k) / s⌋ + 1 places.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from darkroom.core.errors import ParamsError
from darkroom.lab import drawing, kernel_steps
from darkroom.lab.drawing import Row, Tile, fit

SIDE = 208  # pixels of a map, about
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
NUMBERS = 6  # rows and columns of the map of numbers
LEAST_SIDE = 16  # of a map that windows of four, moved by four, still show
FORMULA = "⌊(n + 2·padding − kernel) / stride⌋ + 1"


def output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return the number of places of a window along a side."""
    return (size + 2 * padding - kernel) // stride + 1


def windows(values: np.ndarray, kernel: int, stride: int, padding: int) -> np.ndarray:
    """Return all places of a window on a map (H, W) with zeros around it: (rows, columns, kernel, kernel)."""
    padded = np.pad(values, padding)
    return sliding_window_view(padded, (kernel, kernel))[::stride, ::stride]


def convolve(values: np.ndarray, weights: np.ndarray, stride: int = 1, padding: int = 0) -> np.ndarray:
    """Return the convolution of a map (H, W) with a square kernel: a sum of products at each place."""
    return (windows(values, len(weights), stride, padding) * weights).sum((2, 3))


def max_pool(values: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Return the largest value at each place of a window."""
    return windows(values, kernel, stride, 0).max((2, 3))


def average_pool(values: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Return the mean value at each place of a window."""
    return windows(values, kernel, stride, 0).mean((2, 3))


def draw(grey: np.ndarray) -> list[Row]:
    """Return the rows of the picture for a grey map (H, W) from 0 to 1, at least LEAST_SIDE a side."""
    if min(grey.shape) < LEAST_SIDE:
        raise ParamsError(f"a map of {grey.shape[1]}×{grey.shape[0]} is too small to be pooled", f"--size {LEAST_SIDE} or more")
    most = float(np.abs(convolve(grey, SOBEL, padding=1)[1:-1, 1:-1]).max())
    map_tile = Tile(fit(drawing.grey(grey), SIDE), f"the map, {_shape(grey)}")
    strides = [_map(grey, convolve(grey, SOBEL, stride, 1), most, 3, stride, 1) for stride in (1, 2, 4)]
    paddings = [_map(grey, convolve(grey, SOBEL, 1, padding), most, 3, 1, padding) for padding in (0, 1, 2)]
    edges = np.maximum(convolve(grey, SOBEL, padding=1)[1:-1, 1:-1], 0)  # after ReLU, without the border
    return [
        Row([map_tile], "the size of an output", f"{FORMULA}, down and across"),
        _numbers(grey),
        Row(strides, "stride", "a Sobel kernel at every, every second and every fourth position"),
        Row([*paddings, kernel_steps.code_tile(windows, convolve)], "padding", "zeros around the map: an edge where there is none"),
        Row(_pooled(edges), "pooling", "of the response after ReLU: the largest and the mean value of each window"),
    ]


def _numbers(grey: np.ndarray) -> Row:
    """Return pooling of a map of few numbers, from 0 to 9."""
    rows, columns = (np.linspace(0, side - 1, NUMBERS).round().astype(int) for side in grey.shape)
    small = np.round(grey[np.ix_(rows, columns)] * 9).astype(np.float32)
    pairs: dict[str, np.ndarray] = {
        "some of its values, 0 to 9": small,
        "2×2 max pool, stride 2": max_pool(small, 2, 2),
        "2×2 average pool, stride 2": average_pool(small, 2, 2),
        "3×3 max pool, stride 1": max_pool(small, 3, 1),
    }
    tiles = [Tile(drawing.draw_numbers(values), f"{name}\n{_shape(values)}") for name, values in pairs.items()]
    return Row([*tiles, kernel_steps.code_tile(max_pool, average_pool)], "in numbers")


def _pooled(edges: np.ndarray) -> list[Tile]:
    functions: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {"max": max_pool, "average": average_pool}
    most = float(np.quantile(edges, 0.998)) or 1.0
    tiles = [Tile(fit(drawing.heat(edges, most), SIDE), f"the response after ReLU\n{_shape(edges)}")]
    for kernel, stride in ((2, 2), (3, 2), (4, 4)):
        for name, function in functions.items():
            values = function(edges, kernel, stride)
            caption = f"{kernel}×{kernel} {name} pool, stride {stride}\n{_sum(edges.shape[1], kernel, stride, 0)}"
            tiles.append(Tile(_enlarge(drawing.heat(values, most)), caption))
    return tiles


def _map(grey: np.ndarray, values: np.ndarray, most: float, kernel: int, stride: int, padding: int) -> Tile:
    caption = f"stride {stride}, padding {padding}: {_shape(values)}\n{_sum(grey.shape[1], kernel, stride, padding)}"
    return Tile(_enlarge(drawing.signed(values, most)), caption)


def _enlarge(picture: np.ndarray) -> np.ndarray:
    """Return a small map as large as the others, its pixels as squares."""
    factor = max(1, round(SIDE / max(picture.shape[:2])))
    return fit(np.repeat(np.repeat(picture, factor, 0), factor, 1), SIDE)


def _sum(size: int, kernel: int, stride: int, padding: int) -> str:
    return f"⌊({size} + 2·{padding} − {kernel}) / {stride}⌋ + 1 = {output_size(size, kernel, stride, padding)}"


def _shape(values: np.ndarray) -> str:
    return f"{values.shape[0]}×{values.shape[1]}"
