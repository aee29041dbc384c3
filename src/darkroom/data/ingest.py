"""A source of images to a manifest in which every file has its row, and one array per split."""

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

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.errors import SourceError, printable
from darkroom.core.progress import Progress
from darkroom.data import decode_cache, decoding, grouping, label_fixes, quality, sources
from darkroom.data.decode_cache import DECODED, Store
from darkroom.data.decoding import Decoded
from darkroom.data.manifest import Row
from darkroom.data.quarantine_reasons import IGNORED
from darkroom.data.sources import SPLITS, Found, Source

ACROSS = ("duplicate_across_splits", "group_across_splits")  # sound files, one too many
FIXES = Path("data/label_fixes.csv")
CHUNK = 8  # files that a thread takes at a time


@dataclass
class Dataset:
    """What a source came to. Pixels stay on disk; `missing` are rows of files that a table names and nobody has."""

    rows: list[Row]
    missing: list[Row]
    classes: tuple[str, ...]
    clusters: list[list[Row]]  # duplicates of each other, two or more
    conflicts: list[list[Row]]  # the same picture with several labels
    leaks: list[list[Row]]  # the same picture in several of the source's own splits
    torn: list[list[Row]]  # groups of the table that its own splits tear apart
    unused_fixes: list[str]
    ready: frozenset[str]
    source: Source = field(repr=False)
    store: Store = field(repr=False)

    def split(self, name: str) -> list[Row]:
        return [row for row in self.rows if row.status == "accepted" and row.split == name]

    def quarantined(self) -> list[Row]:
        return [row for row in self.rows if row.status == "quarantined"] + self.missing

    def preview(self, row: Row) -> np.ndarray | None:
        """Return what can be shown of a file (H, W, 3) uint8, also of many a damaged one; None where there is nothing."""
        if row.slot >= 0:
            return self.store.pixels(row.slot)
        if row.status != "quarantined" or not row.width or row.width * row.height > decoding.MOST_PIXELS:
            return None
        item = next(item for item in self.source.found if item.path == row.path and not item.ignored)
        try:
            content = self.source.read(item)
        except (OSError, ValueError):
            return None
        return decoding.glimpse(content) if isinstance(content, bytes) else None

    def labels(self, name: str) -> np.ndarray:
        """Return the labels (N,) int64 of a split."""
        number = {label: i for i, label in enumerate(self.classes)}
        return np.array([number[row.label] for row in self.split(name)], np.int64)

    def arrays(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return images (N, H, W, 3) uint8 and labels (N,) int64 of a split, in memory."""
        size = self.store.size
        images = [self.store.pixels(row.slot) for row in self.split(name)]
        return (np.stack(images) if images else np.empty((0, size, size, 3), np.uint8)), self.labels(name)

    def write(self, name: str, folder: Path) -> None:
        """Write `images.npy` and `labels.npy` of a split, one image at a time."""
        rows, size = self.split(name), self.store.size
        with (folder / "images.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), size, size, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for row in rows:
                file.write(self.store.record(row.slot))
        np.save(folder / "labels.npy", self.labels(name))


@contextmanager
def ingest(
    path: Path, params: Ingest, fixed: dict[str, str] | None = None, what: str = "ingest",
    remembered: Path = DECODED, threads: int = 0,
) -> Iterator[Dataset]:  # fmt: skip
    """Read a source. The result depends on its files, `params` and `fixed` labels alone, not on threads or what is remembered.

    `fixed` gives labels by path or pixel hash. Decoding uses all cores that the process may run on, or `threads`.
    Raises SourceError where the source has no classes. The data set can be used while the block lasts.
    """
    settings = {"resize": params.resize, "background": params.background, "min_size": params.min_size}
    with sources.opened(path) as source, decode_cache.opened(remembered, params.image_size, settings) as memory:
        rows, keys = [], set()
        with Progress(what, len(source.found), "files") as progress:
            for row, key in _read_all(source, params, memory, threads or cores()):
                rows.append(row)
                keys.add(key)
                progress.advance()
        memory.keep(keys)
        unused = _fix_labels(rows, fixed or {})
        groups = grouping.find(rows, memory.thumbnails, params, source.ready)
        missing = [_quarantined(_row(item), item.refused) for item in source.missing]
        accepted = [row for row in rows if row.status == "accepted"]
        yield Dataset(
            rows, missing, tuple(sorted({row.label for row in accepted})), groups.clusters, groups.conflicts, groups.leaks,
            groups.torn, unused, source.ready, source, memory,
        )  # fmt: skip


def check(dataset: Dataset, source: Path, params: Ingest) -> None:
    """Raise SourceError unless the data set can train a classifier."""
    candidates = [row for row in dataset.rows if row.status != "ignored"] + dataset.missing
    quarantined = [row for row in dataset.quarantined() if row.reason not in ACROSS]
    if len(quarantined) > params.max_quarantined * len(candidates):
        reasons = Counter(row.reason for row in quarantined)
        listing = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise SourceError(
            f"{len(quarantined)} of {len(candidates)} files of {source} cannot be used ({listing}), more than "
            f"`ingest.max_quarantined` ({params.max_quarantined:g}) allows; the first is {printable(quarantined[0].path)}",
            "look at the listed files, mend or remove them, or raise `ingest.max_quarantined`",
        )
    if len(dataset.classes) < 2:
        raise SourceError(
            f"{source} has readable images of {len(dataset.classes)} class; a classifier needs two or more",
            "add images of further classes, one subfolder each",
        )
    for name in SPLITS:
        held = {row.label for row in dataset.split(name)}
        if not held:
            raise SourceError(
                f"no image falls into the split {name}: {source} has {len(dataset.split('train'))} for training in all",
                "add images, or raise `ingest.val_share` or `ingest.test_share`, "
                + ("" if params.split_by == "stratified" else "or set `ingest.split_by` to stratified, ")
                + "or give the folder train/val/test subfolders",
            )
        if name == "train" and len(held) < len(dataset.classes):
            absent = sorted(set(dataset.classes) - held)
            raise SourceError(
                f"no training image of {', '.join(absent)}: {source} has too few of them",
                "add images to these classes, "
                + ("" if params.split_by == "stratified" else "set `ingest.split_by` to stratified, ")
                + "remove their folders, or change `ingest.seed`",
            )


def cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_all(source: Source, params: Ingest, memory: Store, threads: int) -> Iterator[tuple[Row, str]]:
    """Yield the row of each file, and the key of its content, in order; a bounded number of files is in work."""

    def work(items: list[Found]) -> list[tuple[Row, str, Decoded | None, np.ndarray | None]]:
        return [_read(source, item, params, memory) for item in items]

    waiting: deque[Future] = deque()
    chunks = (source.found[i : i + CHUNK] for i in range(0, len(source.found), CHUNK))
    with ThreadPoolExecutor(threads) as pool:
        try:
            for chunk in chunks:
                waiting.append(pool.submit(work, chunk))
                if len(waiting) > 2 * threads:
                    yield from _settled(waiting.popleft(), memory)
            while waiting:
                yield from _settled(waiting.popleft(), memory)
        finally:
            pool.shutdown(cancel_futures=True)


def _settled(future: Future, memory: Store) -> Iterator[tuple[Row, str]]:
    """Store what was decoded, and yield the rows."""
    for row, key, seen, thumbnail in future.result():
        if seen is not None and not (seen.reason == "too_large" and seen.detail):  # memory may suffice another time
            row.slot = memory.put(key, seen.pixels, thumbnail, row.facts())
        yield row, key


def _read(source: Source, item: Found, params: Ingest, memory: Store) -> tuple[Row, str, Decoded | None, np.ndarray | None]:
    """Return a file's row, the key of its content, and what is to be stored, if it was decoded now."""
    row = _row(item)
    if item.ignored:
        row.status, row.reason, row.detail = "ignored", item.ignored, IGNORED[item.ignored]
        row.label = row.source_label = ""
        return row, "", None, None
    if item.refused:
        return _quarantined(row, item.refused), "", None, None
    try:
        content = source.read(item)
    except OSError as error:
        return _quarantined(row, "unreadable", error.strerror or str(error)), "", None, None
    except ValueError as error:
        return _quarantined(row, "corrupt", str(error)), "", None, None
    how = (params.image_size, params.resize, params.background, params.min_size)
    if isinstance(content, np.ndarray):
        image = np.ascontiguousarray(content)
        row.bytes, row.sha256 = image.nbytes, hashlib.sha256(image.data).hexdigest()
        key, decode = f"{row.sha256}{image.shape}", partial(decoding.from_array, image, *how)
    else:
        row.bytes, row.sha256 = len(content), hashlib.sha256(content).hexdigest()
        key, decode = row.sha256, partial(decoding.decode, content, *how)
    known = memory.get(key)
    if known is not None:
        row.slot = known.slot
        row.take(known.facts)
        return row, key, None, None
    seen = decode()
    thumbnail = _describe(row, seen)
    return row, key, seen, thumbnail


def _describe(row: Row, seen: Decoded) -> np.ndarray | None:
    """Write what was seen into a row; return the thumbnail, for an image that is large enough to have one."""
    row.format, row.mode, row.frames = seen.format, seen.mode, seen.frames
    row.width, row.height, row.pixel_hash = seen.width, seen.height, seen.pixel_hash
    if seen.pixels is None:
        _quarantined(row, seen.reason, seen.detail)
        return None
    row.detail, row.flags = seen.detail, seen.flags
    if quality.odd_aspect(row.width, row.height):
        row.flags += ("odd_aspect",)
    examined = quality.examine(seen.whole) if seen.whole is not None else None
    if examined is None:
        return None
    figures, thumbnail = examined
    row.flags += figures.issues()
    row.darkest, row.brightest = figures.darkest, figures.brightest
    row.entropy, row.sharpness = figures.entropy, figures.sharpness
    return thumbnail


def _row(item: Found) -> Row:
    return Row(item.path, item.label, item.label, item.split, given_group=item.group)


def _quarantined(row: Row, reason: str, detail: str = "") -> Row:
    row.quarantine(reason, detail)
    return row


def _fix_labels(rows: list[Row], fixed: dict[str, str]) -> list[str]:
    """Apply accepted corrections; return those that name no image of this source."""
    if not fixed:
        return []
    label_fixes.check(fixed, {row.source_label for row in rows if row.source_label}, FIXES)
    used: set[str] = set()
    for row in rows:
        names = [name for name in (row.path, row.pixel_hash) if name and name in fixed and row.status == "accepted"]
        used |= set(names)
        labels = {fixed[name] for name in names}
        if len(labels) > 1:
            raise SourceError(
                f"{FIXES} gives {printable(row.path)} the labels {' and '.join(sorted(labels))}, by its path and by its pixel hash",
                f"leave one of the two lines in {FIXES}",
            )
        if labels - {row.label}:
            row.label = unicodedata.normalize("NFC", labels.pop())
            row.flags += ("label_fixed",)
    return sorted(set(fixed) - used)
