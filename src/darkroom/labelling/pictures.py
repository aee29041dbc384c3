"""The picture of an image for the page: decoded as ingest does, and written anew as JPEG, so that no file of a stranger's
reaches the browser."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from darkroom.core import machine_limits, user_paths
from darkroom.core.errors import SourceError
from darkroom.data import decoding, sources
from darkroom.data.resizing import shrink
from darkroom.data.source_file import SourceFile
from darkroom.labelling.queues import SOURCE

SIDE = 1024  # pixels of the longer side, at most
SMALL = 256  # pixels of a side below which an image is sent as PNG, unchanged


class Pictures:
    """The images of a source, which is a folder, an archive or arrays, and of an inbox. Close it in the end."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._open = ExitStack()
        self._files: dict[str, SourceFile] = {}
        self._reader: sources.Source | None = None
        self._lock = Lock()

    def close(self) -> None:
        self._open.close()

    def encoded(self, folder: str, path: str) -> tuple[bytes, str]:
        """Return the picture of an image, in the source or in a folder, and its media type.

        Raises SourceError where it cannot be read or decoded.
        """
        content = self._read(folder, path)
        if isinstance(content, np.ndarray):
            decoded = decoding.from_array(np.ascontiguousarray(content), SIDE, "pad", (0, 0, 0))
        else:
            decoded = decoding.decode(content, SIDE, "pad", (0, 0, 0))
        if decoded.pixels is None or decoded.upright is None:
            raise SourceError(f"{path} cannot be shown: {decoded.detail or decoded.reason}", "skip it")
        longest, pixels = max(decoded.width, decoded.height), decoded.upright
        if max(pixels.shape[:2]) < longest:  # a large JPEG, which was scaled while it was decoded
            pixels = _without_border(decoded.pixels, pixels.shape, longest)
        return encode(pixels)

    def _read(self, folder: str, path: str) -> bytes | np.ndarray:
        file = Path(folder) / path if folder != SOURCE else self.source / path
        try:
            if file.is_file():
                return user_paths.read_file(file)
            if folder == SOURCE and not self.source.is_dir():
                return self._from_source(path)
        except (OSError, ValueError) as error:
            machine_limits.check(error)
            raise SourceError(f"{path} cannot be read: {error}", "look whether the file is still there") from error
        raise SourceError(f"{path} is not there any more", "skip it; `dvc repro ingest` lists the source again")

    def _from_source(self, path: str) -> bytes | np.ndarray:
        """Return an image of an archive or of arrays, which stay open."""
        with self._lock:
            if self._reader is None:
                self._reader = self._open.enter_context(sources.open_source(self.source))
                self._files = {file.path: file for file in self._reader.files}
        if path not in self._files:
            raise SourceError(f"{path} is not in {self.source} any more", "skip it; `dvc repro ingest` lists the source again")
        return self._reader.read(self._files[path])


def _without_border(square: np.ndarray, shape: tuple[int, ...], longest: int) -> np.ndarray:
    """Return the picture in a padded square, in the proportions of `shape`, and no larger than it was."""
    side = square.shape[0]
    height, width = (max(1, round(side * length / max(shape[:2]))) for length in shape[:2])
    top, left = (side - height) // 2, (side - width) // 2
    inner = square[top : top + height, left : left + width]
    if longest >= side:
        return inner
    return shrink(inner, max(1, width * longest // side), max(1, height * longest // side))


def encode(pixels: np.ndarray) -> tuple[bytes, str]:
    """Return an RGB image (H, W, 3) uint8 as a file of at most `SIDE` pixels a side, and its media type."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest > SIDE:
        pixels = shrink(pixels, max(1, width * SIDE // longest), max(1, height * SIDE // longest))
    kind, options = ("png", []) if longest < SMALL else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 88])
    _, encoded = cv2.imencode(f".{kind}", cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR), options)
    return encoded.tobytes(), f"image/{kind}"
