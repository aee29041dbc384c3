"""One image to RGB pixels, or a reason why not. The content decides the format, never the file's name.

Every mode that photographs come in becomes 8-bit RGB: EXIF orientation applied, 16-bit values scaled by the bits that
they use, transparency laid on a background, the first frame of an animation. A large JPEG is decoded at the smallest of
its own scales (1/2, 1/4, 1/8) that still has what is asked for, by libjpeg-turbo, which also tells where data are damaged.
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

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "SGI", "AVIF")  # JPEG includes MPO
Image.init()  # registers every format, of which Pillow by itself loads a few
warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd headers; a filter per call is not safe where threads decode
cv2.setNumThreads(1)  # images are decoded side by side already
MOST_PIXELS = 178_956_970  # Pillow's own limit, checked before anything is decoded
MOST_SCANS = 100  # of a progressive JPEG, which has about ten
CANONICAL = 256  # a JPEG is scaled down to no less than this many pixels a side, whatever size is asked for


@dataclass(frozen=True)
class Decoded:
    """What became of an image: its header as far as it could be read, and either pixels or a reason.

    `whole` is the upright picture, (H, W, 3) uint8 RGB; a large JPEG is scaled down there, to no less than CANONICAL pixels a
    side. `pixel_hash` identifies it and does not depend on the size asked for.
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
    whole: np.ndarray | None = None


def decode(content: bytes, size: int, resize: str, background: tuple[int, int, int], min_size: int = 1) -> Decoded:
    """Return the image as (size, size, 3) uint8 RGB, or the reason why it is quarantined; never raise for what a file holds.

    `resize` is crop (shortest side to `size`, centre kept), pad (longest side to `size`, rest `background`) or stretch.
    """
    if not content:
        return Decoded(reason="empty")
    if content.startswith(b"\xff\xd8") and content.count(b"\xff\xda") > MOST_SCANS:
        return Decoded("JPEG", reason="too_many_scans")
    plain = _plain_jpeg(content, size, min_size)
    if plain is not None:
        header, whole, larger = plain
        return replace(header, pixels=fit(larger, size, resize, background), pixel_hash=pixel_hash(whole), whole=whole)
    known = Decoded()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            known = Decoded(image.format or "", image.mode, image.width, image.height)
            if image.width * image.height > MOST_PIXELS:
                return replace(known, reason="too_large")
            if min(image.size) < min_size:
                return replace(known, reason="too_small", detail=f"{image.width}×{image.height}")
            known = replace(known, frames=_frames(image))
            whole, flags, complaint = _whole(content, image, CANONICAL, background)
            moving = ("animated",) if known.frames > 1 and image.format not in ("MPO", "TIFF") else ()
            known = replace(known, flags=moving + flags, detail=complaint)
            larger = whole
            if min(whole.shape[:2]) < min(size, *image.size):  # scaled down further than this size allows
                larger = _whole(content, image, size, background)[0]
    except Image.DecompressionBombError:
        return replace(known, reason="too_large")
    except UnidentifiedImageError:
        return replace(known, reason="not_an_image")
    except OSError as error:
        return replace(known, reason="truncated" if "truncat" in str(error).lower() else "corrupt", detail=str(error))
    except MemoryError:
        return replace(known, reason="too_large", detail="not enough memory")
    except Exception as error:  # a decoder fed with damaged bytes may raise anything
        return replace(known, reason="corrupt", detail=f"{type(error).__name__}: {error}")
    return replace(known, pixels=fit(larger, size, resize, background), pixel_hash=pixel_hash(whole), whole=whole)


def _plain_jpeg(content: bytes, size: int, min_size: int) -> tuple[Decoded, np.ndarray, np.ndarray] | None:
    """Return the header, the picture, and the picture where it has `size` pixels a side, of a JPEG as most are.

    That is one without EXIF or further pictures, grey or YCbCr, undamaged, within the limits; None for all others, which
    Pillow looks at.
    """
    if not content.startswith(b"\xff\xd8\xff") or b"Exif\0" in content or b"MPF\0" in content:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or min(width, height) < min_size or width * height > MOST_PIXELS:
            return None
        whole = _scaled_jpeg(content, width, height, CANONICAL)
        larger = whole if min(whole.shape[:2]) >= min(size, width, height) else _scaled_jpeg(content, width, height, size)
    except (ValueError, MemoryError):
        return None
    return Decoded("JPEG", "L" if colours == "Gray" else "RGB", width, height), whole, larger


