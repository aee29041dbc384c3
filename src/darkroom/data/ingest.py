"""Turns a source of images into a manifest with a row for every file, and one array per split."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from darkroom.config.params import SPLITS, Ingest
from darkroom.core import array_files, machine_limits, platforms, shortage
from darkroom.core.errors import SourceError, printable
from darkroom.core.progress import Progress
from darkroom.data import (
    class_names,
    decoding,
    file_names,
    fingerprints,
    grouping,
    label_fixes,
    lost_classes,
    quality,
    unread_formats,
)
from darkroom.data.decode_cache import DECODED, DecodeCache, open_cache
from darkroom.data.decoding import Decoded
from darkroom.data.frozen_splits import FrozenImage
from darkroom.data.memory_budget import MemoryBudget
from darkroom.data.source_file import SourceFile
from darkroom.data.source_row import SourceRow
from darkroom.data.sources import Source, open_source

SURPLUS = ("duplicate_across_splits", "group_across_splits", "unlabelled")  # reasons of files that are sound
FIXES = Path("data/label_fixes.csv")
CHUNK = 8  # files that a thread takes at a time
MAX_WAITING = 32 * 2**20  # bytes of decoded squares that wait to be stored
MAX_WHOLE = 512 * 2**20  # bytes that decoding takes at once, whatever the number of threads; one picture may take more


@dataclass
class Dataset:
    """An ingested source, its pixels on disk; `missing` are files that a table names and that do not exist."""

    rows: list[SourceRow]
    missing: list[SourceRow]
    classes: tuple[str, ...]
    groups: grouping.Groups
    unused_fixes: list[str]
    source: Source = field(repr=False)
    cache: DecodeCache = field(repr=False)

    def split(self, name: str) -> list[SourceRow]:
        return [row for row in self.rows if row.status == "accepted" and row.split == name]

    def lost_classes(self) -> list[lost_classes.LostClass]:
        """Return the classes of the source of which no image can be used."""
        return lost_classes.find(self.rows, self.classes, self.source.class_folders)

    def quarantined(self) -> list[SourceRow]:
        return [row for row in self.rows if row.status == "quarantined"] + self.missing

    def preview(self, row: SourceRow) -> np.ndarray | None:
        """Return a picture (H, W, 3) uint8 of a file, also of many a damaged one; None where there is none."""
        if row.slot >= 0:
            return self.cache.pixels(row.slot)
        if row.status != "quarantined" or not row.width or row.width * row.height > decoding.MAX_PIXELS:
            return None
        file = next(file for file in self.source.files if file.path == row.path and not file.ignored)
        try:
            content = self.source.read(file)
        except (OSError, ValueError) as error:
            machine_limits.check(error)
            return None
        return decoding.decode_leniently(content) if isinstance(content, bytes) else None

    def labels(self, name: str) -> np.ndarray:
        """Return the labels (N,) int64 of a split."""
        number = {label: i for i, label in enumerate(self.classes)}
        return np.array([number[row.label] for row in self.split(name)], np.int64)

    def arrays(self, *names: str, order: Callable[[int], np.ndarray] = np.arange) -> tuple[np.ndarray, np.ndarray]:
        """Return images (N, H, W, 3) uint8 and labels (N,) int64 of splits, in memory, once.

        `order` returns the numbers of the images to return, of a number of images.
        """
        rows = [row for name in names for row in self.split(name)]
        chosen = order(len(rows))
        images = np.empty((len(chosen), self.cache.size, self.cache.size, 3), np.uint8)
        for image, number in zip(images, chosen, strict=True):
            image[:] = self.cache.pixels(rows[number].slot)
        return images, np.concatenate([self.labels(name) for name in names])[chosen]

    def write(self, name: str, folder: Path) -> None:
        """Write `images.npy` and `labels.npy` of a split, one image at a time."""
        rows, size = self.split(name), self.cache.size
        shortage.require_space(folder / "images.npy", len(rows) * self.cache.length)
        with (folder / "images.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), size, size, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for row in rows:
                file.write(self.cache.read_pixels(row.slot))
        array_files.save(folder / "labels.npy", self.labels(name))


@contextmanager
def ingest(
    path: Path,
    params: Ingest,
    fixes: dict[str, str] | None = None,
    description: str = "ingest",
    cache_folder: Path = DECODED,
    threads: int = 0,
    frozen: Sequence[FrozenImage] = (),
    choose: Callable[[list[SourceFile]], list[SourceFile]] = list,
) -> Iterator[Dataset]:
    """Read a source; the data set can be used while the block lasts.

    `fixes` maps a path or a pixel hash to the right label, and `frozen` images keep their split. Decoding uses
    `threads`, or all cores of the process. `choose` returns the files that are read. The result depends on the
    files, `params`, `fixes`, `frozen` and `choose` alone. Raises SourceError where the source has no classes.
    """
    with open_source(path, class_folder=params.class_folder) as source, open_cache(cache_folder, params) as cache:
        source.files = choose(source.files)
        rows, keys = [], set()
        with Progress(description, len(source.files), "files") as progress:
            for row, key in _read_all(source, params, cache, threads or platforms.usable_cores()):
                rows.append(row)
                keys.add(key)
                progress.advance()
        cache.prune(keys)
        unused = _fix_labels(rows, fixes or {})
        groups = grouping.assign_splits(rows, cache.fingerprints, params, source.ready_splits, frozen)
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
    for lost in dataset.lost_classes():
        if lost.unread:
            raise SourceError(lost_classes.sentence(lost._replace(remedy="")), f"{lost.remedy}; or remove the folder of the class")
    if len(dataset.classes) < 2:
        raise SourceError(
            f"found readable images of {len(dataset.classes)} class in {source}; at least 2 classes are needed",
            "add images of further classes, one subfolder each",
        )
    stratify = "" if params.split_by == "stratified" else "set `ingest.split_by` to stratified, "
    if grouping.near_duplicate_warnings(dataset.rows, dataset.groups, params.near_duplicates):
        stratify = f"{grouping.SCENES[params.near_duplicates]}; or {stratify}"
    for name in SPLITS:
        labels = {row.label for row in dataset.split(name)}
        if not labels:
            raise SourceError(
                f"the split {name} is empty: {source} has {len(dataset.split('train'))} training images in all",
                f"{stratify}add images, raise `ingest.val_share` or `ingest.test_share`, or give the folder train/val/test "
                "subfolders",
            )
        if name == "train" and len(labels) < len(dataset.classes):
            absent = sorted(set(dataset.classes) - labels)
            if name in dataset.source.ready_splits:
                raise SourceError(
                    f"no training image of {', '.join(absent)}: the source's own train has none",
                    "add images of them to train; or, if no folder is a split, rename the folders",
                )
            raise SourceError(
                f"no training image of {', '.join(absent)}: {source} has too few of them",
                f"{stratify}add images to these classes, remove their folders, or change `ingest.seed`",
            )


class _ReadFile(NamedTuple):
    """A row, the key of its content, and what is to be stored: whether at all, the square and its fingerprint."""

    row: SourceRow
    key: str = ""
    is_new: bool = False
    pixels: np.ndarray | None = None
    fingerprint: np.ndarray | None = None


def _read_all(source: Source, params: Ingest, cache: DecodeCache, threads: int) -> Iterator[tuple[SourceRow, str]]:
    """Yield the row of each file and the key of its content, in order, with few files in work at a time."""
    budget = MemoryBudget(MAX_WHOLE)
    size = max(1, min(CHUNK, MAX_WAITING // (3 * params.image_size**2 * (2 * threads + 1))))

    def read_chunk(files: list[SourceFile]) -> list[_ReadFile]:
        return [_read(source, file, params, cache, budget) for file in files]

    pending: deque[Future] = deque()
    chunks = (source.files[i : i + size] for i in range(0, len(source.files), size))
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
    for row, key, is_new, pixels, fingerprint in future.result():
        if is_new:
            row.slot = cache.put(key, pixels, fingerprint, row.facts)
        is_sidecar = row.reason == "not_an_image" and not file_names.may_be_image(row.path)
        yield row.ignore("no_image") if is_sidecar else row, key


def _read(source: Source, file: SourceFile, params: Ingest, cache: DecodeCache, budget: MemoryBudget) -> _ReadFile:
    """Read and describe a file. The whole picture is gone when this returns."""
    row = _new_row(file)
    if file.ignored:
        return _ReadFile(row.ignore(file.ignored))
    if file.refused:
        return _ReadFile(row.quarantine(file.refused))
    try:
        content = source.read(file)
    except OSError as error:
        machine_limits.check(error)
        return _ReadFile(row.quarantine("unreadable", error.strerror or str(error)))
    except ValueError as error:
        return _ReadFile(row.quarantine("corrupt", str(error)))
    except MemoryError as error:
        raise _too_little_memory("read", file) from error
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
    try:
        with budget.reservation() as reserve:
            decoded = decode(reserve)
            if decoded.detail == decoding.ASKS_TOO_MUCH:  # other threads may have had the memory: once more, alone
                reserve(budget.size)
                decoded = decode(lambda _: None)
            fingerprint = _describe(row, decoded)
    except MemoryError as error:
        raise _too_little_memory("decode", file) from error
    if row.reason == "not_an_image" and isinstance(content, bytes) and (name := unread_formats.name_of(content)):
        row.format = name
        row.quarantine("unread_format", name)
    return _ReadFile(row, key, True, decoded.pixels, fingerprint)


def _too_little_memory(verb: str, file: SourceFile) -> SourceError:
    return SourceError(f"there is too little memory to {verb} {printable(file.path)}", shortage.FREE_MEMORY, retryable=True)


def _describe(row: SourceRow, decoded: Decoded) -> np.ndarray | None:
    """Write the facts of an image into its row; return its fingerprint, if it is large enough for one."""
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
    return SourceRow(path=file.path, label=file.label, source_label=file.label, split=file.split, source_group=file.group)


def _fix_labels(rows: list[SourceRow], fixes: dict[str, str]) -> list[str]:
    """Apply label fixes; return the names of those that apply to no image of this source."""
    if not fixes:
        return []
    label_fixes.check(fixes, {row.source_label for row in rows if row.source_label}, FIXES)
    by_path = {class_names.normalise(name): name for name in fixes}
    used: set[str] = set()
    for row in rows:
        keys = (class_names.normalise(row.path), row.pixel_hash) if row.status == "accepted" else ()
        names = [by_path[key] for key in keys if key in by_path]
        used |= set(names)
        labels = {fixes[name] for name in names}
        if len(labels) > 1:
            raise SourceError(
                f"{FIXES} gives {printable(row.path)} the labels {' and '.join(sorted(labels))}, by its path and by its pixel hash",
                f"remove one of the two lines from {FIXES}",
            )
        if labels - {row.label}:
            row.label = labels.pop()
            row.flags += ("label_fixed",)
    return sorted(set(fixes) - used)
