"""Decodes one image to RGB pixels, or gives the reason why it cannot.

The content decides the format, never the file's name.

Every mode becomes 8-bit RGB: EXIF orientation is applied, deeper values are scaled by their percentiles
(`deep_pixels`), transparency is laid on a background, and of an animation the first frame is used. A large
JPEG is decoded at the smallest of its own scales (1/2, 1/4, 1/8) that has the requested size, by
libjpeg-turbo, which also reports damaged data. What follows a JPEG's end is none of it (`jpeg_markers`).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import simplejpeg
import xxhash
from PIL import Image, ImageFile, UnidentifiedImageError

from darkroom.data import deep_pixels, heif, jpeg_markers, upright
from darkroom.data.jpeg_markers import Layout
from darkroom.data.memory_budget import LACKS_MEMORY, bytes_a_pixel, bytes_of_jpeg
from darkroom.data.resizing import fit

Colour = tuple[int, int, int]
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "SGI", "AVIF", *heif.FORMATS)  # JPEG includes MPO
Image.init()  # registers all formats; by itself Pillow loads a few
warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd headers; a filter per call is not thread-safe
MAX_PIXELS = 178_956_970  # Pillow's own limit, checked before decoding
MAX_SIDE = 65_535  # of a JPEG
MAX_PIXEL_BYTES = 12  # of the permitted pixels on average, while a picture is decoded; fixed: a data set depends on no machine
ASKS_TOO_MUCH = "it asks for more memory than its size explains"  # detail of a file that is taken for damaged
MAX_SCANS = 100  # of a progressive JPEG, which has about ten
CANONICAL = 256  # pixels a side below which no JPEG is scaled while it is decoded, whatever the requested size


@dataclass(frozen=True)
class Decoded:
    """The header of an image as far as it could be read, and either pixels or the reason for its quarantine.

    `upright` is the upright picture, (H, W, 3) uint8 RGB; a large JPEG is scaled down to no less than
    CANONICAL pixels a side. `pixel_hash` identifies it and does not depend on the requested size.
    """

    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    frames: int = 1
    flags: tuple[str, ...] = ()  # animated, rotated, transparent, damaged
    reason: str = ""
    detail: str = ""
    pixels: np.ndarray | None = None
    pixel_hash: str = ""
    upright: np.ndarray | None = None


def decode(
    content: bytes,
    size: int,
    resize: str,
    background: Colour,
    min_size: int = 1,
    reserve: Callable[[int], object] = lambda _: None,
    max_pixels: int | None = None,
) -> Decoded:
    """Return the image as (size, size, 3) uint8 RGB, or the reason for its quarantine.

    `resize` is crop (shortest side to `size`, centre kept), pad (longest side to `size`, rest `background`)
    or stretch. An image has at most `max_pixels`, by default MAX_PIXELS, at most MAX_SIDE a side, and takes at most
    MAX_PIXEL_BYTES for each of the `max_pixels` while it is decoded. `reserve` is called with these bytes before they are
    taken, and again where another decoder tries; it may wait until there is memory. No content raises; MemoryError where
    the machine lacks memory for a picture within the limits.
    """
    if not content:
        return Decoded(reason="empty")
    jpeg = jpeg_markers.walk(content, MAX_SCANS) if content.startswith(b"\xff\xd8") else None
    if (jpeg.scans if jpeg else content.startswith(b"\xff\xd8") and content.count(b"\xff\xda")) > MAX_SCANS:
        return Decoded("JPEG", reason="too_many_scans")
    if jpeg:  # what follows its end is none of it; where the end is cut off, it is put there
        content = content[: jpeg.end] if jpeg.has_end else content[: jpeg.end] + jpeg_markers.END
    try:
        options = _Options(size, background, min_size, max_pixels or MAX_PIXELS, reserve)
        plain = _plain_jpeg(content, jpeg, options) if jpeg else None
        header, picture, larger = plain or _any_format(content, jpeg, options)
    except _RefusedError as refused:
        return refused.header
    return replace(header, pixels=fit(larger, size, resize, background), pixel_hash=pixel_hash(picture), upright=picture)


class _RefusedError(Exception):
    """An image cannot be used; `header` has the reason."""

    def __init__(self, header: Decoded, reason: str, detail: str = "") -> None:
        self.header = replace(header, reason=reason, detail=detail)


class _Options(NamedTuple):
    """Arguments of `decode`."""

    size: int
    background: Colour
    min_size: int
    max_pixels: int
    reserve: Callable[[int], object]


Pictures = tuple[Decoded, np.ndarray, np.ndarray]  # a header, the upright picture, and one with `size` pixels a side


def _any_format(content: bytes, jpeg: Layout | None, options: _Options) -> Pictures:
    """Return the header of an image of any format and its picture at two scales; raises _RefusedError."""
    header = Decoded()
    try:
        with _open(content) as image:
            header = Decoded(image.format or "", image.mode, image.width, image.height)
            if _is_too_large(image, content, options.max_pixels):
                raise _RefusedError(header, "too_large", f"{image.width}×{image.height}")
            if min(image.size) < options.min_size:
                raise _RefusedError(header, "too_small", f"{image.width}×{image.height}")
            header = replace(header, frames=_frames(image, _bytes_needed(content, header)))
            picture, flags, warning = _decode_upright(content, image, jpeg, CANONICAL, options)
            animated = ("animated",) if header.frames > 1 and image.format not in ("MPO", "TIFF") else ()
            header = replace(header, flags=animated + flags, detail=warning)
            larger = picture
            if min(picture.shape[:2]) < min(options.size, *image.size):  # scaled down too far for this size
                larger = _decode_upright(content, image, jpeg, options.size, options)[0]
            return header, picture, larger
    except _RefusedError:
        raise
    except Image.DecompressionBombError as error:
        raise _RefusedError(header, "too_large") from error
    except UnidentifiedImageError as error:
        raise _RefusedError(header, "not_an_image") from error
    except Exception as error:  # decoders raise anything for damaged bytes
        if _lacks_memory(error):  # also of a damaged file that asks for more than its header says
            _check_memory(_bytes_needed(content, header))
            raise _RefusedError(header, "corrupt", ASKS_TOO_MUCH) from error
        if isinstance(error, OSError):
            raise _RefusedError(header, "truncated" if "truncat" in str(error).lower() else "corrupt", str(error)) from error
        raise _RefusedError(header, "corrupt", f"{type(error).__name__}: {error}") from error


def _lacks_memory(error: Exception) -> bool:
    """Return whether a decoder lacked memory: Pillow may say so by an OSError, libjpeg by a ValueError, OpenCV by its own error."""
    return isinstance(error, MemoryError) or LACKS_MEMORY.search(str(error)) is not None


def _bytes_needed(content: bytes, header: Decoded | Image.Image) -> int:
    """Return the bytes that the whole picture takes while Pillow or OpenCV decodes it."""
    pixel = bytes_a_pixel(header.format or "", header.mode, deep_pixels.has_deep_colours(content))
    return pixel * header.width * header.height


def _is_too_large(image: Image.Image, content: bytes, max_pixels: int) -> bool:
    is_costly = _bytes_needed(content, image) > MAX_PIXEL_BYTES * max_pixels
    return image.width * image.height > max_pixels or max(image.size) > MAX_SIDE or is_costly


def _check_memory(needed: int) -> None:
    """Raise MemoryError where the machine does not give so many bytes, and a few for the program itself."""
    np.empty(needed + 2**24, np.uint8)


def _open(content: bytes) -> Image.Image:
    """Open an image; one that OpenCV alone reads is an image without pixels."""
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        size = deep_pixels.float_tiff_size(content)
        if size is None:
            raise
        return _FloatTiff(size)


class _FloatTiff(Image.Image):
    """The header of a TIFF of floating-point colours, which Pillow does not open."""

    format = "TIFF"

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self._size, self._mode = size, deep_pixels.FLOAT_MODE

    def load(self) -> None:
        raise OSError("the floating-point TIFF cannot be decoded")


def _plain_jpeg(content: bytes, jpeg: Layout, options: _Options) -> Pictures | None:
    """Return the header of an ordinary JPEG and its picture at two scales.

    An ordinary JPEG is grey or YCbCr, undamaged, within the limits, without EXIF and without further
    pictures. Others give None: Pillow decodes them.
    """
    is_extended = content.find(b"Exif\0", 0, jpeg.first_scan) >= 0 or content.find(b"MPF\0", 0, jpeg.first_scan) >= 0
    if not content.startswith(b"\xff\xd8\xff") or not jpeg.has_end or is_extended:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or min(width, height) < options.min_size or width * height > options.max_pixels:
            return None
        options.reserve(bytes_of_jpeg(width, height, _scale(width, height, CANONICAL), jpeg.scans > 1))
        picture = _scaled_jpeg(content, width, height, CANONICAL)
        is_large_enough = min(picture.shape[:2]) >= min(options.size, width, height)
        larger = picture if is_large_enough else _scaled_jpeg(content, width, height, options.size)
    except (ValueError, MemoryError):
        return None
    return Decoded("JPEG", "L" if colours == "Gray" else "RGB", width, height), picture, larger


def _scaled_jpeg(content: bytes, width: int, height: int, needed: int, strict: bool = True) -> np.ndarray:
    """Return a JPEG at its smallest scale with `needed` pixels a side; ValueError where libjpeg warns."""
    scale = _scale(width, height, needed)
    smaller = {"min_width": -(-width // scale), "min_height": -(-height // scale)} if scale > 1 else {}
    return simplejpeg.decode_jpeg(content, "RGB", strict=strict, **smaller)


def _scale(width: int, height: int, needed: int) -> int:
    return next((n for n in (8, 4, 2) if min(width, height) // n >= needed), 1)


def from_array(
    array: np.ndarray,
    size: int,
    resize: str,
    background: Colour,
    min_size: int = 1,
    reserve: Callable[[int], object] = lambda _: None,
) -> Decoded:
    """Return what `decode` returns for an array, (H, W) or (H, W, 1, 3 or 4) uint8; `reserve` as there."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    header = Decoded("ARRAY", {1: "L", 3: "RGB", 4: "RGBA"}[channels], width, height)
    if min(width, height) < min_size:
        return replace(header, reason="too_small", detail=f"{width}×{height}")
    reserve(3 * width * height)
    picture = np.ascontiguousarray(array)
    if channels == 1:
        picture = np.repeat(picture.reshape(height, width, 1), 3, axis=2)
    elif channels == 4:
        picture = np.asarray(upright.rgb(Image.fromarray(picture), background))
        header = replace(header, flags=("transparent",))
    return replace(header, pixels=fit(picture, size, resize, background), pixel_hash=pixel_hash(picture), upright=picture)


