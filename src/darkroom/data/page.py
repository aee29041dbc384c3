"""`reports/data.html`: the content of a source, its faults, and their remedies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.config.params import SPLITS, Ingest
from darkroom.core import pages
from darkroom.core.errors import printable
from darkroom.data import lost_classes
from darkroom.data.quality import ISSUES
from darkroom.data.quarantine_reasons import IGNORE_REASONS, REASONS
from darkroom.data.source_row import SourceRow
from darkroom.data.splits import position

if TYPE_CHECKING:
    from darkroom.data.ingest import Dataset

SAMPLES = 240  # pictures of classes in all
SHOWN, MEMBERS = 60, 8  # clusters or files, copies in a cluster
BARS = 100  # classes
SAMPLE_SEED = 2**31  # no seed of a split: samples come from all splits


@dataclass(frozen=True)
class Summary:
    """Counts: files by status, images by split, class and flag, quarantined and ignored files by reason."""

    statuses: Counter[str]
    splits: dict[str, int]
    classes: dict[str, dict[str, int]]
    flags: Counter[str]
    reasons: Counter[str]
    ignored: Counter[str]


def summary(dataset: Dataset) -> Summary:
    """Count the files and images of a data set."""
    accepted = [row for row in dataset.rows if row.status == "accepted"]
    classes = {label: dict.fromkeys(SPLITS, 0) for label in dataset.classes}
    for row in accepted:
        classes[row.label][row.split] += 1
    return Summary(
        Counter(row.status for row in dataset.rows),
        {name: sum(counts[name] for counts in classes.values()) for name in SPLITS},
        classes,
        Counter(flag for row in accepted for flag in row.flags),
        Counter(row.reason for row in dataset.quarantined()),
        Counter(row.reason for row in dataset.rows if row.status == "ignored"),
    )


def page(dataset: Dataset, source: Path, params: Ingest) -> str:
    """Return a self-contained page, the same bytes for the same data."""
    counts = summary(dataset)
    accepted = [row for row in dataset.rows if row.status == "accepted"]
    groups, show = dataset.groups, partial(_show, dataset)
    return pages.render(
        "data",
        "data.html.j2",
        source=str(source),
        params=params.model_dump(),
        counts=counts,
        splits=SPLITS,
        ready=sorted(dataset.source.ready_splits),
        notes=[*dataset.source.notes, *map(lost_classes.sentence, dataset.lost_classes())],
        classes=[(label, splits, sum(splits.values())) for label, splits in counts.classes.items()][:BARS],
        largest=max((sum(splits.values()) for splits in counts.classes.values()), default=1),
        total=len(counts.classes),
        empty=[(label, name) for label, splits in counts.classes.items() for name in SPLITS if not splits[name]],
        sizes=_sizes(accepted),
        formats=Counter(f"{row.format} {row.mode}" for row in accepted).most_common(),
        samples=_samples(dataset, show),
        clusters=_sets(groups.duplicates, show),
        conflicts=_sets(groups.conflicts, show),
        leaks=_sets(groups.leaks, show),
        clusters_total=len(groups.duplicates),
        conflicts_total=len(groups.conflicts),
        leaks_total=len(groups.leaks),
        torn=[printable(members[0].group) for members in groups.torn],
        quarantine=_quarantine(dataset, show),
        issues=_issues(accepted, show),
        fixed=[show(row) for row in accepted if "label_fixed" in row.flags][:SHOWN],
        unused_fixes=[printable(name) for name in dataset.unused_fixes],
        ignored=[(reason, IGNORE_REASONS[reason], count) for reason, count in counts.ignored.most_common()],
        pixelated=params.image_size < 64,
    )


@dataclass(frozen=True)
class File:
    """A file as the template shows it."""

    path: str
    name: str
    label: str
    split: str
    status: str
    size: str
    detail: str
    picture: str


Show = Callable[[SourceRow], File]


def _show(dataset: Dataset, row: SourceRow) -> File:
    pixels = dataset.preview(row)
    return File(
        printable(row.path), printable(row.path.rpartition("/")[2]), row.label, row.split, row.status,
        f"{row.width}×{row.height}" if row.width else "", row.detail, "" if pixels is None else pages.picture(pixels),
    )  # fmt: skip


def _samples(dataset: Dataset, show: Show) -> list[tuple[str, list[File]]]:
    """Return images of each class, drawn by the hash of their groups."""
    each = max(2, min(16, SAMPLES // max(len(dataset.classes), 1)))
    by_class: dict[str, list[SourceRow]] = defaultdict(list)
    for row in dataset.rows:
        if row.status == "accepted":
            by_class[row.label].append(row)
    return [
        (label, [show(row) for row in sorted(by_class[label], key=lambda row: (position(row.group, SAMPLE_SEED), row.path))[:each]])
        for label in dataset.classes[: SAMPLES // 2]
    ]


def _sets(sets: list[list[SourceRow]], show: Show) -> list[tuple[int, list[File]]]:
    """Return the first sets of rows, each with its size and its first members."""
    return [(len(members), [show(row) for row in members[:MEMBERS]]) for members in sets[:SHOWN]]


def _quarantine(dataset: Dataset, show: Show) -> list[tuple[str, str, str, int, list[File]]]:
    """Return (reason, meaning, remedy, count, files) of quarantined files, the most frequent reason first."""
    by_reason: dict[str, list[SourceRow]] = defaultdict(list)
    for row in dataset.quarantined():
        by_reason[row.reason].append(row)
    ordered = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(reason, *REASONS[reason], len(rows), [show(row) for row in rows[: SHOWN // 2]]) for reason, rows in ordered]


def _issues(accepted: list[SourceRow], show: Show) -> list[tuple[str, str, int, list[File]]]:
    """Return (kind, remedy, count, images) of images with a possible fault."""
    issues = []
    for flag, (kind, remedy) in ISSUES.items():
        rows = [row for row in accepted if flag in row.flags]
        if rows:
            issues.append((kind, remedy, len(rows), [show(row) for row in rows[:24]]))
    return issues


def _sizes(accepted: list[SourceRow]) -> list[tuple[str, int]]:
    """Return how many images have a shorter side in each range of pixels."""
    edges = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    counts = Counter(sum(min(row.width, row.height) >= edge for edge in edges) for row in accepted)
    names = [*(f"{low} to {high - 1} px" for low, high in pairwise(edges)), f"{edges[-1]} px and more"]
    return [(name, counts[i]) for i, name in enumerate(names, start=1) if counts[i]]
