"""A cache of decoded images by content, so that an image is decoded once.

A folder holds an SQLite index and two files of fixed-size records, pixels and fingerprints. It can be
deleted at any time: an entry is used only where its checksum holds, so the cache changes the time that ingest
takes and never its result.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL
import simplejpeg
import xxhash
from filelock import FileLock

from darkroom.config.params import Ingest
from darkroom.core import shortage, strict_json
from darkroom.data import (
    decoding,
    deep_pixels,
    fingerprints,
    heif,
    jpeg_markers,
    local_features,
    manifest,
    quality,
    quarantine_reasons,
    resizing,
    source_row,
    unread_formats,
    upright,
)
from darkroom.data.fingerprints import FINGERPRINT, SUMMARY
from darkroom.data.manifest import ImageFacts

DECODED = Path(".darkroom/decoded")
MAX_FOLDERS = 3  # of other params and versions, the last used ones
_BLANK = b"\0" * FINGERPRINT.itemsize
_PARAMS = {"image_size", "resize", "background", "min_size"}


class CachedImage(NamedTuple):
    """The slot of an image's pixels, −1 for none, and its facts."""

    slot: int
    facts: ImageFacts


@contextmanager
def open_cache(root: Path, params: Ingest) -> Iterator[DecodeCache]:
    """Open the cache for some params and the installed versions; other processes wait for the block's end."""
    versions = (PIL.__version__, cv2.__version__, simplejpeg.__version__, np.__version__, xxhash.VERSION, heif.VERSION)
    modules = (
        decoding, upright, deep_pixels, jpeg_markers, resizing, quality, fingerprints, local_features, quarantine_reasons,
        manifest, source_row, unread_formats,
    )  # fmt: skip
    code = [Path(str(module.__file__)).read_bytes() for module in modules]
    identity = json.dumps([params.model_dump(include=_PARAMS), versions], sort_keys=True).encode() + b"".join(code)
    folder = root / hashlib.sha256(identity).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{folder.name}.lock"):
        cache = DecodeCache(folder, params.image_size)
        with shortage.noted(folder, folder):
            try:
                yield cache
            finally:
                cache.close()
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for oldest in folders[:-MAX_FOLDERS]:
        with FileLock(root / f"{oldest.name}.lock"):
            shutil.rmtree(oldest, ignore_errors=True)


