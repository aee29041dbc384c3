"""The memory that decoding a picture takes, by format, beside what it reserves of `ingest`'s budget.

    python benchmarks/decoding_memory.py [--width 6000] [--height 4000] [--kinds png_rgb webp …]

Bytes of a pixel at the peak of each decoding, by the process's resident set (Linux). Exit code 1 where one takes more than it has
reserved, but for 16 MB: the decoder's own, and the sample of 16-bit values that is ranked.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from darkroom.data.decoding import decode

SPARE = 16_000_000
TURNED = Image.Exif()
TURNED[0x0112] = 6


def pillow(mode: str, format: str, **options: object) -> Callable[[np.ndarray], bytes]:
    def encode(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        image = Image.fromarray(pixels)
        opaque = image.convert("RGB")
        image = opaque.quantize(64) if mode == "P" else opaque.convert(mode) if mode == "CMYK" else image.convert(mode)
        image.save(stream, format, **options)
        return stream.getvalue()

    return encode


def opencv(channels: int, suffix: str, dtype: type, scale: int) -> Callable[[np.ndarray], bytes]:
    return lambda pixels: cv2.imencode(suffix, pixels[..., :channels].astype(dtype) * scale)[1].tobytes()


KINDS = {
    "png_rgb": pillow("RGB", "PNG", compress_level=1),
    "png_rgb_turned": pillow("RGB", "PNG", compress_level=1, exif=TURNED),
    "png_rgba": pillow("RGBA", "PNG", compress_level=1),
    "png_grey": pillow("L", "PNG", compress_level=1),
    "png_grey_alpha": pillow("LA", "PNG", compress_level=1),
    "png_palette": pillow("P", "PNG", compress_level=1),
    "png_palette_transparent": pillow("P", "PNG", compress_level=1, transparency=3),
    "png_bits": pillow("1", "PNG", compress_level=1),
    "png_16_grey": opencv(1, ".png", np.uint16, 200),
    "png_16_rgb": opencv(3, ".png", np.uint16, 200),
    "png_16_rgba": opencv(4, ".png", np.uint16, 200),
    "webp": pillow("RGB", "WEBP", method=0),
    "webp_lossless": pillow("RGB", "WEBP", method=0, lossless=True),
    "webp_rgba": pillow("RGBA", "WEBP", method=0),
    "avif": pillow("RGB", "AVIF", speed=10),
    "avif_rgba": pillow("RGBA", "AVIF", speed=10),
    "tiff_rgb": pillow("RGB", "TIFF"),
    "tiff_lzw": pillow("RGB", "TIFF", compression="tiff_lzw"),
    "tiff_rgba": pillow("RGBA", "TIFF"),
    "tiff_cmyk": pillow("CMYK", "TIFF"),
    "tiff_16_rgb": opencv(3, ".tiff", np.uint16, 200),
    "tiff_16_rgba": opencv(4, ".tiff", np.uint16, 200),
    "tiff_float": opencv(1, ".tiff", np.float32, 1),
    "tiff_float_rgb": opencv(3, ".tiff", np.float32, 1),
    "tiff_float_rgba": opencv(4, ".tiff", np.float32, 1),
    "gif": pillow("P", "GIF"),
    "jpeg": pillow("RGB", "JPEG"),
    "jpeg_turned": pillow("RGB", "JPEG", exif=TURNED),
    "jpeg_progressive": pillow("RGB", "JPEG", progressive=True, subsampling=0),
    "jpeg_progressive_turned": pillow("RGB", "JPEG", progressive=True, subsampling=0, exif=TURNED),
    "jpeg_cmyk": pillow("CMYK", "JPEG"),
    "bmp": pillow("RGB", "BMP"),
    "ppm": pillow("RGB", "PPM"),
    "sgi": pillow("RGB", "SGI"),
}


def status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def measure(small: Path, picture: Path) -> None:
    """Print, in a process of its own, the bytes that decoding takes at its peak, those that it reserves at most, and seconds."""
    decode(small.read_bytes(), 96, "crop", (0, 0, 0))  # what the decoder itself needs is there
    content, reserved = picture.read_bytes(), [0]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = status("VmRSS"), time.process_time()
    decode(content, 96, "crop", (0, 0, 0), reserve=reserved.append)
    print(status("VmHWM") - before, max(reserved), time.process_time() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--measure", nargs=2, type=Path, metavar=("SMALL", "PICTURE"), help="decode the second file, in this process"
    )
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return 0
    blocks = np.random.default_rng(0).integers(0, 256, (arguments.height // 50, arguments.width // 50, 4), np.uint8)
    pixels = np.asarray(Image.fromarray(blocks).resize((arguments.width, arguments.height), Image.Resampling.BILINEAR))
    area, exceeded = arguments.width * arguments.height, []
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / "small", Path(scratch) / "picture"]
        for kind in arguments.kinds:
            for file, part in zip(files, (pixels[:200, :200].copy(), pixels), strict=True):
                file.write_bytes(KINDS[kind](part))
            command = [sys.executable, __file__, "--measure", *map(str, files)]
            words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            peak, reserved, seconds = map(float, words)
            exceeded += [kind] if peak > reserved + SPARE else []
            print(
                f"{kind:<24} taken {peak / area:5.1f}, reserved {reserved / area:5.1f} bytes a pixel; {seconds:.1f} s", flush=True
            )
    print("more than reserved: " + ", ".join(exceeded) if exceeded else "none takes more than it reserves")
    return bool(exceeded)


if __name__ == "__main__":
    sys.exit(main())
