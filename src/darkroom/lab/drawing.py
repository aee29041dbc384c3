"""Pictures made of labelled tiles, and files of them that are known again.

A sheet is drawn with Pillow and OpenCV: a plotting library takes most of a second to import, and longer for hundreds of tiles.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from darkroom.core import atomic
from darkroom.core.errors import ParamsError, printable

MARK = "darkroom lab"  # in every picture, so that it is known again
WIDE = 1120  # pixels of a sheet, at most, unless one tile is wider
MARGIN, GAP = 22, 8
INK, FAINT, PAPER = (28, 28, 30), (101, 101, 106), (255, 255, 255)
COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194), (127, 127, 127),
    (188, 189, 34), (23, 190, 207),
)  # fmt: skip  # Tableau's ten
COLOUR_NAMES = ("blue", "orange", "green", "red", "purple", "brown", "pink", "grey", "olive", "cyan")
SIZES = {"title": 21, "heading": 15, "text": 13}


@dataclass(frozen=True)
class Tile:
    """A picture (H, W, 3) uint8 RGB with a caption below it, which may have several lines."""

    pixels: np.ndarray
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """Tiles side by side, as many lines of them as they need, under a heading and, beside that, a remark in grey."""

    tiles: Sequence[Tile]
    heading: str = ""
    remark: str = ""


def sheet(title: str, rows: Sequence[Row], note: str = "", wide: int = WIDE) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 of the rows below a title and a note."""
    from PIL import Image, ImageDraw

    placed: list[tuple[int, int, Any]] = []  # x, y, and a picture or (text, size, bold, colour)
    widest, y = 0, MARGIN

    def write(text: str, size: str, colour: tuple[int, int, int], bold: bool = False) -> None:
        nonlocal y, widest
        for line in _wrapped(text, size, bold, wide - 2 * MARGIN):
            placed.append((MARGIN, y, (line, size, bold, colour)))
            widest = max(widest, round(_length(line, size, bold)))
            y += round(SIZES[size] * 1.4)

    write(printable(title), "title", INK, bold=True)
    if note:
        write(note, "text", FAINT)
    for row in rows:
        y += 12
        if row.heading:
            placed.append((MARGIN, y, (row.heading, "heading", True, INK)))
            across = MARGIN + round(_length(row.heading, "heading", True)) + 12
            lines = _wrapped(row.remark, "text", False, max(300, wide - MARGIN - across)) if row.remark else [""]
            for line in lines:
                placed.append((across, y + 2, (line, "text", False, FAINT)))
                widest = max(widest, across - MARGIN + round(_length(line, "text")))
                y += round(SIZES["heading"] * 1.4)
        for tiles in _lines(row.tiles, wide - 2 * MARGIN):
            x, below = MARGIN, y
            for tile in tiles:
                placed.append((x, y, tile.pixels))
                under = y + tile.pixels.shape[0] + 2
                for line in tile.caption.split("\n") if tile.caption else []:
                    placed.append((x, under, (line, "text", False, FAINT)))
                    under += round(SIZES["text"] * 1.3)
                x += _cell(tile) + GAP
                below = max(below, under)
            widest, y = max(widest, x - GAP - MARGIN), below + GAP
    canvas = Image.new("RGB", (widest + 2 * MARGIN, y + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    for x, top, what in placed:
        if isinstance(what, tuple):
            text, size, bold, colour = what
            draw.text((x, top), text, font=_font(size, bold), fill=colour)
        else:
            canvas.paste(Image.fromarray(what), (x, top))
    return np.asarray(canvas)


@cache
def _font(size: str, bold: bool) -> Any:
    """Return a font that matplotlib brings, without importing it."""
    from PIL import ImageFont

    package = importlib.util.find_spec("matplotlib")
    assert package is not None
    assert package.origin is not None
    fonts = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / f"DejaVuSans{'-Bold' if bold else ''}.ttf"), SIZES[size])


def _length(text: str, size: str, bold: bool = False) -> float:
    return float(_font(size, bold).getlength(text))


def _wrapped(text: str, size: str, bold: bool, wide: int) -> list[str]:
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _length(longer, size, bold) <= wide:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _cell(tile: Tile) -> int:
    return max(tile.pixels.shape[1], *(round(_length(line, "text")) for line in tile.caption.split("\n")))


def _lines(tiles: Sequence[Tile], wide: int) -> list[list[Tile]]:
    lines: list[list[Tile]] = []
    used = 0
    for tile in tiles:
        if lines and used + GAP + _cell(tile) <= wide:
            lines[-1].append(tile)
            used += GAP + _cell(tile)
        else:
            lines.append([tile])
            used = _cell(tile)
    return lines


