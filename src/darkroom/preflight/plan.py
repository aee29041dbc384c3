"""What a run will do: images by class and split, networks, downloads, minutes, gigabytes. No image is decoded."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from darkroom.config import dvc_repair
from darkroom.config.params import Params
from darkroom.core import platforms
from darkroom.core.errors import SourceError, printable
from darkroom.data import frozen_splits, label_fixes, remote_files, sources
from darkroom.data.splits import MIN_GROUPS
from darkroom.evaluation import significance
from darkroom.preflight import (
    disk,
    downloads,
    durations,
    memory,
    network_costs,
    process_notes,
    remote_source,
    source_files,
    used_weights,
)

NAMED = {  # images for training and for testing, classes, MB as they are written
    "digits": (1797, 0, 10, 1), "mnist": (60_000, 10_000, 10, 55), "fashion_mnist": (60_000, 10_000, 10, 55),
    "cifar10": (50_000, 10_000, 10, 185),
}  # fmt: skip
GLYPHS = 62  # classes
UNREAD = {b"\x1f\x8b": 32, b"BZh": 4, b"\xfd7zXZ\x00": 8}  # MB of a compressed tar above which listing it takes too long
MAX_ARRAYS = 512 * 2**20  # bytes of an .npz above which it is left to ingest
LISTED = 6
BATCHES = ("baseline.batch_size", "finetune.batch_size")  # params that decide how much memory a stage takes


@dataclass(frozen=True)
class Content:
    """What a source holds: images by class and split ("" where it is drawn), and what is left out.

    `unread` says why the files are not listed, `notes` how its folders and tables are understood.
    """

    kind: str
    files: int = 0
    bytes: int = 0
    images: Mapping[tuple[str, str], int] = field(default_factory=dict)
    ignored: int = 0
    refused: int = 0
    missing: int = 0
    unread: str = ""
    notes: tuple[str, ...] = ()

    @property
    def totals(self) -> dict[str, int]:
        """The number of images of each class, by the name of the class."""
        counts = Counter[str]()
        for (label, _), count in self.images.items():
            counts[label] += count
        return dict(sorted(counts.items()))


@dataclass(frozen=True)
class Plan:
    """What a run will do and take.

    `seconds`, `memory` (bytes) and `stage_bytes` (of outputs, by kind) are by stage, empty where the images are not known.
    """

    source: str
    content: Content
    splits: Mapping[str, int]
    drawn: tuple[str, ...]
    split_by: str
    baseline: str
    backbones: Mapping[str, str]
    download_mib: float
    threads: int
    busy: float
    has_gpu: bool
    seconds: Mapping[str, float]
    memory: Mapping[str, float]
    stage_bytes: disk.StageBytes
    free: int
    warnings: tuple[str, ...]

    @property
    def bytes(self) -> dict[str, float]:
        """The bytes that are written, by what they are."""
        return disk.by_kind(self.stage_bytes)

    @property
    def detectable(self) -> float | None:
        """The smallest difference of two accuracies that the test images can tell; None where they tell none."""
        return significance.detectable(self.splits["test"])


def read_content(settings: Params, fixes: Path) -> Content:
    """List a source. Raises SourceError where it has no classes, where DVC cannot hash it, for a label fix of a
    class that it does not have, and for frozen splits that cannot be read.
    """
    if fixes.exists() and not fixes.is_file():
        raise SourceError(f"{fixes} is no file", f"move it away, and restore the file: `git checkout {fixes}`")
    corrections = label_fixes.read(fixes)
    frozen_splits.read(frozen_splits.FROZEN)
    source = Path(settings.ingest.source)
    is_copy = remote_source.is_copy(settings)
    if is_copy and not source.exists():
        remote = remote_files.list_files(settings.fetch.url)
        kind = f"to be copied from {remote_files.shown(settings.fetch.url)}"
        return Content(kind, len(remote.files), remote.bytes, unread="the stage fetch copies the files first")
    named = source.parent == Path("data/raw") and source.name in settings.fetch.datasets
    if named and not source.exists():
        return _named(source.name, settings.fetch.glyphs)
    listing = source_files.check(source)
    unread = reason_unread(source)
    if unread:
        return Content("archive", listing.files, listing.bytes, unread=unread)
    with sources.open_source(source, class_folder=settings.ingest.class_folder) as opened:
        labels = {file.label for file in opened.files if file.label}
        usable = [file for file in opened.files if file.label and not file.ignored and not file.refused]
        images = Counter((file.label, file.split) for file in usable)
        ignored, refused = (sum(bool(getattr(file, why)) for file in opened.files) for why in ("ignored", "refused"))
        kind = opened.kind or ("folder" if source.is_dir() else "archive")
        missing, notes = len(opened.missing), (*opened.notes, *([remote_source.note(settings)] if is_copy else []))
        content = Content(kind, len(opened.files), listing.bytes, images, ignored, refused, missing, notes=notes)
    if not images:
        raise SourceError(f"{source} has no usable image", "`darkroom ingest` lists the reason of each file")
    if corrections:
        label_fixes.check(corrections, labels, fixes)
    return content


def _named(name: str, glyphs: int) -> Content:
    """Return the content of a data set that `fetch` will write."""
    train, test, classes, megabytes = NAMED.get(name, (glyphs, 0, GLYPHS, glyphs // 1000 + 1))
    images = {(f"class {number}", split): count // classes for number in range(classes) for split, count in _parts(train, test)}
    for number in range((train + test) % classes):
        images[f"class {number}", "train" if test else ""] += 1
    return Content("data set", train + test, megabytes * 10**6, images)


def _parts(train: int, test: int) -> list[tuple[str, int]]:
    return [("train", train), ("test", test)] if test else [("", train)]


def reason_unread(source: Path) -> str:
    """Return why a file is not listed here, or nothing."""
    if not source.is_file():
        return ""
    size = source.stat().st_size
    with source.open("rb") as file:
        start = file.read(6)
    limit = next((limit for magic, limit in UNREAD.items() if start.startswith(magic)), None)
    if limit is not None and size > limit * 10**6:
        return "listing a compressed archive takes as long as decompressing it, so ingest does that"
    if source.suffix.lower() == ".npz" and size > MAX_ARRAYS:
        return "an .npz of this size is read by ingest"
    return ""


def make(settings: Params, content: Content) -> Plan:
    """Return the plan of a run on a source; measures the machine for a moment."""
    more = (*process_notes.notes(settings), *used_weights.changed(settings), *_unknown_costs(settings))
    content = replace(content, notes=(*content.notes, *more))
    splits, drawn = _share(settings, content)
    counts = durations.Counts(splits["train"], splits["val"], splits["test"], content.bytes)
    seconds: Mapping[str, float] = {}
    peaks: Mapping[str, float] = {}
    stage_bytes: disk.StageBytes = {}
    busy = 1.0
    if content.images:
        machine = durations.measure(settings.compute.threads)
        busy = machine.busy
        seconds = durations.stages(settings, counts, len(content.totals), machine)
        peaks = memory.peaks(settings, counts)
        stage_bytes = disk.by_stage(settings, counts)
    free = shutil.disk_usage(Path.cwd()).free
    warnings = _warnings(Path(settings.ingest.source), content, sum(disk.by_kind(stage_bytes).values()), free)
    warnings += _memory_warnings(peaks)
    warnings += process_notes.warnings(settings)
    return Plan(
        source=settings.ingest.source, content=content, splits=splits, drawn=drawn, split_by=settings.ingest.split_by,
        baseline=settings.baseline.architecture, backbones=downloads.backbones(settings),
        download_mib=downloads.megabytes(settings), threads=settings.compute.threads,
        has_gpu=settings.compute.accelerator != "cpu" and platforms.has_nvidia_device(),
        busy=busy, seconds=seconds, memory=peaks, stage_bytes=stage_bytes, free=free, warnings=tuple(warnings),
    )  # fmt: skip


def _share(settings: Params, content: Content) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the expected images of each split, and the splits that are drawn; others are the source's own."""
    own = Counter[str]()
    for (_, split), count in content.images.items():
        own[split] += count
    free = own[""] + own["train"]
    shares = {"val": settings.ingest.val_share, "test": settings.ingest.test_share}
    drawn = tuple(name for name in shares if not own[name] and shares[name])
    counts = {name: round(free * shares[name]) if name in drawn else own[name] for name in shares}
    train = free - sum(counts[name] for name in drawn)
    return {"train": train, **counts}, drawn


