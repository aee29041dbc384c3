"""One file to pixels, or a reason why not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from darkroom.data.decoding import REASONS, decode

BLACK = (0, 0, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(width=40, height=30) -> Image.Image:
    """Return a picture with a red left half and a blue right one."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_the_content_decides_the_format(kind):
    """A format is recognised by its bytes, and gives the same picture whichever it is."""
    seen = decode(encoded(photo(), kind), 16, "stretch", BLACK)
    assert seen.format == kind
    assert seen.pixels.shape == (16, 16, 3)
    assert seen.pixels[8, 2, 0] > 200
    assert seen.pixels[8, 13, 2] > 200


def test_orientation_is_applied():
    """EXIF orientation 3 turns the picture upside down before it is used."""
    exif = Image.Exif()
    exif[0x0112] = 3
    seen = decode(encoded(photo(), "JPEG", exif=exif), 16, "stretch", BLACK)
    assert seen.pixels[8, 2, 2] > 200


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode):
    """Grey, palette, print colours, bilevel and 16-bit images decode to something neither black nor white all over."""
    image = Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 72) if mode == "I;16" else photo().convert(mode)
    seen = decode(encoded(image, "TIFF"), 16, "stretch", BLACK)
    assert seen.pixels.std() > 20


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_the_background(mode):
    """A fully transparent pixel takes the background's colour, not black."""
    image = Image.new("RGBA", (20, 20), (10, 20, 30, 0)).convert(mode)
    assert (decode(encoded(image), 16, "crop", (200, 150, 100)).pixels == (200, 150, 100)).all()


@pytest.mark.parametrize(("resize", "left"), [("crop", 255), ("pad", 255), ("stretch", 255)])
def test_every_way_to_resize_gives_the_size(resize, left):
    """Crop keeps the centre, pad adds background, stretch distorts; the size is the same."""
    pixels = decode(encoded(photo(80, 30)), 16, resize, (0, 255, 0)).pixels
    assert pixels.shape == (16, 16, 3)
    assert pixels[8, 1, 0] == left
    assert (pixels[0, 8] == (0, 255, 0)).all() == (resize == "pad")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "not_an_image"),
        (encoded(photo(300, 300), "JPEG")[:400], "truncated"),
        (encoded(photo())[:-30], "truncated"),
    ],
)
def test_what_cannot_be_used_has_a_reason(content, reason):
    """Damaged files are told apart, and none of them becomes a picture."""
    seen = decode(content, 16, "crop", BLACK)
    assert seen.pixels is None
    assert seen.reason == reason
    assert seen.reason in REASONS


def test_random_damage_never_raises():
    """Whatever bytes a file holds, decoding gives pixels or a known reason."""
    rng = np.random.default_rng(0)
    originals = [encoded(photo(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    for i in range(300):
        content = bytearray(originals[i % len(originals)])
        for _ in range(rng.integers(1, 20)):
            content[rng.integers(len(content))] = rng.integers(256)
        seen = decode(bytes(content[: rng.integers(1, len(content) + 1)]), 16, "crop", BLACK)
        assert (seen.pixels is None) == bool(seen.reason)
        assert seen.reason in ("", *REASONS)


ODD = {
    "truncated_jpeg.jpg": "truncated",
    "truncated_image.png": "truncated",
    "broken_data_stream.png": "corrupt",
    "broken.png": "not_an_image",
    "decompression_bomb.gif": "too_large",
}


def test_odd_images_have_the_expected_outcome(shared):
    """Thirty odd files: five cannot be used, each for its own reason; all others become pictures."""
    for path in sorted((shared / "odd-images").iterdir()):
        seen = decode(path.read_bytes(), 64, "crop", (255, 255, 255))
        assert seen.reason == ODD.get(path.name, ""), path.name
        if seen.pixels is not None:
            assert seen.pixels.std() > 1, path.name  # the darkest, 12bit.cropped.tif, has 2.3
