"""Whole pictures of any mode as upright 8-bit RGB arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from darkroom.data import deep_pixels

ORIENTATION = 0x0112
TURNS: dict[object, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}
_INVERSE: dict[object, object] = {6: 8, 8: 6}  # of the others each is its own


def turn_upright(pixels: np.ndarray, orientation: object) -> np.ndarray:
    """Return the pixels (H, W, C) turned by EXIF's orientation, 1 to 8; other values turn nothing."""
    turn = TURNS.get(orientation)
    return np.ascontiguousarray(turn(pixels)) if turn else pixels


def upright_rgb(picture: Image.Image | np.ndarray, orientation: object, background: tuple[int, int, int]) -> np.ndarray:
    """Return a picture, Pillow's or (H, W, 3 or 4) deeper than 8 bits, as upright (H, W, 3) uint8.

    It is converted a few rows at a time, so that no third whole picture is in memory.
    """
    width, height = picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
    turned = orientation in TURNS and orientation in (5, 6, 7, 8)
    pixels = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    rows = TURNS.get(_INVERSE.get(orientation, orientation), lambda same: same)(pixels)  # a view that is not upright
    if isinstance(picture, np.ndarray):
        scale = deep_pixels.scaling(deep_pixels.colour_strips(picture))
    elif deep_pixels.is_grey(picture):
        scale = deep_pixels.scaling(deep_pixels.grey_strips(picture))
    for top in range(0, height, deep_pixels.ROWS):
        bottom = min(top + deep_pixels.ROWS, height)
        if isinstance(picture, np.ndarray):
            rows[top:bottom] = _deep_rgb(picture[top:bottom], scale, background)
            continue
        strip = picture.crop((0, top, width, bottom)) if height > deep_pixels.ROWS else picture
        rows[top:bottom] = _grey_rgb(strip, scale, background) if deep_pixels.is_grey(picture) else rgb(strip, background)
    return pixels


def _deep_rgb(values: np.ndarray, scale: Callable[[np.ndarray], np.ndarray], background: tuple[int, int, int]) -> np.ndarray:
    colours = scale(values[..., :3])
    if values.shape[2] == 3:
        return colours
    alpha = values[..., 3:] >> 8 if values.dtype == np.uint16 else np.clip(np.nan_to_num(values[..., 3:]), 0, 1) * 255
    layer = Image.fromarray(np.concatenate([colours, alpha.astype(np.uint8)], axis=2))
    return np.asarray(rgb(layer, background))


def _grey_rgb(strip: Image.Image, scale: Callable[[np.ndarray], np.ndarray], background: tuple[int, int, int]) -> np.ndarray:
    values = np.asarray(strip)
    pixels = np.repeat(scale(values)[..., None], 3, axis=2)
    if isinstance(strip.info.get("transparency"), int):
        pixels[values == strip.info["transparency"]] = background
    return pixels


def rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Return an image of 8 bits a channel in mode RGB."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, (*background, 255))
        canvas.alpha_composite(layer)
        return canvas.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
