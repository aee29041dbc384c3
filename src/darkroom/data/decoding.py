"""Decodes one image to RGB pixels, or gives the reason why it cannot.

The content decides the format, never the file's name.

Every mode becomes 8-bit RGB: EXIF orientation is applied, 16-bit values are scaled by the bits that they use,
transparency is laid on a background, and of an animation the first frame is used. A large JPEG is decoded at
the smallest of its own scales (1/2, 1/4, 1/8) that has the requested size, by libjpeg-turbo, which also
reports damaged data.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import simplejpeg
import xxhash
from PIL import Image, ImageFile, UnidentifiedImageError

from darkroom.data import heif

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "SGI", "AVIF", *heif.FORMATS)  # JPEG includes MPO
Image.init()  # registers all formats; by itself Pillow loads a few
warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd headers; a filter per call is not thread-safe
cv2.setNumThreads(1)  # images are decoded by several threads already
MAX_PIXELS = 178_956_970  # Pillow's own limit, checked before decoding
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


def decode(content: bytes, size: int, resize: str, background: tuple[int, int, int], min_size: int = 1) -> Decoded:
    """Return the image as (size, size, 3) uint8 RGB, or the reason for its quarantine; no content raises.

    `resize` is crop (shortest side to `size`, centre kept), pad (longest side to `size`, rest `background`)
    or stretch.
    """
    if not content:
        return Decoded(reason="empty")
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > MAX_SCANS:
        return Decoded("JPEG", reason="too_many_scans")
    plain = _plain_jpeg(content, size, min_size)
    if plain is not None:
        header, whole, larger = plain
        return replace(header, pixels=fit(larger, size, resize, background), pixel_hash=pixel_hash(whole), upright=whole)
    header = Decoded()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            header = Decoded(image.format or "", image.mode, image.width, image.height)
            if image.width * image.height > MAX_PIXELS:
                return replace(header, reason="too_large")
            if min(image.size) < min_size:
                return replace(header, reason="too_small", detail=f"{image.width}×{image.height}")
            header = replace(header, frames=_frames(image))
            whole, flags, warning = _decode_upright(content, image, CANONICAL, background)
            animated = ("animated",) if header.frames > 1 and image.format not in ("MPO", "TIFF") else ()
            header = replace(header, flags=animated + flags, detail=warning)
            larger = whole
            if min(whole.shape[:2]) < min(size, *image.size):  # scaled down too far for this size
                larger = _decode_upright(content, image, size, background)[0]
    except Image.DecompressionBombError:
        return replace(header, reason="too_large")
    except UnidentifiedImageError:
        return replace(header, reason="not_an_image")
    except OSError as error:
        return replace(header, reason="truncated" if "truncat" in str(error).lower() else "corrupt", detail=str(error))
    except MemoryError:
        return replace(header, reason="too_large", detail="not enough memory")
    except Exception as error:  # decoders raise anything for damaged bytes
        return replace(header, reason="corrupt", detail=f"{type(error).__name__}: {error}")
    return replace(header, pixels=fit(larger, size, resize, background), pixel_hash=pixel_hash(whole), upright=whole)


def _plain_jpeg(content: bytes, size: int, min_size: int) -> tuple[Decoded, np.ndarray, np.ndarray] | None:
    """Return the header of an ordinary JPEG, the picture, and the picture at a scale that has `size` pixels a
    side.

    An ordinary JPEG is grey or YCbCr, undamaged, within the limits, without EXIF and without further
    pictures. Others give None: Pillow decodes them.
    """
    if not content.startswith(b"\xff\xd8\xff") or b"Exif\0" in content or b"MPF\0" in content:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or min(width, height) < min_size or width * height > MAX_PIXELS:
            return None
        whole = _scaled_jpeg(content, width, height, CANONICAL)
        larger = whole if min(whole.shape[:2]) >= min(size, width, height) else _scaled_jpeg(content, width, height, size)
    except (ValueError, MemoryError):
        return None
    return Decoded("JPEG", "L" if colours == "Gray" else "RGB", width, height), whole, larger


def _scaled_jpeg(content: bytes, width: int, height: int, needed: int) -> np.ndarray:
    """Return a JPEG at its smallest scale with `needed` pixels a side; ValueError where libjpeg warns."""
    scale = next((n for n in (8, 4, 2) if min(width, height) // n >= needed), 1)
    smaller = {"min_width": -(-width // scale), "min_height": -(-height // scale)} if scale > 1 else {}
    return simplejpeg.decode_jpeg(content, "RGB", strict=True, **smaller)


def from_array(array: np.ndarray, size: int, resize: str, background: tuple[int, int, int], min_size: int = 1) -> Decoded:
    """Return what `decode` returns for an array, (H, W) or (H, W, 1, 3 or 4) uint8."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    header = Decoded("ARRAY", {1: "L", 3: "RGB", 4: "RGBA"}[channels], width, height)
    if min(width, height) < min_size:
        return replace(header, reason="too_small", detail=f"{width}×{height}")
    whole = np.ascontiguousarray(array)
    if channels == 1:
        whole = np.repeat(whole.reshape(height, width, 1), 3, axis=2)
    elif channels == 4:
        whole = np.asarray(_rgb(Image.fromarray(whole), background))
        header = replace(header, flags=("transparent",))
    return replace(header, pixels=fit(whole, size, resize, background), pixel_hash=pixel_hash(whole), upright=whole)


