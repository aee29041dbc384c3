"""Which images belong together, and what follows: conflicts of labels and leaks across splits. `splits` then draws
the split of each group.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.progress import Progress
from darkroom.data import duplicates
from darkroom.data.duplicates import Clusters
from darkroom.data.frozen_splits import GUARDED, FrozenImage
from darkroom.data.source_row import SourceRow
from darkroom.data.splits import SplitReport, draw_splits

Rows = list[SourceRow]
_REASONS_OF_COPIES = ("label_conflict", "duplicate_across_splits", "group_across_splits")
# shares of a class that one picture, or conflicts, may take without a warning; and the least number of images
_MOST, _MOST_DISPUTED, _MANY = 0.5, 0.1, 4


class ReadFingerprints(Protocol):
    def __call__(self, slots: Sequence[int], detailed: bool = False) -> np.ndarray:
        """Return the fingerprints (N,) in some slots, FINGERPRINT if `detailed`, else SUMMARY."""
        ...


SCENES = {  # what to do by `ingest.near_duplicates` where copies take much of a class
    "group": "if these are different photographs of one scene, set `ingest.near_duplicates` to exact",
    "exact": "if this is meant, set `ingest.near_duplicates` to off",
    "off": "remove copies of the same pixels",
}


@dataclass(frozen=True)
class Groups:
    """Sets of rows that belong together."""

    duplicates: list[Rows]  # the same picture, two rows or more
    conflicts: list[Rows]  # the same picture under several labels
    leaks: list[Rows]  # the same picture in several of the source's own splits
    torn: list[Rows]  # groups of the table in several of the source's own splits
    drawn: SplitReport = field(default_factory=SplitReport)


def assign_splits(
    rows: Rows, fingerprints: ReadFingerprints, params: Ingest, ready: frozenset[str], frozen: Sequence[FrozenImage] = ()
) -> Groups:
    """Give each accepted row its group and its split.

    Quarantine conflicts and leaks unless `params` keep them.

    `ready` names the splits that the source has itself, and `frozen` images keep their split.
    """
    accepted = [row for row in rows if row.status == "accepted"]
    clusters, disputed = _find_duplicates(accepted, fingerprints, params.near_duplicates)
    copies = [members for members in _members(accepted, clusters) if len(members) > 1]
    for members in copies:
        for row in members:
            row.copies = len(members)
    conflicts = _find_conflicts(accepted, copies, disputed)
    if params.on_conflict == "quarantine":
        _quarantine_conflicts(conflicts)
    leaks = _find_leaks(copies)
    if params.on_leak == "quarantine":
        _quarantine_leaks(leaks, "duplicate_across_splits", "the same as")
    _join_source_groups(accepted, clusters)
    groups = _members(accepted, clusters)
    torn = [members for members in _find_leaks(groups) if any(row.source_group for row in members)]
    if params.on_leak == "quarantine":
        _quarantine_leaks(torn, "group_across_splits", "grouped with")
    _name_groups(groups)
    drawn = draw_splits([row for row in accepted if row.status == "accepted"], params, ready, frozen)
    return Groups(copies, conflicts, leaks, torn, drawn)


def _find_duplicates(accepted: Rows, fingerprints: ReadFingerprints, near: str) -> tuple[Clusters, list[tuple[int, int]]]:
    """Return the clusters of rows that show the same picture, and the pairs of near copies with different
    labels. `near` is `ingest.near_duplicates`.
    """
    clusters = Clusters(len(accepted))
    if near == "off":
        return clusters, []
    first: dict[str, int] = {}
    compared: dict[tuple[str, str], int] = {}
    for i, row in enumerate(accepted):
        clusters.join(first.setdefault(row.pixel_hash, i), i)
        if row.has_fingerprint:
            compared.setdefault((row.pixel_hash, row.label), i)
    numbers = sorted(compared.values())  # of copies pixel for pixel, one of each label
    if near == "exact" or not numbers:
        return clusters, []
    slots = np.array([accepted[i].slot for i in numbers])
    labels = [accepted[i].label for i in numbers]

    def read(numbers: np.ndarray, detailed: bool = False) -> np.ndarray:
        return fingerprints(slots[numbers].tolist(), detailed)

    with Progress("near duplicates", len(numbers), "images") as progress:

        def on_step(done: int, total: int) -> None:
            progress.advance(len(numbers) * done // total - progress.done)

        result = duplicates.find(labels, read, on_step)
    by_pixels = {accepted[i].pixel_hash: value for i, value in zip(numbers, result.hashes, strict=True)}
    for row in accepted:
        row.perceptual_hash = by_pixels.get(row.pixel_hash, "")
    for i, j in result.pairs:
        clusters.join(numbers[i], numbers[j])
    return clusters, [(numbers[i], numbers[j]) for i, j in result.conflicts]


def _members(accepted: Rows, clusters: Clusters) -> list[Rows]:
    """Return the rows of each cluster."""
    members: dict[int, Rows] = defaultdict(list)
    for i, row in enumerate(accepted):
        members[clusters.root(i)].append(row)
    return list(members.values())


def _find_conflicts(accepted: Rows, copies: list[Rows], disputed: list[tuple[int, int]]) -> list[Rows]:
    """Return sets of rows of one picture under several labels: exact copies, and the disputed pairs of near ones."""
    conflicts = []
    for members in copies:
        exact: dict[str, Rows] = defaultdict(list)
        for row in members:
            exact[row.pixel_hash].append(row)
        conflicts += [same for same in exact.values() if len({row.label for row in same}) > 1]
    alike: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in accepted:
        alike[row.pixel_hash, row.label].append(row)
    for i, j in disputed:
        one, other = accepted[i], accepted[j]
        if one.pixel_hash != other.pixel_hash:  # with all exact copies of both
            conflicts.append(alike[one.pixel_hash, one.label] + alike[other.pixel_hash, other.label])
    return conflicts


def _quarantine_conflicts(conflicts: list[Rows]) -> None:
    others: dict[int, list[str]] = defaultdict(list)
    rows = {}
    for members in conflicts:
        for row in members:
            rows[id(row)] = row
            others[id(row)] += [other.path for other in members if other.label != row.label]
    for key, row in rows.items():
        row.quarantine("label_conflict", "the same as " + _list_paths(others[key]))


def near_duplicate_warnings(rows: Rows, groups: Groups, setting: str) -> list[str]:
    """Return a sentence for each class that copies take much of: most of it is one picture, or more than a tenth
    is in conflicts. `setting` is `ingest.near_duplicates`.
    """
    remedy = SCENES[setting]
    sizes = Counter(row.label for row in rows if row.status == "accepted" or row.reason in _REASONS_OF_COPIES)
    disputed = Counter({id(row): row.label for members in groups.conflicts for row in members}.values())
    sentences = []
    for label, size in sorted(sizes.items()):
        largest = max((sum(row.label == label for row in members) for members in groups.duplicates), default=0)
        if largest > _MOST * size and largest >= _MANY:
            sentences.append(f"{largest:,} of {size:,} images of {label} are taken for one picture, and share a split: {remedy}")
        if disputed[label] > _MOST_DISPUTED * size:
            sentences.append(f"{disputed[label]:,} of {size:,} images of {label} are in conflicts of labels: {remedy}")
    return sentences


def _find_leaks(sets: list[Rows]) -> list[Rows]:
    """Return the accepted rows of the sets that span several of the source's own splits."""
    accepted = [[row for row in members if row.status == "accepted"] for members in sets]
    return [members for members in accepted if len({row.split for row in members if row.split}) > 1]


def _quarantine_leaks(leaks: list[Rows], reason: str, relation: str) -> None:
    """Keep the rows of the most guarded split, test before val before train."""
    for members in leaks:
        guarded = next(name for name in GUARDED if any(row.split == name for row in members))
        others = _list_paths([row.path for row in members if row.split == guarded])
        for row in members:
            if row.split != guarded:
                row.quarantine(reason, f"{relation} {others}")


def _list_paths(paths: list[str]) -> str:
    unique = list(dict.fromkeys(paths))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")


def _join_source_groups(accepted: Rows, clusters: Clusters) -> None:
    first: dict[str, int] = {}
    for i, row in enumerate(accepted):
        if row.source_group:
            clusters.join(first.setdefault(row.source_group, i), i)


def _name_groups(groups: list[Rows]) -> None:
    """Name each group by the first of the source's own groups in it, else by the least of its pixel hashes."""
    for members in groups:
        first = min((row.source_group for row in members if row.source_group), default="")
        name = f"group {first}" if first else min(row.pixel_hash for row in members)
        for row in members:
            row.group = name
