"""Turns a source of images into a manifest with a row for every file, and one array per split."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darkroom.config.params import SPLITS, Ingest
from darkroom.core.errors import SourceError, printable
from darkroom.core.progress import Progress
from darkroom.data import decoding, fingerprints, grouping, label_fixes, quality
from darkroom.data.decode_cache import DECODED, DecodeCache, open_cache
from darkroom.data.decoding import Decoded
from darkroom.data.quarantine_reasons import IGNORE_REASONS
from darkroom.data.source_row import SourceRow
from darkroom.data.sources import Source, SourceFile, open_source

SURPLUS = ("duplicate_across_splits", "group_across_splits")  # reasons of files that are sound
FIXES = Path("data/label_fixes.csv")
CHUNK = 8  # files that a thread takes at a time


@dataclass
class Dataset:
    """An ingested source. Pixels stay on disk.

    `missing` are rows of files that a table names and that do not exist.
    """

    rows: list[SourceRow]
    missing: list[SourceRow]
    classes: tuple[str, ...]
    groups: grouping.Groups
    unused_fixes: list[str]
    source: Source = field(repr=False)
    cache: DecodeCache = field(repr=False)

    def split(self, name: str) -> list[SourceRow]:
        return [row for row in self.rows if row.status == "accepted" and row.split == name]

    def quarantined(self) -> list[SourceRow]:
        return [row for row in self.rows if row.status == "quarantined"] + self.missing

    def preview(self, row: SourceRow) -> np.ndarray | None:
        """Return a picture (H, W, 3) uint8 of a file, also of many a damaged one.

        None where nothing can be decoded.
        """
        if row.slot >= 0:
            return self.cache.pixels(row.slot)
        if row.status != "quarantined" or not row.width or row.width * row.height > decoding.MAX_PIXELS:
            return None
        file = next(file for file in self.source.files if file.path == row.path and not file.ignored)
        try:
            content = self.source.read(file)
        except (OSError, ValueError):
            return None
        return decoding.decode_leniently(content) if isinstance(content, bytes) else None

    def labels(self, name: str) -> np.ndarray:
        """Return the labels (N,) int64 of a split."""
        number = {label: i for i, label in enumerate(self.classes)}
        return np.array([number[row.label] for row in self.split(name)], np.int64)

    def arrays(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return images (N, H, W, 3) uint8 and labels (N,) int64 of a split, in memory."""
        size = self.cache.size
        images = [self.cache.pixels(row.slot) for row in self.split(name)]
        return (np.stack(images) if images else np.empty((0, size, size, 3), np.uint8)), self.labels(name)

    def write(self, name: str, folder: Path) -> None:
        """Write `images.npy` and `labels.npy` of a split, one image at a time."""
        rows, size = self.split(name), self.cache.size
        with (folder / "images.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), size, size, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for row in rows:
                file.write(self.cache.read_pixels(row.slot))
        np.save(folder / "labels.npy", self.labels(name))


@contextmanager
def ingest(
    path: Path,
    params: Ingest,
    fixes: dict[str, str] | None = None,
    description: str = "ingest",
    cache_folder: Path = DECODED,
    threads: int = 0,
) -> Iterator[Dataset]:
    """Read a source; the data set can be used while the block lasts.

    `fixes` maps a path or a pixel hash to the right label. Decoding uses `threads`, or all cores of the
    process. The result depends on the files, `params` and `fixes` alone. Raises SourceError where the source
    has no classes.
    """
    with open_source(path) as source, open_cache(cache_folder, params) as cache:
        rows, keys = [], set()
        with Progress(description, len(source.files), "files") as progress:
            for row, key in _read_all(source, params, cache, threads or cores()):
                rows.append(row)
                keys.add(key)
                progress.advance()
        cache.prune(keys)
        unused = _fix_labels(rows, fixes or {})
        groups = grouping.assign_splits(rows, cache.fingerprints, params, source.ready_splits)
        missing = [_new_row(file).quarantine(file.refused) for file in source.missing]
        classes = tuple(sorted({row.label for row in rows if row.status == "accepted"}))
        yield Dataset(rows, missing, classes, groups, unused, source, cache)


def check(dataset: Dataset, source: Path, params: Ingest) -> None:
    """Raise SourceError unless a classifier can be trained on the data set."""
    candidates = [row for row in dataset.rows if row.status != "ignored"] + dataset.missing
    unusable = [row for row in dataset.quarantined() if row.reason not in SURPLUS]
    if len(unusable) > params.max_quarantined * len(candidates):
        counts = Counter(row.reason for row in unusable)
        listing = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        raise SourceError(
            f"{len(unusable)} of {len(candidates)} files of {source} cannot be used ({listing}), more than "
            f"`ingest.max_quarantined` ({params.max_quarantined:g}) allows; the first is {printable(unusable[0].path)}",
            "mend or remove the listed files, or raise `ingest.max_quarantined`",
        )
    if len(dataset.classes) < 2:
        raise SourceError(
            f"found readable images of {len(dataset.classes)} class in {source}; at least 2 classes are needed",
            "add images of further classes, one subfolder each",
        )
    stratify = "" if params.split_by == "stratified" else "set `ingest.split_by` to stratified, "
    for name in SPLITS:
        labels = {row.label for row in dataset.split(name)}
        if not labels:
            raise SourceError(
                f"the split {name} is empty: {source} has {len(dataset.split('train'))} training images in all",
                f"add images, raise `ingest.val_share` or `ingest.test_share`, {stratify}"
                "or give the folder train/val/test subfolders",
            )
        if name == "train" and len(labels) < len(dataset.classes):
            absent = sorted(set(dataset.classes) - labels)
            raise SourceError(
                f"no training image of {', '.join(absent)}: {source} has too few of them",
                f"add images to these classes, {stratify}remove their folders, or change `ingest.seed`",
            )


def cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _ReadFile(NamedTuple):
    """A row, the key of its content, and what the cache lacks: the decoded image and its fingerprint."""

    row: SourceRow
    key: str = ""
    decoded: Decoded | None = None
    fingerprint: np.ndarray | None = None


def _read_all(source: Source, params: Ingest, cache: DecodeCache, threads: int) -> Iterator[tuple[SourceRow, str]]:
    """Yield the row of each file and the key of its content, in order.

    The number of files in work is bounded.
    """

    def read_chunk(files: list[SourceFile]) -> list[_ReadFile]:
        return [_read(source, file, params, cache) for file in files]

    pending: deque[Future] = deque()
    chunks = (source.files[i : i + CHUNK] for i in range(0, len(source.files), CHUNK))
    with ThreadPoolExecutor(threads) as pool:
        try:
            for chunk in chunks:
                pending.append(pool.submit(read_chunk, chunk))
                if len(pending) > 2 * threads:
                    yield from _store(pending.popleft(), cache)
            while pending:
                yield from _store(pending.popleft(), cache)
        finally:
            pool.shutdown(cancel_futures=True)


def _store(future: Future, cache: DecodeCache) -> Iterator[tuple[SourceRow, str]]:
    """Store the images that were decoded, and yield the rows."""
    for row, key, decoded, fingerprint in future.result():
        # an image for which memory did not suffice is not stored: it may suffice next time
        if decoded is not None and not (decoded.reason == "too_large" and decoded.detail):
            row.slot = cache.put(key, decoded.pixels, fingerprint, row.facts)
        yield row, key


def _read(source: Source, file: SourceFile, params: Ingest, cache: DecodeCache) -> _ReadFile:
    row = _new_row(file)
    if file.ignored:
        row.status, row.reason, row.detail = "ignored", file.ignored, IGNORE_REASONS[file.ignored]
        row.label = row.source_label = ""
        return _ReadFile(row)
    if file.refused:
        return _ReadFile(row.quarantine(file.refused))
    try:
        content = source.read(file)
    except OSError as error:
        return _ReadFile(row.quarantine("unreadable", error.strerror or str(error)))
    except ValueError as error:
        return _ReadFile(row.quarantine("corrupt", str(error)))
    settings = (params.image_size, params.resize, params.background, params.min_size)
    if isinstance(content, np.ndarray):
        image = np.ascontiguousarray(content)
        row.bytes, row.sha256 = image.nbytes, hashlib.sha256(image.data).hexdigest()
        key, decode = f"{row.sha256}{image.shape}", partial(decoding.from_array, image, *settings)
    else:
        row.bytes, row.sha256 = len(content), hashlib.sha256(content).hexdigest()
        key, decode = row.sha256, partial(decoding.decode, content, *settings)
    cached = cache.get(key)
    if cached is not None:
        row.slot = cached.slot
        row.set_facts(cached.facts)
        return _ReadFile(row, key)
    decoded = decode()
    return _ReadFile(row, key, decoded, _describe(row, decoded))


def _describe(row: SourceRow, decoded: Decoded) -> np.ndarray | None:
    """Write the facts of an image into its row.

    Return the fingerprint () of an image that is large enough to have one.
    """
    row.format, row.mode, row.frames = decoded.format, decoded.mode, decoded.frames
    row.width, row.height, row.pixel_hash = decoded.width, decoded.height, decoded.pixel_hash
    if decoded.pixels is None:
        row.quarantine(decoded.reason, decoded.detail)
        return None
    row.detail, row.flags = decoded.detail, decoded.flags
    if quality.odd_aspect(row.width, row.height):
        row.flags += ("odd_aspect",)
    examined = quality.examine(decoded.upright) if decoded.upright is not None else None
    if examined is None:
        return None
    figures, grey = examined
    row.flags += figures.issues()
    row.darkest, row.brightest = figures.darkest, figures.brightest
    row.entropy, row.sharpness = figures.entropy, figures.sharpness
    return fingerprints.fingerprint(grey)


def _new_row(file: SourceFile) -> SourceRow:
    return SourceRow(path=file.path, label=file.label, source_label=file.label, split=file.split, given_group=file.group)


def _fix_labels(rows: list[SourceRow], fixes: dict[str, str]) -> list[str]:
    """Apply label fixes; return the names of those that apply to no image of this source."""
    if not fixes:
        return []
    label_fixes.check(fixes, {row.source_label for row in rows if row.source_label}, FIXES)
    used: set[str] = set()
    for row in rows:
        names = [name for name in (row.path, row.pixel_hash) if name and name in fixes and row.status == "accepted"]
        used |= set(names)
        labels = {fixes[name] for name in names}
        if len(labels) > 1:
            raise SourceError(
                f"{FIXES} gives {printable(row.path)} the labels {' and '.join(sorted(labels))}, by its path and by its pixel hash",
                f"remove one of the two lines from {FIXES}",
            )
        if labels - {row.label}:
            row.label = unicodedata.normalize("NFC", labels.pop())
            row.flags += ("label_fixed",)
    return sorted(set(fixes) - used)
