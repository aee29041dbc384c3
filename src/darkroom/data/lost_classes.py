"""Classes that a source has by its folders or labels, and of which no image can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from darkroom.core.errors import printable
from darkroom.data import file_names, unread_formats
from darkroom.data.quarantine_reasons import REASONS
from darkroom.data.source_row import SourceRow

# with these a class is lost by a decision about its images; with others none of its files could be read
_DECIDED = ("too_small", "label_conflict", "duplicate_across_splits", "group_across_splits", "unlabelled", "missing")


class LostClass(NamedTuple):
    """A class without a usable image: why, what to do, and whether files that hold images could not be read."""

    label: str
    reason: str
    remedy: str
    unread: bool


def find(rows: Iterable[SourceRow], classes: Iterable[str], folders: Iterable[str]) -> list[LostClass]:
    """Return the classes among the source's `folders` and labels that are not among the `classes` of its images."""
    present = set(classes)
    quarantined: dict[str, list[SourceRow]] = {label: [] for label in folders if label not in present}
    relabelled: Counter[str] = Counter()
    for row in rows:
        if row.source_label and row.source_label not in present:
            if row.status == "quarantined":
                quarantined.setdefault(row.source_label, []).append(row)
            elif row.status == "accepted":
                relabelled[row.source_label] += 1
    lost = []
    for label in sorted({*quarantined, *relabelled}):
        rows_of = quarantined.get(label, [])
        if relabelled[label]:
            images = "its only image has" if relabelled[label] == 1 else f"all its {relabelled[label]:,} images have"
            lost.append(LostClass(label, f"{images} another label in data/label_fixes.csv", "", False))
        elif not rows_of:
            lost.append(LostClass(label, "its folder holds no image", "add images, or remove the folder", False))
        else:
            lost.append(_unusable(label, rows_of))
    return lost


def _unusable(label: str, rows: list[SourceRow]) -> LostClass:
    counts = Counter(row.reason for row in rows)
    reasons = ", ".join(f"{count:,} {reason} ({REASONS[reason].meaning})" for reason, count in sorted(counts.items()))
    formats = {row.format or ("raw" if file_names.is_raw(row.path) else "") for row in rows if row.reason == "unread_format"}
    first = counts.most_common(1)[0][0]
    remedy = unread_formats.remedy(formats) if first == "unread_format" else REASONS[first].remedy
    files = "its only file cannot" if len(rows) == 1 else f"none of its {len(rows):,} files can"
    return LostClass(label, f"{files} be used: {reasons}", remedy, not any(r in _DECIDED for r in counts))


def sentence(lost: LostClass) -> str:
    remedy = f": {lost.remedy}" if lost.remedy else ""
    return f'the class "{printable(lost.label)}" is not in the data set: {lost.reason}{remedy}'
