"""A folder of image files to arrays and a manifest in which every file has its row."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from darkroom.data import decoding, sources, splits
from darkroom.data.decoding import REASONS, Decoded
from darkroom.data.sources import SPLITS, Found
from darkroom.errors import SourceError
from darkroom.params import Ingest
from darkroom.progress import Progress

ROW = (
    "path", "label", "split", "sha256", "pixel_hash", "group", "format", "mode", "width", "height", "bytes",
    "status", "reason", "detail",
)  # fmt: skip


@dataclass
class Row:
    """One source file; `status` is accepted, quarantined or ignored."""

    path: str
    label: str = ""
    split: str = ""
    sha256: str = ""
    pixel_hash: str = ""
    group: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0
    status: str = "accepted"
    reason: str = ""
    detail: str = ""
    pixels: np.ndarray | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, object]:
        return {key: value for key, value in asdict(self).items() if key != "pixels"}


@dataclass(frozen=True)
class Dataset:
    """What a source came to. `leaks` are groups of identical images that the folder itself puts into several splits."""

    rows: list[Row]
    classes: tuple[str, ...]
    leaks: list[list[str]]

    def split(self, name: str) -> list[Row]:
        return [row for row in self.rows if row.status == "accepted" and row.split == name]

    def quarantined(self) -> list[Row]:
        return [row for row in self.rows if row.status == "quarantined"]

    def arrays(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return images (N, H, W, 3) uint8 and labels (N,) int64 of a split."""
        rows = self.split(name)
        number = {label: i for i, label in enumerate(self.classes)}
        images = np.stack([row.pixels for row in rows if row.pixels is not None])
        return images, np.array([number[row.label] for row in rows], np.int64)


def ingest(source: Path, params: Ingest, threads: int, what: str = "ingest") -> Dataset:
    """Read a folder of images. The result depends on the files and `params`, not on threads or the order of work.

    Raises SourceError where the folder has no classes, too many files that cannot be read, or a split stays empty.
    """
    found = sources.scan(source)
    rows = []
    with ThreadPoolExecutor(threads) as pool, Progress(what, len(found), "files") as progress:
        for row in _in_order(pool, source, found, params, 8 * threads):
            rows.append(row)
            progress.advance()
    _quarantine_conflicts(rows)
    accepted = [row for row in rows if row.status == "accepted"]
    classes = tuple(sorted({row.label for row in accepted}))
    ready = frozenset(item.split for item in found if item.split)
    leaks = _assign_splits(accepted, ready, params)
    return Dataset(rows, classes, leaks)


def check(dataset: Dataset, source: Path, params: Ingest) -> None:
    """Raise SourceError unless the data set can train a classifier."""
    candidates = [row for row in dataset.rows if row.status != "ignored"]
    quarantined = [row for row in dataset.quarantined() if row.reason != "duplicate_across_splits"]
    if len(quarantined) > params.max_quarantined * len(candidates):
        reasons: dict[str, int] = defaultdict(int)
        for row in quarantined:
            reasons[row.reason] += 1
        listing = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise SourceError(
            f"{len(quarantined)} of {len(candidates)} files of {source} cannot be used ({listing}), more than "
            f"`ingest.max_quarantined` ({params.max_quarantined:g}) allows; the first is {quarantined[0].path}",
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
                "add images, or raise `ingest.val_share` or `ingest.test_share`, or give the folder train/val/test subfolders",
            )
        if name == "train" and len(held) < len(dataset.classes):
            absent = sorted(set(dataset.classes) - held)
            raise SourceError(
                f"no training image of {', '.join(absent)}: {source} has too few of them",
                "add images to these classes, remove their folders, or change `ingest.seed`",
            )


def _in_order(pool: ThreadPoolExecutor, source: Path, found: list[Found], params: Ingest, ahead: int) -> Iterator[Row]:
    """Yield the row of each file in order, with a bounded number of files in work."""
    waiting = []
    for item in found:
        waiting.append(pool.submit(_read, source, item, params))
        if len(waiting) > ahead:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _read(source: Path, item: Found, params: Ingest) -> Row:
    if item.ignored:
        return Row(_shown(item.path), item.label, status="ignored", reason="outside_classes")
    if item.refused:
        return _quarantined(Row(_shown(item.path), item.label, item.split), item.refused)
    try:
        content = (source / item.path).read_bytes()
    except OSError as error:
        return _quarantined(Row(_shown(item.path), item.label, item.split), "unreadable", error.strerror or "")
    seen: Decoded = decoding.decode(content, params.image_size, params.resize, params.background)
    row = Row(
        _shown(item.path), item.label, item.split, hashlib.sha256(content).hexdigest(),
        format=seen.format, mode=seen.mode, width=seen.width, height=seen.height, bytes=len(content),
    )  # fmt: skip
    if seen.pixels is None:
        return _quarantined(row, seen.reason, seen.detail)
    row.pixels = np.ascontiguousarray(seen.pixels)
    row.pixel_hash = row.group = seen.pixel_hash
    return row


def _shown(path: str) -> str:
    """Return a path as text that every file format takes: bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _quarantined(row: Row, reason: str, detail: str = "") -> Row:
    row.status, row.reason, row.split, row.group, row.pixels = "quarantined", reason, "", "", None
    row.detail = f"{REASONS[reason]}{': ' + detail if detail else ''}"
    return row


def _quarantine_conflicts(rows: list[Row]) -> None:
    """Quarantine identical images that are filed under more than one class: one of the labels is wrong."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status == "accepted":
            groups[row.group].append(row)
    for members in groups.values():
        labels = sorted({row.label for row in members})
        if len(labels) > 1:
            for row in members:
                others = ", ".join(other.path for other in members if other is not row)
                _quarantined(row, "label_conflict", f"the same as {others}")


def _assign_splits(accepted: list[Row], ready: frozenset[str], params: Ingest) -> list[list[str]]:
    """Give every image its split; return the groups of identical images that the folder itself puts into several splits.

    Of such a group the copies in the most guarded split stay, test before val before train; the others are quarantined.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in accepted:
        groups[row.group].append(row)
    leaks = []
    for members in groups.values():
        given = {row.split for row in members}
        if len(given) > 1:
            leaks.append([row.path for row in members])
            kept = next(name for name in ("test", "val", "train") if name in given)
            others = ", ".join(row.path for row in members if row.split == kept)
            for row in members:
                if row.split != kept:
                    _quarantined(row, "duplicate_across_splits", f"the same as {others}")
        for row in members:
            if row.status == "accepted":
                row.split = splits.assign(row.group, row.split, ready, params.val_share, params.test_share, params.seed)
    return leaks