def _warnings(source: Path, content: Content, needed: float, free: int) -> list[str]:
    warnings = []
    if dvc_repair.is_lock_damaged():
        warnings.append(
            "dvc.lock is damaged, as by a kill while DVC wrote it: `darkroom repro` moves it out of the way; before a plain "
            "`dvc repro` delete it, and DVC takes the results from its run cache"
        )
    elif content.kind == "folder" and source.is_dir() and (overlooked := source_files.overlooked(source, content.files)):
        warnings.append(overlooked)
    if needed > free:
        warnings.append(
            f"a run may write {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free: lower `augment.views`, set "
            "`augment.storage: online`, or free some disk; outputs that are there already are not written again"
        )
    few = [label for label, count in content.totals.items() if count < MIN_GROUPS]
    if few:
        warnings.append(f"{join_some(few)}: fewer than {MIN_GROUPS} images, so not in every split")
    return warnings


def _unknown_costs(settings: Params) -> list[str]:
    """Return a note of the backbones whose stages no estimate has."""
    unknown = [name for name in settings.backbones if network_costs.of_backbone(name, settings.ingest.image_size) is None]
    return [f"not in the estimates: {join_some(unknown)}, whose costs are not known"] if unknown else []


def _memory_warnings(peaks: Mapping[str, float]) -> list[str]:
    stage = max(peaks, key=lambda name: peaks[name], default="")
    free = platforms.available_memory()
    if not stage or peaks[stage] <= free:
        return []
    key = f"{stage.partition('@')[0]}.batch_size"
    remedy = f"lower `{key}` or `ingest.image_size`" if key in BATCHES else "lower `ingest.image_size`"
    return [f"{stage} may take {peaks[stage] / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} are free: {remedy}"]


def join_some(words: list[str]) -> str:
    """Return the first words in a row, and how many more there are."""
    more = f" and {len(words) - LISTED:,} more" if len(words) > LISTED else ""
    return printable(", ".join(words[:LISTED])) + more
