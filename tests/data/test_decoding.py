"""One file to pixels, or a reason why not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from darkroom.data import decoding
from darkroom.data.decoding import decode, decode_leniently, fit
from darkroom.data.quarantine_reasons import REASONS

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
    decoded = decode(encoded(photo(), kind), 16, "stretch", BLACK)
    assert decoded.format == kind
    assert decoded.pixels.shape == (16, 16, 3)
    assert decoded.pixels[8, 2, 0] > 200
    assert decoded.pixels[8, 13, 2] > 200


def test_orientation_is_applied():
    """EXIF orientation 3 turns the picture upside down before it is used."""
    exif = Image.Exif()
    exif[0x0112] = 3
    decoded = decode(encoded(photo(), "JPEG", exif=exif), 16, "stretch", BLACK)
    assert decoded.pixels[8, 2, 2] > 200


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(mode):
    """Grey, palette, print colours, bilevel and 16-bit images decode to something neither black nor white all
    over.
    """
    image = Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 72) if mode == "I;16" else photo().convert(mode)
    decoded = decode(encoded(image, "TIFF"), 16, "stretch", BLACK)
    assert decoded.pixels.std() > 20


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
    decoded = decode(content, 16, "crop", BLACK)
    assert decoded.pixels is None
    assert decoded.reason == reason
    assert decoded.reason in REASONS


def test_random_damage_never_raises():
    """Whatever bytes a file holds, decoding gives pixels or a known reason."""
    rng = np.random.default_rng(0)
    originals = [encoded(photo(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    for i in range(300):
        content = bytearray(originals[i % len(originals)])
        for _ in range(rng.integers(1, 20)):
            content[rng.integers(len(content))] = rng.integers(256)
        decoded = decode(bytes(content[: rng.integers(1, len(content) + 1)]), 16, "crop", BLACK)
        assert (decoded.pixels is None) == bool(decoded.reason)
        assert decoded.reason in ("", *REASONS)


def test_every_reason_has_a_remedy():
    """What can be wrong with a file is explained, and so is what to do."""
    assert all(reason.meaning and reason.remedy for reason in REASONS.values())


ODD = [  # file, reason, format, mode, frames, flags: what Pillow says of them stands in the data's own README
    ("12bit.cropped.tif", "", "TIFF", "I;16", 1, ""),
    ("16_bit_binary.pgm", "", "PPM", "I", 1, ""),
    ("16bit.cropped.tif", "", "TIFF", "I;16", 1, ""),
    ("1_trns.png", "", "PNG", "1", 1, "transparent"),
    ("apng-delay.png", "", "PNG", "RGBA", 5, "animated transparent"),
    ("apng-mode_16bit.png", "", "PNG", "RGBA", 3, "animated transparent"),
    ("broken.png", "not_an_image", "", "", 1, ""),
    ("broken_data_stream.png", "corrupt", "PNG", "RGB", 1, ""),
    ("decompression_bomb.gif", "too_large", "", "", 1, ""),
    ("exif_typeerror.jpg", "", "JPEG", "RGB", 1, ""),
    ("frozenpond.mpo", "", "MPO", "RGB", 2, ""),
    ("hopper.bw", "", "SGI", "L", 1, ""),
    ("hopper.webp", "", "WEBP", "RGB", 1, ""),
    ("hopper_bad_exif.jpg", "", "JPEG", "L", 1, "damaged"),  # its lines are scrambled
    ("hopper_gray.jpg", "", "JPEG", "L", 1, ""),
    ("hopper_orientation_3.jpg", "", "JPEG", "RGB", 1, "rotated"),
    ("hopper_orientation_6.jpg", "", "JPEG", "RGB", 1, "rotated"),
    ("hopper_orientation_8.jpg", "", "JPEG", "RGB", 1, "rotated"),
    ("i_trns.png", "", "PNG", "I;16", 1, "transparent"),
    ("iss634.gif", "", "GIF", "P", 42, "animated"),
    ("junk_jpeg_header.jpg", "", "JPEG", "RGB", 1, "damaged"),
    ("l_trns.png", "", "PNG", "L", 1, "transparent"),
    ("p_trns_single.png", "", "PNG", "P", 1, "transparent"),
    ("pil_sample_cmyk.jpg", "", "JPEG", "CMYK", 1, ""),
    ("rgb.jpg", "", "JPEG", "RGB", 1, ""),
    ("transparent.gif", "", "GIF", "P", 1, "transparent"),
    ("transparent.png", "", "PNG", "RGBA", 1, "transparent"),
    ("truncated_image.png", "truncated", "PNG", "RGB", 1, ""),
    ("truncated_jpeg.jpg", "", "JPEG", "RGB", 1, ""),  # its last byte is missing, which is half of the end marker
    ("uncompressed_la.png", "", "PNG", "LA", 1, "transparent"),
]


@pytest.mark.parametrize(("name", "reason", "kind", "mode", "frames", "flags"), ODD)
def test_odd_images_have_the_outcome_a_careful_person_expects(shared, name, reason, kind, mode, frames, flags):
    """Thirty odd files: four cannot be used, each for its own reason.

    All others become pictures that show something.
    """
    decoded = decode((shared / "odd-images" / name).read_bytes(), 64, "crop", (255, 255, 255))
    assert (decoded.reason, decoded.format, decoded.mode, decoded.frames, " ".join(decoded.flags)) == (
        reason,
        kind,
        mode,
        frames,
        flags,
    )
    assert (decoded.pixels is None) == bool(reason)
    if decoded.pixels is not None:
        assert decoded.pixels.std() > 1  # the darkest, 12bit.cropped.tif, has 2.3


def test_the_table_of_odd_images_is_complete(shared):
    """Every odd file has its line."""
    assert {path.name for path in (shared / "odd-images").iterdir()} == {line[0] for line in ODD}


def test_upright_pictures_agree(shared):
    """The three hoppers that EXIF turns are the same picture once they are upright."""
    three = [decode((shared / "odd-images" / f"hopper_orientation_{n}.jpg").read_bytes(), 64, "crop", BLACK) for n in (3, 6, 8)]
    for other in three[1:]:
        assert np.abs(other.pixels.astype(int) - three[0].pixels.astype(int)).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_pillows(orientation):
    """All eight EXIF orientations turn the picture as Pillow's own exif_transpose does."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo(40, 24), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert (decode(content, 16, "crop", BLACK).upright == expected).all()