def decode_leniently(content: bytes) -> np.ndarray | None:
    """Return as much of a damaged image as can be shown, (H, W, 3) uint8, or None. Not thread-safe."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.draft("RGB", (CANONICAL, CANONICAL))
            return np.asarray(image.convert("RGB"))
    except Exception:  # decoders raise anything for damaged bytes
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def pixel_hash(whole: np.ndarray) -> str:
    """Return the digest of the pixels of an RGB image, in hexadecimal digits.

    Below 64 pixels a side it is SHA-256, since groups and splits rest on it alone; above it is 128 bits of
    XXH3, since SHA-256 would take almost as long as decoding.
    """
    height, width = whole.shape[:2]
    pixels = np.ascontiguousarray(whole).data
    digest = hashlib.sha256() if min(width, height) < 64 else xxhash.xxh3_128()
    digest.update(f"({width}, {height})".encode())
    digest.update(pixels)
    return digest.hexdigest()


def _decode_upright(
    content: bytes, image: Image.Image, needed: int, background: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Return the upright RGB picture, a JPEG of at least `needed` pixels a side, its flags and a warning."""
    orientation = image.getexif().get(ORIENTATION, 1)
    flags = ["rotated"] if orientation in _TURNS else []
    warning = ""
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        try:
            whole = _scaled_jpeg(content, image.width, image.height, needed)
            return turn_upright(whole, orientation), tuple(flags), ""
        except ValueError as error:  # libjpeg warns: Pillow decides whether enough can be decoded
            warning = str(error)
            flags.append("damaged")
    image.load()
    if warning.startswith("Premature end"):
        raise OSError(f"truncated: {warning}")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        flags.append("transparent")
    orientation = image.getexif().get(ORIENTATION, 1)  # a TIFF is upright once it is loaded
    return turn_upright(np.asarray(_rgb(image, background)), orientation), tuple(flags), warning


def _frames(image: Image.Image) -> int:
    """Return the number of frames, or 1 where the second cannot be read."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # decoders raise anything for damaged bytes
        image.seek(0)
        return 1


ORIENTATION = 0x0112
_TURNS: dict[object, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def turn_upright(whole: np.ndarray, orientation: object) -> np.ndarray:
    """Return the pixels (H, W, C) turned by EXIF's orientation, 1 to 8; other values turn nothing."""
    turn = _TURNS.get(orientation)
    return np.ascontiguousarray(turn(whole)) if turn else whole


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Return the image in mode RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        finite = np.isfinite(values)
        if finite.mean() < 0.99:
            raise OSError("more than a hundredth of the pixels are NaN or infinite")
        low, high = float(values[finite].min()), float(values[finite].max())
        if image.mode == "F" or low < 0:
            values = (np.clip(np.where(finite, values, low), low, high) - low) / max(high - low, 1e-12) * 255
        else:
            bits = max(8, int(values.max()).bit_length())  # 10, 12 and 14 bits are commonly stored in 16
            values = values / (2**bits - 1) * 255
        grey = np.clip(values.round(), 0, 255).astype(np.uint8)
        pixels = np.repeat(grey[..., None], 3, axis=2)
        if isinstance(image.info.get("transparency"), int):
            pixels[np.asarray(image) == image.info["transparency"]] = background
        return Image.fromarray(pixels)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, (*background, 255))
        canvas.alpha_composite(layer)
        return canvas.convert("RGB")
    return image.convert("RGB")


def fit(whole: np.ndarray, size: int, resize: str, background: tuple[int, int, int]) -> np.ndarray:
    """Return an RGB image (H, W, 3) uint8 as (size, size, 3): see `shrink`; bicubic where it is enlarged."""
    height, width = whole.shape[:2]
    if resize == "stretch":
        return _scaled(whole, size, size)
    if resize == "pad":
        factor = size / max(width, height)
        inner = _scaled(whole, max(1, round(width * factor)), max(1, round(height * factor)))
        canvas = np.empty((size, size, 3), np.uint8)
        canvas[:] = background
        top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
        canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return canvas
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    return _scaled(whole[top : top + side, left : left + side], size, size)


def _scaled(whole: np.ndarray, width: int, height: int) -> np.ndarray:
    if (height, width) == whole.shape[:2]:
        return np.ascontiguousarray(whole)
    if width <= whole.shape[1] and height <= whole.shape[0]:
        return shrink(whole, width, height)
    return np.asarray(Image.fromarray(whole).resize((width, height), Image.Resampling.BICUBIC))


def shrink(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a smaller image: blocks are averaged down to at most twice the size, the rest is bilinear and
    skips no pixel.

    With one to two source pixels per target pixel, bilinear interpolation weighs all of them. This takes a
    third of the time of averaging areas with fractional borders.
    """
    across, down = -(-image.shape[1] // (2 * width)), -(-image.shape[0] // (2 * height))
    if across > 1 or down > 1:
        inner_width, inner_height = image.shape[1] // across, image.shape[0] // down
        left, top = (image.shape[1] - inner_width * across) // 2, (image.shape[0] - inner_height * down) // 2
        inner = image[top : top + inner_height * down, left : left + inner_width * across]
        image = cv2.resize(inner, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