def decode_leniently(content: bytes) -> np.ndarray | None:
    """Return as much of a damaged image as can be shown, (H, W, 3) uint8, or None. Not thread-safe.

    Raises MemoryError where the machine lacks memory for a picture of its size.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    needed = 0
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            needed = _bytes_needed(content, image)
            image.draft("RGB", (CANONICAL, CANONICAL))
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # decoders raise anything for damaged bytes
        if _lacks_memory(error):
            _check_memory(needed)
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def pixel_hash(picture: np.ndarray) -> str:
    """Return the digest of the pixels of an RGB image, in hexadecimal digits.

    Below 64 pixels a side it is SHA-256, since groups and splits rest on it alone; above it is 128 bits of
    XXH3, since SHA-256 would take almost as long as decoding.
    """
    height, width = picture.shape[:2]
    pixels = np.ascontiguousarray(picture).data
    digest = hashlib.sha256() if min(width, height) < 64 else xxhash.xxh3_128()
    digest.update(f"({width}, {height})".encode())
    digest.update(pixels)
    return digest.hexdigest()


def _decode_upright(
    content: bytes, image: Image.Image, jpeg: Layout | None, needed: int, options: _Options
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Return the upright RGB picture, a JPEG of at least `needed` pixels a side, its flags and a warning."""
    orientation = image.getexif().get(upright.ORIENTATION, 1)
    flags = ["rotated"] if orientation in upright.TURNS else []
    warning = ""
    is_cut = jpeg is not None and not jpeg.has_end
    if jpeg and is_cut and not jpeg.has_all_scans:
        raise OSError("truncated: scans are missing")
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        options.reserve(bytes_of_jpeg(*image.size, _scale(*image.size, needed), jpeg is not None and jpeg.scans > 1))
        try:
            picture = _scaled_jpeg(content, image.width, image.height, needed)
            return upright.turn_upright(picture, orientation), tuple(flags), ""
        except ValueError as error:  # libjpeg warns: Pillow decides whether enough can be decoded
            if _lacks_memory(error):
                raise MemoryError(str(error)) from error
            warning = str(error)
            flags.append("damaged")
        if jpeg and is_cut:
            picture = _scaled_jpeg(content, image.width, image.height, needed, strict=False)
            if jpeg.lacks_data(picture):
                raise OSError(f"truncated: {warning}")
            return upright.turn_upright(picture, orientation), tuple(flags), warning
    elif is_cut:
        _check_cut(content)
    options.reserve(_bytes_needed(content, image))
    deep = deep_pixels.read_colours(content)
    if deep is None:
        if deep_pixels.has_deep_colours(content):  # OpenCV does not tell damage from too little memory
            _check_memory(_bytes_needed(content, image))
        image.load()
    if warning.startswith("Premature end"):
        raise OSError(f"truncated: {warning}")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        flags.append("transparent")
    is_turned = deep is not None and image.format == "TIFF"  # by OpenCV; Pillow's own are upright once they are loaded
    orientation = 1 if is_turned else image.getexif().get(upright.ORIENTATION, 1)
    return upright.upright_rgb(image if deep is None else deep, orientation, options.background), tuple(flags), warning


def _check_cut(content: bytes) -> None:
    """Raise OSError where a CMYK JPEG, whose end was cut off and put back, lacks data."""
    try:
        simplejpeg.decode_jpeg(content, "CMYK", min_factor=8, strict=True)
    except ValueError as error:
        raise OSError(f"truncated: {error}") from error


def _frames(image: Image.Image, needed: int) -> int:
    """Return the number of frames, or 1 where the second cannot be read; `needed` are the bytes of the first."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception as error:  # decoders raise anything for damaged bytes
        if _lacks_memory(error):
            _check_memory(needed)
        image.seek(0)
        return 1