def detailed(width: int, height: int) -> Image.Image:
    """Return a picture with something in it at every scale."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    fine = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8))


def test_a_jpeg_decodes_to_what_pillow_makes_of_it():
    """The fast way to decode gives Pillow's own pixels, grey and in colour, with and without EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 1
    for image in (detailed(200, 150), detailed(200, 150).convert("L")):
        for options in ({}, {"exif": exif}, {"progressive": True}):
            content = encoded(image, "JPEG", quality=90, **options)
            expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            assert (decode(content, 64, "crop", BLACK).upright == expected).all()


@pytest.fixture(scope="module")
def large_jpeg() -> bytes:
    return encoded(detailed(2400, 1600), "JPEG", quality=92)


@pytest.mark.parametrize("size", [32, 224, 384, 700])
def test_a_large_jpeg_is_scaled_while_it_is_decoded(size, large_jpeg):
    """Whatever size is asked for, the picture is that of the whole decoded, within rounding, and its hash is
    one and the same.
    """
    content = large_jpeg
    decoded = decode(content, size, "stretch", BLACK)
    assert decoded.upright.shape == (400, 600, 3)  # a quarter: an eighth would have less than 256
    assert decoded.pixel_hash == decode(content, 16, "pad", (1, 2, 3)).pixel_hash
    reference = Image.open(io.BytesIO(content)).convert("RGB").resize((size, size), Image.Resampling.BOX)
    assert np.abs(decoded.pixels.astype(int) - np.asarray(reference).astype(int)).mean() < 6


def test_the_limit_of_pixels_is_checked_before_decoding(monkeypatch):
    """A picture with more pixels than allowed is quarantined without being decoded."""
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("it was decoded"))
    for kind in ("PNG", "JPEG", "WEBP"):
        stream = encoded_before[kind]
        assert decode(stream, 16, "crop", BLACK).reason == "too_large"


encoded_before = {kind: encoded(photo(60, 60), kind) for kind in ("PNG", "JPEG", "WEBP")}


def test_a_jpeg_that_would_take_minutes_is_quarantined():
    """A progressive JPEG whose last scan is repeated hundreds of times is told by its scans, not decoded."""
    content = encoded(detailed(300, 300), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    assert decode(content, 16, "crop", BLACK).reason == ""
    assert decode(content[:-2] + content[last:-2] * 300 + b"\xff\xd9", 16, "crop", BLACK).reason == "too_many_scans"


@pytest.mark.parametrize(("bad", "reason"), [(1, ""), (2000, "corrupt")])
def test_pixels_that_are_no_numbers(bad, reason):
    """One among thousands changes nothing else; many make the picture unusable."""
    values = np.linspace(0, 5, 6400, dtype=np.float32).reshape(80, 80)
    values.reshape(-1)[:bad] = np.nan
    decoded = decode(encoded(Image.fromarray(values), "TIFF"), 80, "crop", BLACK)
    assert decoded.reason == reason
    if not reason:
        assert decoded.pixels[79, 79, 0] == 255
        assert decoded.pixels.mean() > 120


def test_a_picture_below_the_least_size_is_quarantined():
    """The shorter side counts."""
    assert decode(encoded(photo(40, 7)), 16, "crop", BLACK, min_size=8).reason == "too_small"
    assert decode(encoded(photo(40, 8)), 16, "crop", BLACK, min_size=8).reason == ""


def test_what_is_left_of_a_damaged_file_can_be_shown():
    """A truncated JPEG can be shown in part, something that is no image cannot."""
    assert decode_leniently(encoded(detailed(300, 300), "JPEG")[:9000]).shape[2] == 3
    assert decode_leniently(b"nothing") is None


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(15, 400), (400, 15), (100, 100), (16, 16), (5, 9)])
def test_any_shape_fits(resize, shape):
    """Long, tall, small and equal pictures all come out at the size asked for."""
    picture = np.full((*shape, 3), 77, np.uint8)
    fitted = fit(picture, 16, resize, (77, 77, 77))
    assert fitted.shape == (16, 16, 3)
    assert (fitted == 77).all()
