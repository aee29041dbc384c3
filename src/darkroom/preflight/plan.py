"""What a run will do: images by class and split, networks, downloads, minutes, gigabytes. No image is decoded."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from darkroom.config import dvc_repair
from darkroom.config.params import SPLITS, Params
from darkroom.core import platforms
from darkroom.core.errors import SourceError, printable
from darkroom.data import frozen_splits, label_fixes, remote_files, sources
from darkroom.data.splits import MIN_GROUPS
from darkroom.evaluation import significance
from darkroom.preflight import disk, downloads, durations, process_notes, remote_source, source_files

NAMED = {  # images for training and for testing, classes, MB as they are written
    "digits": (1797, 0, 10, 1), "mnist": (60_000, 10_000, 10, 55), "fashion_mnist": (60_000, 10_000, 10, 55),
    "cifar10": (50_000, 10_000, 10, 185),
}  # fmt: skip
GLYPHS = 62  # classes
UNREAD = {b"\x1f\x8b": 32, b"BZh": 4, b"\xfd7zXZ\x00": 8}  # MB of a compressed tar above which listing it takes too long
MAX_ARRAYS = 512 * 2**20  # bytes of an .npz above which it is left to ingest
LISTED = 6
BUSY = 1.5  # times longer a run takes than alone, from which it is said


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
    """What a run will do and take; `seconds` and `bytes` by part, empty where the images are not known."""

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
    bytes: Mapping[str, float]
    free: int
    warnings: tuple[str, ...]

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
    content = replace(content, notes=(*content.notes, *process_notes.notes(settings)))
    splits, drawn = _share(settings, content)
    counts = durations.Counts(splits["train"], splits["val"], splits["test"], content.bytes)
    seconds: Mapping[str, float] = {}
    bytes_by_stage: Mapping[str, float] = {}
    busy = 1.0
    if content.images:
        machine = durations.measure(settings.compute.threads)
        busy = machine.busy
        seconds = durations.stages(settings, counts, len(content.totals), machine)
        bytes_by_stage = disk.written(settings, counts)
    free = shutil.disk_usage(Path.cwd()).free
    warnings = _warnings(Path(settings.ingest.source), content, sum(bytes_by_stage.values()), free)
    warnings += process_notes.warnings(settings)
    return Plan(
        source=settings.ingest.source, content=content, splits=splits, drawn=drawn, split_by=settings.ingest.split_by,
        baseline=settings.baseline.architecture, backbones=downloads.backbones(settings),
        download_mib=downloads.megabytes(settings), threads=settings.compute.threads,
        has_gpu=settings.compute.accelerator != "cpu" and platforms.has_nvidia_device(),
        busy=busy, seconds=seconds, bytes=bytes_by_stage, free=free, warnings=tuple(warnings),
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
        warnings.append(f"{_list(few)}: fewer than {MIN_GROUPS} images, so not in every split")
    return warnings


def _list(words: list[str]) -> str:
    more = f" and {len(words) - LISTED:,} more" if len(words) > LISTED else ""
    return printable(", ".join(words[:LISTED])) + more


def lines(plan: Plan) -> list[str]:
    """Return the plan in six lines, and one for each warning."""
    content = plan.content
    left_out = {"ignored": content.ignored, "unusable": content.refused, "named by the table and missing": content.missing}
    rest = "".join(f", {count:,} {why}" for why, count in left_out.items() if count)
    files = f"{content.files:,} file{'s' * (content.files != 1)}, {_bytes(content.bytes)}{rest}"
    here = "" if content.kind != "data set" else " (written by the stage fetch)"
    text = [f"source    {printable(plan.source)}: {content.kind}, {files}{here}"]
    if content.unread:
        text += [f"images    not known: {content.unread}", *(f"{name:<9} not known before ingest" for name in ("splits", "test"))]
    else:
        text += [
            f"images    {_describe_classes(content)}",
            f"splits    {_describe_splits(plan)}",
            f"test      {_describe_test(plan)}",
        ]
    networks = [f"{plan.baseline} from scratch", *(f"{name} ({start})" for name, start in plan.backbones.items())]
    text.append(f"networks  {'; '.join(networks)}")
    after = f", after {plan.download_mib:,.0f} MiB of downloads" if plan.download_mib else ""
    if plan.seconds:
        used = ", which others use now" if plan.busy > BUSY else ""
        used += " (less on the GPU)" if plan.has_gpu else ""
        duration = f"{durations.as_range(sum(plan.seconds.values()), plan.busy)} here with {plan.threads} threads{used}{after}"
        text.append(f"run       {duration}; up to {_bytes(sum(plan.bytes.values()))} written, {_bytes(plan.free)} free")
    else:
        text.append(f"run       duration and size not known before ingest{after}; {_bytes(plan.free)} free")
    notes = [f"note      {printable(note)}" for note in content.notes]
    return text + notes + [f"warning: {warning}" for warning in plan.warnings]


def _describe_classes(content: Content) -> str:
    totals = content.totals
    size = f"{sum(totals.values()):,} in {len(totals):,} classes"
    if content.kind == "data set":
        return size
    return f"{size}: {_list([f'{label} {count:,}' for label, count in totals.items()])}"


def _describe_splits(plan: Plan) -> str:
    parts = []
    for name in SPLITS:
        is_drawn = name in plan.drawn or (name == "train" and bool(plan.drawn))
        labels = {label for label, split in plan.content.images if split == name}
        lacking = sorted(set(plan.content.totals) - labels) if labels else []
        lack = f" (without {_list(lacking)})" if lacking and not is_drawn else ""
        parts.append(f"{'about ' * is_drawn}{plan.splits[name]:,} {name}{lack}")
    if len(plan.drawn) == 2:
        how = "drawn by hash" if plan.split_by == "hash" else "drawn, stratified by class"
        return f"{how}: about {', '.join(parts).replace('about ', '')}"
    origin = f"; {' and '.join(plan.drawn)} drawn from train" if plan.drawn else ""
    return f"the source's own: {', '.join(parts)}{origin}"


def _describe_test(plan: Plan) -> str:
    """Say what the test images can tell apart: what the gate and the report can call significant."""
    count = plan.splits["test"]
    images = f"{count:,} image{'s' * (count != 1)}"
    if plan.detectable is None:
        return f"{images} cannot tell two models apart: no difference of accuracy is significant"
    points, power, unequal = 100 * plan.detectable, 100 * significance.POWER, 100 * significance.DISAGREEMENT
    return (
        f"{images} tell{'s' * (count == 1)} accuracies apart from about {points:.2g} points on "
        f"(if one model alone is right on {unequal:.0f}%; power {power:.0f}%)"
    )


def _bytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 10**9 else f"{size / 1e9:,.1f} GB" if size < 1e11 else f"{size / 1e9:,.0f} GB"


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain values, with the seconds and bytes of each part."""
    content = plan.content
    classes: dict[str, dict[str, int]] = {}
    for (label, split), count in sorted(content.images.items()):
        classes.setdefault(label, {})[split or "drawn"] = count
    low, high = durations.bounds(sum(plan.seconds.values()), plan.busy)
    return {
        "source": os.fsencode(plan.source).decode("utf-8", "backslashreplace"), "kind": content.kind, "files": content.files,
        "bytes": content.bytes, "ignored": content.ignored, "unusable": content.refused, "missing": content.missing,
        "unread": content.unread, "notes": list(content.notes), "classes": classes,
        "splits": dict(plan.splits), "drawn": list(plan.drawn),
        "detectable_difference": plan.detectable and round(plan.detectable, 4),
        "baseline": plan.baseline, "backbones": dict(plan.backbones), "download_mib": round(plan.download_mib, 1),
        "seconds": {
            "low": round(low), "high": round(high),
            "stages": {name: round(seconds, 1) for name, seconds in plan.seconds.items()},
        } if plan.seconds else None,
        "bytes_written": {name: round(size) for name, size in plan.bytes.items()} or None,
        "bytes_free": plan.free, "warnings": list(plan.warnings),
    }  # fmt: skip