class DecodeCache:
    """Pixels (size, size, 3) uint8, fingerprints () FINGERPRINT and facts of images, by a key of the content."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size, self.length = size, size * size * 3
        self.lock = threading.Lock()
        self.path = folder / "index.sqlite"
        self.index = _open_index(self.path)
        self.pixels_file = os.open(folder / "pixels.bin", os.O_RDWR | os.O_CREAT, 0o644)
        self.fingerprints_file = os.open(folder / "fingerprints.bin", os.O_RDWR | os.O_CREAT, 0o644)
        count = os.fstat(self.pixels_file).st_size // self.length
        slots = self.index.execute("SELECT slot FROM images WHERE slot BETWEEN 0 AND ?", (count - 1,))
        used = {slot for (slot,) in slots if isinstance(slot, int)}
        self.end = max(used, default=-1) + 1
        self.free = sorted(set(range(self.end)) - used, reverse=True) if len(used) < self.end else []
        self.pending = 0
        os.utime(folder)

    def get(self, key: str) -> CachedImage | None:
        """Return the entry of a content, or None where there is none or its checksum does not hold."""
        try:
            with self.lock:
                row = self.index.execute("SELECT slot, sum, facts FROM images WHERE key = ?", (key,)).fetchone()
            slot, checksum, facts = row or (-1, None, "")
            if not isinstance(slot, int) or not isinstance(facts, str):
                return None
            pixels, fingerprint = (self.read_pixels(slot), self._read_fingerprint(slot)) if slot >= 0 else (b"", b"")
        except (sqlite3.Error, UnicodeDecodeError, OverflowError, OSError):  # damaged: decoded again
            return None
        if row is None or _checksum(pixels, fingerprint, facts) != checksum:
            return None
        values = strict_json.loads(facts)
        return CachedImage(slot, ImageFacts(**values | {"flags": tuple(values["flags"])}))

    def put(self, key: str, pixels: np.ndarray | None, fingerprint: np.ndarray | None, facts: ImageFacts) -> int:
        """Store a content; return the slot of its pixels, −1 for none. OSError where it cannot be written."""
        text = json.dumps(asdict(facts))
        slot, image, small = -1, b"", b""
        if pixels is not None:
            image, small = pixels.tobytes(), _BLANK if fingerprint is None else fingerprint.tobytes()
            slot = self.free.pop() if self.free else self.end
            self.end = max(self.end, slot + 1)
            _write(self.pixels_file, image, slot * self.length)
            if fingerprint is not None or slot * len(_BLANK) < os.fstat(self.fingerprints_file).st_size:
                _write(self.fingerprints_file, small, slot * len(_BLANK))
        with self.lock:
            self.pending += 1
            row = (key, slot, _checksum(image, small, text), text)
            try:
                self._insert(row)
            except sqlite3.Error as error:
                if not _is_damaged(error):
                    raise OSError(f"the index of decoded images cannot be written: {error}") from error
                self.index.close()
                self.path.unlink()
                self.index = _open_index(self.path)
                self._insert(row)
        return slot

    def _insert(self, row: tuple[str, int, int, str]) -> None:
        self.index.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", row)
        if self.pending % 1000 == 0:
            self.index.commit()

    def read_pixels(self, slot: int) -> bytes:
        return os.pread(self.pixels_file, self.length, slot * self.length)

    def _read_fingerprint(self, slot: int, count: int = len(_BLANK)) -> bytes:
        return os.pread(self.fingerprints_file, count, slot * len(_BLANK)).ljust(count, b"\0")

    def pixels(self, slot: int) -> np.ndarray:
        """Return the image (size, size, 3) uint8 in a slot."""
        return np.frombuffer(self.read_pixels(slot), np.uint8).reshape(self.size, self.size, 3)

    def fingerprints(self, slots: Iterable[int], detailed: bool = False) -> np.ndarray:
        """Return the fingerprints (N,) in some slots, FINGERPRINT if `detailed`, else SUMMARY; zeros where there is
        none.
        """
        kind = FINGERPRINT if detailed else SUMMARY
        return np.frombuffer(b"".join(self._read_fingerprint(slot, kind.itemsize) for slot in slots), kind)

    def prune(self, keys: set[str]) -> None:
        """Delete entries without these keys if they are more than half of all; slots are used again."""
        with self.lock:
            if self.index.execute("SELECT COUNT(*) FROM images").fetchone()[0] > 2 * len(keys):
                stale = {key for (key,) in self.index.execute("SELECT key FROM images")} - keys
                self.index.executemany("DELETE FROM images WHERE key = ?", [(key,) for key in stale])

    def close(self) -> None:
        with self.lock:
            try:
                self.index.commit()
            except sqlite3.Error as error:
                if not _is_damaged(error):
                    raise
                self.path.unlink()
            self.index.close()
            os.close(self.pixels_file)
            os.close(self.fingerprints_file)


def _open_index(path: Path) -> sqlite3.Connection:
    """Open the index; a damaged one is deleted."""
    for attempt in (1, 2):
        index = sqlite3.connect(path, check_same_thread=False)
        try:
            index.execute(  # not STRICT, which SQLite has since 3.37
                "CREATE TABLE IF NOT EXISTS images "
                "(key TEXT PRIMARY KEY NOT NULL, slot INTEGER NOT NULL, sum INTEGER NOT NULL, facts TEXT NOT NULL)"
            )
            if index.execute("PRAGMA integrity_check").fetchall() == [("ok",)]:
                return index
        except (sqlite3.Error, UnicodeDecodeError):
            if attempt == 2:
                raise
        index.close()
        path.unlink()
    raise AssertionError


def _is_damaged(error: sqlite3.Error) -> bool:
    return type(error) is sqlite3.DatabaseError  # "database disk image is malformed", "file is not a database"


def _write(file: int, content: bytes, offset: int) -> None:
    """Write to a place of a file; on a full disk the operating system may write less, without an error."""
    if os.pwrite(file, content, offset) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _checksum(pixels: bytes, fingerprint: bytes, facts: str) -> int:
    return zlib.crc32(facts.encode(), zlib.crc32(fingerprint, zlib.crc32(pixels)))