def _scaled_jpeg(content: bytes, width: int, height: int, needed: int) -> np.ndarray:
    """Return the pixels of a JPEG at the smallest of its scales that has `needed` pixels a side, or its own size.

    Raises ValueError where libjpeg has anything to complain about.
    """
    scale = next((n for n in (8, 4, 2) if min(width, height) // n >= needed), 1)
    smaller = {"min_width": -(-width // scale), "min_height": -(-height // scale)} if scale > 1 else {}
    return simplejpeg.decode_jpeg(content, "RGB", strict=True, **smaller)


def from_array(array: np.ndarray, size: int, resize: str, background: tuple[int, int, int], min_size: int = 1) -> Decoded:
    """Return an image that is an array already: (H, W) or (H, W, 1, 3 or 4), uint8."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    known = Decoded("ARRAY", {1: "L", 3: "RGB", 4: "RGBA"}[channels], width, height)
    if min(width, height) < min_size:
        return replace(known, reason="too_small", detail=f"{width}×{height}")
    whole = np.ascontiguousarray(array)
    if channels == 1:
        whole = np.repeat(whole.reshape(height, width, 1), 3, axis=2)
    elif channels == 4:
        whole = np.asarray(_rgb(Image.fromarray(whole), background))
        known = replace(known, flags=("transparent",))
    return replace(known, pixels=fit(whole, size, resize, background), pixel_hash=pixel_hash(whole), whole=whole)


def glimpse(content: bytes) -> np.ndarray | None:
    """Return what can be shown of a damaged image, (H, W, 3) uint8, or None. Not for several threads at once."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.draft("RGB", (CANONICAL, CANONICAL))
            return np.asarray(image.convert("RGB"))
    except Exception:  # a decoder fed with damaged bytes may raise anything
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def pixel_hash(whole: np.ndarray) -> str:
    """Return what identifies the pixels of an RGB image, in hexadecimal digits.

    That is SHA-256 below 64 pixels a side, where groups and splits rest on it alone and it costs nothing, and 128 bits of XXH3
    above, where SHA-256 would take almost as long as decoding.
    """
    height, width = whole.shape[:2]
    pixels = np.ascontiguousarray(whole).data
    digest = hashlib.sha256() if min(width, height) < 64 else xxhash.xxh3_128()
    digest.update(f"({width}, {height})".encode())
    digest.update(pixels)
    return digest.hexdigest()


def _whole(
    content: bytes, image: Image.Image, needed: int, background: tuple[int, int, int]
) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Return the upright RGB picture, where a JPEG has it with no less than `needed` pixels a side, its flags and a complaint."""
    orientation = image.getexif().get(ORIENTATION, 1)
    flags = ["rotated"] if orientation in _TURNS else []
    complaint = ""
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        try:
            whole = _scaled_jpeg(content, image.width, image.height, needed)
            return upright(whole, orientation), tuple(flags), ""
        except ValueError as error:  # libjpeg warns: Pillow decides whether enough of it is there
            complaint = str(error)
            flags.append("damaged")
    image.load()
    if complaint.startswith("Premature end"):
        raise OSError(f"truncated: {complaint}")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        flags.append("transparent")
    orientation = image.getexif().get(ORIENTATION, 1)  # a TIFF is upright once it is loaded
    return upright(np.asarray(_rgb(image, background)), orientation), tuple(flags), complaint


def _frames(image: Image.Image) -> int:
    """Return the number of frames, or 1 where what follows the first cannot be read."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged second frame may raise anything
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


def upright(whole: np.ndarray, orientation: object) -> np.ndarray:
    """Return the pixels (H, W, C) turned as EXIF's orientation, 1 to 8, says; another value turns nothing."""
    turn = _TURNS.get(orientation)
    return np.ascontiguousarray(turn(whole)) if turn else whole


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Return the image in mode RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        sound = np.isfinite(values)
        if sound.mean() < 0.99:
            raise OSError("more than a hundredth of the pixels are no numbers")
        low, high = float(values[sound].min()), float(values[sound].max())
        if image.mode == "F" or low < 0:
            values = (np.clip(np.where(sound, values, low), low, high) - low) / max(high - low, 1e-12) * 255
        else:
            bits = max(8, int(values.max()).bit_length())  # 10, 12 and 14 bits are commonly kept in 16
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
    """Return an RGB image (H, W, 3) uint8 as (size, size, 3): see `shrink`; bicubic where it grows."""
    height, width = whole.shape[:2]
    if resize == "stretch":
        return _scaled(whole, size, size)
    if resize == "pad":
        factor = size / max(width, height)
        inner = _scaled(whole, max(1, round(width * factor)), max(1, round(height * factor)))
        made = np.empty((size, size, 3), np.uint8)
        made[:] = background
        top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
        made[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return made
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
    """Return a smaller image: blocks averaged down to at most twice the size, then bilinear, where no pixel is skipped.

    Between one and two source pixels per target, bilinear interpolation weighs all of them; at two it is the block's mean.
    This takes a third of the time of averaging areas with fractional borders.
    """
    across, down = -(-image.shape[1] // (2 * width)), -(-image.shape[0] // (2 * height))
    if across > 1 or down > 1:
        inner_width, inner_height = image.shape[1] // across, image.shape[0] // down
        left, top = (image.shape[1] - inner_width * across) // 2, (image.shape[0] - inner_height * down) // 2
        inner = image[top : top + inner_height * down, left : left + inner_width * across]
        image = cv2.resize(inner, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
