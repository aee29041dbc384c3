"""`reports/data.html`: what a source holds, what is wrong with it, and what to do about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core import pages
from darkroom.core.errors import printable
from darkroom.data.manifest import Row
from darkroom.data.quality import ISSUES
from darkroom.data.quarantine_reasons import IGNORED, REASONS, REMEDIES
from darkroom.data.sources import SPLITS
from darkroom.data.splits import position

if TYPE_CHECKING:
    from darkroom.data.ingest import Dataset

SAMPLES, SHOWN, MEMBERS, BARS = 240, 60, 8, 100  # pictures of classes in all; clusters, files; copies in a cluster; classes
DRAW = 2**31  # no seed of a split: samples come from all splits


@dataclass(frozen=True)
class Summary:
    """Counts of a data set: files by status, images by split, by class and split, by flag, quarantined files by reason."""

    statuses: Counter[str]
    splits: dict[str, int]
    classes: dict[str, dict[str, int]]
    flags: Counter[str]
    reasons: Counter[str]
    ignored: Counter[str]


def summary(dataset: Dataset) -> Summary:
    """Count what a data set holds."""
    accepted = [row for row in dataset.rows if row.status == "accepted"]
    classes = {label: dict.fromkeys(SPLITS, 0) for label in dataset.classes}
    for row in accepted:
        classes[row.label][row.split] += 1
    return Summary(
        Counter(row.status for row in dataset.rows),
        {name: sum(held[name] for held in classes.values()) for name in SPLITS},
        classes,
        Counter(flag for row in accepted for flag in row.flags),
        Counter(row.reason for row in dataset.quarantined()),
        Counter(row.reason for row in dataset.rows if row.status == "ignored"),
    )


def page(dataset: Dataset, source: Path, params: Ingest) -> str:
    """Return the page: one file, no network request, the same bytes for the same data."""
    counted = summary(dataset)
    accepted = [row for row in dataset.rows if row.status == "accepted"]
    show = _shower(dataset)
    return pages.render(
        "data",
        "data.html.j2",
        source=str(source),
        params=params.model_dump(),
        counted=counted,
        splits=SPLITS,
        ready=sorted(dataset.ready),
        classes=[(label, held, sum(held.values())) for label, held in counted.classes.items()][:BARS],
        largest=max((sum(held.values()) for held in counted.classes.values()), default=1),
        total=len(counted.classes),
        empty=[(label, name) for label, held in counted.classes.items() for name in SPLITS if not held[name]],
        sizes=_sizes(accepted),
        formats=Counter(f"{row.format} {row.mode}" for row in accepted).most_common(),
        samples=_samples(dataset, show),
        clusters=_sets(dataset.clusters, show),
        conflicts=_sets(dataset.conflicts, show),
        leaks=_sets(dataset.leaks, show),
        clusters_total=len(dataset.clusters),
        conflicts_total=len(dataset.conflicts),
        leaks_total=len(dataset.leaks),
        torn=[printable(members[0].group) for members in dataset.torn],
        quarantine=_quarantine(dataset, show),
        issues=_issues(accepted, show),
        fixed=[show(row) for row in accepted if "label_fixed" in row.flags][:SHOWN],
        unused_fixes=[printable(name) for name in dataset.unused_fixes],
        ignored=[(reason, IGNORED[reason], count) for reason, count in counted.ignored.most_common()],
        pixelated=params.image_size < 64,
    )


Show = Callable[[Row], dict[str, Any]]


def _shower(dataset: Dataset) -> Show:
    """Return what makes a row into what the template shows of it."""

    def show(row: Row) -> dict[str, Any]:
        pixels: np.ndarray | None = dataset.preview(row)
        return {
            "path": printable(row.path),
            "name": printable(row.path.rpartition("/")[2]),
            "label": row.label,
            "split": row.split,
            "status": row.status,
            "size": f"{row.width}×{row.height}" if row.width else "",
            "detail": row.detail,
            "picture": "" if pixels is None else pages.picture(pixels),
        }

    return show


def _samples(dataset: Dataset, show: Show) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return images of each class, drawn by the hash of their groups."""
    each = max(2, min(16, SAMPLES // max(len(dataset.classes), 1)))
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in dataset.rows:
        if row.status == "accepted":
            by_class[row.label].append(row)
    return [
        (label, [show(row) for row in sorted(by_class[label], key=lambda row: (position(row.group, DRAW), row.path))[:each]])
        for label in dataset.classes[: SAMPLES // 2]
    ]


def _sets(found: list[list[Row]], show: Show) -> list[tuple[int, list[dict[str, Any]]]]:
    """Return the first sets of rows, each with its size and its first members."""
    return [(len(members), [show(row) for row in members[:MEMBERS]]) for members in found[:SHOWN]]


def _quarantine(dataset: Dataset, show: Show) -> list[tuple[str, str, str, int, list[dict[str, Any]]]]:
    """Return (reason, what it means, remedy, count, files) of quarantined files, the most frequent first."""
    by_reason: dict[str, list[Row]] = defaultdict(list)
    for row in dataset.quarantined():
        by_reason[row.reason].append(row)
    ordered = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        (reason, REASONS[reason], REMEDIES[reason], len(rows), [show(row) for row in rows[: SHOWN // 2]])
        for reason, rows in ordered
    ]


def _issues(accepted: list[Row], show: Show) -> list[tuple[str, str, int, list[dict[str, Any]]]]:
    """Return (kind, what to do, count, images) of images that can be seen but may be of no use."""
    found = []
    for flag, (kind, remedy) in ISSUES.items():
        rows = [row for row in accepted if flag in row.flags]
        if rows:
            found.append((kind, remedy, len(rows), [show(row) for row in rows[:24]]))
    return found


def _sizes(accepted: list[Row]) -> list[tuple[str, int]]:
    """Return how many images have a shorter side in each range of pixels."""
    edges = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    counts = Counter(sum(min(row.width, row.height) >= edge for edge in edges) for row in accepted)
    names = [*(f"{low} to {high - 1} px" for low, high in pairwise(edges)), f"{edges[-1]} px and more"]
    return [(names[place - 1], counts[place]) for place in range(1, len(edges) + 1) if counts[place]]
