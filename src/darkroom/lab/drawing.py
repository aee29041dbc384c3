"""Sheets of captioned pictures, drawn with Pillow and OpenCV: matplotlib takes most of a second to import."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from darkroom.core import atomic
from darkroom.core.charts import PALETTE
from darkroom.core.errors import ParamsError, printable

MARK = "darkroom lab"  # in every picture, so that it is recognised as one
MAX_WIDTH = 1120  # pixels of a sheet, unless one tile is wider
MARGIN, GAP = 22, 8
INK, FAINT, PAPER = (28, 28, 30), (101, 101, 106), (255, 255, 255)
COLOUR_NAMES = ("red", "blue", "green", "purple", "ochre", "teal", "pink", "olive", "brown", "grey")  # of PALETTE
COLOURS = {name: tuple(bytes.fromhex(colour[1:])) for name, colour in zip(COLOUR_NAMES, PALETTE, strict=True)}
CODE, CODE_COLUMNS = (244, 243, 238), 96  # ground and longest line of code
SIZES = {"title": 21, "heading": 15, "text": 13}


@dataclass(frozen=True)
class Tile:
    """A picture (H, W, 3) uint8 RGB with a caption below it, which may have several lines."""

    pixels: np.ndarray
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """Tiles side by side, on as many lines as they need, under a heading with a remark in grey beside it."""

    tiles: Sequence[Tile]
    heading: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Sheet:
    """Rows below a title and a note, and the texts of files to write beside the picture, by suffix."""

    title: str
    rows: Sequence[Row]
    note: str = ""
    texts: dict[str, str] = field(default_factory=dict)


class Canvas:
    """Texts and pictures with their places, from top to bottom, on an image as large as they need."""

    def __init__(self) -> None:
        self.widest, self.y = 0, MARGIN
        self.texts: list[tuple[int, int, str, str, bool, tuple[int, int, int]]] = []
        self.pictures: list[tuple[int, int, np.ndarray]] = []

    def write(self, x: int, text: str, size: str, colour: tuple[int, int, int] = FAINT, bold: bool = False) -> int:
        """Place a line of text at x and the current y; return where it ends."""
        self.texts.append((x, self.y, text, size, bold, colour))
        end = x + round(text_width(text, size, bold))
        self.widest = max(self.widest, end)
        return end

    def write_paragraph(self, text: str, size: str, colour: tuple[int, int, int], bold: bool = False) -> None:
        for line in _wrap(text, size, bold, MAX_WIDTH - 2 * MARGIN):
            self.write(MARGIN, line, size, colour, bold)
            self.y += round(SIZES[size] * 1.4)

    def add_heading(self, row: Row) -> None:
        remark_x = self.write(MARGIN, row.heading, "heading", INK, bold=True) + 12
        available = max(300, MAX_WIDTH - MARGIN - remark_x)
        self.y += 2
        for line in _wrap(row.remark, "text", False, available) if row.remark else [""]:
            self.write(remark_x, line, "text")
            self.y += round(SIZES["heading"] * 1.4)
        self.y -= 2

    def add_line(self, tiles: Sequence[Tile]) -> None:
        x, top, bottom = MARGIN, self.y, self.y
        for tile in tiles:
            self.pictures.append((x, top, tile.pixels))
            self.y = top + tile.pixels.shape[0] + 2
            for line in tile.caption.split("\n") if tile.caption else []:
                self.write(x, line, "text")
                self.y += round(SIZES["text"] * 1.3)
            bottom = max(bottom, self.y)
            x += _tile_width(tile) + GAP
        self.widest, self.y = max(self.widest, x - GAP), bottom + GAP

    def render(self) -> np.ndarray:
        canvas = Image.new("RGB", (self.widest + MARGIN, self.y + MARGIN - GAP), PAPER)
        draw = ImageDraw.Draw(canvas)
        for x, y, text, size, bold, colour in self.texts:
            draw.text((x, y), text, font=_font(size, bold), fill=colour)
        for x, y, pixels in self.pictures:
            canvas.paste(Image.fromarray(pixels), (x, y))
        return np.asarray(canvas)


def draw(sheet: Sheet) -> np.ndarray:
    """Return the picture (H, W, 3) uint8 of a sheet."""
    canvas = Canvas()
    canvas.write_paragraph(printable(sheet.title), "title", INK, bold=True)
    if sheet.note:
        canvas.write_paragraph(sheet.note, "text", FAINT)
    for row in sheet.rows:
        canvas.y += 12
        if row.heading:
            canvas.add_heading(row)
        for tiles in _break_lines(row.tiles, MAX_WIDTH - 2 * MARGIN):
            canvas.add_line(tiles)
    return canvas.render()


@cache
def _font(size: str, bold: bool) -> Any:
    return _load_font(f"DejaVuSans{'-Bold' if bold else ''}.ttf", SIZES[size])


@cache
def _mono() -> Any:
    return _load_font("DejaVuSansMono.ttf", 12)


def _load_font(name: str, size: int) -> Any:
    """Return a font of matplotlib's, without importing matplotlib."""
    package = importlib.util.find_spec("matplotlib")
    assert package is not None
    assert package.origin is not None
    fonts = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / name), size)


def text_width(text: str, size: str, bold: bool = False) -> float:
    """Return the pixels of a text in DejaVu Sans of a named size."""
    return float(_font(size, bold).getlength(text))


