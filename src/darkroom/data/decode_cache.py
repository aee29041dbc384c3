"""Decoded images remembered by content, so that what was decoded once need not be decoded again.

A folder with an SQLite index and two files of fixed-size records, pixels and thumbnails. It can be deleted at any time: an
entry is used only where its checksum holds, so the folder changes the time that ingest takes, never a byte of what it gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import simplejpeg
import xxhash
from filelock import FileLock

from darkroom.data import decoding, manifest, quality, quarantine_reasons
from darkroom.data.quality import THUMBNAIL

DECODED = Path(".darkroom/decoded")
KEPT = 3  # folders for other sizes and backgrounds that are not removed, the last used ones
_EMPTY = b"\0" * THUMBNAIL**2


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of one content: where its pixels are, −1 for none, and its facts."""

    slot: int
    facts: dict[str, Any]


@contextmanager
def opened(root: Path, size: int, settings: dict[str, Any]) -> Iterator[Store]:
    """Open the store for images of `size` pixels a side made with `settings`; another process waits until this one is done."""
    versions = (PIL.__version__, cv2.__version__, simplejpeg.__version__, np.__version__, xxhash.VERSION)
    code = [Path(str(module.__file__)).read_bytes() for module in (decoding, quality, quarantine_reasons, manifest)]
    identity = json.dumps([size, settings, versions], sort_keys=True).encode() + b"".join(code)
    folder = root / hashlib.sha256(identity).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f"{folder.name}.lock"):
        store = Store(folder, size)
        try:
            yield store
        finally:
            store.close()
    _forget_old(root)


def _forget_old(root: Path) -> None:
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in folders[KEPT:]:
        with FileLock(root / f"{folder.name}.lock"):
            shutil.rmtree(folder, ignore_errors=True)


class Store:
    """Records of pixels (size, size, 3) uint8 and thumbnails (64, 64) uint8, by the key of the content they come from."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size, self.length = size, size * size * 3
        self.lock = threading.Lock()
        self.index = self._open(folder / "index.sqlite")
        self.pixels_file = os.open(folder / "pixels.bin", os.O_RDWR | os.O_CREAT, 0o644)
        self.thumbnails_file = os.open(folder / "thumbnails.bin", os.O_RDWR | os.O_CREAT, 0o644)
        held = os.fstat(self.pixels_file).st_size // self.length
        taken = {slot for (slot,) in self.index.execute("SELECT slot FROM images WHERE slot BETWEEN 0 AND ?", (held - 1,))}
        self.end = max(taken, default=-1) + 1
        self.free = sorted(set(range(self.end)) - taken, reverse=True) if len(taken) < self.end else []
        self.pending = 0
        os.utime(folder)

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        """Open the index; one that is damaged is begun anew."""
        for attempt in (1, 2):
            index = sqlite3.connect(path, check_same_thread=False)
            try:
                index.execute("PRAGMA synchronous = OFF")
                index.execute(
                    "CREATE TABLE IF NOT EXISTS images "
                    "(key TEXT PRIMARY KEY NOT NULL, slot INTEGER NOT NULL, sum INTEGER NOT NULL, facts TEXT NOT NULL) STRICT"
                )
                if index.execute("PRAGMA quick_check").fetchall() == [("ok",)]:
                    return index
            except (sqlite3.Error, UnicodeDecodeError):
                if attempt == 2:
                    raise
            index.close()
            path.unlink()
        raise AssertionError

    def get(self, key: str) -> Remembered | None:
        """Return what is remembered of a content, or None where there is nothing or it does not match its checksum."""
        try:
            with self.lock:
                row = self.index.execute("SELECT slot, sum, facts FROM images WHERE key = ?", (key,)).fetchone()
            slot, checksum, facts = row or (-1, None, "")
            pixels, thumbnail = self._record(slot) if slot >= 0 else (b"", b"")
        except (sqlite3.Error, UnicodeDecodeError, OverflowError, OSError):  # damaged: decoded again
            return None
        if row is None or _checksum(pixels, thumbnail, facts) != checksum:
            return None
        return Remembered(slot, json.loads(facts))

    def put(self, key: str, pixels: np.ndarray | None, thumbnail: np.ndarray | None, facts: dict[str, Any]) -> int:
        """Remember a content; return the slot of its pixels, −1 for none."""
        text = json.dumps(facts)
        slot, image, small = -1, b"", b""
        if pixels is not None:
            image, small = pixels.tobytes(), _EMPTY if thumbnail is None else thumbnail.tobytes()
            slot = self.free.pop() if self.free else self.end
            self.end = max(self.end, slot + 1)
            os.pwrite(self.pixels_file, image, slot * self.length)
            if thumbnail is not None or slot * len(_EMPTY) < os.fstat(self.thumbnails_file).st_size:
                os.pwrite(self.thumbnails_file, small, slot * len(_EMPTY))
        with self.lock:
            row = (key, slot, _checksum(image, small, text), text)
            self.pending += 1
            try:
                self.index.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", row)
                if self.pending % 1000 == 0:
                    self.index.commit()
            except sqlite3.Error as error:
                raise OSError(f"the index of decoded images cannot be written: {error}") from error
        return slot

    def _record(self, slot: int) -> tuple[bytes, bytes]:
        small = os.pread(self.thumbnails_file, len(_EMPTY), slot * len(_EMPTY))
        return os.pread(self.pixels_file, self.length, slot * self.length), small.ljust(len(_EMPTY), b"\0")

    def pixels(self, slot: int) -> np.ndarray:
        """Return the image (size, size, 3) uint8 in a slot."""
        return np.frombuffer(self.record(slot), np.uint8).reshape(self.size, self.size, 3)

    def record(self, slot: int) -> bytes:
        return os.pread(self.pixels_file, self.length, slot * self.length)

    def thumbnails(self, slots: Iterable[int]) -> np.ndarray:
        """Return the thumbnails (N, 64, 64) uint8 in some slots."""
        read = [os.pread(self.thumbnails_file, len(_EMPTY), slot * len(_EMPTY)).ljust(len(_EMPTY), b"\0") for slot in slots]
        return np.frombuffer(b"".join(read), np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)

    def keep(self, keys: set[str]) -> None:
        """Forget what is not among these keys, where that is more than half of what is remembered: its slots are used again."""
        with self.lock:
            total = self.index.execute("SELECT COUNT(*) FROM images").fetchone()[0]
            if total > 2 * len(keys):
                known = [key for (key,) in self.index.execute("SELECT key FROM images")]
                self.index.executemany("DELETE FROM images WHERE key = ?", [(key,) for key in known if key not in keys])

    def close(self) -> None:
        with self.lock:
            self.index.commit()
            self.index.close()
            os.close(self.pixels_file)
            os.close(self.thumbnails_file)


def _checksum(pixels: bytes, thumbnail: bytes, facts: str) -> int:
    return zlib.crc32(facts.encode(), zlib.crc32(thumbnail, zlib.crc32(pixels)))
