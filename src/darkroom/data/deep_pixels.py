"""Pictures of more than 8 bits a channel as 8 bits: 16-bit, 32-bit and floating-point values.

The range that holds all but a thousandth of the values at either end becomes 0 to 255, so one hot pixel
changes nothing, and 12 bits in 16 fill the range. All channels share it, which keeps colours. These are left
as they are: 8-bit values that were widened to 16 (v · 257) or stored in 16 bits (128 to 255 at the bright
end).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

LEFT_OUT = 1000  # one value in so many at either end
MAX_SAMPLE = 2**22  # values that are ranked; of a larger picture every k-th pixel
LEAST_SPAN = 1 / 32  # of the brightest value: a narrower range of integers is noise
ROWS = 64  # converted at a time, so that no second whole picture is in memory
GREY_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
FLOAT_MODE = "RGB;32F"  # of a picture that Pillow has no mode for
Strips = Callable[[], Iterator[np.ndarray]]


def is_grey(image: Image.Image) -> bool:
    return image.mode in GREY_MODES


def read_colours(content: bytes) -> np.ndarray | None:
    """Return a PNG or TIFF of 16-bit or 32-bit floating-point colours as (H, W, 3 or 4), RGB; None for others.

    Of these Pillow reads the high bytes alone, or nothing.
    """
    if not has_deep_colours(content):
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype not in (np.uint16, np.float32):
        return None
    for row in pixels:  # in place: BGR
        row[:, [0, 2]] = row[:, [2, 0]]
    return pixels


def has_deep_colours(content: bytes) -> bool:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        is_deep = content[24:25] == b"\x10" and content[25:26] in (b"\2", b"\4", b"\6")  # bits, colour type
        chunks = content[: content.find(b"IDAT")]  # OpenCV reads a transparent colour and animations otherwise
        return is_deep and b"tRNS" not in chunks and b"acTL" not in chunks
    tags = _tiff_tags(content)
    if tags is None or tags.get(284, 1) != 1 or tags.get(262) not in (1, 2):  # PlanarConfiguration, PhotometricInterpretation
        return False
    bits, kinds = set(tags.get(258, ())), set(tags.get(339, (1,)))
    return tags.get(277, 1) in (3, 4) and ((bits, kinds) in (({16}, {1}), ({32}, {3})))


def float_tiff_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height of a TIFF of floating-point colours, which Pillow does not open."""
    tags = _tiff_tags(content)
    if tags is None or set(tags.get(339, ())) != {3} or not has_deep_colours(content):
        return None
    return int(tags.get(256, 0)), int(tags.get(257, 0))


def _tiff_tags(content: bytes) -> TiffImagePlugin.ImageFileDirectory_v2 | None:
    if not content.startswith((b"II*\0", b"MM\0*")):
        return None
    tags = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
    try:
        stream = io.BytesIO(content)
        stream.seek(tags.next)
        tags.load(stream)
        _ = [tags.get(number) for number in (256, 257, 258, 262, 277, 284, 339)]  # values are parsed when they are read
    except MemoryError:
        raise
    except Exception:  # a damaged directory raises anything
        return None
    return tags


def grey_strips(image: Image.Image) -> Strips:
    """Return a function that yields a grey image as (rows, W, 1), some rows at a time."""

    def strips() -> Iterator[np.ndarray]:
        for top in range(0, image.height, ROWS):
            strip = image.crop((0, top, image.width, min(top + ROWS, image.height)))
            yield np.asarray(strip)[..., None]

    return strips


def colour_strips(pixels: np.ndarray) -> Strips:
    """Return a function that yields the colours of an array (H, W, 3 or 4) without alpha, some rows at a time."""
    return lambda: (pixels[top : top + ROWS, :, :3] for top in range(0, len(pixels), ROWS))


def scaling(strips: Strips) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that makes values of a picture uint8. OSError where a hundredth of them are no numbers."""
    least, most, finite, count, is_widened = np.inf, -np.inf, 0, 0, True
    pixels = sum(strip.shape[0] * strip.shape[1] for strip in strips())
    parts: list[np.ndarray] = []
    for strip in strips():
        is_integer, channels = strip.dtype.kind in "ui", strip.shape[2]
        values = strip.reshape(-1, channels)
        numbers = values if is_integer else values[np.isfinite(values).all(1)]
        count, finite = count + len(values), finite + len(numbers)
        if len(numbers):
            least, most = min(least, float(numbers.min())), max(most, float(numbers.max()))
            parts.append(numbers[:: -(-pixels * channels // MAX_SAMPLE)].ravel())
        is_widened = is_widened and strip.dtype.itemsize == 2 and bool((strip >> 8 == strip & 255).all())
    if finite < 0.99 * count:
        raise OSError("more than a hundredth of the pixels are NaN or infinite")
    low, high = _levels(np.concatenate(parts), channels, least, most, is_integer)
    if is_widened and most > 255:
        low, high = 0, 65535

    def scale(values: np.ndarray) -> np.ndarray:
        wide = values.astype(np.float64)  # of some rows
        if not is_integer:
            wide = np.where(np.isfinite(wide), wide, low)
        return np.clip(np.rint((wide - low) * (255 / (high - low))), 0, 255).astype(np.uint8)

    if strip.dtype.kind == "u" and strip.dtype.itemsize == 2:
        table = scale(np.arange(2**16))
        return lambda values: table[values]
    return scale


def _levels(sample: np.ndarray, channels: int, least: float, most: float, is_integer: bool) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    rank = min(channels * -(-len(sample) // (channels * LEFT_OUT)), (len(sample) - 1) // 2)
    ordered = np.partition(sample, [rank, len(sample) - 1 - rank])
    low, high = float(ordered[rank]), float(ordered[-1 - rank])
    if is_integer and least >= 0 and 128 <= high <= 255:
        return 0, 255
    if low == high:  # less than a thousandth of the picture differs from the rest
        low, high = least, most
    if low == high:
        return (0, 2.0 ** max(8, int(most).bit_length()) - 1) if is_integer and least >= 0 else (low, low + 1)
    least_span = max(abs(low), abs(high)) * LEAST_SPAN if is_integer else 0
    middle, span = (low + high) / 2, max(high - low, least_span)
    return middle - span / 2, middle + span / 2