def fill_lines(parts: Iterable[str], separator: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Return parts, joined by a separator, as lines of at most this width, unless a single part is wider."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{separator}{part}" if lines else part
        if lines and measure(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _wrap(text: str, size: str, bold: bool, width: int) -> list[str]:
    return fill_lines(text.split(" "), " ", width, lambda line: text_width(line, size, bold))


def _tile_width(tile: Tile) -> int:
    return max(tile.pixels.shape[1], *(round(text_width(line, "text")) for line in tile.caption.split("\n")))


def _break_lines(tiles: Sequence[Tile], width: int) -> list[list[Tile]]:
    lines: list[list[Tile]] = []
    used = 0
    for tile in tiles:
        if lines and used + GAP + _tile_width(tile) <= width:
            lines[-1].append(tile)
            used += GAP + _tile_width(tile)
        else:
            lines.append([tile])
            used = _tile_width(tile)
    return lines


def fit(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return an image with a longer side of about `side` pixels, shrunk by areas or its pixels repeated."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest > side:
        shape = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
        return cv2.resize(np.ascontiguousarray(pixels), shape, interpolation=cv2.INTER_AREA)
    factor = max(1, round(side / longest))
    return np.repeat(np.repeat(pixels, factor, 0), factor, 1)


def grey(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Return values (H, W) as grey (H, W, 3) uint8: `low` and less is black, `high` and more white."""
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.repeat(scaled.round().astype(np.uint8)[..., None], 3, axis=2)


def signed(values: np.ndarray, most: float | None = None) -> np.ndarray:
    """Return values (H, W) around mid-grey (H, W, 3) uint8: zero is 128, +most white, -most black."""
    most = most or float(np.abs(values).max()) or 1.0
    scaled = 128 + np.clip(values / most, -1, 1) * 127
    return np.repeat(scaled.round().astype(np.uint8)[..., None], 3, axis=2)


def heat(values: np.ndarray, most: float | None = None) -> np.ndarray:
    """Return values (H, W) from 0 to `most` as colours from dark to bright, (H, W, 3) uint8."""
    most = most or float(values.max()) or 1.0
    return cv2.applyColorMap((np.clip(values / most, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]


def format_number(value: float, digits: int = 2) -> str:
    """Return a number as text, with a typographic minus sign."""
    return f"{value:.{digits}g}".replace("-", "−")


def draw_numbers(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel (h, w) as grey cells (H, W, 3) uint8, up to nine columns with their numbers."""
    longest = max(kernel.shape)
    cell = 46 if longest <= 9 else max(2, 230 // longest)
    picture = np.repeat(np.repeat(signed(kernel), cell, 0), cell, 1)
    if longest > 9:
        return picture
    picture = np.pad(picture, ((0, 1), (0, 1), (0, 0)))
    picture[::cell] = picture[:, ::cell] = FAINT
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for (row, column), value in np.ndenumerate(kernel):
        is_dark = picture[row * cell + cell // 2, column * cell + cell // 2, 0] < 128
        text = format_number(value, 3)
        size = "heading" if len(text) < 5 else "text"
        place = column * cell + (cell - text_width(text, size)) / 2, row * cell + cell / 2 - SIZES[size] * 0.62
        draw.text(place, text, font=_font(size, False), fill=PAPER if is_dark else INK)
    return np.asarray(canvas)


def draw_code(text: str) -> np.ndarray:
    """Return lines of code as a picture (H, W, 3) uint8 in a font of equal widths; long lines are wrapped."""
    lines = [part for line in text.split("\n") for part in _wrap_code(line)]
    font, step = _mono(), 16
    width = round(max(font.getlength(line) for line in lines)) + 20
    canvas = Image.new("RGB", (width, step * len(lines) + 14), CODE)
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((10, 6 + step * number), line, font=font, fill=INK)
    return np.asarray(canvas)


def _wrap_code(line: str) -> list[str]:
    """Return a line in parts of at most CODE_COLUMNS, cut at spaces, the further ones indented more."""
    indent = len(line) - len(line.lstrip()) + 4
    parts = []
    while len(line) > CODE_COLUMNS and (cut := line.rfind(" ", indent, CODE_COLUMNS)) > 0:
        parts.append(line[:cut])
        line = " " * indent + line[cut + 1 :]
    return [*parts, line]


def check_writable(path: Path, suffixes: Sequence[str] = (), overwrite: bool = False) -> None:
    """Raise ParamsError if anything but an earlier picture, and the files written with it, would be replaced."""
    if path.suffix.lower() != ".png":
        raise ParamsError(f"{path} is not the name of a PNG file", f"name it {path.with_suffix('.png').name}")
    for file in (path, *(path.with_suffix(suffix) for suffix in suffixes)):
        if file.is_dir():
            raise ParamsError(f"{file} is a folder", "name a file: --out FILE.png")
        if file.exists() and not overwrite and file.suffix not in _written_suffixes(path):
            raise ParamsError(f"{file} exists and is not an earlier picture of the lab", "--overwrite, or another --out FILE.png")


def _written_suffixes(path: Path) -> tuple[str, ...]:
    """Return the suffixes of the files that were written with an earlier picture; nothing for another file."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            software = str(image.info.get("Software", ""))
    except (OSError, ValueError):
        return ()
    return (path.suffix, *software.split()[2:]) if software.startswith(MARK) else ()


def save(path: Path, picture: np.ndarray, texts: dict[str, str] | None = None) -> None:
    """Write a picture (H, W, 3) uint8 as PNG, and `texts` beside it by suffix, each file at once.

    The picture lists their suffixes, and those of an earlier one whose files are still there, which may be replaced too.
    """
    left = [suffix for suffix in _written_suffixes(path)[1:] if path.with_suffix(suffix).is_file()]
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Software", " ".join(dict.fromkeys([MARK, *(texts or {}), *left])))
    with ExitStack() as stack:
        for suffix, text in (texts or {}).items():
            stack.enter_context(atomic.new_file(path.with_suffix(suffix))).write_text(text, encoding="utf-8")
        Image.fromarray(picture).save(stack.enter_context(atomic.new_file(path)), format="PNG", pnginfo=metadata, optimize=True)
