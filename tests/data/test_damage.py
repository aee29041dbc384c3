"""A thousand damaged files: no crash, no hang, no missing row."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from darkroom.data import ingest as room
from darkroom.data.quarantine_reasons import REASONS
from tests.conftest import SHARED
from tests.data.test_decoding import detailed, encoded
from tests.data.test_ingest import options

COUNT = 1_000  # `benchmarks/fuzz.py image` takes more


def originals() -> list[bytes]:
    """Return small pictures in every format, and the odd ones where they are there."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = detailed(96, 72)
    contents = [encoded(picture, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "SGI", "AVIF")]
    contents += [
        encoded(picture, "JPEG", exif=exif),
        encoded(picture, "JPEG", progressive=True),
        encoded(picture.convert("CMYK"), "JPEG"),
    ]
    contents += [encoded(picture, "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    contents += [encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(9)]), encoded(picture.convert("RGBA"), "PNG")]
    odd = sorted((SHARED / "odd-images").iterdir()) if SHARED.is_dir() else []
    return contents + [path.read_bytes() for path in odd if path.stat().st_size < 40_000]


def mutate(content: bytes, other: bytes, draw: np.random.Generator) -> bytes:
    """Flip bits, cut, insert, repeat, or put another format's header in front."""
    damaged = bytearray(content)
    kind = draw.integers(5)
    if kind == 0:
        for at in draw.integers(0, len(damaged), draw.integers(1, 30)):
            damaged[at] ^= 1 << int(draw.integers(8))
    elif kind == 1:
        del damaged[int(draw.integers(len(damaged))) :]
    elif kind == 2:
        length = int(draw.integers(4, 64))
        damaged[:length] = other[:length]
    elif kind == 3:
        at, length = int(draw.integers(len(damaged))), int(draw.integers(1, 400))
        damaged[at : at + length] = draw.integers(0, 256, int(draw.integers(0, 400)), np.uint8).tobytes()
    else:
        head = min(64, len(damaged))
        for at in draw.integers(0, head, 4):
            damaged[at] = int(draw.integers(256))
    return bytes(damaged)


@pytest.mark.pipeline
def test_damaged_files_are_all_accounted_for(tmp_path):
    """Each has its row, accepted or quarantined with a known reason, and both kinds are there in numbers."""
    draw = np.random.default_rng(0)
    sound = originals()
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
    for i in range(COUNT):
        one, other = (sound[draw.integers(len(sound))] for _ in range(2))
        (tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i}.jpg").write_bytes(mutate(one, other, draw))
    with room.ingest(tmp_path / "photos", options(on_conflict="keep"), cache_folder=tmp_path / "cache") as data:
        assert len(data.rows) == COUNT
        assert {row.reason for row in data.rows} <= {"", *REASONS}
        quarantined = len(data.quarantined())
        assert 0.2 * COUNT < quarantined < 0.9 * COUNT
        assert all(row.slot >= 0 for row in data.rows if row.status == "accepted")
