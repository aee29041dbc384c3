"""One image file to RGB pixels, or a reason why not. The content decides the format, never the file's name.

Every mode that photographs come in becomes 8-bit RGB: EXIF orientation applied, 16-bit values scaled by the bits that
they use, transparency laid on a background, the first frame of an animation.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "SGI", "AVIF")  # JPEG includes MPO
Image.init()  # registers every format, of which Pillow by itself loads a few
MOST_PIXELS = 178_956_970  # Pillow's own limit, checked before anything is decoded

REASONS = {
    "empty": "the file has no bytes",
    "not_an_image": "the content is no image in a format that Darkroom reads",
    "truncated": "the image ends before its last row",
    "corrupt": "the image data cannot be decoded",
    "too_large": f"the header claims more than {MOST_PIXELS:,} pixels",
    "unreadable": "the file cannot be opened",
    "leaves_source": "a link that leads out of the source folder",
    "linked_folder": "a link to a folder, which is not followed",
    "duplicate_across_splits": "the same picture lies in a split that must not share it",
    "label_conflict": "the same picture is filed under several classes",
}


@dataclass(frozen=True)
class Decoded:
    """What became of a file: its header as far as it could be read, and either pixels or a reason."""

    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    reason: str = ""
    detail: str = ""
    pixels: np.ndarray | None = None
    pixel_hash: str = ""  # of the upright RGB image at its full size, whatever size is asked for


def decode(content: bytes, size: int, resize: str, background: tuple[int, int, int]) -> Decoded:
    """Return the image as (size, size, 3) uint8 RGB, or the reason why it is quarantined; never raise for what a file holds.

    `resize` is crop (shortest side to `size`, centre kept), pad (longest side to `size`, rest `background`) or stretch.
    """
    if not content:
        return Decoded(reason="empty")
    known = Decoded()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                known = Decoded(image.format or "", image.mode, image.width, image.height)
                if image.width * image.height > MOST_PIXELS:
                    return replace(known, reason="too_large")
                image.load()
                whole = _rgb(ImageOps.exif_transpose(image), background)
                digest = hashlib.sha256(f"{whole.size}".encode() + whole.tobytes()).hexdigest()
                pixels = np.asarray(fit(whole, size, resize, background))
    except Image.DecompressionBombError:
        return replace(known, reason="too_large")
    except UnidentifiedImageError:
        return replace(known, reason="not_an_image")
    except OSError as error:
        return replace(known, reason="truncated" if "truncat" in str(error).lower() else "corrupt", detail=str(error))
    except MemoryError:
        return replace(known, reason="too_large")
    except Exception as error:  # a decoder fed with damaged bytes may raise anything
        return replace(known, reason="corrupt", detail=f"{type(error).__name__}: {error}")
    return replace(known, pixels=pixels, pixel_hash=digest)


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Return the image in mode RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        if image.mode == "F":
            low, high = float(values.min()), float(values.max())
            values = (values - low) / max(high - low, 1e-12) * 255
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


def fit(image: Image.Image, size: int, resize: str, background: tuple[int, int, int]) -> Image.Image:
    """Return an RGB image of (size, size) pixels."""
    if resize == "stretch":
        return image.resize((size, size), Image.Resampling.BICUBIC)
    if resize == "pad":
        return ImageOps.pad(image, (size, size), Image.Resampling.BICUBIC, color=background)
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