def fitted(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return an image whose longer side has about `side` pixels: shrunk by areas, or each pixel repeated."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest > side:
        shape = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
        return cv2.resize(np.ascontiguousarray(pixels), shape, interpolation=cv2.INTER_AREA)
    factor = max(1, round(side / longest))
    return np.repeat(np.repeat(pixels, factor, 0), factor, 1)


def grey(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Return values (H, W) as grey (H, W, 3) uint8, `low` and what is below it black, `high` white."""
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.repeat(scaled.round().astype(np.uint8)[..., None], 3, axis=2)


def signed(values: np.ndarray, most: float | None = None) -> np.ndarray:
    """Return values (H, W) around mid-grey (H, W, 3) uint8: zero is 128, +most white, -most black."""
    most = most or float(np.abs(values).max()) or 1.0
    scaled = 128 + np.clip(values / most, -1, 1) * 127
    return np.repeat(scaled.round().astype(np.uint8)[..., None], 3, axis=2)


def heat(values: np.ndarray, most: float | None = None, colours: int = cv2.COLORMAP_INFERNO) -> np.ndarray:
    """Return values (H, W) from 0 to `most` as colours from dark to bright, (H, W, 3) uint8."""
    most = most or float(values.max()) or 1.0
    return cv2.applyColorMap((np.clip(values / most, 0, 1) * 255).astype(np.uint8), colours)[..., ::-1]


def legend(shade: Callable[[np.ndarray], np.ndarray], low: float, high: float, said: str = "") -> Tile:
    """Return a strip of the colours from `low` to `high`, captioned with these numbers; `shade` takes values (H, W)."""
    strip = np.repeat(np.linspace(low, high, 160)[None], 12, axis=0)
    return Tile(shade(strip), f"{figure(low)} … {figure(high)}" + (f"\n{said}" if said else ""))


def figure(value: float, digits: int = 2) -> str:
    """Return a number as it is printed, with a minus sign that is one."""
    return f"{value:.{digits}g}".replace("-", "−")


def numbers(kernel: np.ndarray, cell: int = 46) -> np.ndarray:
    """Return a kernel (h, w) as a grid of grey cells (H, W, 3) uint8, with its numbers where they fit (up to nine columns)."""
    from PIL import Image, ImageDraw

    height, width = kernel.shape
    legible = max(height, width) <= 9
    cell = cell if legible else max(2, 230 // max(height, width))
    picture = np.repeat(np.repeat(signed(kernel), cell, 0), cell, 1)
    if not legible:
        return picture
    picture = np.pad(picture, ((0, 1), (0, 1), (0, 0)))
    picture[::cell] = picture[:, ::cell] = FAINT
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for (row, column), value in np.ndenumerate(kernel):
        dark = picture[row * cell + cell // 2, column * cell + cell // 2, 0] < 128
        text = figure(value, 3)
        size = "heading" if len(text) < 5 else "text"
        left = column * cell + (cell - _length(text, size)) / 2
        draw.text((left, row * cell + cell / 2 - SIZES[size] * 0.62), text, font=_font(size, False), fill=PAPER if dark else INK)
    return np.asarray(canvas)


def plotted(figure: Any) -> np.ndarray:
    """Return a matplotlib figure as (H, W, 3) uint8, drawn by Agg without a window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def check(path: Path, beside: Sequence[str] = (), overwrite: bool = False) -> None:
    """Refuse a place that holds anything but an earlier picture of ours, and, `beside` it, the files that came with one."""
    if path.suffix.lower() != ".png":
        raise ParamsError(f"{path} is not the name of a PNG file", f"name it {path.with_suffix('.png').name}")
    for file in (path, *(path.with_suffix(suffix) for suffix in beside)):
        if file.is_dir():
            raise ParamsError(f"{file} is a folder", "name a file: --out FILE.png")
        if file.exists() and not overwrite and file.suffix not in _made(path):
            raise ParamsError(
                f"{file} is there, and is not an earlier picture of the lab", "--overwrite, or another --out FILE.png"
            )


def _made(path: Path) -> tuple[str, ...]:
    """Return the suffixes of what was written with an earlier picture of ours, its own among them; nothing for another file."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            said = str(image.info.get("Software", ""))
    except (OSError, ValueError):
        return ()
    return (path.suffix, *said.split()[2:]) if said.startswith(MARK) else ()


def save(path: Path, picture: np.ndarray, beside: dict[str, str] | None = None) -> None:
    """Write a picture (H, W, 3) uint8 as PNG, with texts `beside` it by suffix (.csv); each file is there whole or not at all."""
    from PIL import Image, PngImagePlugin

    about = PngImagePlugin.PngInfo()
    about.add_text("Software", " ".join([MARK, *(beside or {})]))
    with ExitStack() as stack:
        for suffix, text in (beside or {}).items():
            stack.enter_context(atomic.new_file(path.with_suffix(suffix))).write_text(text, encoding="utf-8")
        Image.fromarray(picture).save(stack.enter_context(atomic.new_file(path)), format="PNG", pnginfo=about, optimize=True)
